// What was profiled, the verdict, and how far it can be trusted.

function showHead(data) {
  const { head, trust } = data;
  document.title = `${head.title} – phasegraph`;
  const button = el("button", { type: "button", title: "Light, dark, or as the system has it" });
  const name = () => (button.textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme.wanted]);
  button.addEventListener("click", () => {
    theme.wanted = { auto: "light", light: "dark", dark: "auto" }[theme.wanted];
    name();
    applyTheme();
  });
  name();
  const command = el("h1", { text: head.title });
  if (head.command !== head.title) command.title = head.command;
  replace(
    byId("head"),
    el("div", { class: "brand" }, el("span", { text: "phasegraph" }), el("div", { class: "tools" }, button)),
    command,
    el("p", { class: "facts" }, head.facts.map((fact) => el("span", { text: fact }))),
    data.baseline ? el("p", { class: "facts", text: `Compared with: ${data.baseline.title}. Length ${change(head.span, data.baseline.span)}${data.baseline.gone ? `; ${many(data.baseline.gone, "phase", "phases")} of then are not there now` : ""}.` }) : null,
    head.warnings.map((warning) => el("p", { class: "message", text: warning })),
  );

  const lost = trust.losses.filter((loss) => loss.is_loss);
  const lines = [
    ["Losses", lost.length
      ? [el("span", { class: "bad", text: many(sum(lost.map((loss) => loss.count)), "loss", "losses") }), ` of ${many(lost.length, "kind", "kinds")}`]
      : ["none: every event was kept"]],
    ["In no phase", [trust.unattributed]],
    ["Own cost", [trust.cost]],
    ["CPU samples", [`${head.hz} Hz on ${many(head.cpus, "CPU", "CPUs")}`]],
  ];
  replace(
    byId("verdict"),
    el("dl", { class: "sentences" }, ["Slowest", "Why", "Look first"].flatMap((label, index) => {
      // The label says what the sentence begins with.
      const text = head.verdict[index].replace(/^Slowest is |^Look first at /, "");
      const sentence = el("dd", {}, el("span", { text }), index === 0 && head.next ? el("small", { text: ` ${head.next}` }) : null);
      return [el("dt", { text: label }), sentence];
    })),
    el("dl", { class: "trust" }, lines.flatMap(([label, value]) => [el("dt", { text: label }), el("dd", {}, value)])),
  );
}

function showLegend(data) {
  const used = new Set();
  for (let bin = 0; bin < data.activity.length; bin++) if (data.activity[bin]) used.add(bin % data.S);
  data.phases.path.forEach((ns, index) => ns && used.add(index % data.S));
  replace(byId("legend"), data.states.map((state, index) =>
    used.has(index) ? el("span", {}, chip(index), STATE_NAMES[state]) : null));
}
