// A lane for each thread: holds above, waits below. Shading is of all cycles; the longest are
// drawn on it one by one as soon as they are a pixel wide.

const LANE = { height: 26, top: 3, hold: 12, wait: 7, label: 178 };
const HEADING = 24;
const AXIS = 22;
const NARROW = 600;
const MOST_HEIGHT = 458;

class Timeline extends Chart {
  constructor(canvas, theme, view, tooltip, facts, shading, slices) {
    super(canvas, theme);
    Object.assign(this, { view, facts, shading, slices });
    this.scroller = canvas.parentElement;
    this.selected = -1;
    this.entries = [];
    view.onChange(() => this.redraw());
    this.scroller.addEventListener("scroll", () => this.redraw(), { passive: true });
    new ResizeObserver(() => this.layOut()).observe(this.scroller);
    this.layOut();
    canvas.addEventListener("pointermove", (event) => {
      const text = event.buttons ? "" : this.describe(event);
      if (text) tooltip.show(event, text);
      else tooltip.hide();
    });
    canvas.addEventListener("pointerleave", () => tooltip.hide());
  }

  /** Where each lane is, from the top of all of them; on narrow screens names get a line. */
  layOut() {
    this.narrow = this.scroller.clientWidth < NARROW;
    const height = LANE.height + (this.narrow ? 14 : 0);
    const several = this.facts.hosts.length > 1;
    let top = 0;
    let host = -1;
    this.entries = [];
    this.facts.lanes.forEach((lane, number) => {
      if (several && lane.host !== host) {
        host = lane.host;
        this.entries.push({ top, height: HEADING, heading: this.facts.hosts[host] });
        top += HEADING;
      }
      this.entries.push({ top, height, lane: number });
      top += height;
    });
    const own = Math.min(MOST_HEIGHT, top + AXIS);
    this.canvas.style.height = `${own}px`;
    document.getElementById("lanes-height").style.height = `${top + AXIS - own}px`;
    this.redraw();
  }

  timeAt(x) {
    return this.view.from + ((x - this.plot.x) / this.plot.width) * this.view.width;
  }

  xOf(ns) {
    return this.plot.x + ((ns - this.view.from) / this.view.width) * this.plot.width;
  }

  /** Where the bands of a lane are now; `hold` and `wait` are their tops. */
  bands(entry) {
    const top = entry.top - this.scroller.scrollTop + LANE.top + (this.narrow ? 14 : 0);
    return { hold: top, wait: top + LANE.hold + 1 };
  }

  draw(pen, width, height) {
    const label = this.narrow ? 0 : LANE.label;
    this.plot = { x: label, y: 0, width: width - label, height: height - AXIS };
    const scrolled = this.scroller.scrollTop;
    const visible = this.entries.filter(
      (entry) => entry.top + entry.height > scrolled && entry.top < scrolled + this.plot.height,
    );
    pen.save();
    pen.beginPath();
    pen.rect(0, 0, width, this.plot.height);
    pen.clip();
    const lanes = visible.filter((entry) => entry.heading === undefined);
    this.drawShading(pen, lanes);
    for (const entry of visible) this.drawLabel(pen, entry, width);
    pen.beginPath();
    pen.rect(this.plot.x, 0, this.plot.width, this.plot.height);
    pen.clip();
    for (const entry of lanes) this.drawSlices(pen, entry);
    this.drawSelected(pen);
    pen.restore();
    drawTimeAxis(pen, this.theme, this.view, { ...this.plot, y: this.plot.height, height: 0 });
    drawDragged(pen, this);
  }

  drawLabel(pen, entry, width) {
    const top = entry.top - this.scroller.scrollTop;
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.fillStyle = this.theme.color("grid");
    pen.fillRect(0, top + entry.height - 1, width, 1);
    if (entry.heading !== undefined) {
      pen.font = "600 13px system-ui, sans-serif";
      pen.fillStyle = this.theme.color("ink");
      pen.fillText(entry.heading, 6, top + entry.height / 2);
      return;
    }
    const lane = this.facts.lanes[entry.lane];
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = this.theme.color("ink");
    const room = (this.narrow ? width : LANE.label) - 12;
    const y = this.narrow ? top + 9 : top + entry.height / 2;
    pen.fillText(fitted(pen, lane.name, room), 6, y);
  }

