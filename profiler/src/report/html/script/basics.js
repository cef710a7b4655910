// Elements and figures. Text reaches the page by textContent alone.

const byId = (id) => document.getElementById(id);

/** An element: attributes by name, `text` for its text, functions for events; then its children. */
function el(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else if (name === "class") element.className = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
}

const three = (value) => (value < 9.995 ? value.toFixed(2) : value < 99.95 ? value.toFixed(1) : value.toFixed(0));

/** A time, ns, in three digits: as `units::time`. */
function time(ns) {
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 999.5e3) return `${three(ns / 1e3)} µs`;
  if (ns < 999.5e6) return `${three(ns / 1e6)} ms`;
  if (ns < 99.95e9) return `${three(ns / 1e9)} s`;
  const seconds = Math.round(ns / 1e9);
  const two = (value) => String(value).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} min`;
}

/** A time that is exact to the ns, for tooltips: `1,234,567 ns`. */
const exact = (ns) => `${count(Math.round(ns))} ns`;

const count = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");

const many = (value, one, more) => `${count(value)} ${value === 1 ? one : more}`;

/** A size, decimal units: as `units::bytes`. */
function bytes(value) {
  if (value < 1000) return `${value} B`;
  for (const unit of ["kB", "MB", "GB", "TB", "PB"]) {
    value /= 1000;
    if (value < 99.95) return `${value.toFixed(1)} ${unit}`;
    if (value < 999.5) return `${value.toFixed(0)} ${unit}`;
  }
  return `${(value / 1000).toFixed(0)} EB`;
}

/** A part as a share; never rounds something to nothing nor most to all: as `units::share`. */
function share(part, whole) {
  if (!whole) return "–";
  const percent = (part * 100) / whole;
  if (part === 0) return "0 %";
  if (part === whole) return "100 %";
  if (percent < 0.05) return "<0.1 %";
  if (part < whole && percent >= 99.95) return ">99.9 %";
  return `${percent.toFixed(1)} %`;
}

/** By how much something has changed: `+12.3 %`, `−5.0 %`, `same`. */
function change(now, before) {
  if (now === before) return "same";
  const percent = ((now - before) * 100) / before;
  if (percent >= 1000) return `×${three(now / before)}`;
  return `${percent > 0 ? "+" : "−"}${Math.abs(percent) < 0.05 ? "<0.1" : Math.abs(percent).toFixed(1)} %`;
}

/** A time with enough digits to tell moments `step` ns apart. */
function moment(ns, step) {
  const unit = step >= 1e9 ? [1e9, "s"] : step >= 1e6 ? [1e6, "ms"] : step >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  if (unit[0] === 1e9 && ns >= 100e9) {
    const seconds = Math.round(ns / 1e9);
    const two = (value) => String(value).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    return `${hours ? `${hours}:` : ""}${hours ? two(Math.floor(seconds / 60) % 60) : Math.floor(seconds / 60)}:${two(seconds % 60)}`;
  }
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit[0]) - 1e-9));
  // Large times with a small step would be all zeros: seconds then, with the step's digits.
  if (ns >= 1e9 && unit[0] < 1e9) return `${(ns / 1e9).toFixed(Math.ceil(-Math.log10(step / 1e9) - 1e-9))} s`;
  return `${(ns / unit[0]).toFixed(digits)} ${unit[1]}`;
}

/** Runs `work` once before the next picture, however often it is asked for. */
function later(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

/** First index in [0, length) for which `test` holds; `test` is false, then true. */
function first(length, test) {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (test(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

const tip = {
  show(event, ...children) {
    const box = byId("tip");
    replace(box, ...children);
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - width - 8);
    const below = event.clientY + 18 + height < innerHeight;
    box.style.left = `${Math.max(8, x)}px`;
    box.style.top = `${below ? event.clientY + 18 : Math.max(8, event.clientY - height - 12)}px`;
  },
  hide() {
    byId("tip").hidden = true;
  },
};
