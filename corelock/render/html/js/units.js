// Numbers as people read them, digit for digit as corelock/render/units.py has them.

const HOUR_NS = 3_600_000_000_000;

// [size of one, suffix, whole numbers below this]
const TIMES = [
  [1, "n", 1000],
  [1e3, "u", 1000],
  [1e6, "m", 1000],
  [1e9, "s", 10_000],
  [HOUR_NS, "h", 10_000],
];
const COUNTS = [
  [1, "", 100_000],
  [1e3, "K", 1000],
  [1e6, "M", 1000],
  [1e9, "G", 1000],
  [1e12, "T", 10_000],
];

/** A whole number of ns with its unit: "812n", "1.02u", "12.3m", "75.0s", "10.0h". */
function duration(ns) {
  return scaled(Math.round(ns), TIMES);
}

/** A number of things: "99999", "123K", "1.00M". */
function count(n) {
  return scaled(n, COUNTS);
}

function scaled(value, units) {
  let digits = 0;
  for (const [size, suffix, limit] of units) {
    for (const decimals of size > 1 ? [2, 1, 0] : [0]) {
      // Rounded before it is compared, so that 999.6 becomes 1.00 of the next unit.
      digits = Math.floor((value * 10 ** decimals * 2 + size) / (2 * size));
      if (digits < (decimals ? 1000 : limit)) {
        return (digits / 10 ** decimals).toFixed(decimals) + suffix;
      }
    }
  }
  return digits + units[units.length - 1][1];
}

/** All digits, in groups of three. */
function whole(n) {
  return n.toLocaleString("en-US");
}

/** A moment, as text reports have it: ns since the page's beginning, with enough digits. */
function moment(ns, stepNs = 1e6) {
  const decimals = Math.max(0, Math.min(9, Math.ceil(-Math.log10(stepNs / 1e9) - 1e-9)));
  return `+${(ns / 1e9).toFixed(decimals)}s`;
}