  /** How much of each pixel's time a lane waited and held; a row of pixels for each band. */
  drawShading(pen, lanes) {
    const across = Math.floor(this.plot.width);
    if (across < 1 || !lanes.length) return;
    const [panel, wait, write, read] = ["panel", "wait", "write", "read"].map((name) =>
      this.theme.rgb(name),
    );
    const image = pixels(across, 2 * lanes.length);
    const shares = new Float32Array(3);
    lanes.forEach((entry, row) => {
      for (let x = 0; x < across; x++) {
        this.shares(entry.lane, x, across, shares);
        const [waits, reads, writes] = shares;
        const holds = writes > reads ? write : read;
        image.colors[2 * row * across + x] = blended(panel, holds, strength(reads + writes));
        image.colors[(2 * row + 1) * across + x] = blended(panel, wait, strength(waits));
      }
    });
    const scratch = image.bitmap();
    pen.imageSmoothingEnabled = false;
    lanes.forEach((entry, row) => {
      const { hold, wait: waits } = this.bands(entry);
      const { x, width } = this.plot;
      pen.drawImage(scratch, 0, 2 * row, across, 1, x, hold, width, LANE.hold);
      pen.drawImage(scratch, 0, 2 * row + 1, across, 1, x, waits, width, LANE.wait);
    });
  }

  /** Shares (0..1) of waiting, holding for reading and for writing in pixel `x` of `across`. */
  shares(lane, x, across, shares) {
    const { columns, lanes } = this.facts;
    const scale = columns / this.view.spanNs;
    const from = (this.view.from + (x / across) * this.view.width) * scale;
    const to = (this.view.from + ((x + 1) / across) * this.view.width) * scale;
    const first = Math.min(columns - 1, Math.floor(from));
    const end = Math.min(columns, Math.max(first + 1, Math.floor(to)));
    for (let plane = 0; plane < 3; plane++) {
      const base = (plane * lanes.length + lane) * columns;
      let sum = 0;
      for (let i = first; i < end; i++) sum += this.shading[base + i];
      shares[plane] = sum / (255 * (end - first));
    }
  }

  drawSlices(pen, entry) {
    const { slices, view } = this;
    const { hold, wait } = this.bands(entry);
    const [waits, writes, reads] = ["wait", "write", "read"].map((name) => this.theme.color(name));
    const pixel = view.width / this.plot.width;
    slices.each(entry.lane, view, (i) => {
      if (slices.wait[i] >= pixel) {
        pen.fillStyle = waits;
        this.bar(pen, slices.begin[i], slices.got(i), wait, LANE.wait);
      }
      if (slices.hold[i] >= pixel) {
        pen.fillStyle = slices.writes(i) ? writes : reads;
        this.bar(pen, slices.got(i), slices.end(i), hold, LANE.hold);
      }
    });
  }

  bar(pen, begin, end, y, height) {
    const left = Math.max(this.xOf(begin), this.plot.x - 2);
    const right = Math.min(this.xOf(end), this.plot.x + this.plot.width + 2);
    // A gap between neighbours, where there is room for one.
    pen.fillRect(left, y, Math.max(1, right - left - (right - left > 4 ? 1 : 0)), height);
  }

  /** Outlines of the selected cycle, of who kept it, of what it kept, and lines between them. */
  drawSelected(pen) {
    if (this.selected < 0) return;
    const { slices, selected } = this;
    const blocker = slices.blocker[selected];
    this.outline(pen, selected, "wait");
    this.outline(pen, selected, "hold");
    if (blocker >= 0) {
      this.outline(pen, blocker, "hold");
      this.link(pen, blocker, selected);
    }
    for (const kept of slices.keptBy(selected).slice(0, 50)) {
      this.outline(pen, kept, "wait");
      this.link(pen, selected, kept);
    }
  }

  entryOf(i) {
    return this.entries.find((entry) => entry.lane === this.slices.lane[i]);
  }

  outline(pen, i, kind) {
    const { slices } = this;
    if (!slices[kind][i]) return;
    const [begin, end] =
      kind === "wait" ? [slices.begin[i], slices.got(i)] : [slices.got(i), slices.end(i)];
    const left = Math.max(this.xOf(begin), this.plot.x - 4);
    const right = Math.min(this.xOf(end), this.plot.x + this.plot.width + 4);
    if (right < left) return;
    const y = this.bands(this.entryOf(i))[kind];
    pen.fillStyle = this.theme.color(kind === "wait" ? "wait" : slices.writes(i) ? "write" : "read");
    pen.fillRect(left, y, Math.max(2, right - left), LANE[kind]);
    pen.strokeStyle = this.theme.color("mark");
    pen.lineWidth = 2;
    pen.strokeRect(left - 1, y - 1, Math.max(2, right - left) + 2, LANE[kind] + 2);
  }

