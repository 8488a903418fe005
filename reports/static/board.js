// Sorting is done by sortable.min.js on a click anywhere in a header. A button in each header lets the
// keyboard and screen readers click it too; without JavaScript there is nothing to press, and no button.
for (const header of document.querySelectorAll("table.sortable thead th:not(.no-sort)")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  header.append(button);
}
