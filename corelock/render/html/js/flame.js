// A flame graph that hangs from the top: as wide as the time, callers above what they called.

const FRAME = 20;

class Flame {
  /** `tree`: columns in depth-first order (flames.py); node 0 is all of it. */
  constructor(figure, tree, tooltip) {
    this.figure = figure;
    this.box = figure.querySelector(".frames");
    this.back = figure.querySelector(".back");
    this.tree = tree;
    this.tooltip = tooltip;
    this.count = tree.depth.length;
    this.parent = new Int32Array(this.count).fill(-1);
    this.start = new Float64Array(this.count);
    this.next = new Int32Array(this.count); // where the nodes below it end
    this.link();
    this.root = 0;
    this.back.addEventListener("click", () => this.zoom(0));
    this.width = 0;
    this.draw();
    onResize(this.box, () => this.box.clientWidth !== this.width && this.draw());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("click", (event) => this.zoom(this.nodeOf(event)));
    this.box.addEventListener("pointermove", (event) => {
      const node = this.nodeOf(event);
      if (node < 0) tooltip.hide();
      else tooltip.show(event, this.describe(node));
    });
    this.box.addEventListener("pointerleave", () => tooltip.hide());
  }

  /** Parents, where each node begins (ns), and where its subtree ends. */
  link() {
    const { depth, total_ns: total } = this.tree;
    const path = [];
    const filled = new Float64Array(this.count);
    for (let node = 0; node < this.count; node++) {
      while (path.length > depth[node]) this.next[path.pop()] = node;
      if (path.length) {
        const parent = path[path.length - 1];
        this.parent[node] = parent;
        this.start[node] = this.start[parent] + filled[parent];
        filled[parent] += total[node];
      }
      path.push(node);
    }
    while (path.length) this.next[path.pop()] = this.count;
  }

  name(node) {
    return this.tree.names[this.tree.name[node]];
  }

  nodeOf(event) {
    const frame = event.target.closest("[data-node]");
    return frame ? Number(frame.dataset.node) : -1;
  }

  zoom(node) {
    if (node < 0) return;
    this.root = node;
    this.back.hidden = node === 0;
    this.tooltip.hide();
    this.draw();
  }

  /** Arrows go to the caller, to the widest callee and to siblings; Enter zooms. */
  key(event) {
    const node = this.nodeOf(event);
    if (node < 0) return;
    const first = node + 1 < this.next[node] ? node + 1 : -1;
    const siblings = [...this.box.children].map((frame) => Number(frame.dataset.node))
      .filter((other) => this.tree.depth[other] === this.tree.depth[node]);
    const at = siblings.indexOf(node);
    const targets = {
      ArrowUp: this.parent[node], ArrowDown: first,
      ArrowLeft: siblings[at - 1], ArrowRight: siblings[at + 1],
    };
    if (event.key === "Enter" || event.key === " ") this.zoom(node);
    else if (event.key === "Escape") this.zoom(0);
    else if (!(event.key in targets)) return;
    event.preventDefault();
    this.focus(event.key in targets ? targets[event.key] : node);
  }

  focus(node) {
    const frame = this.box.querySelector(`[data-node="${node}"]`);
    if (!frame) return;
    for (const other of this.box.querySelectorAll("[tabindex='0']")) other.tabIndex = -1;
    frame.tabIndex = 0;
    frame.focus();
  }

  describe(node) {
    const { total_ns: total, cycles } = this.tree;
    const share = (100 * total[node]) / total[0];
    return `${this.name(node)}\n${duration(total[node])} in ${whole(cycles[node])}, ${share.toFixed(1)} %`;
  }

  draw() {
    const width = (this.width = this.box.clientWidth);
    if (!width) return;
    if (!this.count || !this.tree.total_ns[0]) {
      this.box.replaceChildren(element("p", "", "No stacks: nothing took as long as the recording's threshold."));
      return;
    }
    const { depth, total_ns: total } = this.tree;
    const scale = width / total[this.root];
    const made = [];
    let deepest = 0;
    // Who calls the root stays, full width, to go back to.
    for (let node = this.parent[this.root]; node >= 0; node = this.parent[node]) {
      made.push(this.frame(node, 0, width));
    }
    for (let node = this.root; node < this.next[this.root]; ) {
      const wide = total[node] * scale;
      if (wide < 1) {
        node = this.next[node];
        continue;
      }
      made.push(this.frame(node, (this.start[node] - this.start[this.root]) * scale, wide));
      deepest = Math.max(deepest, depth[node]);
      node++;
    }
    this.box.style.height = `${(deepest + 1) * FRAME + 2}px`;
    this.box.replaceChildren(...made);
    const first = this.box.querySelector(`[data-node="${this.root}"]`);
    first.tabIndex = 0;
  }

  frame(node, left, width) {
    const frame = element("div", "", width > 24 ? this.name(node) : "");
    const depth = this.tree.depth[node];
    frame.dataset.node = node;
    frame.tabIndex = -1;
    frame.setAttribute("role", "treeitem");
    frame.setAttribute("aria-level", depth + 1);
    frame.setAttribute("aria-label", this.describe(node));
    frame.style.left = `${left}px`;
    frame.style.width = `${Math.max(1, width)}px`;
    frame.style.top = `${depth * FRAME}px`;
    const kind = this.tree.kind[node];
    if (kind) frame.classList.add(kind === 1 ? "who" : "kernel");
    return frame;
  }
}
