// Ticks: round numbers of time below the charts, powers of ten beside the heat maps.

/** The next of 1, 2, 5 times a power of ten from `least` on. */
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= least);
}

/** Moments (ns) to mark in `view`, `apart` pixels from each other or more, and their step. */
function timeTicks(view, plotWidth, apart = 90) {
  const step = roundStep((view.width * apart) / plotWidth);
  const ticks = [];
  for (let n = Math.ceil(view.from / step); n * step <= view.to; n++) ticks.push(n * step);
  return { step, ticks };
}

/** Draw the axis of time with its lines up through the plot. */
function drawTimeAxis(pen, theme, view, plot) {
  const { step, ticks } = timeTicks(view, plot.width);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "top";
  let free = -Infinity;
  for (const at of ticks) {
    const x = plot.x + ((at - view.from) / view.width) * plot.width;
    pen.fillStyle = theme.color("line");
    pen.fillRect(Math.round(x), plot.y, 1, plot.height + 4);
    const text = moment(at, step);
    const half = pen.measureText(text).width / 2;
    const middle = Math.min(Math.max(x, plot.x + half), plot.x + plot.width - half);
    if (middle - half < free) continue;
    pen.fillStyle = theme.color("soft");
    pen.textAlign = "center";
    pen.fillText(text, middle, plot.y + plot.height + 5);
    free = middle + half + 12;
  }
}
