// Tables: phases, waits, findings, and how far all of it can be trusted.

const PAGE = 150;

/** Columns of the phase table: title, value to sort by, cell. */
function phaseColumns(data) {
  const { phases, containers, operations } = data;
  const state = (column, phase, at) => phases[column][phase * data.S + at];
  const dot = (ns) => (ns ? time(ns) : "·");
  const figure = (value, text) => el("td", { class: "n", text, title: value ? exact(value) : undefined });
  return [
    { title: "#", number: true, value: (p) => p, cell: (p) => el("td", { class: "n sub", text: p }) },
    {
      title: "phase", value: (p) => data.text(phases.name[p]),
      cell: (p, pick, depth) => el("td", { class: "name" }, depth ? "\u2003".repeat(depth) : null, el("button", { type: "button", text: data.text(phases.name[p]), title: data.text(phases.name[p]), click: pick })),
    },
    {
      title: "of", value: (p) => (phases.container[p] >= 0 ? data.text(containers.name[phases.container[p]]) : ""),
      cell: (p) => {
        const name = phases.container[p] >= 0 ? data.text(containers.name[phases.container[p]]) : phases.operation[p] >= 0 ? data.text(operations.name[phases.operation[p]]) : "";
        return el("td", { class: "name sub of", text: name, title: name });
      },
    },
    { title: "start", number: true, value: (p) => phases.from[p], cell: (p) => figure(phases.from[p], time(phases.from[p])) },
    { title: "wall", number: true, value: (p) => phases.to[p] - phases.from[p], cell: (p) => figure(phases.to[p] - phases.from[p], time(phases.to[p] - phases.from[p])) },
    ...(data.baseline ? [
      { title: "before", number: true, value: (p) => data.baseline.wall[p], cell: (p) => (data.baseline.wall[p] < 0 ? el("td", { class: "n", text: "·" }) : figure(data.baseline.wall[p], time(data.baseline.wall[p]))) },
      {
        title: "change", number: true, value: (p) => (data.baseline.wall[p] < 0 ? 0 : phases.to[p] - phases.from[p] - data.baseline.wall[p]),
        cell: (p) => el("td", { class: "n", text: data.baseline.wall[p] < 0 ? "new" : change(phases.to[p] - phases.from[p], data.baseline.wall[p]) }),
      },
    ] : []),
    {
      title: "critical path", value: (p) => state("path", p, 0) / Math.max(1, phases.to[p] - phases.from[p]),
      cell: (p) => el("td", { class: "cell" }, stack(data, timesAt(data, phases.path, p), Math.max(1, phases.to[p] - phases.from[p]), "critical path")),
    },
    { title: "CPU, all", number: true, value: (p) => state("all", p, 0), cell: (p) => figure(state("all", p, 0), dot(state("all", p, 0))) },
    { title: "queue, all", number: true, value: (p) => state("all", p, 1), cell: (p) => figure(state("all", p, 1), dot(state("all", p, 1))) },
    { title: "disk, all", number: true, value: (p) => state("all", p, 2), cell: (p) => figure(state("all", p, 2), dot(state("all", p, 2))) },
    { title: "bytes", number: true, value: (p) => phases.bytes[p], cell: (p) => el("td", { class: "n", text: phases.bytes[p] >= 0 ? bytes(phases.bytes[p]) : "·" }) },
    {
      title: "unattributed", number: true, value: (p) => state("path", p, UNATTRIBUTED),
      cell: (p) => figure(state("path", p, UNATTRIBUTED), dot(state("path", p, UNATTRIBUTED))),
    },
  ];
}

