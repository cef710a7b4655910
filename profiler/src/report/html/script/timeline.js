// The timeline: operations, containers, phases and processes as rows, coloured by what their threads did.

const ROW = 22;
const BAR = 14;
/** Rows on paper. */
const PRINTED_ROWS = 80;

function Timeline(data, onSelect) {
  const roots = makeTree(data);
  const opened = new Set();
  const children = new Map();
  const childrenOf = (node) => {
    if (!node.children) return [];
    if (!children.has(node.id)) children.set(node.id, node.children());
    return children.get(node.id);
  };
  let rows = [];
  let filter = "";
  let view = { from: 0, to: Math.max(1, data.head.span) };
  let here = 0;
  let selected = "";
  let width = 100;
  const box = byId("rows");

  const matches = (node) => `${node.label} ${node.small || ""}`.toLowerCase().includes(filter);
  /** Visible rows. With a filter: what fits, and what leads there; phases and containers only. */
  function flatten() {
    rows = [];
    const visit = (node, depth, shown) => {
      const fits = !filter || shown || matches(node);
      const at = rows.length;
      rows.push({ node, depth });
      if (filter && !fits && "ocp".includes(node.type)) {
        for (const child of childrenOf(node)) if ("ocp".includes(child.type)) visit(child, depth + 1, false);
        if (rows.length === at + 1) rows.pop();
      } else if (filter && !fits) {
        rows.pop();
      } else if (opened.has(node.id)) {
        for (const child of childrenOf(node)) visit(child, depth + 1, fits && Boolean(filter));
      }
    };
    for (const root of roots) visit(root, 0, false);
    here = Math.max(0, Math.min(here, rows.length - 1));
    draw();
  }

  /** Opens containers and phases from the top, as long as all rows fit on a screen; then the way to a phase. */
  function openFirst(phase) {
    const most = 34;
    let level = roots.slice();
    let shown = roots.length;
    while (level.length) {
      const next = level.filter((node) => "ocp".includes(node.type) && node.children).map((node) => [node, childrenOf(node).filter((child) => "ocpg".includes(child.type))]);
      const more = next.reduce((all, [, list]) => all + list.length, 0);
      if (!more || shown + more > most) break;
      next.filter(([, list]) => list.length).forEach(([node]) => opened.add(node.id));
      shown += more;
      level = next.flatMap(([, list]) => list);
    }
    if (!roots.some((root) => root.type !== "g")) roots.forEach((root) => opened.add(root.id));
    if (phase >= 0) reveal(phase, shown + data.phaseWorks[phase].length < 60 && data.phaseWorks[phase].length <= 12);
  }

  /** Opens what a phase lies in (and itself), and goes there. */
  function reveal(phase, itself) {
    const path = [];
    for (let at = phase; at >= 0; at = data.phases.parent[at]) path.push(at);
    const find = (list, wanted) => {
      for (const node of list) {
        if (node.type === "p" && node.index === wanted) return node;
        if (node.type === "c" && data.containerPhases[node.index].includes(wanted)) {
          const found = childrenOf(node).find((child) => child.index === wanted && child.type === "p");
          if (found) {
            opened.add(node.id);
            return found;
          }
        }
      }
      return null;
    };
    const operation = data.phases.operation[path[path.length - 1]];
    let list = roots;
    if (operation >= 0) {
      const root = roots.find((node) => node.type === "o" && node.index === operation);
      opened.add(root.id);
      list = childrenOf(root);
    }
    let last = null;
    for (const at of path.reverse()) {
      const node = find(list, at);
      if (!node) break;
      if (last) opened.add(last.id);
      last = node;
      list = childrenOf(node);
    }
    if (last && itself) opened.add(last.id);
    flatten();
    const index = last ? rows.findIndex((row) => row.node === last) : -1;
    if (index >= 0) go(index);
    return last;
  }

  function go(index) {
    here = Math.max(0, Math.min(rows.length - 1, index));
    const top = here * ROW;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
    draw();
  }

  function select(node) {
    if (!node || node.type === "m" || node.type === "g") return;
    selected = node.id;
    onSelect(node.owner || node);
    draw();
  }

  function toggle(node, wanted) {
    if (!node.children) return;
    const open = opened.has(node.id);
    if (wanted === open) return;
    if (open) opened.delete(node.id);
    else opened.add(node.id);
    flatten();
  }

  function zoom(from, to) {
    const whole = Math.max(1, data.head.span);
    let length = Math.max(Math.min(100, whole), Math.min(whole, to - from));
    from = Math.max(0, Math.min(whole - length, from));
    view = { from, to: from + length };
    draw();
  }
  function zoomBy(factor, at) {
    const middle = at === undefined ? (view.from + view.to) / 2 : at;
    zoom(middle - (middle - view.from) * factor, middle - (middle - view.from) * factor + (view.to - view.from) * factor);
  }
  const pan = (part) => zoom(view.from + (view.to - view.from) * part, view.to + (view.to - view.from) * part);
  const fit = (node) => {
    const length = Math.max(1, node.to - node.from);
    zoom(node.from - length * 0.05, node.to + length * 0.05);
  };

  // --- drawing

  const nameWidth = () => byId("over-name").getBoundingClientRect().width;
  const timeAt = (x) => view.from + (x / width) * (view.to - view.from);

  function drawNow() {
    const shown = theme.printing ? Math.min(rows.length, PRINTED_ROWS) : rows.length;
    const most = theme.printing ? shown : Math.max(5, Math.floor((window.innerHeight * 0.6) / ROW));
    const height = Math.max(1, Math.min(most, shown)) * ROW;
    box.style.height = byId("view").style.height = `${height}px`;
    byId("filler").style.height = `${Math.max(0, shown * ROW - height)}px`;
    // The scroll bar takes its place from the rows; everything has their width.
    width = Math.max(50, box.clientWidth - nameWidth());
    const canvasWidth = Math.max(50, byId("tl").clientWidth - nameWidth());
    drawOver(canvasWidth);
    drawAxis(canvasWidth);
    drawRows(shown, height);
  }

  function drawOver(canvasWidth) {
    const height = 64;
    const context = canvasOf(byId("over"), canvasWidth, height);
    const bins = data.activity.length / data.S;
    if (!bins) return;
    const length = Math.max(1, data.head.span / bins);
    let top = data.head.cpus;
    for (let bin = 0; bin < bins; bin++) {
      let all = 0;
      for (let state = 0; state < 4; state++) all += data.activity[bin * data.S + state];
      top = Math.max(top, all / length);
    }
    const scale = (height - 6) / top;
    for (let bin = 0; bin < bins; bin++) {
      const x = (bin * width) / bins;
      let y = height;
      for (let state = 0; state < 4; state++) {
        const part = (data.activity[bin * data.S + state] / length) * scale;
        context.fillStyle = palette.states[state];
        context.fillRect(x, y - part, width / bins + 0.3, part);
        y -= part;
      }
    }
    const cpus = Math.round(height - data.head.cpus * scale) + 0.5;
    context.strokeStyle = palette.faint;
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(0, cpus);
    context.lineTo(width, cpus);
    context.stroke();
    context.setLineDash([]);
    const [a, b] = [(view.from / data.head.span) * width, (view.to / data.head.span) * width];
    if (b - a < width - 1) {
      context.globalAlpha = 0.72;
      context.fillStyle = palette.panel;
      context.fillRect(0, 0, a, height);
      context.fillRect(b, 0, width - b, height);
      context.globalAlpha = 1;
      context.strokeStyle = palette.accent;
      context.strokeRect(a + 0.5, 0.5, Math.max(1, b - a - 1), height - 1);
    }
    replace(byId("over-name"), `All threads: up to ${three(top)} at once`, el("br"), `dashed: ${many(data.head.cpus, "CPU", "CPUs")}`);
  }

  function drawAxis(canvasWidth) {
    const context = canvasOf(byId("axis"), canvasWidth, 24);
    const { step, all } = ticks(view.from, view.to, width, 96);
    context.fillStyle = palette.soft;
    context.strokeStyle = palette.line;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.beginPath();
    for (const at of all) {
      const x = Math.round(((at - view.from) / (view.to - view.from)) * width) + 0.5;
      context.moveTo(x, 16);
      context.lineTo(x, 24);
      const text = moment(at, step);
      const wide = context.measureText(text).width;
      if (x + wide + 4 < width) context.fillText(text, x + 4, 12);
    }
    context.stroke();
    byId("range").textContent = view.to - view.from < data.head.span ? `${time(view.to - view.from)} from ${moment(view.from, (view.to - view.from) / 100)}` : `${time(data.head.span)}, whole`;
  }

  function drawRows(shown, height) {
    const context = canvasOf(byId("bars"), width, height);
    byId("bars").style.width = `${width}px`;
    const top = theme.printing ? 0 : box.scrollTop;
    const { all } = ticks(view.from, view.to, width, 96);
    const xOf = (at) => ((at - view.from) / (view.to - view.from)) * width;
    context.fillStyle = palette.row;
    for (let row = Math.floor(top / ROW); row < Math.min(shown, Math.ceil((top + height) / ROW)); row++) {
      if (rows[row].node.id === selected) context.fillRect(0, row * ROW - top, width, ROW);
    }
    context.fillStyle = palette.line;
    for (const at of all) context.fillRect(Math.round(xOf(at)), 0, 1, height);
    const labels = [];
    for (let row = Math.floor(top / ROW); row < Math.min(shown, Math.ceil((top + height) / ROW)); row++) {
      const { node, depth } = rows[row];
      const y = row * ROW - top;
      if (node.from !== undefined) drawBar(context, node, xOf, y);
      labels.push(label(node, depth, row, y));
    }
    replace(byId("labels"), labels);
    if (rows[here]) box.setAttribute("aria-activedescendant", `row-${rows[here].node.id}`);
  }

  function drawBar(context, node, xOf, y) {
    const left = Math.max(0, xOf(node.from));
    const right = Math.min(width, xOf(node.to));
    if (right < 0 || left > width || node.to < view.from || node.from > view.to) return;
    const [x, top] = [Math.min(left, width - 1), y + (ROW - BAR) / 2];
    const wide = Math.max(1.5, right - left);
    const high = node.chain ? 6 : BAR;
    context.fillStyle = palette.panel;
    context.fillRect(x, top, wide, high);
    if (right - left < 1.5) {
      // Too short for columns: its mixture in one.
      const times = new Float64Array(12);
      const strip = strips.get(data, node.strip);
      strip.pieces.forEach((piece) => {
        for (let index = 0; index < piece.length; index += 2) times[piece[index]] += piece[index + 1];
      });
      paintPiece(context, x, wide, top, high, times, Math.max(1, node.to - node.from));
    } else {
      paintStrip(context, strips.get(data, node.strip), node.from, view.from, view.to, width, top, high);
    }
    context.strokeStyle = palette.faint;
    context.globalAlpha = 0.55;
    context.lineWidth = 1;
    context.strokeRect(Math.round(x) + 0.5, top - 0.5, Math.max(1, Math.round(wide) - 1), high + 1);
    context.globalAlpha = 1;
    if (node.chain) drawChain(context, node.chain, xOf, top + high + 2);
  }

  /** The programs of a critical path below its bar, where there is room for their names. */
  function drawChain(context, chain, xOf, top) {
    context.fillStyle = palette.soft;
    context.font = "9.5px system-ui, sans-serif";
    context.textBaseline = "top";
    for (let index = 0; index < chain.length; index += 3) {
      const from = Math.max(0, xOf(chain[index]));
      const room = Math.min(width, xOf(chain[index + 1])) - from - 3;
      if (room < 14) continue;
      const name = data.text(chain[index + 2]);
      context.fillRect(from, top, 1, 7);
      if (context.measureText(name).width <= room) context.fillText(name, from + 3, top - 1);
    }
  }

  function label(node, depth, row, y) {
    const open = node.children ? opened.has(node.id) || (filter && !matches(node)) : undefined;
    const element = el("div", {
      class: `row ${node.type}${row === here && document.activeElement === box ? " here" : ""}`, id: `row-${node.id}`,
      role: "treeitem", "aria-level": depth + 1, "aria-expanded": open === undefined ? undefined : String(Boolean(open)),
      "aria-selected": String(node.id === selected), title: [node.label, node.small].filter(Boolean).join("  "),
    },
      el("span", { class: "twist", text: open === undefined ? "" : open ? "▾" : "▸" }),
      el("span", { class: "what" }, node.label, node.small ? el("small", { text: node.small }) : null),
      node.from === undefined ? null : el("span", { class: "long", text: `${time(node.to - node.from)}${node.open ? " open" : ""}` }));
    element.style.top = `${y}px`;
    element.style.paddingLeft = `${4 + depth * 14}px`;
    element.dataset.row = row;
    return element;
  }

  const draw = later(drawNow);

  // --- mouse and keys

  byId("labels").addEventListener("click", (event) => {
    const element = event.target.closest(".row");
    if (!element) return;
    const row = Number(element.dataset.row);
    const { node } = rows[row];
    here = row;
    if (event.target.closest(".twist") || "gm".includes(node.type)) toggle(node);
    else select(node);
    draw();
  });
  byId("labels").addEventListener("dblclick", (event) => {
    const element = event.target.closest(".row");
    if (element && !event.target.closest(".twist")) toggle(rows[Number(element.dataset.row)].node);
  });

  const rowAt = (event) => rows[Math.floor((event.clientY - byId("bars").getBoundingClientRect().top + box.scrollTop) / ROW)];
  const xIn = (event, canvas) => event.clientX - canvas.getBoundingClientRect().left;

  function dragging(canvas, toTime, onClick) {
    let start = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = { x: xIn(event, canvas), event };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!start || Math.abs(xIn(event, canvas) - start.x) < 5) return;
      const [a, b] = [toTime(start.x), toTime(xIn(event, canvas))].sort((x, y) => x - y);
      tip.show(event, `zoom to ${time(b - a)}`);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!start) return;
      const [a, b] = [toTime(start.x), toTime(xIn(event, canvas))].sort((x, y) => x - y);
      const dragged = Math.abs(xIn(event, canvas) - start.x) >= 5;
      start = null;
      tip.hide();
      if (dragged) zoom(a, b);
      else onClick(event);
    });
    canvas.addEventListener("pointercancel", () => (start = null));
    return () => start !== null;
  }
  const barsBusy = dragging(byId("bars"), timeAt, (event) => {
    const row = rowAt(event);
    if (!row) return;
    here = rows.indexOf(row);
    if (row.node.type === "g") toggle(row.node);
    else select(row.node);
  });
  dragging(byId("over"), (x) => (x / width) * data.head.span, (event) => {
    const middle = (xIn(event, byId("over")) / width) * data.head.span;
    zoom(middle - (view.to - view.from) / 2, middle + (view.to - view.from) / 2);
  });
  byId("over").addEventListener("dblclick", () => zoom(0, data.head.span));
  byId("bars").addEventListener("dblclick", (event) => {
    const row = rowAt(event);
    if (row && row.node.from !== undefined) fit(row.node);
  });
  byId("bars").addEventListener("mousemove", (event) => {
    const row = rowAt(event);
    if (barsBusy()) return;
    if (!row || row.node.from === undefined) return tip.hide();
    const at = timeAt(xIn(event, byId("bars")));
    tip.show(event, ...about(row.node, at));
  });
  byId("bars").addEventListener("mouseleave", tip.hide);
  byId("over").addEventListener("mousemove", (event) => {
    const bins = data.activity.length / data.S;
    const bin = Math.floor((xIn(event, byId("over")) / width) * bins);
    if (bin < 0 || bin >= bins) return;
    const length = data.head.span / bins;
    const told = [0, 1, 2, 3].map((state) => el("tr", {}, el("td", {}, chip(state), ` ${STATE_NAMES[data.states[state]]}`),
      el("td", { class: "n", text: `${(data.activity[bin * data.S + state] / length).toFixed(2)} threads` })));
    tip.show(event, el("b", { text: `${time(length)} from ${moment(bin * length, length)}` }), el("table", {}, told));
  });
  byId("over").addEventListener("mouseleave", tip.hide);

  /** What a row did around a moment. */
  function about(node, at) {
    const parts = [el("b", { text: node.label }), el("div", { text: `${exact(node.to - node.from)}, from ${exact(node.from)}` })];
    if (node.type === "w") parts.push(el("div", { text: data.text(data.works.argv[node.index]) }));
    if (at < node.from || at > node.to) return parts;
    for (let place = 0; node.chain && place < node.chain.length; place += 3) {
      const [from, to, name] = node.chain.slice(place, place + 3);
      if (from <= at && at < to) parts.push(el("div", { text: `through ${data.text(name)}, ${exact(to - from)} from ${exact(from)}` }));
    }
    const strip = strips.get(data, node.strip);
    const index = first(strip.ends.length, (piece) => node.from + strip.ends[piece] > at);
    if (index >= strip.ends.length) return parts;
    const began = index ? strip.ends[index - 1] : 0;
    const length = strip.ends[index] - began;
    const piece = strip.pieces[index];
    const states = [];
    for (let place = 0; place < piece.length; place += 2) states.push([piece[place], piece[place + 1]]);
    states.sort((a, b) => b[1] - a[1]);
    parts.push(el("div", { text: `here, ${exact(length)} from ${exact(node.from + began)}:` }));
    parts.push(el("table", {}, states.map(([state, ns]) =>
      el("tr", {}, el("td", {}, chip(state), ` ${STATE_NAMES[data.states[state]]}`), el("td", { class: "n", text: exact(ns) }), el("td", { class: "n", text: `${(ns / length).toFixed(2)} threads` })))));
    return parts;
  }

  byId("bars").addEventListener("wheel", (event) => {
    const at = timeAt(xIn(event, byId("bars")));
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoomBy(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) * 0.004), at);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan((event.deltaX || event.deltaY) / width);
    }
  }, { passive: false });

  box.addEventListener("scroll", draw);
  box.addEventListener("focus", draw);
  box.addEventListener("blur", draw);
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = rows[here];
    const page = Math.max(1, Math.floor(box.clientHeight / ROW) - 1);
    const parent = () => {
      for (let index = here - 1; index >= 0; index--) if (rows[index].depth < row.depth) return index;
      return here;
    };
    const acts = {
      ArrowDown: () => go(here + 1),
      ArrowUp: () => go(here - 1),
      PageDown: () => go(here + page),
      PageUp: () => go(here - page),
      Home: () => go(0),
      End: () => go(rows.length - 1),
      ArrowRight: () => {
        if (event.shiftKey) pan(0.2);
        else if (row.node.children && !opened.has(row.node.id)) toggle(row.node, true);
        else if (row.node.children) go(here + 1);
      },
      ArrowLeft: () => {
        if (event.shiftKey) pan(-0.2);
        else if (row.node.children && opened.has(row.node.id)) toggle(row.node, false);
        else go(parent());
      },
      Enter: () => ("g".includes(row.node.type) ? toggle(row.node) : select(row.node)),
      " ": () => ("g".includes(row.node.type) ? toggle(row.node) : select(row.node)),
      "+": () => zoomBy(0.6),
      "=": () => zoomBy(0.6),
      "-": () => zoomBy(1 / 0.6),
      0: () => zoom(0, data.head.span),
      z: () => row.node.from !== undefined && fit(row.node),
    };
    if (!row || !acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  });

  const search = el("input", {
    type: "search", placeholder: "Filter rows", "aria-label": "Filter rows", spellcheck: "false",
    input: later(() => {
      filter = search.value.trim().toLowerCase();
      box.scrollTop = 0;
      flatten();
    }),
  });
  const button = (text, title, act) => el("button", { type: "button", text, title, "aria-label": title, click: act });
  replace(byId("timeline-tools"),
    search,
    button("Close all", "Close all rows", () => {
      opened.clear();
      flatten();
    }),
    button("−", "Zoom out", () => zoomBy(1 / 0.6)),
    button("+", "Zoom in", () => zoomBy(0.6)),
    button("Whole", "Zoom out to the whole recording", () => zoom(0, data.head.span)));

  theme.redraw.push(() => (theme.printing ? drawNow() : draw()));
  window.addEventListener("resize", draw);
  openFirst(data.head.phase);
  flatten();
  return {
    reveal(phase) {
      select(reveal(phase, false));
    },
    zoomTo: (from, to) => zoom(from, to),
    selectFirst: () => select(rows.length ? rows[0].node : null),
    state: () => ({ view, rows: rows.length, selected, here: rows[here] && rows[here].node.id }),
  };
}
