// What is under the pointer in the timeline, and in words.

/** The entry and band under the pointer. */
function under(timeline, event) {
  const box = timeline.canvas.getBoundingClientRect();
  const x = event.clientX - box.left;
  const y = event.clientY - box.top;
  if (y >= timeline.plot.height) return null;
  const at = y + timeline.scroller.scrollTop;
  const entry = timeline.entries.find((each) => at >= each.top && at < each.top + each.height);
  if (!entry || entry.heading !== undefined) return null;
  return { entry, x, kind: y < timeline.bands(entry).wait ? "hold" : "wait" };
}

/** The cycle that is drawn there (the shortest of several), or -1. */
function pick(timeline, event) {
  const found = under(timeline, event);
  if (!found || found.x < timeline.plot.x) return -1;
  const { slices, view } = timeline;
  const pixel = view.width / timeline.plot.width;
  const at = timeline.timeAt(found.x);
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

function describeUnder(timeline, event) {
  const found = under(timeline, event);
  if (!found) return "";
  const lane = timeline.facts.lanes[found.entry.lane];
  if (found.x < timeline.plot.x) return describeLane(lane, timeline.facts.hosts);
  const i = pick(timeline, event);
  if (i >= 0) return describeSlice(timeline.slices, i, timeline.view);
  const shares = new Float32Array(3);
  const across = Math.floor(timeline.plot.width);
  timeline.shading.shares(found.entry.lane, Math.floor(found.x - timeline.plot.x), across, shares);
  if (!(shares[0] + shares[1] + shares[2])) return "";
  const wide = Math.max(timeline.view.spanNs / timeline.facts.columns, timeline.view.width / across);
  const percent = (share) => `${share > 0 && share < 0.01 ? "under 1" : Math.round(100 * share)} %`;
  return (
    `${lane.name}\nof ${duration(wide)} at ${moment(timeline.timeAt(found.x), timeline.view.width / 1000)}: ` +
    `waits ${percent(shares[0])}, holds ${percent(shares[1] + shares[2])}`
  );
}

function describeLane(lane, hosts) {
  // Of who was only in the way of what was chosen, nothing is known but that.
  const own = lane.wait || lane.hold ? `waited ${duration(lane.wait)}, held ${duration(lane.hold)}, ` : "";
  return (
    `${lane.name}${hosts.length > 1 ? ` on ${hosts[lane.host]}` : ""}\n` +
    (lane.process ? `lock of ${lane.process}\n` : "") +
    `${own}kept others waiting for ${duration(lane.blamed)}`
  );
}

function describeSlice(slices, i, view) {
  const lines = [slices.who(i)];
  if (slices.wait[i]) lines.push(`waited ${duration(slices.wait[i])}`);
  if (slices.hold[i]) lines.push(`held ${duration(slices.hold[i])}`);
  lines.push(`from ${moment(slices.begin[i], view.width / 1000)}, ${slices.ending(i)}`);
  const blocker = slices.blocker[i];
  if (blocker >= 0) lines.push(`kept longest by ${slices.who(blocker)}`);
  return lines.join("\n");
}