function showPhases(data, pick) {
  const { phases } = data;
  const columns = phaseColumns(data);
  const depths = [];
  phases.parent.forEach((parent, phase) => (depths[phase] = parent < 0 ? 0 : depths[parent] + 1));
  let sort = { column: 3, down: false };
  let shown = PAGE;
  let filter = "";
  let byKind = data.counts.phases > 60;
  const chosen = { phase: -1 };
  const order = () => {
    const { value } = columns[sort.column];
    const list = phases.from.map((_, phase) => phase).filter((phase) => !filter || columns.slice(1, 3).some((column) => column.value(phase).toLowerCase().includes(filter)));
    const keys = new Map(list.map((phase) => [phase, value(phase)]));
    list.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      const way = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (sort.down ? -way : way) || a - b;
    });
    return list;
  };
  function heads(list, sorted, resort) {
    return el("tr", {}, list.map((column, index) =>
      el("th", { class: column.number ? "n" : "", scope: "col", "aria-sort": index === sorted.column ? (sorted.down ? "descending" : "ascending") : undefined },
        el("button", { type: "button", text: `${column.title}${index === sorted.column ? (sorted.down ? " ↓" : " ↑") : ""}`, click: () => resort(index, column) }))));
  }
  function each() {
    const list = order();
    const rows = list.slice(0, shown).map((phase) => {
      const go = (event) => {
        event.stopPropagation();
        pick(phase);
      };
      return el("tr", { class: `pick${phase === chosen.phase ? " chosen" : ""}`, click: go }, columns.map((column) => column.cell(phase, go, sort.column === 3 && !sort.down && !filter ? depths[phase] : 0)));
    });
    const more = list.length - rows.length;
    replace(byId("phases-table"),
      el("table", {}, el("thead", {}, heads(columns, sort, (index, column) => {
        sort = { column: index, down: index === sort.column ? !sort.down : Boolean(column.number) && index > 3 };
        render();
      })), el("tbody", {}, rows)),
      list.length ? null : el("p", { class: "note", text: data.counts.phases ? "No phase's name has that." : "No phases were recognised in this recording." }),
      more > 0 ? el("p", { class: "note" }, `${many(more, "more phase", "more phases")}. `, el("button", {
        type: "button", text: `Show ${Math.min(more, 1000)} more`, click: () => {
          shown += 1000;
          render();
        },
      })) : null);
  }
  let kindSort = { column: 3, down: true };
  function kinds() {
    const groups = new Map();
    phases.from.forEach((from, phase) => {
      const kind = data.text(phases.kind[phase]);
      if (!groups.has(kind)) groups.set(kind, { kind, all: [], cpu: 0 });
      groups.get(kind).all.push(phases.to[phase] - from);
      groups.get(kind).cpu += phases.all[phase * data.S];
    });
    const at = (list, part) => list[Math.min(list.length - 1, Math.max(0, Math.ceil(list.length * part) - 1))];
    const figure = (value) => el("td", { class: "n", text: time(value), title: exact(value) });
    const list = [...groups.values()];
    list.forEach((group) => group.all.sort((a, b) => a - b));
    const of = [
      { title: "kind", value: (g) => g.kind, cell: (g) => el("td", { text: g.kind }) },
      { title: "phases", number: true, value: (g) => g.all.length, cell: (g) => el("td", { class: "n", text: count(g.all.length) }) },
      { title: "CPU, all", number: true, value: (g) => g.cpu, cell: (g) => figure(g.cpu) },
      { title: "sum of walls", number: true, value: (g) => sum(g.all), cell: (g) => figure(sum(g.all)) },
      { title: "median", number: true, value: (g) => at(g.all, 0.5), cell: (g) => figure(at(g.all, 0.5)) },
      { title: "P95", number: true, value: (g) => at(g.all, 0.95), cell: (g) => figure(at(g.all, 0.95)) },
      { title: "longest", number: true, value: (g) => at(g.all, 1), cell: (g) => figure(at(g.all, 1)) },
    ];
    const { value } = of[kindSort.column];
    list.sort((a, b) => (typeof value(a) === "string" ? value(a).localeCompare(value(b)) : value(a) - value(b)) * (kindSort.down ? -1 : 1));
    replace(byId("phases-table"), el("table", {}, el("thead", {}, heads(of, kindSort, (index, column) => {
      kindSort = { column: index, down: index === kindSort.column ? !kindSort.down : Boolean(column.number) };
      render();
    })), el("tbody", {}, list.map((group) => el("tr", {}, of.map((column) => column.cell(group)))))));
  }
  const search = el("input", {
    type: "search", placeholder: "Filter phases", "aria-label": "Filter phases", spellcheck: "false",
    input: later(() => {
      filter = search.value.trim().toLowerCase();
      shown = PAGE;
      byKind = false;
      render();
    }),
  });
  const tabs = [["Each phase", false], ["By kind", true]].map(([text, own]) => el("button", {
    type: "button", text, click: () => {
      byKind = own;
      render();
    },
  }));
  replace(byId("phases-tools"), tabs, search);
  function render() {
    tabs.forEach((tab, index) => tab.setAttribute("aria-pressed", String(Boolean(index) === byKind)));
    if (byKind) kinds();
    else each();
  }
  render();
  return (phase) => {
    chosen.phase = phase;
    if (!byKind) render();
  };
}

