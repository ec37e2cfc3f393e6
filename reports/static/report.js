"use strict";
// Progressive enhancement only: without this script every table and figure is there already.
(() => {
  // Sorting: a button in every heading of a sortable table; cells without a figure stay last in both directions.
  const sortValue = (row, index) => row.children[index].dataset.sort;
  const compare = (a, b, numeric) => (numeric ? Number(a) - Number(b) : a.localeCompare(b));

  function sortBy(table, header, index) {
    const before = header.getAttribute("aria-sort");
    const isPresent = (row) => sortValue(row, index) !== "";
    const rowsOf = (body) => [...body.rows].filter((row) => !row.classList.contains("block"));
    const all = [...table.tBodies].flatMap(rowsOf).filter(isPresent);
    const numeric = all.every((row) => Number.isFinite(Number(sortValue(row, index))));
    const descending = before === null ? numeric : before === "ascending";
    const sign = descending ? -1 : 1;
    // Each block of rows by itself, below its heading.
    for (const body of table.tBodies) {
      const rows = rowsOf(body);
      const present = rows.filter(isPresent).sort((a, b) => sign * compare(sortValue(a, index), sortValue(b, index), numeric));
      body.append(...present, ...rows.filter((row) => !isPresent(row)));
    }
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

  // Alternatives: one at a time instead of closed details.
  [...document.querySelectorAll("[data-alternatives]")].forEach((section, number) => {
    const parts = [...section.children].filter((part) => part.dataset.option !== undefined);
    if (parts.length < 2) return;
    const fieldset = document.createElement("fieldset");
    const legend = document.createElement("legend");
    legend.textContent = section.dataset.alternatives;
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
      input.name = `alternatives-${number}`;
      input.checked = index === 0;
      input.addEventListener("change", () => show(part));
      label.append(input, part.dataset.option);
      fieldset.append(label);
    });
    parts[0].before(fieldset);
    show(parts[0]);
  });

  // A menu closes with Escape, and when another place is clicked.
  const menus = [...document.querySelectorAll("details.menu")];
  document.addEventListener("keydown", (event) => {
    const open = menus.find((menu) => menu.open);
    if (event.key !== "Escape" || !open) return;
    open.open = false;
    open.querySelector("summary").focus();
  });
  document.addEventListener("click", (event) => {
    menus.forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
  });
})();
