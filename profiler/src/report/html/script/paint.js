// Colours, themes and canvases. The states' colours are Okabe and Ito's, told apart by people who see few colours;
// what uses nothing is grey.

const PALETTES = {
  light: {
    states: ["#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#c0c7d0", "#e1e5ea", "#959da8", "#b5a36a", "#1b1f24", "#ffffff"],
    ink: "#1b1f24", soft: "#5b6470", faint: "#8b939e", line: "#dde1e6", back: "#ffffff", panel: "#f6f7f9", row: "#eef3f9", accent: "#0b5cad",
    user: ["#f6d488", "#f3c873", "#f8dd9f", "#efbf63"], kernel: ["#f2a679", "#ee9763", "#f5b58e"], process: ["#cfd8e3", "#c3cedb"], synthetic: ["#e4e7eb"],
    frame: "#1b1f24", found: "#c31fb4", foundInk: "#ffffff", more: "#d7301f", less: "#2171b5", same: "#f0efec",
  },
  dark: {
    states: ["#3d9ad6", "#e6a530", "#e8713a", "#22b58b", "#cf8fb6", "#7cc8f2", "#4d5560", "#30363e", "#79818d", "#93854f", "#e4e7eb", "#14171b"],
    ink: "#e4e7eb", soft: "#a4acb7", faint: "#77808c", line: "#2e343c", back: "#14171b", panel: "#1b1f25", row: "#212a35", accent: "#7db8f2",
    user: ["#8a6a24", "#7e601f", "#96752c", "#745719"], kernel: ["#94502b", "#874624", "#a05a33"], process: ["#3b4656", "#344050"], synthetic: ["#343a42"],
    frame: "#f1f3f5", found: "#e05cd3", foundInk: "#14171b", more: "#e34a33", less: "#3f8fd2", same: "#3a3f46",
  },
};

let palette = PALETTES.light;
const dark = matchMedia("(prefers-color-scheme: dark)");
/** "auto", "light" or "dark"; and what is asked to be drawn anew. */
const theme = { wanted: "auto", printing: false, redraw: [] };

function applyTheme() {
  const name = theme.printing ? "light" : theme.wanted === "auto" ? (dark.matches ? "dark" : "light") : theme.wanted;
  palette = PALETTES[name];
  document.documentElement.dataset.theme = name;
  palette.states.forEach((color, state) => document.documentElement.style.setProperty(`--state${state}`, color));
  document.querySelectorAll("[data-state]").forEach(colorState);
  theme.redraw.forEach((redraw) => redraw());
}

/** Gives an element its state's colour; the last two are hatched by the style. */
function colorState(element) {
  if (Number(element.dataset.state) < 10) element.style.backgroundColor = `var(--state${element.dataset.state})`;
}

const chip = (state) => {
  const element = el("i", { class: `chip s${state}`, "data-state": state });
  colorState(element);
  return element;
};

/** A bar of states; widths are shares of `whole`. */
function stack(data, times, whole, label) {
  const parts = times.map((ns, state) => {
    if (!ns) return null;
    const part = el("i", { class: `s${state}`, "data-state": state });
    part.style.width = `${(ns * 100) / whole}%`;
    colorState(part);
    return part;
  });
  const told = times
    .map((ns, state) => [ns, state])
    .filter(([ns]) => ns > 0)
    .sort((a, b) => b[0] - a[0]);
  const words = told.map(([ns, state]) => `${STATE_NAMES[data.states[state]]} ${share(ns, whole)}`).join(", ");
  const rows = () =>
    el("table", {}, told.map(([ns, state]) =>
      el("tr", {}, el("td", {}, chip(state), ` ${STATE_NAMES[data.states[state]]}`), el("td", { class: "n", text: share(ns, whole) }), el("td", { class: "n", text: exact(ns) }))));
  return el("div", {
    class: "stack", role: "img", "aria-label": `${label}: ${words || "nothing"}`,
    mousemove: (event) => told.length && tip.show(event, el("b", { text: label }), rows()),
    mouseleave: tip.hide,
  }, parts);
}

