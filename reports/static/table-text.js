// What a table says, as text: its columns, the numbers in its cells, and the table as Markdown, LaTeX or CSV.
"use strict";

const tableText = (() => {
  const PREFIXES = { k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15, E: 1e18 };
  // "1,024", "86.3 ± 0.4", "36.7 to 65.9", "1–8", "< 0.001", "75 %", "1.01 GB"
  const NUMBER = /^[<>]?\s*([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)\s?([kMGTPE]?)B?\s?%?(?:\s*(?:±|to|–).*)?$/;

  const squeeze = (text) => text.replace(/\s+/g, " ").trim();

  // The text of a header or cell; what stands small beside it (n=1, shared, f1) follows in brackets.
  function textOf(cell) {
    const copy = cell.cloneNode(true);
    const asides = [...copy.querySelectorAll("small, .n")].map((aside) => {
      aside.remove();
      return squeeze(aside.textContent);
    });
    for (const unseen of copy.querySelectorAll(".unseen, svg")) unseen.remove();
    const text = squeeze(copy.textContent);
    const said = asides.filter(Boolean).map((aside) => `(${aside})`).join(" ");
    return squeeze(`${text} ${said}`);
  }

  // The number that a text begins with, its SI prefix counted in; null if it is none.
  function numberIn(text) {
    const found = NUMBER.exec(text.replace(/\s*\([^)]*\)$/, ""));
    return found ? Number(found[1].replaceAll(",", "")) * (PREFIXES[found[2]] || 1) : null;
  }

  const slug = (text) => text.toLowerCase().normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "");

  const rowsOf = (table) =>
    [...table.tBodies].filter((body) => !body.classList.contains("group")).flatMap((body) => [...body.rows]);

  // Columns that say something: { index, header, name, slug, numeric }.
  function columnsOf(table) {
    const rows = rowsOf(table);
    const taken = new Set();
    return [...table.tHead.rows[0].cells]
      .filter((header) => header.localName === "th")
      .map((header) => {
        const index = header.cellIndex;
        const name = textOf(header);
        const texts = rows.map((row) => row.cells[index]).filter(Boolean).map(textOf).filter((t) => t && t !== "–");
        const numeric = texts.length > 0 && texts.filter((t) => numberIn(t) !== null).length > texts.length / 2;
        let unique = slug(name) || `column-${index + 1}`;
        while (taken.has(unique)) unique += "-2";
        taken.add(unique);
        return { index, header, name, slug: unique, numeric };
      });
  }

  const shown = (table) => ({
    columns: columnsOf(table).filter((column) => !column.header.hidden),
    rows: rowsOf(table).filter((row) => !row.hidden),
  });

  const isBest = (row, column) => row.cells[column.index].hasAttribute("data-best");

  function markdown(table) {
    const { columns, rows } = shown(table);
    const escaped = (text) => text.replace(/([\\|*_`<>[\]])/g, "\\$1");
    const line = (cells) => `| ${cells.join(" | ")} |`;
    const cell = (row, column) => {
      const text = escaped(textOf(row.cells[column.index]));
      return isBest(row, column) ? `**${text}**` : text;
    };
    return [
      line(columns.map((column) => escaped(column.name))),
      `|${columns.map((column) => (column.numeric ? "---:" : ":---")).join("|")}|`,
      ...rows.map((row) => line(columns.map((column) => cell(row, column)))),
    ].join("\n") + "\n";
  }

  const LATEX = {
    "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}",
    ">": "\\textgreater{}", "±": "$\\pm$", "×": "$\\times$", "–": "--",
  };
  const latexText = (text) =>
    text.replace(/[\\~^<>±×–]|[&%$#_{}]/g, (sign) => LATEX[sign] || `\\${sign}`).replace(/(^|[\s(])-(?=\d)/g, "$1$$-$$");

  function latex(table) {
    const { columns, rows } = shown(table);
    const line = (cells) => `${cells.join(" & ")} \\\\`;
    const cell = (row, column) => {
      const text = latexText(textOf(row.cells[column.index]));
      return isBest(row, column) ? `\\textbf{${text}}` : text;
    };
    const tied = rows.some((row) => columns.some((column) => isBest(row, column)));
    return [
      "% \\usepackage{booktabs}",
      tied ? "% Bold: all rows that share the best rank, with 95 % confidence." : "% No bold: no row has a rank.",
      `\\begin{tabular}{${columns.map((column) => (column.numeric ? "r" : "l")).join("")}}`,
      "\\toprule",
      line(columns.map((column) => latexText(column.name))),
      // a rule above each group: contenders, controls
      ...rows.flatMap((row, i) => [
        ...(row.parentNode === rows[i - 1]?.parentNode ? [] : ["\\midrule"]),
        line(columns.map((column) => cell(row, column))),
      ]),
      "\\bottomrule",
      "\\end{tabular}",
    ].join("\n") + "\n";
  }

  // Numbers as they are stored, not as they are rounded; a spread has a column of its own.
  function csv(table) {
    const { columns, rows } = shown(table);
    const spread = columns.map((column) => rows.some((row) => row.cells[column.index].dataset.spread !== undefined));
    const field = (text) => {
      const plain = /^[=+\-@]/.test(text) && numberIn(text) === null ? `'${text}` : text; // no formula for a spreadsheet
      return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
    };
    const value = (cell, column) => (column.numeric && cell.dataset.sort !== undefined ? cell.dataset.sort : textOf(cell));
    const line = (parts) => parts.flat().map(field).join(",");
    return [
      line(columns.map((column, i) => (spread[i] ? [column.name, `${column.name} spread`] : [column.name]))),
      ...rows.map((row) =>
        line(columns.map((column, i) => {
          const cell = row.cells[column.index];
          return spread[i] ? [value(cell, column), cell.dataset.spread || ""] : [value(cell, column)];
        }))),
    ].join("\n") + "\n";
  }

  return { textOf, numberIn, rowsOf, columnsOf, markdown, latex, csv };
})();
