// Flamegraphs of what is selected. The root is on top, the biggest part on the left; widths are time.

const FRAME = 18;
/** Frames above each other on paper: a picture does not break across pages. */
const PRINTED = 32;

/** Calls `each(node, ns, count)` for every row of numbers. */
function eachOf(rows, each) {
  let node = 0;
  for (let index = 0; index < rows.length; index += 3) {
    node += rows[index];
    each(node, rows[index + 1], rows[index + 2]);
  }
}

/** The rows of a selection's critical path; containers and processes have none. */
function pathOf(data, { type, index }) {
  if (type === "p") return data.flame.paths[index];
  if (type === "o") return data.flame.paths[data.counts.phases + index];
  return [];
}

/** The same for every row of time that belongs to a selection, now or in the baseline. */
function eachRow(data, selection, side, each) {
  const own = selection.type === "w" ? programOf(data, data.works.program[selection.index]) : null;
  for (const set of setsOf(data, selection, side)) {
    eachOf(side.rows[set], own ? (node, ns, many) => own[node] && each(node, ns, many) : each);
  }
}

function setsOf(data, { type, index }, side) {
  const { phases, works } = data;
  const all = side.sets.map((_, set) => set);
  if (type === "p") return side.ofPhase[index];
  if (type === "o") return all.filter((set) => side.sets[set][1] === index || side.sets[set][0].some((phase) => phases.operation[phase] === index));
  if (type === "c") return all.filter((set) => side.sets[set][0].some((phase) => phases.container[phase] === index));
  if (type === "w") {
    const phase = works.phase[index];
    if (phase >= 0) return side.ofPhase[phase];
    return all.filter((set) => !side.sets[set][0].length && side.sets[set][1] === works.operation[index]);
  }
  return all;
}

/** For each node whether it is a process of that program, or one of its frames. */
function programOf(data, program) {
  const { up, names, categories, nodes } = data.flame;
  const own = new Uint8Array(nodes);
  for (let node = 1; node < nodes; node++) {
    own[node] = categories[node] === PROCESS ? names[node] === program : own[up[node]];
  }
  return own;
}

/** The tree of a selection for one kind of time, with processes or without. */
function flameTree(data, selection, kind, processes) {
  const { up, names, categories, nodes } = data.flame;
  const total = new Float64Array(nodes);
  const counts = new Float64Array(nodes);
  const before = new Float64Array(nodes);
  const wanted = new Set(kind.states);
  const add = (node, ns, many) => {
    if (!wanted.has(stateOf(categories[node]))) return;
    total[node] += ns;
    counts[node] += many;
  };
  if (kind.path) eachOf(pathOf(data, selection), add);
  else eachRow(data, selection, kind.bytes ? { ...data.flame, rows: data.flame.moved } : data.flame, add);
  if (data.baseline && !kind.path && !kind.bytes) {
    eachRow(data, selection, data.baseline, (node, ns) => {
      if (wanted.has(stateOf(categories[node]))) before[node] += ns;
    });
  }
  for (let node = nodes - 1; node > 0; node--) {
    if (!total[node] && !before[node]) continue;
    total[up[node]] += total[node];
    counts[up[node]] += counts[node];
    before[up[node]] += before[node];
  }
  const tree = { name: [0], category: [PROCESS], parent: [-1], value: [total[0]], count: [counts[0]], before: [before[0]], children: [[]], depth: [0] };
  const places = new Int32Array(nodes);
  const known = new Map();
  for (let node = 1; node < nodes; node++) {
    if (!total[node] && !before[node]) continue;
    const parent = places[up[node]];
    const category = categories[node];
    if (!processes && (category === PROCESS || category === THREAD)) {
      places[node] = parent;
      continue;
    }
    const key = processes ? -1 : (parent * 4194304 + names[node]) * 32 + category;
    let place = processes ? undefined : known.get(key);
    if (place === undefined) {
      place = tree.name.length;
      tree.name.push(names[node]);
      tree.category.push(category);
      tree.parent.push(parent);
      tree.value.push(0);
      tree.count.push(0);
      tree.before.push(0);
      tree.children.push([]);
      tree.depth.push(tree.depth[parent] + 1);
      tree.children[parent].push(place);
      if (!processes) known.set(key, place);
    }
    tree.value[place] += total[node];
    tree.count[place] += counts[node];
    tree.before[place] += before[node];
    places[node] = place;
  }
  for (const list of tree.children) list.sort((a, b) => tree.value[b] - tree.value[a] || tree.name[a] - tree.name[b]);
  return tree;
}