/** A canvas of so many CSS pixels, sharp on every screen and on paper; its context, cleared. */
function canvasOf(canvas, width, height) {
  const ratio = theme.printing ? 3 : Math.max(1, window.devicePixelRatio || 1);
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(w / width, 0, 0, h / height, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

let hatched = { back: null, pattern: null };
/** Diagonal lines, for time that no thread accounts for. */
function hatch(context) {
  if (hatched.back !== palette.faint) {
    const tile = el("canvas", { width: 6, height: 6 });
    const lines = tile.getContext("2d");
    lines.strokeStyle = palette.faint;
    lines.lineWidth = 1;
    lines.beginPath();
    for (const offset of [-6, 0, 6]) {
      lines.moveTo(offset, 6);
      lines.lineTo(offset + 6, 0);
    }
    lines.stroke();
    hatched = { back: palette.faint, pattern: context.createPattern(tile, "repeat") };
  }
  return hatched.pattern;
}

/**
 * A piece of a row: what uses or queues for a resource from below, as a share of one thread's time; the rest is what
 * the others waited for. `weights` are thread time by state, `length` is the piece's.
 */
function paintPiece(context, x, width, top, height, weights, length) {
  const busy = weights[0] + weights[1] + weights[2] + weights[3];
  let rest = 0;
  for (let state = 4; state < weights.length; state++) rest += weights[state];
  const scale = busy > length ? 1 / busy : 1 / length;
  const restScale = rest > 0 ? Math.max(0, 1 - busy * scale) / rest : 0;
  let bottom = top + height;
  for (let state = 0; state < weights.length; state++) {
    if (!weights[state]) continue;
    const part = weights[state] * (state < 4 ? scale : restScale) * height;
    context.fillStyle = state === UNATTRIBUTED ? hatch(context) : palette.states[state];
    context.fillRect(x, bottom - part, width, part);
    bottom -= part;
  }
}

/** A strip from `left` on, between moments `from` and `to` that lie at pixels 0 and `width`. */
function paintStrip(context, strip, start, from, to, width, top, height) {
  const scale = width / (to - from);
  const { ends, pieces } = strip;
  const column = new Float64Array(12);
  const full = new Float64Array(12);
  let open = -1;
  let covered = 0;
  const flush = () => {
    if (open >= 0 && covered > 0) paintPiece(context, open, 1, top, height, column, Math.max(covered, 1e-9));
    column.fill(0);
    covered = 0;
    open = -1;
  };
  const fill = (into, piece, length, part) => {
    for (let index = 0; index < piece.length; index += 2) into[piece[index]] += (piece[index + 1] / length) * part;
  };
  let index = first(ends.length, (at) => start + ends[at] > from);
  for (; index < ends.length; index++) {
    const began = start + (index ? ends[index - 1] : 0);
    if (began >= to) break;
    const length = ends[index] - (index ? ends[index - 1] : 0);
    if (!length) continue;
    const a = Math.max(0, (began - from) * scale);
    const b = Math.min(width, (began + length - from) * scale);
    const [left, right] = [Math.floor(a), Math.floor(b)];
    if (left !== open) {
      flush();
      open = left;
    }
    if (left === right) {
      fill(column, pieces[index], length, b - a);
      covered += b - a;
      continue;
    }
    fill(column, pieces[index], length, left + 1 - a);
    covered += left + 1 - a;
    flush();
    if (right > left + 1) {
      full.fill(0);
      fill(full, pieces[index], length, 1);
      paintPiece(context, left + 1, right - left - 1, top, height, full, 1);
    }
    open = right;
    if (b > right) {
      fill(column, pieces[index], length, b - right);
      covered += b - right;
    }
  }
  flush();
}

/** Steps of an axis that are easy to read, about `space` pixels apart. */
function ticks(from, to, width, space) {
  const wish = ((to - from) / width) * space;
  const power = 10 ** Math.floor(Math.log10(Math.max(1, wish)));
  let step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= wish) || power * 10;
  if (wish > 10e9) step = [20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400].map((s) => s * 1e9).find((size) => size >= wish) || step;
  const all = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) all.push(at);
  return { step, all };
}
