// The page's mathematics agrees with the library's: PYTHON=... node --test

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import * as ddim from "../ddim.js";
import * as ddpm from "../ddpm.js";
import { mixture } from "../exact.js";
import { noise, of_ddim, of_ddpm } from "../film.js";
import { guide } from "../guidance.js";
import { slerp } from "../latent.js";
import { Generator } from "../random.js";
import { respace } from "../respace.js";
import { NAMED, predict_x0, Schedule } from "../schedule.js";
import { with_last_guess } from "../self_conditioning.js";

const python = process.env.PYTHON ?? "python3";
const script = `${import.meta.dirname}/expected.py`;
const known = JSON.parse(execFileSync(python, [script], { maxBuffer: 2 ** 26 }));
const array = Float64Array.from.bind(Float64Array);

function agree(found, expected, what) {
  assert.equal(found.length, expected.length, what);
  expected.forEach((value, i) => {
    const error = Math.abs(found[i] - value);
    assert.ok(error <= 1e-10 * Math.max(1, Math.abs(value)), `${what}[${i}]: ${error}`);
  });
}

async function agree_run(sampler, expected, what) {
  let i = 0;
  for await (const [t, xt] of sampler) {
    assert.equal(t, expected[i][0]);
    agree(xt, expected[i][1], `${what} at ${t}`);
    i += 1;
  }
  assert.equal(i, expected.length);
}

/** Gives the z that the library drew. */
function replay(z) {
  const left = z.map((row) => array(row));
  return { standard_normal: () => left.shift() };
}

test("the tables are the library's", () => {
  for (const [name, T, tables] of known.tables) {
    const schedule = NAMED[name](T);
    assert.equal(schedule.T, T);
    for (const [of, table] of Object.entries(tables))
      agree(schedule[of], table, `${name} ${of}`);
  }
});

test("a schedule is made of its alpha_bar", () => {
  const { alpha_bar } = NAMED.cosine(50);
  agree(Schedule.of(alpha_bar).alpha_bar, [...alpha_bar], "alpha_bar");
});

test("a step is the library's, clipped or not", () => {
  const schedule = NAMED.cosine(60);
  const [xt, eps_hat, z] = ["xt", "eps_hat", "z"].map((name) => array(known.steps[name]));
  for (const [t, variance, clip, expected] of known.steps.ddpm) {
    agree(ddpm.step(schedule, xt, t, eps_hat, z, variance, clip), expected, `ddpm at ${t}`);
  }
  for (const [t, s, eta, clip, expected] of known.steps.ddim) {
    agree(ddim.step(schedule, xt, t, s, eps_hat, eta, z, clip), expected, `ddim at ${t}`);
  }
});

test("the exact predictor is the library's, and so are whole runs with it", async () => {
  const { T, steps, means, stds, weights, z } = known.runs;
  const schedule = NAMED.linear(T);
  const model = mixture(schedule, means, stds, weights);
  const xT = array(known.runs.xT);
  for (const [t, expected] of known.runs.eps_hat)
    agree(model(xT, t), expected, `eps_hat at ${t}`);
  for (const [variance, expected] of known.runs.ddpm) {
    await agree_run(
      ddpm.sample(model, schedule, xT, replay(z), variance),
      expected,
      "ddpm",
    );
  }
  for (const [variance, expected] of known.runs.respaced) {
    const [short, few] = respace(model, schedule, steps);
    await agree_run(ddpm.sample(short, few, xT, replay(z), variance), expected, "respaced");
  }
  for (const [eta, expected] of known.runs.ddim) {
    await agree_run(
      ddim.sample(model, schedule, xT, steps, eta, replay(z)),
      expected,
      "ddim",
    );
  }
});

test("DDIM with eta 1 is DDPM with beta_tilde, from the same noise", async () => {
  const { means, stds, weights } = known.runs;
  const schedule = NAMED.linear(100);
  const model = mixture(schedule, means, stds, weights);
  const turn = { signal: new AbortController().signal, progress() {} };
  const wish = { steps: 9, eta: 1, variance: "beta_tilde", clip: null };
  const ddpm = await of_ddpm(model, schedule, noise(4, 40), wish, turn);
  const ddim = await of_ddim(model, schedule, noise(4, 40), wish, turn);
  ddpm.forEach(({ t, xt, x0_hat }, i) => {
    assert.equal(t, ddim[i].t);
    agree(xt, [...ddim[i].xt], `xt at ${t}`);
    agree(x0_hat, [...ddim[i].x0_hat], `x0_hat at ${t}`);
  });
  const silent = { ...wish, variance: "none" };
  const still = await of_ddpm(model, schedule, noise(4, 40), silent, turn);
  assert.notEqual(still.at(-1).xt[0], ddpm.at(-1).xt[0]);
});