function Flame(data) {
  const canvas = byId("flame-canvas");
  const status = byId("flame-status");
  let selection = null;
  let title = "";
  let kind = 0;
  let processes = true;
  let compare = Boolean(data.baseline);
  let tree = null;
  let focus = 0;
  let cursor = 0;
  let term = "";
  let found = { nodes: null, ns: 0 };
  let boxes = [];

  /** Amounts are time, or bytes. */
  const amount = (value) => (data.kinds[kind].bytes ? bytes(value) : time(value));
  const precise = (value) => (data.kinds[kind].bytes ? `${count(value)} bytes` : exact(value));
  const nameOf = (place) => (place ? data.text(tree.name[place]) : title);

  function rebuild() {
    const before = tree && path(focus).map((place) => `${tree.category[place]} ${tree.name[place]}`);
    tree = flameTree(data, selection, data.kinds[kind], processes);
    focus = 0;
    // Stays where it was, as far as that is in the new one.
    for (const step of before ? before.slice(1) : []) {
      const next = tree.children[focus].find((child) => `${tree.category[child]} ${tree.name[child]}` === step);
      if (next === undefined) break;
      focus = next;
    }
    cursor = focus;
    look();
  }

  function path(place) {
    const list = [];
    for (let at = place; at >= 0; at = tree.parent[at]) list.unshift(at);
    return list;
  }

  function look() {
    found = { nodes: null, ns: 0 };
    if (term) {
      const words = new Map();
      const fits = (name) => {
        if (!words.has(name)) words.set(name, data.text(name).toLowerCase().includes(term));
        return words.get(name);
      };
      found.nodes = new Uint8Array(tree.name.length);
      const inside = new Uint8Array(tree.name.length);
      // Parents come first: time below a frame that fits is counted once.
      for (let place = 1; place < tree.name.length; place++) {
        const fit = fits(tree.name[place]);
        found.nodes[place] = fit ? 1 : 0;
        inside[place] = inside[tree.parent[place]];
        if (fit && !inside[place]) {
          inside[place] = 1;
          found.ns += tree.value[place];
        }
      }
    }
    draw();
    tell(cursor);
  }

  function layout(width) {
    boxes = [];
    const above = path(focus);
    above.slice(0, -1).forEach((place, depth) => boxes.push({ place, depth, x: 0, wide: width, dim: true }));
    const scale = width / Math.max(1, tree.value[focus]);
    const todo = [{ place: focus, depth: above.length - 1, x: 0 }];
    let deepest = above.length - 1;
    while (todo.length) {
      const { place, depth, x } = todo.pop();
      const wide = tree.value[place] * scale;
      boxes.push({ place, depth, x, wide });
      deepest = Math.max(deepest, depth);
      let at = x;
      for (const child of tree.children[place]) {
        const own = tree.value[child] * scale;
        if (own < 0.4) break;
        todo.push({ place: child, depth: depth + 1, x: at });
        at += own;
      }
    }
    return deepest + 1;
  }

  function colorOf(place) {
    const category = tree.category[place];
    if (found.nodes && found.nodes[place]) return [palette.found, palette.foundInk];
    if (compare && !data.kinds[kind].path && !data.kinds[kind].bytes) return changed(tree.value[place], tree.before[place]);
    if (category >= CLOSING) {
      const color = palette.states[category - CLOSING];
      return [color, inkOn(color)];
    }
    const shades = place === 0 ? palette.synthetic : [palette.user, palette.kernel, palette.synthetic, palette.process, palette.process][category];
    return [shades[(tree.name[place] * 7) % shades.length], palette.frame];
  }

  const draw = later(drawNow);
  function drawNow() {
    if (!tree) return;
    const width = Math.max(80, canvas.parentElement.clientWidth);
    if (!tree.value[0]) {
      const context = canvasOf(canvas, width, 3 * FRAME);
      boxes = [];
      context.fillStyle = palette.soft;
      context.font = "13px system-ui, sans-serif";
      context.fillText(data.kinds[kind].bytes ? "Nothing was read cold or made dirty here." : "None of this time here.", 12, 32);
      return;
    }
    const deep = layout(width);
    const rows = theme.printing ? Math.min(deep, PRINTED) : deep;
    status.dataset.cut = deep > rows ? ` · the ${deep - rows} innermost levels are not printed` : "";
    const context = canvasOf(canvas, width, rows * FRAME + 1);
    context.font = "11.5px ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', 'DejaVu Sans Mono', monospace";
    context.textBaseline = "middle";
    const letter = context.measureText("0").width;
    for (const { place, depth, x, wide, dim } of boxes) {
      const [color, ink] = colorOf(place);
      const gap = wide > 3 ? 0.6 : 0;
      context.globalAlpha = dim ? 0.55 : 1;
      context.fillStyle = color;
      context.fillRect(x, depth * FRAME, Math.max(0.4, wide - gap), FRAME - 1);
      if (place === cursor && document.activeElement === canvas) {
        context.strokeStyle = palette.accent;
        context.lineWidth = 2;
        context.strokeRect(x + 1, depth * FRAME + 1, Math.max(1, wide - 2), FRAME - 3);
      }
      const room = Math.floor((wide - 7) / letter);
      if (room < 2) continue;
      const name = nameOf(place);
      context.fillStyle = ink;
      const text = name.length <= room ? name : `${name.slice(0, room - 1)}…`;
      context.fillText(text, x + 4, depth * FRAME + FRAME / 2, wide - 6);
    }
    context.globalAlpha = 1;
  }

  /** From blue, less than before, to red, more; pale is the same. */
  function changed(now, before) {
    const part = (now - before) / Math.max(now, before, 1);
    const [pale, full] = [palette.same, part > 0 ? palette.more : palette.less];
    const strength = Math.sqrt(Math.abs(part));
    const mixed = [1, 3, 5].map((at) => {
      const [from, to] = [pale, full].map((color) => parseInt(color.slice(at, at + 2), 16));
      return Math.round(from + (to - from) * strength).toString(16).padStart(2, "0");
    });
    const color = `#${mixed.join("")}`;
    return [color, inkOn(color)];
  }

  function inkOn(color) {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    return r * 0.299 + g * 0.587 + b * 0.114 > 140 ? "#1b1f24" : "#ffffff";
  }

  function facts(place) {
    const kindName = { cpu: "on-CPU time", offcpu: "off-CPU time", wall: "all time", critical: "the critical path", disk: "bytes read cold or made dirty" }[data.kinds[kind].name] || `${data.kinds[kind].title} time`;
    const parts = [amount(tree.value[place]), `${share(tree.value[place], tree.value[0])} of ${kindName}`];
    if (data.baseline && !data.kinds[kind].path && !data.kinds[kind].bytes) parts.push(tree.before[place] ? `${time(tree.before[place])} before (${change(tree.value[place], tree.before[place])})` : "none before");
    if (tree.count[place]) parts.push(data.kinds[kind].bytes ? many(tree.count[place], "page", "pages") : kind === 0 ? many(tree.count[place], "sample", "samples") : many(tree.count[place], "sample or wait", "samples and waits"));
    return parts;
  }

  function tell(place) {
    const parts = tree.value[0] ? [`${nameOf(place)}: ${facts(place).join(", ")}`] : ["nothing"];
    if (term) parts.push(`found ${share(found.ns, tree.value[0])} (${amount(found.ns)})`);
    status.textContent = parts.join(" · ");
    reset.disabled = focus === 0;
  }

  function zoom(place) {
    focus = cursor = place;
    canvas.parentElement.scrollTop = 0;
    draw();
    tell(place);
  }

  const boxAt = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    const [x, depth] = [event.clientX - left, Math.floor((event.clientY - top) / FRAME)];
    return boxes.find((box) => box.depth === depth && box.x <= x && x < box.x + Math.max(1, box.wide));
  };
  canvas.addEventListener("click", (event) => {
    const box = boxAt(event);
    if (box) zoom(box.place);
  });
  canvas.addEventListener("mousemove", (event) => {
    const box = boxAt(event);
    if (!box) return tip.hide();
    tip.show(event, el("b", { text: nameOf(box.place) }), el("div", { text: facts(box.place).join(", ") }), el("div", { text: precise(tree.value[box.place]) }));
  });
  canvas.addEventListener("mouseleave", tip.hide);
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
  canvas.addEventListener("keydown", (event) => {
    if (!tree || event.ctrlKey || event.metaKey || event.altKey) return;
    const beside = (step) => {
      const list = cursor ? tree.children[tree.parent[cursor]] : [cursor];
      return list[Math.max(0, Math.min(list.length - 1, list.indexOf(cursor) + step))];
    };
    const acts = {
      ArrowDown: () => tree.children[cursor][0],
      ArrowUp: () => tree.parent[cursor],
      ArrowLeft: () => beside(-1),
      ArrowRight: () => beside(1),
      Enter: () => {
        zoom(cursor);
        return cursor;
      },
      Escape: () => {
        zoom(0);
        return 0;
      },
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    const next = acts[event.key]();
    if (next === undefined || next < 0) return;
    cursor = next;
    draw();
    tell(cursor);
  });

  const search = el("input", {
    type: "search", placeholder: "Search frames", "aria-label": "Search frames", spellcheck: "false", id: "flame-search",
    input: later(() => {
      term = search.value.trim().toLowerCase();
      look();
    }),
    keydown: (event) => {
      if (event.key !== "Escape") return;
      search.value = term = "";
      look();
    },
  });
  const reset = el("button", { type: "button", text: "Reset", title: "Zoom out to all", click: () => zoom(0) });
  const grouped = el("button", {
    type: "button", text: "By process", "aria-pressed": "true", title: "Processes below their stacks, or the stacks of all together",
    click: () => {
      processes = !processes;
      grouped.setAttribute("aria-pressed", String(processes));
      rebuild();
    },
  });
  const against = data.baseline ? el("button", {
    type: "button", text: "Changes", "aria-pressed": "true", title: "Red: more than before. Blue: less. Pale: the same. What is gone is not drawn: its time is missing from the frames below it.",
    click: () => {
      compare = !compare;
      against.setAttribute("aria-pressed", String(compare));
      draw();
    },
  }) : null;
  replace(byId("flame-tools"), against, grouped, search, reset);
  const tabs = data.kinds.map((own, index) =>
    el("button", {
      type: "button", role: "tab", text: own.title, "aria-selected": String(index === kind), tabindex: index === kind ? "0" : "-1",
      click: () => ask(index),
      keydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        ask((kind + step + tabs.length) % tabs.length);
        tabs[kind].focus();
      },
    }));
  replace(byId("kinds"), tabs);
  /** What a reader asks for stays for what is selected next. */
  let wanted = 0;
  function ask(index) {
    wanted = index;
    choose(index);
  }
  function choose(index) {
    kind = index;
    tabs.forEach((tab, at) => {
      tab.setAttribute("aria-selected", String(at === kind));
      tab.tabIndex = at === kind ? 0 : -1;
    });
    rebuild();
  }

  theme.redraw.push(() => (theme.printing ? drawNow() : draw()));
  window.addEventListener("resize", draw);
  return {
    /** Shows a selection: the kind that was asked for, or all time where there is nothing of it. */
    show(next, name) {
      selection = next;
      title = name;
      tree = null;
      choose(wanted);
      if (!tree.value[0]) choose(data.kinds.findIndex((own) => own.name === "wall"));
    },
    search() {
      search.focus();
    },
  };
}
