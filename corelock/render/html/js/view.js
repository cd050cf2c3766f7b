// The span of time that all charts show, and whoever wants to know when it changes.

const SHORTEST_NS = 200;

class View {
  constructor(spanNs) {
    this.spanNs = spanNs;
    this.from = 0;
    this.to = spanNs;
    this.listeners = [];
  }

  get width() {
    return this.to - this.from;
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Show `from` to `to` (ns), moved to lie within the page's span. */
  show(from, to) {
    const width = Math.min(Math.max(to - from, SHORTEST_NS), this.spanNs);
    const middle = (from + to) / 2;
    this.from = Math.min(Math.max(middle - width / 2, 0), this.spanNs - width);
    this.to = this.from + width;
    for (const listener of this.listeners) listener(this);
  }

  /** Show `factor` times as much, with what is at `at` (ns) staying where it is. */
  zoom(factor, at = (this.from + this.to) / 2) {
    const width = Math.min(Math.max(this.width * factor, SHORTEST_NS), this.spanNs);
    const share = (at - this.from) / this.width;
    this.show(at - share * width, at + (1 - share) * width);
  }

  pan(ns) {
    this.show(this.from + ns, this.to + ns);
  }

  reset() {
    this.show(0, this.spanNs);
  }

  /** Make [begin, end] visible, zoomed so that it can be seen, with room around it. */
  reveal(begin, end) {
    const length = Math.max(end - begin, 1);
    if (begin >= this.from && end <= this.to && length > this.width / 50) return;
    this.show(begin - 2 * length, end + 2 * length);
  }
}