test("guidance and the arc are the library's", async () => {
  const { context, guided, arc, same } = known.others;
  const [a, b] = [array(known.others.a), array(known.others.b)];
  const network = (xt, t, rows) =>
    xt.map((value, i) => value * t + rows[Math.floor(i / 3)][0]);
  agree(await guide(network, context, 1.5)(a, 3), guided, "guided");
  agree(await guide(network, context, 0)(a, 3), [...network(a, 3, context)], "unguided");
  const first = a.slice(0, 3);
  [0, 0.3, 1].forEach((fraction, i) => {
    agree(slerp(first, b, fraction), arc[i], `arc at ${fraction}`);
  });
  agree(slerp(first, first, 0.3), same, "arc to itself");
});

test("a network is shown no guess, then its last one", async () => {
  const schedule = NAMED.linear(50);
  const shown = [];
  const model = with_last_guess((xt, _t, _context, x0_hat) => {
    shown.push(x0_hat);
    return xt.map(() => 0.5 * shown.length);
  }, schedule);
  const xt = array([1, 2]);
  await model(xt, 50, []);
  await model(xt, 25, []);
  await model(xt, 9, []);
  agree(shown[0], [0, 0], "no guess");
  agree(shown[1], [...predict_x0(schedule, xt, 50, array([0.5, 0.5]))], "its first guess");
  agree(shown[2], [...predict_x0(schedule, xt, 25, array([1, 1]))], "its last guess");
});

test("the random numbers are standard normal, and a seed repeats them", () => {
  const n = 40_000;
  const x = new Generator(7).standard_normal(n);
  const mean = (f) => x.reduce((total, value, i) => total + f(value, i), 0) / n;
  // each within five standard errors
  assert.ok(Math.abs(mean((v) => v)) < 5 / Math.sqrt(n));
  assert.ok(Math.abs(mean((v) => v ** 2) - 1) < 5 * Math.sqrt(2 / n));
  assert.ok(Math.abs(mean((v) => v ** 4) - 3) < 5 * Math.sqrt(96 / n));
  assert.ok(Math.abs(mean((v, i) => v * x[(i + 1) % n])) < 5 / Math.sqrt(n));
  agree(new Generator(7).standard_normal(9), [...x.slice(0, 9)], "again");
  assert.notEqual(new Generator(8).standard_normal(1)[0], x[0]);
});

test("what does not fit is named", () => {
  const schedule = NAMED.linear(50);
  const x = array([1, 2]);
  const refused = (call, message) => assert.throws(call, { name: "RangeError", message });
  refused(() => NAMED.linear(20), /T is 20, expected an integer of at least 21/);
  refused(() => NAMED.cosine(2.5), /T is 2.5, expected/);
  refused(() => new Schedule([0.5, Number.NaN]), /beta holds NaN, expected/);
  refused(() => new Schedule([]), /T >= 1/);
  refused(() => ddim.timesteps(10, 11), /steps is 11, expected 1..10/);
  refused(() => ddim.step(schedule, x, 5, 5, x), /s is 5, expected 0..4/);
  refused(() => ddim.step(schedule, x, 5, 0, x, 1.5, x), /eta is 1.5, expected 0..1/);
  refused(() => ddim.step(schedule, x, 5, 0, x, 0.5), /z is null, expected .* eta is 0.5/);
  refused(() => ddpm.step(schedule, x, 0, x, x), /t is 0, expected 1..50/);
  refused(
    () => ddpm.step(schedule, x, 5, x, x, "none"),
    /variance is none, expected one of/,
  );
  refused(() => ddpm.step(schedule, x, 5, array([1]), x), /lengths are 2 and 1/);
  refused(() => mixture(schedule, [], [], []), /means is empty/);
});
