// Wheel, drag, pinch and keys on a chart, as changes of the view.

const KEYS = {
  "+": (view) => view.zoom(0.5),
  "=": (view) => view.zoom(0.5),
  "-": (view) => view.zoom(2),
  ArrowLeft: (view) => view.pan(-view.width / 4),
  ArrowRight: (view) => view.pan(view.width / 4),
  0: (view) => view.reset(),
  Home: (view) => view.reset(),
};

/**
 * `chart.plot` is where time is drawn (CSS pixels), `chart.timeAt(x)` what is there, in ns;
 * `click(event)` is called for a press that was no drag; `chart.dragged` is the span in
 * between, for it to draw. `range()` is what the chart spans, if that is not the view.
 */
function addGestures(chart, view, click = () => {}) {
  const canvas = chart.canvas;
  const pointers = new Map();
  let last = null;

  const local = (event) => event.clientX - canvas.getBoundingClientRect().left;

  canvas.addEventListener("keydown", (event) => {
    const action = KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action(view);
  });

  canvas.addEventListener(
    "wheel",
    (event) => {
      const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) {
        view.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 120), chart.timeAt(local(event)));
      } else if (Math.abs(sideways) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
        view.pan((sideways / chart.plot.width) * view.width);
      } else {
        return; // scrolls the page
      }
      event.preventDefault();
    },
    { passive: false },
  );

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, local(event));
    const pans = event.pointerType === "touch" || event.shiftKey || event.button === 1;
    last = { x: local(event), from: local(event), pans, moved: false };
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId) || !last) return;
    const x = local(event);
    const before = [...pointers.values()];
    pointers.set(event.pointerId, x);
    if (pointers.size === 2) {
      const after = [...pointers.values()];
      const spread = (xs) => Math.max(Math.abs(xs[0] - xs[1]), 10);
      view.zoom(spread(before) / spread(after), chart.timeAt((after[0] + after[1]) / 2));
      last.moved = last.pans = true;
    } else if (last.pans) {
      if (Math.abs(x - last.from) > 3) last.moved = true;
      if (last.moved) view.pan(((last.x - x) / chart.plot.width) * (chart.spanNs || view.width));
    } else if (last.moved || Math.abs(x - last.from) > 3) {
      last.moved = true;
      chart.dragged = [last.from, x];
      chart.redraw();
    }
    last.x = x;
  });

  const ended = (event) => {
    if (!pointers.delete(event.pointerId) || pointers.size) return;
    const dragged = chart.dragged;
    chart.dragged = null;
    if (event.type === "pointerup" && last) {
      if (dragged) view.show(...dragged.map((x) => chart.timeAt(x)).sort((a, b) => a - b));
      else if (!last.moved) click(event);
    }
    last = null;
    chart.redraw();
  };
  canvas.addEventListener("pointerup", ended);
  canvas.addEventListener("pointercancel", ended);
  canvas.addEventListener("dblclick", () => view.reset());
}

/** The span that is being dragged over. */
function drawDragged(pen, chart) {
  if (!chart.dragged) return;
  const [a, b] = [...chart.dragged].sort((x, y) => x - y);
  pen.globalAlpha = 0.18;
  pen.fillStyle = chart.theme.color("ink");
  pen.fillRect(a, chart.plot.y, b - a, chart.plot.height);
  pen.globalAlpha = 1;
}
