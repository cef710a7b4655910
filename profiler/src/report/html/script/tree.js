// What lies in what: operations, containers, phases, processes.

/** Rows as a tree: what lies in a row is made when it is opened. */
function makeTree(data) {
  const { operations, containers, phases, works } = data;
  const node = (type, index, id, extra) => ({ type, index, id, ...extra });
  const phaseNode = (phase) =>
    node("p", phase, `p${phase}`, {
      label: data.text(phases.name[phase]), from: phases.from[phase], to: phases.to[phase], strip: phases.strip[phase],
      open: phases.open[phase],
      children: () => below(data.phaseChildren[phase], phases.container[phase], `p${phase}`, data.phaseWorks[phase], `${phase} -1`),
    });
  const workNode = (work, prefix) =>
    node("w", work, `${prefix}w${work}`, {
      label: data.text(works.program[work]), small: `${works.pid[work]}`, from: works.from[work], to: works.to[work], strip: works.strip[work],
    });
  const workNodes = (list, prefix, key) => {
    const nodes = list.map((work) => workNode(work, prefix));
    const more = data.more.get(key);
    if (more) {
      nodes.push(node("m", -1, `${prefix}m`, { label: `and ${many(more.left, "process", "processes")} more, ${time(more.cpu)} on CPUs` }));
    }
    return nodes;
  };
  /** Phases grouped by container, then processes: in a row of their own where there are phases too. */
  const below = (list, container, prefix, own, key) => {
    const nodes = [];
    const groups = new Map();
    for (const phase of list) {
      const of = phases.container[phase];
      if (of < 0 || of === container) {
        nodes.push(phaseNode(phase));
        continue;
      }
      if (!groups.has(of)) {
        const members = [];
        groups.set(of, members);
        nodes.push(node("c", of, `${prefix}c${of}`, {
          label: data.text(containers.name[of]),
          small: [data.text(containers.image[of]), data.text(containers.by[of])].filter(Boolean).join(", "),
          from: containers.from[of], to: containers.to[of], strip: containers.strip[of],
          children: () => members.map(phaseNode),
        }));
      }
      groups.get(of).push(phase);
    }
    if (!own.length) return nodes;
    if (!nodes.length) return workNodes(own, prefix, key);
    const left = data.more.get(key);
    nodes.push(node("g", -1, `${prefix}g`, {
      label: many(own.length + (left ? left.left : 0), "process", "processes"), children: () => workNodes(own, prefix, key),
    }));
    return nodes;
  };
  const roots = Array.from({ length: data.counts.operations }, (_, operation) => {
    const root = node("o", operation, `o${operation}`, {
      label: data.text(operations.name[operation]), small: `pid ${operations.pid[operation]}`,
      from: operations.from[operation], to: operations.to[operation], strip: operations.strip[operation], open: operations.open[operation],
      children: () => [path, ...below(data.operationPhases[operation], -1, `o${operation}`, data.operationWorks[operation], `-1 ${operation}`)],
    });
    const path = node("k", operation, `k${operation}`, {
      label: "critical path", from: root.from, to: root.to, strip: operations.path_strip[operation], owner: root,
      chain: operations.chain[operation],
    });
    return root;
  });
  roots.sort((a, b) => a.from - b.from || a.index - b.index);
  const loose = below(data.loosePhases, -1, "n", [], "");
  if (data.looseWorks.length) {
    const left = data.more.get("-1 -1");
    loose.push(node("g", -1, "ng", {
      label: `${many(data.looseWorks.length + (left ? left.left : 0), "process", "processes")} of no operation`,
      children: () => workNodes(data.looseWorks, "n", "-1 -1"),
    }));
  }
  return [...roots, ...loose];
}
