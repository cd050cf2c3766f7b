// The selected cycle, who kept it, and whom it kept.

/** Outlines of the selected cycle, of who kept it, of what it kept, and lines between them. */
function drawMarks(pen, timeline) {
  if (timeline.selected < 0) return;
  const { slices, selected } = timeline;
  const blocker = slices.blocker[selected];
  outline(pen, timeline, selected, "wait");
  outline(pen, timeline, selected, "hold");
  if (blocker >= 0) {
    outline(pen, timeline, blocker, "hold");
    link(pen, timeline, blocker, selected);
  }
  for (const kept of slices.keptBy(selected).slice(0, 50)) {
    outline(pen, timeline, kept, "wait");
    link(pen, timeline, selected, kept);
  }
}

function outline(pen, timeline, i, kind) {
  const { slices } = timeline;
  if (!slices[kind][i]) return;
  const [begin, end] =
    kind === "wait" ? [slices.begin[i], slices.got(i)] : [slices.got(i), slices.end(i)];
  const left = Math.max(timeline.xOf(begin), timeline.plot.x - 4);
  const right = Math.min(timeline.xOf(end), timeline.plot.x + timeline.plot.width + 4);
  if (right < left) return;
  const y = timeline.bands(timeline.entryOf(i))[kind];
  pen.fillStyle = timeline.theme.color(kind === "wait" ? "wait" : slices.writes(i) ? "write" : "read");
  pen.fillRect(left, y, Math.max(2, right - left), LANE[kind]);
  pen.strokeStyle = timeline.theme.color("mark");
  pen.lineWidth = 2;
  pen.strokeRect(left - 1, y - 1, Math.max(2, right - left) + 2, LANE[kind] + 2);
}

/** A line from a hold to the wait it kept, at the moment when both ended, or nearly so. */
function link(pen, timeline, holder, waiter) {
  const { slices } = timeline;
  const x = timeline.xOf(Math.min(slices.end(holder), slices.got(waiter)));
  const from = timeline.bands(timeline.entryOf(holder)).hold + LANE.hold / 2;
  const to = timeline.bands(timeline.entryOf(waiter)).wait + LANE.wait / 2;
  pen.strokeStyle = timeline.theme.color("mark");
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x, from);
  pen.lineTo(x, to);
  pen.stroke();
  pen.beginPath();
  pen.arc(x, to, 3, 0, 7);
  pen.fillStyle = timeline.theme.color("mark");
  pen.fill();
}
