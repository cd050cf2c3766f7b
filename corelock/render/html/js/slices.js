// The cycles that are drawn one by one, and what can be asked of them.

const ENDINGS = [
  "released",
  "downgraded: goes on as a hold for reading",
  "failed: a trylock, there was no hold",
  "aborted by a signal, there was no hold",
  "still held when recording ended",
  "still waiting when recording ended",
];

class Slices {
  /** `parts` as `readPayload` gives them; cycles are in order of lane, then beginning. */
  constructor(parts, lanes) {
    const named = ["begin", "wait", "hold", "lane", "row", "kind", "blocker", "wait_stack", "hold_stack"];
    for (const name of named) this[name] = parts[`slice_${name}`];
    this.rows = parts.rows;
    this.stacks = parts.stacks;
    this.count = this.begin.length;
    this.first = new Uint32Array(lanes + 1);
    for (let i = 0; i < this.count; i++) this.first[this.lane[i] + 1] = i + 1;
    for (let lane = 1; lane <= lanes; lane++) {
      this.first[lane] = Math.max(this.first[lane], this.first[lane - 1]);
    }
    // The latest end of all that began before in the same lane, to find what reaches into a view.
    this.reached = new Float64Array(this.count);
    for (let i = 0; i < this.count; i++) {
      const before = i > this.first[this.lane[i]] ? this.reached[i - 1] : 0;
      this.reached[i] = Math.max(before, this.end(i));
    }
    this.kept = new Map();
    for (let i = 0; i < this.count; i++) {
      const blocker = this.blocker[i];
      if (blocker < 0) continue;
      if (!this.kept.has(blocker)) this.kept.set(blocker, []);
      this.kept.get(blocker).push(i);
    }
    this.byWait = [...this.wait.keys()].filter((i) => this.wait[i] > 0);
    this.byWait.sort((a, b) => this.wait[b] - this.wait[a]);
  }

  /** When it got the lock. */
  got(i) {
    return this.begin[i] + this.wait[i];
  }

  end(i) {
    return this.begin[i] + this.wait[i] + this.hold[i];
  }

  /** The waits (as numbers, the longest first) that this one's hold kept. */
  keptBy(i) {
    return [...(this.kept.get(i) || [])].sort((a, b) => this.wait[b] - this.wait[a]);
  }

  writes(i) {
    return this.rows[this.row[i]][4] === "write";
  }

  /** The number of the first cycle of a lane that may reach beyond `from`. */
  firstFrom(lane, from) {
    let low = this.first[lane];
    let high = this.first[lane + 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.reached[middle] <= from) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** `visit(i)` for all cycles of a lane that lie in the view, in order. */
  each(lane, view, visit) {
    const end = this.first[lane + 1];
    for (let i = this.firstFrom(lane, view.from); i < end && this.begin[i] <= view.to; i++) {
      if (this.end(i) >= view.from) visit(i);
    }
  }

  /** "worker[7] munmap, for writing" */
  who(i) {
    const [, thread, , operation, mode] = this.rows[this.row[i]];
    return `${thread} ${operation}, for ${mode === "write" ? "writing" : "reading"}`;
  }

  ending(i) {
    return ENDINGS[this.kind[i] & 7];
  }

  /** Frames of the stack of its "wait" or "hold": {kernel, user, note}, or why there is none. */
  stack(i, kind) {
    const number = this[`${kind}_stack`][i];
    if (number < 0) {
      const note = number === -1 ? "no stack was taken" : "its stack was left out of this page";
      return { kernel: [], user: [], note };
    }
    const [kernel, user, note] = this.stacks.stacks[number];
    const named = (frames) => frames.map((frame) => this.stacks.names[frame]);
    return { kernel: named(kernel), user: named(user), note };
  }
}