function showWaits(data, timeline) {
  const rows = data.waits.map((wait) => {
    const where = wait.phase >= 0 ? ` in ${data.text(data.phases.name[wait.phase])}` : "";
    const to = wait.from + wait.longest;
    return el("tr", {},
      el("td", {}, chip(wait.state), ` ${wait.detail}`),
      el("td", { class: "sub", text: STATE_NAMES[data.states[wait.state]] }),
      el("td", { class: "n", text: time(wait.ns), title: exact(wait.ns) }),
      el("td", { class: "n", text: count(wait.count) }),
      el("td", { class: "n", text: time(wait.longest), title: exact(wait.longest) }),
      el("td", { class: "wrap" }, el("button", {
        class: "link", type: "button", text: `${data.text(wait.who)}${where}`, title: "Show it in the timeline",
        click: () => {
          if (wait.phase >= 0) timeline.reveal(wait.phase);
          timeline.zoomTo(wait.from - wait.longest * 0.1, to + wait.longest * 0.1);
          byId("timeline").scrollIntoView();
        },
      })));
  });
  replace(byId("waits-table"), rows.length
    ? el("table", {}, el("thead", {}, el("tr", {}, ...["waited for", "state", "all threads", "waits", "longest", "the longest"].map((text, index) =>
      el("th", { text, scope: "col", class: index > 1 && index < 5 ? "n" : "" })))), el("tbody", {}, rows))
    : el("p", { class: "none", text: "Nothing was waited for." }));
}

function showFindings(data, pick) {
  replace(byId("findings-list"), data.findings.map((finding) => {
    // The first lines speak of one phase each.
    const lines = finding.lines.map((line, index) => el("li", {}, index < finding.phases.length
      ? el("button", { class: "link", type: "button", text: line, click: () => pick(finding.phases[index]) })
      : line));
    const state = finding.answered === "answered" ? null : el("p", { class: "none", text: finding.answered });
    return el("div", { class: "finding" }, el("h3", { text: finding.question }), el("div", {}, state, lines.length ? el("ul", {}, lines) : null));
  }));
}

const pairs = (list) => el("dl", { class: "pairs" }, list.flatMap(([label, text]) => [el("dt", { text: label }), el("dd", { text })]));

function showTrust(data) {
  const { sections } = data.trust;
  const own = sections.map(([title, detail, paragraphs]) =>
    el("div", {}, el("h3", { text: title.charAt(0).toUpperCase() + title.slice(1) }), detail ? el("p", { class: "note", text: detail }) : null, pairs(paragraphs)));
  const page = [];
  if (data.flame.smaller) page.push(["flamegraphs", `${many(data.flame.smaller, "stack", "stacks")} of ${time(data.flame.smaller_ns)} in sum, the smallest of their phases, are drawn as one each`]);
  page.push(["timeline", `rows of one thread show its intervals as they are, down to a ${count(data.strips.pieces)}th of the row; rows of several threads are cut into ${count(data.strips.pieces)} pieces`]);
  const left = sum(data.works.more.map((more) => more[2]));
  if (left) page.push(["processes", `${many(left, "row", "rows")} of processes that used least are left out of the timeline, and counted where they are missing`]);
  own.push(el("div", {}, el("h3", { text: "This page" }), pairs(page)));
  replace(byId("trust-list"), el("div", { class: "columns" }, own));
}

function showHost(data) {
  const named = (list) => list.filter(([name]) => name);
  const rest = data.settings.filter(([name]) => !name).map(([, value]) => value);
  replace(byId("host-list"), el("div", { class: "columns" },
    el("div", {}, el("h3", { text: "Host" }), pairs(data.host)),
    el("div", {}, el("h3", { text: "Recording" }), pairs(named(data.settings))),
    rest.length ? el("details", {}, el("summary", { text: `${many(rest.length, "fact", "facts")} of probes and host` }), el("ul", {}, rest.map((text) => el("li", { text })))) : null));
}
