// Disk, layers and files: tables whose cells are ready to be shown.

/** The last column of `left` tables is text; else the first one is. */
function plainTable({ title, detail, head, rows, more }, left) {
  const number = (index) => (left ? index < head.length - 1 : index > 0);
  const cell = (text, index) => el("td", { class: number(index) ? "n" : "wrap", text });
  return el("div", { class: "layers" },
    el("h3", { text: title.charAt(0).toUpperCase() + title.slice(1) }),
    detail ? el("p", { class: "note", text: detail }) : null,
    el("table", {},
      el("thead", {}, el("tr", {}, ...head.map((text, index) => el("th", { text, scope: "col", class: number(index) ? "n" : "" })))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell))))),
    more ? el("p", { class: "note", text: `${count(more)} more: phasegraph layers --top N` }) : null);
}

function showLayers(data) {
  const all = [...data.disk.map((table) => plainTable(table, table.head.length === 2)), ...data.layers.map((table) => plainTable(table, false)), ...data.moves.map((table) => plainTable(table, true))];
  replace(byId("layers-list"), all.length ? all : el("p", { class: "none", text: "No root file system made of layers was seen, and nothing was read or written." }));
}
