"use strict";
// Progressive enhancement only: without this script every table and figure is there already.
(() => {
  // Sorting: a button in every heading of a sortable table; cells without a figure stay last in both directions.
  const sortValue = (row, index) => row.children[index].dataset.sort;
  const compare = (a, b, numeric) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));

  function sortBy(table, header, index) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const present = rows.filter((row) => sortValue(row, index) !== "");
    const absent = rows.filter((row) => sortValue(row, index) === "");
    const numeric = present.every((row) => Number.isFinite(Number(sortValue(row, index))));
    const before = header.getAttribute("aria-sort");
    const descending = before === null ? numeric : before === "ascending";
    const sign = descending ? -1 : 1;
    present.sort((a, b) => sign * compare(sortValue(a, index), sortValue(b, index), numeric));
    body.append(...present, ...absent);
    for (const other of header.parentElement.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  }

  for (const table of document.querySelectorAll("table[data-sortable]")) {
    [...table.tHead.rows[table.tHead.rows.length - 1].cells].forEach((header, index) => {
      const label = header.querySelector(".label");
      const button = document.createElement("button");
      button.type = "button";
      button.append(...label.childNodes);
      label.append(button);
      button.addEventListener("click", () => sortBy(table, header, index));
    });
  }

  // Metrics: one table at a time instead of closed details.
  for (const section of document.querySelectorAll("[data-metrics]")) {
    const parts = [...section.querySelectorAll("[data-metric]")];
    const fieldset = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = "Metric";
    fieldset.append(legend);
    const show = (chosen) => parts.forEach((part) => { part.hidden = part !== chosen; });
    parts.forEach((part, index) => {
      if (part.tagName === "DETAILS") {
        part.open = true;
        part.classList.add("chosen");
      }
      const label = document.createElement("label");
      const input = document.createElement("input");
      input.type = "radio";
      input.name = "metric";
      input.checked = index === 0;
      input.addEventListener("change", () => show(part));
      label.append(input, part.dataset.metric);
      fieldset.append(label);
    });
    parts[0].before(fieldset);
    show(parts[0]);
  }
})();
