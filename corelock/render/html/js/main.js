// Makes the charts of what the page carries.

async function start() {
  const facts = readFacts();
  const parts = await readPayload(facts.directory);
  const theme = new Theme();
  const tooltip = new Tooltip();
  const view = new View(facts.span_ns);
  const at = (id) => document.getElementById(id);
  const slices = new Slices(parts, facts.lanes.length);
  const timeline = new Timeline(at("timeline"), theme, view, tooltip, facts, parts.shading, slices);
  const selection = new Selection(at("selected"), view, timeline, slices);
  addGestures(timeline, view, (event) => selection.select(pick(timeline, event), false));
  new Overview(at("overview"), theme, view, parts.waiting, parts.holding);
  for (const kind of ["wait", "hold"]) {
    new HeatMap(at(`${kind}-heat`), theme, view, tooltip, parts[`${kind}_heat`], facts.heat, kind);
    new Flame(at(`${kind}-flame`), parts[`${kind}_flame`], tooltip);
  }
  addControls(view, selection);
  addKeys(at("timeline"), selection);
  for (const button of document.querySelectorAll("[data-slice][data-kind]")) {
    button.addEventListener("click", () => selection.select(Number(button.dataset.slice)));
  }
  document.documentElement.dataset.ready = "true";
}

function addControls(view, selection) {
  const actions = {
    in: () => view.zoom(0.5),
    out: () => view.zoom(2),
    left: () => view.pan(-view.width / 4),
    right: () => view.pan(view.width / 4),
    reset: () => view.reset(),
    worse: () => selection.next(1),
  };
  for (const button of document.querySelectorAll("[data-do]")) {
    button.addEventListener("click", actions[button.dataset.do]);
  }
  const shown = document.getElementById("shown");
  const say = () => {
    const step = view.width / 1000;
    shown.dataset.from = view.from;
    shown.dataset.to = view.to;
    shown.textContent =
      `${moment(view.from, step)} to ${moment(view.to, step)}: ` +
      (view.width < view.spanNs ? `${duration(view.width)} of ${duration(view.spanNs)}` : "all");
  };
  view.onChange(say);
  say();
}

function addKeys(canvas, selection) {
  const actions = {
    n: () => selection.next(1),
    p: () => selection.next(-1),
    Enter: () => selection.toBlocker(),
    Escape: () => selection.select(-1, false),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  });
}

start().catch((error) => {
  const warning = element("p", "warning", `The charts cannot be drawn: ${error.message}. This page needs a browser of 2023 or newer.`);
  document.querySelector("main").prepend(warning);
  throw error;
});
