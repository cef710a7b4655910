// What is selected: its facts, its states, its waits and programs, beside its flamegraph.

/** A selection's time by state, and by program. */
function sumsOf(data, selection) {
  const { up, names, categories } = data.flame;
  const all = new Array(data.S).fill(0);
  const programs = new Map();
  const program = new Map();
  const programAt = (node) => {
    let at = node;
    while (at && categories[at] !== PROCESS) at = up[at];
    return names[at];
  };
  eachRow(data, selection, data.flame, (node, ns) => {
    const state = stateOf(categories[node]);
    all[state] += ns;
    let name = program.get(node);
    if (name === undefined) program.set(node, (name = programAt(node)));
    if (!programs.has(name)) programs.set(name, new Array(data.S).fill(0));
    programs.get(name)[state] += ns;
  });
  return { all, programs };
}

/** A phase's length in the baseline, in words. */
function beforeOf(data, phase) {
  const before = data.baseline.wall[phase];
  return before < 0 ? "not there before" : `${time(before)} before (${change(data.phases.to[phase] - data.phases.from[phase], before)})`;
}

/** What is selected: its figures beside its flamegraph. */
function showDetail(data, flame, node, timeline) {
  const { phases, containers, operations, works } = data;
  const { type, index } = node;
  const facts = [];
  const title = { o: "", c: "container ", p: "", w: "" }[type] + node.label;
  facts.push(time(node.to - node.from), `from ${moment(node.from, Math.max(1, node.to - node.from) / 100)}`);
  if (node.open) facts.push("had not ended");
  if (type === "p") {
    if (data.baseline) facts.push(beforeOf(data, index));
    const step = phases.parent[index];
    if (step >= 0) facts.push(`in ${data.text(phases.name[step])}`);
    if (phases.container[index] >= 0) facts.push(`container ${data.text(containers.name[phases.container[index]])}`);
    if (data.text(phases.main[index])) facts.push(`main thread ${data.text(phases.main[index])}`);
    facts.push(many(phases.processes[index], "process", "processes"));
    if (phases.exit[index] >= 0) facts.push(`exit status ${phases.exit[index]}`);
    if (phases.bytes[index] >= 0) facts.push(bytes(phases.bytes[index]));
    if (phases.rss[index] > 0) facts.push(`largest process ${bytes(phases.rss[index])}`);
    const edges = [["begins with ", data.text(phases.began[index])], ["ends with ", data.text(phases.ended[index])]];
    facts.push(...edges.filter(([, text]) => text).map((edge) => edge.join("")));
  } else if (type === "c") {
    facts.push(...[data.text(containers.image[index]), data.text(containers.by[index])].filter(Boolean));
    if (containers.memory[index] > 0) facts.push(`cgroup held up to ${bytes(containers.memory[index])}`);
  } else if (type === "o") {
    facts.push(many(operations.processes[index], "process", "processes"), `in no phase ${time(operations.unattributed[index])}`);
  } else if (type === "w") {
    facts.push(`pid ${works.pid[index]}`, data.text(works.argv[index]));
  }
  byId("detail-title").textContent = title;
  replace(byId("detail-facts"), facts.map((fact) => el("span", { text: fact })));
  replace(byId("detail-tools"),
    el("button", { type: "button", text: "Zoom timeline to it", click: () => timeline.zoomTo(node.from - (node.to - node.from) * 0.05, node.to + (node.to - node.from) * 0.05) }));

  const selection = { type, index };
  const sums = sumsOf(data, selection);
  const all = type === "p" ? timesAt(data, phases.all, index) : type === "w" ? timesAt(data, works.times, index) : sums.all;
  const path = type === "p" ? timesAt(data, phases.path, index) : type === "o" ? timesAt(data, operations.path, index) : null;
  const whole = sum(all);
  const columns = [];
  if (path) columns.push(["critical path", path, node.to - node.from]);
  columns.push([type === "w" ? "its threads" : "all threads", all, whole]);
  const shown = data.states.map((_, state) => state).filter((state) => columns.some(([, times]) => times[state]));
  const waits = type === "p" ? [["Main thread waited for", phases.main_waits[index]], ["All threads waited for", phases.all_waits[index]]] : [];
  const programs = [...sums.programs].sort(([, a], [, b]) => b[0] - a[0] || sum(b) - sum(a)).slice(0, 8);
  const busy = (times) => times[2] + times[3];
  replace(byId("states"),
    [...columns.slice(0, -1), ...(type === "p" ? [["main thread", timesAt(data, phases.wall, index)]] : []), ...columns.slice(-1)].map(([label, times]) => [el("h3", { text: label.charAt(0).toUpperCase() + label.slice(1) }), stack(data, times, Math.max(1, sum(times)), label)]).flat(),
    el("table", { "aria-label": "Time by state" },
      el("tr", {}, el("th", { text: "state" }), columns.flatMap(([label]) => [el("th", { class: "n", text: label, colspan: 2 })])),
      shown.map((state) => el("tr", {}, el("td", {}, chip(state), STATE_NAMES[data.states[state]]),
        columns.flatMap(([, times, length]) => [el("td", { class: "n", text: times[state] ? time(times[state]) : "·", title: exact(times[state]) }), el("td", { class: "n", text: times[state] ? share(times[state], length) : "" })]))),
      el("tr", { class: "total" }, el("td", { text: "together" }), columns.flatMap(([, times]) => [el("td", { class: "n", text: time(sum(times)), title: exact(sum(times)) }), el("td", {})]))),
    waits.filter(([, list]) => list.length).flatMap(([label, list]) => [
      el("table", { "aria-label": label },
        el("tr", {}, ...[label, "time", "waits", "longest"].map((text, at) => el("th", { text, class: at ? "n" : "" }))),
        Array.from({ length: list.length / 5 }, (_, at) => list.slice(at * 5, at * 5 + 5)).map(([detail, state, ns, waited, longest]) =>
          el("tr", {}, el("td", { class: "what" }, chip(state), data.text(detail)), el("td", { class: "n", text: time(ns), title: exact(ns) }), el("td", { class: "n", text: count(waited) }), el("td", { class: "n", text: time(longest), title: exact(longest) })))),
    ]),
    programs.length ? el("table", { "aria-label": "Programs" },
      el("tr", {}, ...["program", "on-CPU", "queue", "disk, net"].map((text, at) => el("th", { text, class: at ? "n" : "" }))),
      programs.map(([name, times]) => el("tr", {}, el("td", { text: data.text(name), title: data.text(name), class: "name" }), ...[times[0], times[1], busy(times)].map((ns) => el("td", { class: "n", text: ns ? time(ns) : "·", title: exact(ns) }))))) : null);
  flame.show(selection, type === "w" ? `${node.label}, all of that name` : title);
}
