// Rows of a chart that are drawn as lines can be switched off, one by one. Values on hover are in the drawing itself.
"use strict";

for (const figure of document.querySelectorAll("figure")) {
  const marks = [...figure.querySelectorAll(".chart [data-row]")];
  const names = [...new Set(marks.map((mark) => mark.dataset.row))];
  if (!figure.querySelector(".chart.toggles") || names.length < 2) continue;
  const keys = document.createElement("div");
  keys.className = "keys";
  keys.setAttribute("role", "group");
  keys.setAttribute("aria-label", "Rows that are shown");
  for (const name of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(pressed));
      for (const mark of marks) if (mark.dataset.row === name) mark.classList.toggle("faded", !pressed);
    });
    keys.append(button);
  }
  figure.querySelector("figcaption").before(keys);
}
