// Puts the page together.

function message(text) {
  const box = byId("message");
  box.textContent = text;
  box.hidden = false;
}

function start(data) {
  byId("main").hidden = false;
  applyTheme();
  showHead(data);
  showLegend(data);
  const flame = Flame(data);
  let choose = () => {};
  const timeline = Timeline(data, (node) => {
    showDetail(data, flame, node, timeline);
    choose(node.type === "p" ? node.index : -1);
  });
  const pick = (phase) => {
    timeline.reveal(phase);
    byId("detail").scrollIntoView({ block: "start" });
  };
  choose = showPhases(data, pick);
  showWaits(data, timeline);
  showLayers(data);
  showFindings(data, pick);
  showTrust(data);
  showHost(data);
  if (data.head.phase >= 0) timeline.reveal(data.head.phase);
  else timeline.selectFirst();
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
    event.preventDefault();
    flame.search();
  });
  dark.addEventListener("change", applyTheme);
  const print = (printing) => {
    theme.printing = printing;
    document.documentElement.toggleAttribute("data-printing", printing);
    applyTheme();
  };
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  document.documentElement.dataset.ready = "true";
}

applyTheme();
if (typeof DecompressionStream === "undefined") {
  message("This browser is too old to unpack the page's data: Chromium 80, Firefox 113 or Safari 16.4 are needed. The same figures: phasegraph show.");
} else {
  unpack(byId("data").textContent)
    .then((data) => start(prepare(data)))
    .catch((error) => {
      message(`The page's data can't be shown: ${error.message}. The file may be cut off; make it again with phasegraph report.`);
      throw error;
    });
}
