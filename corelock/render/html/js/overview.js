// How many threads waited (up) and held (down) over all of the page's span, and what is shown.

class Overview extends Chart {
  constructor(canvas, theme, view, waiting, holding) {
    super(canvas, theme);
    this.view = view;
    this.spanNs = view.spanNs;
    this.waiting = waiting;
    this.holding = holding;
    const column = view.spanNs / waiting.length;
    this.most = [waiting, holding].map((ns) => Math.max(...ns) / column);
    document.getElementById("overview-note").textContent =
      `at most ${threads(this.most[0])} waiting and ${threads(this.most[1])} holding, ` +
      `on average over ${duration(column)}`;
    view.onChange(() => this.redraw());
    addGestures(this, view, (event) => this.center(event));
  }

  timeAt(x) {
    return Math.max(0, Math.min(1, (x - this.plot.x) / this.plot.width)) * this.spanNs;
  }

  center(event) {
    const at = this.timeAt(event.clientX - this.canvas.getBoundingClientRect().left);
    this.view.show(at - this.view.width / 2, at + this.view.width / 2);
  }

  draw(pen, width, height) {
    // Below the same moments of the timeline.
    const left = width < NARROW ? 0 : LANE.label;
    const plot = (this.plot = { x: left, y: 0, width: width - left, height: height - 20 });
    drawTimeAxis(pen, this.theme, { from: 0, to: this.spanNs, width: this.spanNs }, plot);
    const base = Math.round(plot.height * 0.66);
    const scale = [base / (this.most[0] || 1), (plot.height - base) / (this.most[1] || 1)];
    this.area(pen, this.waiting, plot, base, -scale[0], "wait");
    this.area(pen, this.holding, plot, base, scale[1], "write");
    pen.fillStyle = this.theme.color("ink");
    pen.fillRect(plot.x, base, plot.width, 1);
    if (left) this.names(pen, base, plot.height);
    this.frame(pen, plot);
    drawDragged(pen, this);
  }

  names(pen, base, height) {
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.fillText("waiting", 6, base / 2);
    pen.fillText("holding", 6, (base + height) / 2);
  }

  /** The largest value of what falls into a pixel: peaks are not averaged away. */
  area(pen, values, plot, base, scale, color) {
    const column = this.spanNs / values.length;
    pen.fillStyle = this.theme.color(color);
    for (let x = 0; x < plot.width; x++) {
      const first = Math.floor((x / plot.width) * values.length);
      const end = Math.max(first + 1, Math.floor(((x + 1) / plot.width) * values.length));
      let most = 0;
      for (let i = first; i < end; i++) most = Math.max(most, values[i]);
      if (most) pen.fillRect(plot.x + x, base, 1, (most / column) * scale);
    }
  }

  frame(pen, plot) {
    const { from, to, width } = this.view;
    if (width >= this.spanNs) return;
    const [a, b] = [from, to].map((at) => plot.x + (at / this.spanNs) * plot.width);
    pen.globalAlpha = 0.72;
    pen.fillStyle = this.theme.color("paper");
    pen.fillRect(plot.x, 0, a - plot.x, plot.height);
    pen.fillRect(b, 0, plot.x + plot.width - b, plot.height);
    pen.globalAlpha = 1;
    pen.strokeStyle = this.theme.color("mark");
    pen.strokeRect(a + 0.5, 0.5, Math.max(2, b - a - 1), plot.height - 1);
  }
}

/** A number of threads at a time. */
function threads(n) {
  return n >= 10 ? n.toFixed(0) : n.toFixed(1);
}