  /** A line from a hold to the wait it kept, at the moment when both ended, or nearly so. */
  link(pen, holder, waiter) {
    const { slices } = this;
    const x = this.xOf(Math.min(slices.end(holder), slices.got(waiter)));
    const from = this.bands(this.entryOf(holder)).hold + LANE.hold / 2;
    const to = this.bands(this.entryOf(waiter)).wait + LANE.wait / 2;
    pen.strokeStyle = this.theme.color("mark");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(x, from);
    pen.lineTo(x, to);
    pen.stroke();
    pen.beginPath();
    pen.arc(x, to, 3, 0, 7);
    pen.fillStyle = this.theme.color("mark");
    pen.fill();
  }

  /** The entry and band under the pointer. */
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    if (y >= this.plot.height) return null;
    const at = y + this.scroller.scrollTop;
    const entry = this.entries.find((each) => at >= each.top && at < each.top + each.height);
    if (!entry || entry.heading !== undefined) return null;
    return { entry, x, kind: y < this.bands(entry).wait ? "hold" : "wait" };
  }

  /** The cycle that is drawn there (the shortest of several), or -1. */
  pick(event) {
    const found = this.under(event);
    if (!found || found.x < this.plot.x) return -1;
    const { slices, view } = this;
    const pixel = view.width / this.plot.width;
    const at = this.timeAt(found.x);
    const near = { from: at - 2 * pixel, to: at + 2 * pixel };
    let best = -1;
    slices.each(found.entry.lane, near, (i) => {
      const length = slices[found.kind][i];
      const begin = found.kind === "wait" ? slices.begin[i] : slices.got(i);
      const hit = begin <= near.to && begin + length >= near.from && length >= pixel;
      if (hit && (best < 0 || length < slices[found.kind][best])) best = i;
    });
    return best;
  }

  describe(event) {
    const found = this.under(event);
    if (!found) return "";
    const lane = this.facts.lanes[found.entry.lane];
    if (found.x < this.plot.x) return describeLane(lane, this.facts.hosts);
    const i = this.pick(event);
    if (i >= 0) return describeSlice(this.slices, i, this.view);
    const shares = new Float32Array(3);
    const across = Math.floor(this.plot.width);
    this.shares(found.entry.lane, Math.floor(found.x - this.plot.x), across, shares);
    if (!(shares[0] + shares[1] + shares[2])) return "";
    const wide = Math.max(this.view.spanNs / this.facts.columns, this.view.width / across);
    const percent = (share) => `${share > 0 && share < 0.01 ? "under 1" : Math.round(100 * share)} %`;
    return (
      `${lane.name}\nof ${duration(wide)} at ${moment(this.timeAt(found.x), this.view.width / 1000)}: ` +
      `waits ${percent(shares[0])}, holds ${percent(shares[1] + shares[2])}`
    );
  }

  /** Scroll so that the lanes of these cycles can be seen, the first of them for sure. */
  scrollTo(...cycles) {
    const tops = cycles.map((i) => this.entryOf(i).top);
    const room = this.plot.height - LANE.height - 14;
    const [low, high] = [Math.min(...tops), Math.max(...tops)];
    const { scrollTop } = this.scroller;
    if (low >= scrollTop && high <= scrollTop + room) return;
    this.scroller.scrollTop = high - low <= room ? low - (room - (high - low)) / 2 : tops[0] - room / 2;
  }
}

/** How strong a share of time is shaded: what is there at all, shows. */
function strength(share) {
  return share > 0 ? 0.18 + 0.5 * Math.min(1, share) : 0;
}

/** `text`, cut to so many pixels. */
function fitted(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  const tail = text.slice(text.lastIndexOf("["));
  let head = text.slice(0, text.length - tail.length);
  while (head && pen.measureText(`${head}…${tail}`).width > room) head = head.slice(0, -1);
  return `${head}…${tail}`;
}

function describeLane(lane, hosts) {
  return (
    `${lane.name}${hosts.length > 1 ? ` on ${hosts[lane.host]}` : ""}\n` +
    (lane.process ? `lock of ${lane.process}\n` : "") +
    `waited ${duration(lane.wait)}, held ${duration(lane.hold)}, ` +
    `kept others waiting for ${duration(lane.blamed)}`
  );
}

function describeSlice(slices, i, view) {
  const lines = [slices.who(i)];
  if (slices.wait[i]) lines.push(`waited ${duration(slices.wait[i])}`);
  if (slices.hold[i]) lines.push(`held ${duration(slices.hold[i])}`);
  lines.push(`from ${moment(slices.begin[i], view.width / 1000)}, ${slices.ending(i)}`);
  const blocker = slices.blocker[i];
  if (blocker >= 0) lines.push(`kept by ${slices.who(blocker)}`);
  return lines.join("\n");
}
