// The cycle that was chosen: in the timeline, and in words below it.

class Selection {
  constructor(box, view, timeline, slices) {
    Object.assign(this, { box, view, timeline, slices });
    this.current = -1;
  }

  /** Show cycle `i` with whatever kept it, and bring both into view. */
  select(i, scroll = true) {
    this.current = i;
    this.timeline.selected = i;
    this.box.dataset.slice = i;
    this.box.dataset.blocker = i < 0 ? "" : this.slices.blocker[i];
    this.describe();
    if (i >= 0) this.reveal(i);
    if (i >= 0 && scroll) this.timeline.scroller.scrollIntoView({ block: "nearest" });
    this.timeline.redraw();
  }

  reveal(i) {
    const { slices, view, timeline } = this;
    const blocker = slices.blocker[i];
    const both = blocker < 0 ? [i] : [i, blocker];
    const begin = Math.min(...both.map((each) => slices.begin[each] + (each === i ? 0 : slices.wait[each])));
    view.reveal(begin, Math.max(...both.map((each) => slices.end(each))));
    timeline.scrollTo(...both.reverse());
  }

  /** `step` waits further in the order of their lengths, the longest first. */
  next(step) {
    const order = this.slices.byWait;
    if (!order.length) return;
    const at = order.indexOf(this.current);
    const to = at < 0 ? 0 : Math.min(Math.max(at + step, 0), order.length - 1);
    this.select(order[to], false);
  }

  toBlocker() {
    const blocker = this.current < 0 ? -1 : this.slices.blocker[this.current];
    if (blocker >= 0) this.select(blocker, false);
  }

  describe() {
    const i = this.current;
    const { slices, box } = this;
    if (i < 0) {
      box.replaceChildren(element("p", "note", "Click a wait: the hold that kept it longest is marked, and named here."));
      return;
    }
    const blocker = slices.blocker[i];
    const sides = element("div", "sides");
    sides.append(this.side("Waited and held", i, slices.wait[i] >= slices.hold[i] ? "wait" : "hold"));
    if (blocker >= 0) sides.append(this.side("Kept longest by", blocker, "hold"));
    else if (slices.wait[i]) sides.append(element("p", "note", "Who kept it is not known: nobody was seen to have the lock, or the wait was short."));
    box.replaceChildren(sides);
    const kept = slices.keptBy(i);
    if (kept.length) box.append(this.keptList(kept));
  }

  side(title, i, kind) {
    const { slices } = this;
    const side = element("div");
    const heading = element("h3", "", `${title}: `);
    heading.append(this.button(i, slices.who(i)));
    const [, , process] = slices.rows[slices.row[i]];
    side.append(
      heading,
      element(
        "div", "",
        `lock of ${process}; waited ${duration(slices.wait[i])}, held ${duration(slices.hold[i])}, ` +
          `from ${moment(slices.begin[i], 1e3)}; ${slices.ending(i)}`,
      ),
      frames(slices.stack(i, kind), `stack of the ${kind}`),
    );
    return side;
  }

  keptList(kept) {
    const line = element("p", "", `Its hold kept ${whole(kept.length)} of these waits: `);
    kept.slice(0, 8).forEach((i, at) => {
      if (at) line.append(", ");
      line.append(this.button(i, `${duration(this.slices.wait[i])} ${this.slices.rows[this.slices.row[i]][1]}`));
    });
    if (kept.length > 8) line.append(" …");
    return line;
  }

  button(i, text) {
    const button = element("button", "link", text);
    button.type = "button";
    button.addEventListener("click", () => this.select(i, false));
    return button;
  }
}

/** An element with a class and text; names come in as text only. */
function element(tag, classes = "", text = "") {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.textContent = text;
  return made;
}

function frames(stack, title) {
  const list = element("ol");
  list.setAttribute("aria-label", title);
  for (const name of stack.kernel) list.append(element("li", "kernel", name));
  for (const name of stack.user) list.append(element("li", "", name));
  if (stack.note) list.append(element("li", "kernel", `[${stack.note}]`));
  return list;
}
