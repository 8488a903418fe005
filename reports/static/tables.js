// Tools above each table: search, filter, columns, copy. Sorting itself is sortable.min.js.
// Without this script the tables are whole; nothing on a page depends on it.
"use strict";

(() => {
  const FEW_ROWS = 6; // below, there is nothing to search
  const MOST_VALUES = 15; // of a column that can be filtered by value
  const CONDITION = /^([\p{L}\p{N}-]+)(<=|>=|<|>|=)(.+)$/u;

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function menu(title, ...children) {
    return element("details", { className: "menu" }, element("summary", {}, title),
      element("div", { className: "menu-body" }, ...children));
  }

  // One table. Tables that stand in each other's place (the ways to choose an epoch) share `key` and what is chosen.
  class Table {
    constructor(table, key) {
      this.table = table;
      this.prefix = key ? `${key}.` : "";
      this.columns = tableText.columnsOf(table);
      this.rows = tableText.rowsOf(table);
      const worded = this.columns.filter(({ numeric }) => !numeric); // numbers are found by conditions
      this.texts = new Map(this.rows.map((row) => [row, worded.map(({ index }) => tableText.textOf(row.cells[index])).join("\n").toLowerCase()]));
      this.status = element("span", { className: "tools-status", role: "status" });
      this.sorted = "";
    }

    get(name) { return pageState.get(this.prefix + name); }

    write(name, value) { pageState.write(this.prefix + name, value); }

    prepare() {
      this.initial = this.order();
      for (const column of this.columns) {
        const button = element("button", { type: "button" });
        button.append(...column.header.childNodes);
        column.header.append(button);
        if (!column.numeric) continue;
        column.header.classList.add("number");
        for (const row of this.rows) {
          const cell = row.cells[column.index];
          cell.classList.add("number");
          if (cell.dataset.sort === undefined) cell.dataset.sort = tableText.numberIn(tableText.textOf(cell)) ?? "";
        }
      }
      this.table.classList.add("n-last");
      // Names from A to Z first, numbers from the largest.
      this.table.tHead.addEventListener("click", (event) => {
        const column = this.columns.find(({ header }) => header.contains(event.target));
        if (column) this.table.classList.toggle("asc", !column.numeric);
      }, true);
      this.table.addEventListener("sort-end", () => this.keepOrder());
    }

    order() {
      const column = this.columns.find(({ header }) => header.hasAttribute("aria-sort"));
      return column ? (column.header.getAttribute("aria-sort") === "descending" ? "-" : "") + column.slug : "";
    }

    keepOrder() {
      this.write("sort", this.order() === this.initial ? "" : this.order());
      const column = this.columns.find(({ header }) => header.hasAttribute("aria-sort"));
      this.sorted = `sorted by ${column.name}, ${column.header.getAttribute("aria-sort")}`;
      this.tell();
    }

    restoreOrder() {
      const wanted = this.get("sort") || this.initial;
      if (wanted === this.order()) return;
      const column = this.columns.find(({ slug }) => slug === wanted.replace(/^-/, ""));
      if (!column) { this.unsort(); return; }
      // The library turns the order of the column that has one.
      for (const { header } of this.columns) header.removeAttribute("aria-sort");
      column.header.setAttribute("aria-sort", wanted.startsWith("-") ? "ascending" : "descending");
      column.header.querySelector("button").click();
    }

    unsort() {
      for (const { header } of this.columns) header.removeAttribute("aria-sort");
      for (const row of this.rows) row.parentNode.append(row);
      this.sorted = "";
    }

    tell() {
      const visible = this.rows.filter((row) => !row.hidden).length;
      const count = visible === this.rows.length ? "" : `${visible} of ${this.rows.length} rows`;
      this.status.textContent = [count, this.sorted].filter(Boolean).join(", ");
    }

    // "lora mrpc" finds rows that are named by both words; "average>80" compares numbers as they are shown.
    matches(row, words, filters) {
      return filters.every(([column, value]) => tableText.textOf(row.cells[column.index]) === value) &&
        words.every((word) => {
          const condition = CONDITION.exec(word);
          const column = condition && this.columns.find(({ slug, numeric }) => numeric && slug.startsWith(condition[1]));
          const limit = column ? tableText.numberIn(condition[3].replace(/[kmgtpe]$/, (p) => (p === "k" ? p : p.toUpperCase()))) : null;
          if (limit === null) return this.texts.get(row).includes(word);
          const value = tableText.numberIn(tableText.textOf(row.cells[column.index]));
          if (value === null) return false;
          return { "<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit, "=": value === limit }[condition[2]];
        });
    }

    show() {
      const words = this.get("q").toLowerCase().split(/\s+/).filter(Boolean);
      const filters = this.columns.map((column) => [column, this.get(column.slug)]).filter(([, value]) => value);
      const hidden = this.get("hide").split(",");
      for (const row of this.rows) row.hidden = !this.matches(row, words, filters);
      for (const column of this.columns) this.showColumn(column, !hidden.includes(column.slug));
      for (const body of this.table.tBodies) {
        if (body.classList.contains("group")) body.hidden = [...body.nextElementSibling.rows].every((row) => row.hidden);
      }
      this.restoreControls(hidden);
      this.tell();
    }

    showColumn(column, visible) {
      column.header.hidden = !visible;
      for (const row of this.rows) row.cells[column.index].hidden = !visible;
    }

    restoreControls(hidden) {
      if (!this.tools) return;
      for (const box of this.tools.querySelectorAll("[data-column]")) box.checked = !hidden.includes(box.dataset.column);
      for (const select of this.tools.querySelectorAll("[data-filter]")) select.value = this.get(select.dataset.filter);
      const search = this.tools.querySelector("input[type=search]");
      if (search && search.value !== this.get("q")) search.value = this.get("q");
      const changed = ["q", "hide", "sort", ...this.columns.map(({ slug }) => slug)].some((name) => this.get(name));
      this.tools.querySelector(".reset").hidden = !changed;
    }
  }

  function searchBox(table, changed) {
    const example = table.columns.find(({ slug }) => slug === "average") ? ", or average>50" : "";
    const input = element("input", { type: "search", placeholder: `Search${example}`, autocomplete: "off", spellcheck: false });
    input.setAttribute("aria-label", `Search this table: words, or a column and a number, as in ${table.columns.at(-1).slug}>10`);
    input.addEventListener("input", () => { table.write("q", input.value.trim()); changed(); });
    return input;
  }

  function filterMenu(table, changed) {
    const selects = table.columns.filter(({ numeric }) => !numeric).flatMap((column) => {
      const values = [...new Set(table.rows.map((row) => tableText.textOf(row.cells[column.index])))].filter(Boolean).sort();
      if (values.length < 2 || values.length > MOST_VALUES || values.length === table.rows.length) return [];
      const select = element("select", {}, element("option", { value: "" }, "all"),
        ...values.map((value) => element("option", { value }, value)));
      select.dataset.filter = column.slug;
      select.addEventListener("change", () => { table.write(column.slug, select.value); changed(); });
      return [element("label", {}, element("span", {}, column.name), select)];
    });
    return selects.length ? [menu("Filter", ...selects)] : [];
  }

  function columnMenu(table, changed) {
    const boxes = table.columns.slice(1).map((column) => {
      const box = element("input", { type: "checkbox", checked: true });
      box.dataset.column = column.slug;
      box.addEventListener("change", () => {
        const hidden = [...table.tools.querySelectorAll("[data-column]")].filter((other) => !other.checked);
        table.write("hide", hidden.map((other) => other.dataset.column).join(","));
        changed();
      });
      return element("label", {}, box, column.name);
    });
    return menu("Columns", ...boxes);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no permission, or no secure context
      const area = element("textarea", { value: text, className: "unseen" });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  function copyMenu(table) {
    const made = menu("Copy", ...["Markdown", "LaTeX", "CSV"].map((format) => {
      const button = element("button", { type: "button" }, format);
      button.addEventListener("click", async () => {
        await copy(tableText[format.toLowerCase()](table.table));
        made.open = false;
        made.firstChild.focus();
        table.status.textContent = `Copied as ${format}`;
      });
      return button;
    }));
    return made;
  }

  function resetButton(table, changed) {
    const button = element("button", { type: "button", className: "reset", hidden: true }, "Reset");
    button.addEventListener("click", () => {
      for (const name of ["q", "hide", "sort", ...table.columns.map(({ slug }) => slug)]) table.write(name, "");
      changed();
      for (const other of table.peers) other.restoreOrder();
    });
    return button;
  }

  function addTools(table, changed) {
    const many = table.rows.length >= FEW_ROWS;
    table.tools = element("div", { className: "tools", role: "group" },
      ...(many ? [searchBox(table, changed), ...filterMenu(table, changed)] : []),
      columnMenu(table, changed), copyMenu(table), resetButton(table, changed), table.status);
    table.tools.setAttribute("aria-label", "Tools of the table below");
    const scroll = table.table.closest(".scroll"), both = element("div", { className: "tooled" });
    scroll.replaceWith(both);
    both.append(table.tools, scroll);
  }

  // A table that is not too wide needs no box to scroll in: then its header sticks to the window instead.
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const scroll = target.closest(".scroll");
      scroll.classList.toggle("fits", scroll.querySelector("table").offsetWidth <= scroll.clientWidth);
    }
  });
  for (const table of document.querySelectorAll(".scroll > table")) {
    sizes.observe(table);
    sizes.observe(table.parentElement);
  }

  // Tables of one set of tabs are one to the reader.
  const groups = new Map();
  for (const table of document.querySelectorAll(".scroll > table.sortable")) {
    if (!table.tHead || !table.tBodies.length) continue;
    const place = table.closest(".protocols") || table;
    if (!groups.has(place)) groups.set(place, []);
    groups.get(place).push(table);
  }
  [...groups.values()].forEach((members, index) => {
    const peers = members.map((table) => new Table(table, index ? String(index + 1) : ""));
    const changed = () => { for (const table of peers) table.show(); };
    for (const table of peers) {
      table.peers = peers;
      table.prepare();
      if (table.rows.length >= FEW_ROWS || table.table.classList.contains("board")) addTools(table, changed);
      table.table.addEventListener("sort-end", () => {
        for (const other of peers) {
          other.restoreOrder();
          other.restoreControls(other.get("hide").split(","));
        }
      });
      table.restoreOrder();
    }
    changed();
  });

  document.addEventListener("click", (event) => {
    for (const open of document.querySelectorAll(".menu[open]")) if (!open.contains(event.target)) open.open = false;
  });
  document.addEventListener("keydown", (event) => {
    const open = event.key === "Escape" && document.querySelector(".menu[open]");
    if (open) { open.open = false; open.firstChild.focus(); }
  });
})();
