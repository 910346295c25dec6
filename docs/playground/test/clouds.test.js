// The data of the page: their text, and points drawn from them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { draw, measured, parse, text } from "../clouds.js";
import { Generator } from "../random.js";

const SHAPES = { ring: 16, cloud: 1, two: 2, grid: 9, spiral: 24 };

test("each shape is written as a text that is read again", () => {
  for (const [shape, many] of Object.entries(SHAPES)) {
    const clouds = parse(shape);
    assert.equal(clouds.length, many);
    assert.equal(text(parse(text(clouds))), text(clouds));
  }
  assert.deepEqual(parse(""), []);
});

test("what does not fit is named", () => {
  for (const wrong of ["1,2", "4,0,1,1", "0,0,0,1", "0,0,1,11", "0,0,1,1,1", "a,0,1,1"]) {
    const message = new RegExp(`mixture has "${wrong}", expected x,y,std,weight`);
    assert.throws(() => parse(`0,0,1,1;${wrong}`), { name: "RangeError", message });
  }
  const many = Array(61).fill("0,0,1,1").join(";");
  assert.throws(() => parse(many), {
    message: "mixture has 61 clouds, expected at most 60",
  });
});

test("points have the clouds' weights, places and widths", () => {
  const n = 20_000;
  const clouds = parse("-2,0,0.1,1;2,1,0.3,3");
  const points = draw(clouds, new Generator(0), n);
  const right = Array.from({ length: n }, (_, i) => 2 * i).filter((i) => points[i] > 0);
  // five standard errors
  assert.ok(Math.abs(right.length / n - 0.75) < 5 * Math.sqrt(0.1875 / n));
  const of_right = Float64Array.from(right.flatMap((i) => [points[i], points[i + 1]]));
  const { spread } = measured(of_right, clouds);
  assert.ok(Math.abs(spread - 0.3) < (5 * 0.3) / Math.sqrt(4 * right.length));
  const { near } = measured(points, clouds);
  assert.ok(Math.abs(near - (1 - Math.exp(-4.5))) < 5 * Math.sqrt(0.011 / n));
});
