// What share of its time a thread waited and held, of all cycles: how strongly lanes are shaded.

class Shading {
  /** `levels`: 0 to 255 by plane (waits, holds for reading, for writing), lane and column. */
  constructor(levels, facts, view) {
    Object.assign(this, { levels, view, columns: facts.columns, lanes: facts.lanes.length });
    this.scratch = new Scratch();
  }

  /** Shares (0..1) of waiting, holding for reading and for writing in pixel `x` of `across`. */
  shares(lane, x, across, shares) {
    const { columns, lanes } = this;
    const scale = columns / this.view.spanNs;
    const from = (this.view.from + (x / across) * this.view.width) * scale;
    const to = (this.view.from + ((x + 1) / across) * this.view.width) * scale;
    const first = Math.min(columns - 1, Math.floor(from));
    const end = Math.min(columns, Math.max(first + 1, Math.floor(to)));
    for (let plane = 0; plane < 3; plane++) {
      const base = (plane * lanes + lane) * columns;
      let sum = 0;
      for (let i = first; i < end; i++) sum += this.levels[base + i];
      shares[plane] = sum / (255 * (end - first));
    }
  }

  /** How much of each pixel's time a lane waited and held; a row of pixels for each band. */
  draw(pen, timeline, lanes) {
    const { plot, theme } = timeline;
    const across = Math.floor(plot.width);
    if (across < 1 || !lanes.length) return;
    const [panel, wait, write, read] = ["panel", "wait", "write", "read"].map((name) =>
      theme.rgb(name),
    );
    const colors = this.scratch.colors(across, 2 * lanes.length);
    const shares = new Float32Array(3);
    lanes.forEach((entry, row) => {
      for (let x = 0; x < across; x++) {
        this.shares(entry.lane, x, across, shares);
        const [waits, reads, writes] = shares;
        const holds = writes > reads ? write : read;
        colors[2 * row * across + x] = blended(panel, holds, strength(reads + writes));
        colors[(2 * row + 1) * across + x] = blended(panel, wait, strength(waits));
      }
    });
    const scratch = this.scratch.bitmap();
    pen.imageSmoothingEnabled = false;
    lanes.forEach((entry, row) => {
      const { hold, wait: waits } = timeline.bands(entry);
      const { x, width } = plot;
      pen.drawImage(scratch, 0, 2 * row, across, 1, x, hold, width, LANE.hold);
      pen.drawImage(scratch, 0, 2 * row + 1, across, 1, x, waits, width, LANE.wait);
    });
  }
}

/** How strong a share of time is shaded: what is there at all, shows. */
function strength(share) {
  return share > 0 ? 0.18 + 0.5 * Math.min(1, share) : 0;
}
