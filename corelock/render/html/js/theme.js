// Colours of the style sheet, for canvases: they follow the scheme, and are light in print.

class Theme {
  constructor() {
    this.listeners = [];
    const changed = () => this.listeners.forEach((listener) => listener());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
    for (const event of ["beforeprint", "afterprint"]) {
      addEventListener(event, () => {
        document.documentElement.classList.toggle("printing", event === "beforeprint");
        changed();
      });
    }
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  /** The custom property `--name`. */
  color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  /** The same as [red, green, blue]; the style sheet has them as #rrggbb. */
  rgb(name) {
    const number = parseInt(this.color(name).slice(1), 16);
    return [number >> 16, (number >> 8) & 255, number & 255];
  }
}

/** `share` (0..1) of the way from colour `a` to colour `b`, as a pixel of ImageData. */
function blended(a, b, share) {
  const mix = (i) => Math.round(a[i] + (b[i] - a[i]) * share);
  return ((255 << 24) | (mix(2) << 16) | (mix(1) << 8) | mix(0)) >>> 0;
}
