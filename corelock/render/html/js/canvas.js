// A canvas that is as sharp as the screen, drawn at most once a frame.

class Chart {
  /** `draw(pen, width, height)` is the chart's own, in CSS pixels. */
  constructor(canvas, theme) {
    this.canvas = canvas;
    this.theme = theme;
    this.pending = false;
    this.width = 0;
    this.height = 0;
    this.plot = { x: 0, y: 0, width: 1, height: 1 }; // where time is drawn, once it is
    new ResizeObserver(() => this.redraw()).observe(canvas);
    theme.onChange(() => this.redrawNow());
  }

  redraw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => this.redrawNow());
  }

  redrawNow() {
    this.pending = false;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    if (!this.width || !this.height) return;
    const size = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    this.draw(pen, this.width, this.height);
  }
}

/** Call back when an element was given a size: for what changes the layout. */
function onResize(element, callback) {
  let frame = 0;
  // In the next frame: a layout that is changed while sizes are told is an error of the page.
  new ResizeObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(callback);
  }).observe(element);
}

/** A small image that is drawn pixel by pixel, and then onto a chart at any size. */
class Scratch {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
  }

  /** Its pixels as numbers, none of them set, for an image of this size. */
  colors(width, height) {
    if (!this.image || this.image.width !== width || this.image.height !== height) {
      [this.canvas.width, this.canvas.height] = [width, height];
      this.image = this.pen.createImageData(width, height);
    }
    return new Uint32Array(this.image.data.buffer).fill(0);
  }

  /** What was set, to be drawn. */
  bitmap() {
    this.pen.putImageData(this.image, 0, 0);
    return this.canvas;
  }
}
