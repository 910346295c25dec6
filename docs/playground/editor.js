// The canvas on which clouds are drawn, by pointer or by keys, and their number fields.

import { MOST, REACH } from "./clouds.js";

const GAP = 0.4; // between the clouds of one stroke
const GRIP = 0.15; // a cloud is held at this distance, or within its std
const FIELDS = ["x", "y", "std", "weight"];
const NEW = { std: 0.15, weight: 1 };

export class Editor {
  /** changed(): called after each change of `clouds`. say(text): tells what is refused. */
  constructor(view, fields, changed, say) {
    Object.assign(this, { view, fields, changed, say, clouds: [], chosen: 0 });
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    canvas.addEventListener("pointerup", () => this.release());
    canvas.addEventListener("pointercancel", () => this.release());
    canvas.addEventListener("keydown", (event) => this.key(event));
    fields.add.addEventListener("click", () => this.add({ x: 0, y: 0 }));
    fields.remove.addEventListener("click", () => this.remove());
    fields.cloud.addEventListener("input", () => {
      if (fields.cloud.validity.valid) this.choose(fields.cloud.valueAsNumber - 1);
    });
    for (const name of FIELDS) {
      fields[name].addEventListener("input", () => {
        if (fields[name].validity.valid)
          this.change({ [name]: fields[name].valueAsNumber });
      });
    }
    this.choose(0);
  }

  set(clouds) {
    this.clouds = clouds;
    this.choose(Math.min(this.chosen, Math.max(clouds.length - 1, 0)));
  }

  choose(chosen) {
    if (this.clouds.length && !this.clouds[chosen]) return;
    this.chosen = chosen;
    this.fields.cloud.max = Math.max(this.clouds.length, 1);
    const cloud = this.clouds[chosen];
    for (const name of FIELDS) {
      const field = this.fields[name];
      field.disabled = !cloud;
      // what is being typed is left alone
      if (cloud && field.valueAsNumber !== cloud[name]) field.value = round(cloud[name]);
    }
    if (this.fields.cloud.valueAsNumber !== chosen + 1)
      this.fields.cloud.value = chosen + 1;
    this.fields.remove.disabled = !cloud;
    this.show();
  }

  change(by) {
    Object.assign(this.clouds[this.chosen], by);
    this.choose(this.chosen);
    this.changed();
  }

  add(place) {
    if (this.clouds.length === MOST) return this.say(`There are ${MOST} clouds, the most.`);
    this.clouds.push({ ...NEW, ...within(place) });
    this.choose(this.clouds.length - 1);
    this.changed();
  }

  remove() {
    this.clouds.splice(this.chosen, 1);
    this.choose(Math.max(this.chosen - 1, 0));
    this.changed();
  }

  press(event) {
    this.view.canvas.setPointerCapture(event.pointerId);
    const place = this.view.place(event);
    const away = this.clouds.map((cloud) => distance(cloud, place));
    const near = away.indexOf(Math.min(...away));
    const held = near >= 0 && away[near] < Math.max(this.clouds[near].std, GRIP);
    this.held = held ? "cloud" : "brush";
    if (held) this.choose(near);
    else this.add(place);
  }

  drag(event) {
    const place = this.view.place(event);
    if (this.held === "cloud") this.change(within(place));
    else if (this.held && distance(this.clouds.at(-1), place) > GAP) this.add(place);
  }

  release() {
    this.held = null;
  }

  key(event) {
    const step = event.shiftKey ? 0.5 : 0.1;
    const cloud = this.clouds[this.chosen];
    const moved = {
      ArrowLeft: [-step, 0],
      ArrowRight: [step, 0],
      ArrowUp: [0, step],
      ArrowDown: [0, -step],
    }[event.key];
    const wider = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "a") this.add({ x: 0, y: 0 });
    else if (!cloud) return;
    else if (moved) this.change(within({ x: cloud.x + moved[0], y: cloud.y + moved[1] }));
    else if (wider) this.change({ std: Math.min(Math.max(cloud.std * wider, 0.02), 2) });
    else if (key === "n") this.choose((this.chosen + 1) % this.clouds.length);
    else if (key === "delete" || key === "backspace") this.remove();
    else return;
    event.preventDefault();
  }

  /** Draw clouds as circles of two std over points drawn from them. */
  show(points = this.points ?? []) {
    this.points = points;
    const { view } = this;
    view.wipe();
    view.points(points, 0.6);
    this.clouds.forEach(({ x, y, std }, i) => {
      const chosen = i === this.chosen;
      view.circle(x, y, 2 * std, chosen ? view.text : view.colour, chosen ? 2 : 1, 0.08);
    });
  }
}

const round = (value) => Math.round(value * 100) / 100;
const distance = (cloud, { x, y }) => Math.hypot(cloud.x - x, cloud.y - y);

function within({ x, y }) {
  const limit = (value) => round(Math.min(Math.max(value, -REACH), REACH));
  return { x: limit(x), y: limit(y) };
}
