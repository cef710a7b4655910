// The page's data: unpacked, and what belongs together found once.

const PROCESS = 3;
const THREAD = 4;
const CLOSING = 5;
const UNATTRIBUTED = 11;

/** States in words. */
const STATE_NAMES = {
  cpu: "on a CPU",
  runqueue: "run queue",
  disk: "disk",
  network: "network",
  lock: "lock",
  ipc: "pipe, socket",
  child: "child",
  sleep: "sleep",
  other: "other wait",
  short: "short waits",
  lost: "lost",
  unattributed: "unattributed",
};

async function unpack(text) {
  const raw = atob(JSON.parse(text));
  const deflated = Uint8Array.from({ length: raw.length }, (_, index) => raw.charCodeAt(index));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

/** Makes columns quick to use, and lists of what lies in what. */
function prepare(data) {
  const { phases, containers, operations, works, flame } = data;
  const columns = (length) => Array.from({ length }, () => []);
  data.S = data.states.length;
  data.text = (number) => data.strings[number];
  data.counts = {
    phases: phases.from.length,
    containers: containers.from.length,
    operations: operations.from.length,
    works: works.from.length,
  };
  data.phaseChildren = columns(data.counts.phases);
  data.phaseWorks = columns(data.counts.phases);
  data.operationPhases = columns(data.counts.operations);
  data.operationWorks = columns(data.counts.operations);
  data.containerPhases = columns(data.counts.containers);
  data.loosePhases = [];
  data.looseWorks = [];
  const byStart = (list, from) => list.sort((a, b) => from[a] - from[b] || a - b);
  for (let phase = 0; phase < data.counts.phases; phase++) {
    const parent = phases.parent[phase];
    const operation = phases.operation[phase];
    if (parent >= 0) data.phaseChildren[parent].push(phase);
    else if (operation >= 0) data.operationPhases[operation].push(phase);
    else data.loosePhases.push(phase);
    if (phases.container[phase] >= 0) data.containerPhases[phases.container[phase]].push(phase);
  }
  for (const list of [...data.phaseChildren, ...data.operationPhases, data.loosePhases]) byStart(list, phases.from);
  for (let work = 0; work < data.counts.works; work++) {
    if (works.phase[work] >= 0) data.phaseWorks[works.phase[work]].push(work);
    else if (works.operation[work] >= 0) data.operationWorks[works.operation[work]].push(work);
    else data.looseWorks.push(work);
  }
  data.more = new Map(works.more.map(([phase, operation, left, cpu]) => [`${phase} ${operation}`, { left, cpu }]));
  const nodes = flame.parent.length;
  flame.up = Uint32Array.from(flame.parent, (back, node) => node - back);
  flame.names = Uint32Array.from(flame.name);
  flame.categories = Uint8Array.from(flame.category);
  flame.parent = flame.name = flame.category = null;
  flame.nodes = nodes;
  for (const side of [flame, data.baseline]) {
    if (!side) continue;
    side.ofPhase = columns(data.counts.phases);
    side.sets.forEach(([list], set) => list.forEach((phase) => side.ofPhase[phase].push(set)));
  }
  return data;
}

/** The state that a row of time at this node of the tree is of. */
const stateOf = (category) => (category >= CLOSING ? category - CLOSING : 0);

/** Times by state at `index` of a flat column. */
const timesAt = (data, column, index) => column.slice(index * data.S, (index + 1) * data.S);

const sum = (values) => values.reduce((all, value) => all + value, 0);

/** Pieces of a strip: `ends` since its start, and of each piece its states and their times. */
const strips = {
  known: new Map(),
  get(data, number) {
    let strip = this.known.get(number);
    if (strip) return strip;
    if (this.known.size > 600) this.known.clear();
    const { starts, numbers } = data.strips;
    const [ends, pieces] = [[], []];
    let at = 0;
    for (let index = starts[number]; index < starts[number + 1]; ) {
      const code = numbers[index];
      const length = numbers[index + 1];
      index += 2;
      if (code < data.S) {
        pieces.push([code, length]);
      } else {
        const end = index + 2 * (code - data.S);
        pieces.push(numbers.slice(index, end));
        index = end;
      }
      ends.push((at += length));
    }
    strip = { ends, pieces };
    this.known.set(number, strip);
    return strip;
  },
};
