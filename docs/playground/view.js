// A square canvas that shows the plane, and what is drawn on it.

const EDGE = 3.4; // the canvas shows -EDGE..EDGE

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
  }

  /** Wipe the canvas, in the screen's own pixels, and draw the axes. */
  wipe() {
    const { canvas, pen } = this;
    const style = getComputedStyle(canvas);
    this.side = canvas.clientWidth;
    const pixels = Math.round(this.side * devicePixelRatio);
    if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
    pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    pen.clearRect(0, 0, this.side, this.side);
    this.colour = style.color;
    this.text = getComputedStyle(document.body).color;
    this.line([-EDGE, 0, EDGE, 0], style.borderTopColor);
    this.line([0, -EDGE, 0, EDGE], style.borderTopColor);
  }

  /** Pixels of a place in the plane. */
  pixel(x, y) {
    return [((x / EDGE + 1) * this.side) / 2, ((1 - y / EDGE) * this.side) / 2];
  }

  /** The place in the plane of a pointer. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const of = (from, start, length) => ((from - start) / length) * 2 - 1;
    return {
      x: EDGE * of(event.clientX, box.left, box.width),
      y: -EDGE * of(event.clientY, box.top, box.height),
    };
  }

  points(xy, alpha) {
    this.pen.globalAlpha = alpha;
    this.pen.fillStyle = this.colour;
    for (let i = 0; i < xy.length; i += 2) {
      const [x, y] = this.pixel(xy[i], xy[i + 1]);
      this.pen.fillRect(x - 1.5, y - 1.5, 3, 3);
    }
    this.pen.globalAlpha = 1;
  }

  line(xy, colour, width = 1, alpha = 1) {
    const { pen } = this;
    pen.globalAlpha = alpha;
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.lineJoin = "round";
    pen.beginPath();
    for (let i = 0; i < xy.length; i += 2) pen.lineTo(...this.pixel(xy[i], xy[i + 1]));
    pen.stroke();
    pen.globalAlpha = 1;
  }

  circle(x, y, radius, colour, width = 1, filled = 0) {
    const { pen } = this;
    pen.beginPath();
    pen.arc(...this.pixel(x, y), (radius / EDGE) * (this.side / 2), 0, 2 * Math.PI);
    pen.globalAlpha = filled;
    pen.fillStyle = colour;
    pen.fill();
    pen.globalAlpha = 1;
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.stroke();
  }

  /** Frame `last` of a sampler's film, with paths of points up to there. */
  frame(frames, last, { paths, follow, guess }) {
    this.wipe();
    const { xt, x0_hat } = frames[last];
    const path = (point) =>
      frames
        .slice(0, last + 1)
        .flatMap((one) => [one.xt[2 * point], one.xt[2 * point + 1]]);
    if (guess) {
      for (let i = 0; i < xt.length; i += 2) {
        this.line([xt[i], xt[i + 1], x0_hat[i], x0_hat[i + 1]], this.colour, 0.7, 0.35);
      }
    }
    this.points(xt, 0.6);
    for (let point = 0; point < paths; point++) this.line(path(point), this.text, 1, 0.35);
    if (follow > 0) {
      const [x, y] = xt.slice(2 * follow - 2, 2 * follow);
      const [gx, gy] = x0_hat.slice(2 * follow - 2, 2 * follow);
      this.line(path(follow - 1), this.text, 2.5);
      this.line([x, y, gx, gy], this.text, 1);
      this.circle(x, y, 0.09, this.text, 2.5);
      this.circle(gx, gy, 0.04, this.text, 1, 1);
    }
  }
}

/** The number, from 1, of the point that is nearest to a place. */
export function nearest(xy, { x, y }) {
  let [best, found] = [Infinity, 0];
  for (let i = 0; i < xy.length; i += 2) {
    const away = Math.hypot(xy[i] - x, xy[i + 1] - y);
    if (away < best) [best, found] = [away, i / 2 + 1];
  }
  return found;
}
