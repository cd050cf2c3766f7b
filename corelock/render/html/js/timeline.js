// A lane for each thread: holds above, waits below. Shading (shading.js) is of all cycles; the
// longest are drawn on it one by one as soon as they are a pixel wide; marks (marks.js) show what
// was selected.

const LANE = { height: 26, top: 3, hold: 12, wait: 7, label: 178 };
const HEADING = 24;
const AXIS = 22;
const NARROW = 600;
const MOST_HEIGHT = 458;

class Timeline extends Chart {
  constructor(canvas, theme, view, tooltip, facts, shading, slices) {
    super(canvas, theme);
    Object.assign(this, { view, facts, slices });
    this.shading = new Shading(shading, facts, view);
    this.scroller = canvas.parentElement;
    this.selected = -1;
    this.entries = [];
    view.onChange(() => this.redraw());
    this.scroller.addEventListener("scroll", () => this.redraw(), { passive: true });
    onResize(this.scroller, () => this.layOut());
    this.layOut();
    canvas.addEventListener("pointermove", (event) => {
      const text = event.buttons ? "" : describeUnder(this, event);
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
    this.shading.draw(pen, this, lanes);
    for (const entry of visible) this.drawLabel(pen, entry, width);
    pen.beginPath();
    pen.rect(this.plot.x, 0, this.plot.width, this.plot.height);
    pen.clip();
    for (const entry of lanes) this.drawSlices(pen, entry);
    drawMarks(pen, this);
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

  entryOf(i) {
    return this.entries.find((entry) => entry.lane === this.slices.lane[i]);
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

/** `text`, cut to so many pixels. */
function fitted(pen, text, room) {
  if (pen.measureText(text).width <= room) return text;
  const tail = text.slice(text.lastIndexOf("["));
  let head = text.slice(0, text.length - tail.length);
  while (head && pen.measureText(`${head}…${tail}`).width > room) head = head.slice(0, -1);
  return `${head}…${tail}`;
}
