// Curves can be switched off, one by one. What a mark says on hover is in the drawing itself.
"use strict";

for (const figure of document.querySelectorAll("figure")) {
  const rows = new Map();
  for (const mark of figure.querySelectorAll(".chart [data-row]")) {
    if (!rows.has(mark.dataset.row)) rows.set(mark.dataset.row, []);
    rows.get(mark.dataset.row).push(mark);
  }
  // Rows in the background have no symbol; plots of single points have no line.
  const curves = [...rows.values()].filter((marks) =>
    ["line", "symbol"].every((kind) => marks.some((mark) => mark.closest(`.mark-${kind}`))));
  if (curves.length < 2) continue;
  const keys = document.createElement("div");
  keys.className = "keys";
  keys.setAttribute("role", "group");
  keys.setAttribute("aria-label", "Curves that are shown");
  for (const marks of curves) {
    const button = document.createElement("button");
    button.type = "button";
    // The symbol beside a curve's name says the name alone.
    const said = marks.map((mark) => mark.textContent).filter(Boolean);
    button.textContent = said.reduce((shortest, words) => (words.length < shortest.length ? words : shortest));
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") === "false";
      button.setAttribute("aria-pressed", String(shown));
      for (const mark of marks) mark.classList.toggle("faded", !shown);
    });
    keys.append(button);
  }
  figure.querySelector("figcaption").before(keys);
}
