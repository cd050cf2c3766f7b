// How long waits or holds took over time: the darker (in dark: the lighter), the more.

class HeatMap extends Chart {
  constructor(canvas, theme, view, tooltip, counts, shape, kind) {
    super(canvas, theme);
    Object.assign(this, { view, counts, shape, kind });
    this.scratch = new Scratch();
    this.note = document.getElementById(`${kind}-heat-note`);
    [this.lowest, this.highest] = this.usedRows();
    view.onChange(() => this.redraw());
    addGestures(this, view);
    canvas.addEventListener("pointermove", (event) => {
      const text = this.describe(event);
      if (text) tooltip.show(event, text);
      else tooltip.hide();
    });
    canvas.addEventListener("pointerleave", () => tooltip.hide());
  }

  usedRows() {
    const { rows } = this.shape;
    let low = rows;
    let high = 0;
    for (let i = 0; i < this.counts.length; i++) {
      if (this.counts[i]) {
        low = Math.min(low, i % rows);
        high = Math.max(high, i % rows);
      }
    }
    return low > high ? [0, 0] : [low, high];
  }

  /** The shortest time (ns) that is counted in a row. */
  rowStart(row) {
    const { steps, lowest } = this.shape;
    const power = 2 ** (lowest + Math.floor(row / steps));
    return power + (power * (row % steps)) / steps;
  }

  timeAt(x) {
    const share = Math.max(0, Math.min(1, (x - this.plot.x) / this.plot.width));
    return this.view.from + share * this.view.width;
  }

  columnOf(ns) {
    return Math.min(this.shape.columns - 1, Math.floor((ns / this.view.spanNs) * this.shape.columns));
  }

  draw(pen, width, height) {
    const plot = (this.plot = { x: 46, y: 6, width: width - 46, height: height - 28 });
    drawTimeAxis(pen, this.theme, this.view, plot);
    this.durationAxis(pen, plot);
    const across = Math.max(1, Math.floor(plot.width));
    const down = this.highest - this.lowest + 1;
    const cells = this.cells(across, down);
    const most = cells.reduce((a, b) => Math.max(a, b), 0);
    const hold = this.kind === "hold" ? "-hold" : "";
    const [low, high] = [this.theme.rgb(`heat${hold}-low`), this.theme.rgb(`heat${hold}-high`)];
    const ramp = Array.from({ length: 65 }, (_, i) => blended(low, high, i / 64));
    const colors = this.scratch.colors(across, down);
    const scale = 64 / Math.log(1 + most);
    for (let i = 0; i < cells.length; i++) {
      if (cells[i]) colors[i] = ramp[Math.round(Math.log(1 + cells[i]) * scale)];
    }
    pen.imageSmoothingEnabled = false;
    pen.drawImage(this.scratch.bitmap(), plot.x, plot.y, plot.width, plot.height);
    drawDragged(pen, this);
    const column = this.view.spanNs / this.shape.columns;
    this.note.textContent = most
      ? `a column is ${duration(column)}; the strongest colour is ${count(most)} ${this.kind}s`
      : `no ${this.kind}s`;
  }

  /** Counts by pixel, from the top down; columns that share a pixel are added up. */
  cells(across, down) {
    const { rows } = this.shape;
    const cells = new Float64Array(across * down);
    const first = this.columnOf(this.view.from);
    const last = this.columnOf(this.view.to);
    const pixel = (ns) => ((ns - this.view.from) / this.view.width) * across;
    const width = this.view.spanNs / this.shape.columns;
    for (let column = first; column <= last; column++) {
      const x = Math.max(0, Math.floor(pixel(column * width)));
      const end = Math.min(across, Math.max(x + 1, Math.floor(pixel((column + 1) * width))));
      for (let row = this.lowest; row <= this.highest; row++) {
        const n = this.counts[column * rows + row];
        if (!n) continue;
        const y = this.highest - row;
        for (let i = x; i < end; i++) cells[y * across + i] += n;
      }
    }
    return cells;
  }

  durationAxis(pen, plot) {
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    const down = this.highest - this.lowest + 1;
    let free = Infinity;
    for (let power = 1; power < 13; power++) {
      const ns = 10 ** power;
      const octave = Math.floor(Math.log2(ns));
      const { steps, lowest } = this.shape;
      const row = (octave - lowest) * steps + (ns / 2 ** octave - 1) * steps;
      const y = plot.y + plot.height * (1 - (row - this.lowest) / down);
      if (y < plot.y || y > plot.y + plot.height) continue;
      pen.fillStyle = this.theme.color("grid");
      pen.fillRect(plot.x, Math.round(y), plot.width, 1);
      if (y > free - 14) continue;
      pen.fillStyle = this.theme.color("soft");
      pen.fillText(duration(ns).replace(/\.0+(?=\D)/, ""), plot.x - 6, y);
      free = y;
    }
  }

  describe(event) {
    const box = this.canvas.getBoundingClientRect();
    const { x, y, width, height } = this.plot;
    const at = [event.clientX - box.left, event.clientY - box.top];
    if (at[0] < x || at[0] > x + width || at[1] < y || at[1] > y + height) return "";
    const down = this.highest - this.lowest + 1;
    const row = this.highest - Math.min(down - 1, Math.floor(((at[1] - y) / height) * down));
    // As many columns as share the pixel.
    const first = this.columnOf(this.timeAt(at[0]));
    const end = Math.max(first, this.columnOf(this.timeAt(at[0] + 1) - 1));
    let n = 0;
    for (let i = first; i <= end; i++) n += this.counts[i * this.shape.rows + row];
    if (!n) return "";
    const column = this.view.spanNs / this.shape.columns;
    const step = this.view.width / 1000;
    return (
      `${whole(n)} ${this.kind}${n > 1 ? "s" : ""} of ` +
      `${duration(this.rowStart(row))} to ${duration(this.rowStart(row + 1))}\n` +
      `${moment(first * column, step)} to ${moment((end + 1) * column, step)}`
    );
  }
}
