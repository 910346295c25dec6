// A trained network by ONNX Runtime Web, which is loaded when it is first asked for.

import { Schedule } from "./schedule.js";
import { with_last_guess } from "./self_conditioning.js";

const files = new Map(); // what is loaded, or on its way

/** {schedule, shape, classes, fresh} of a network; fresh() is its model(xt, t, context). */
export async function network(name, report) {
  if (typeof WebAssembly !== "object") {
    throw new Error("This browser has no WebAssembly, which runs the network.");
  }
  const ort = await runtime(report);
  const [about, weights] = await Promise.all(
    [`dist/${name}.json`, `dist/${name}.onnx`].map((path) =>
      once(path, () => load(path, report)),
    ),
  );
  const { alpha_bar, shape, classes } = JSON.parse(new TextDecoder().decode(about));
  const session = await once(name, () => open(ort, name, weights));
  const schedule = Schedule.of(alpha_bar);

  async function run(xt, t, context, x0_hat) {
    const N = context.length;
    const float = (values, size) =>
      new ort.Tensor("float32", Float32Array.from(values), size);
    const given = {
      xt: float(xt, [N, ...shape]),
      t: new ort.Tensor("int64", new BigInt64Array(N).fill(BigInt(t)), [N]),
      context: float(context.flat(), [N, classes.length]),
    };
    if (x0_hat) given.x0_hat = float(x0_hat, [N, ...shape]);
    return Float64Array.from((await session.run(given)).eps_hat.data);
  }

  const guessing = session.inputNames.includes("x0_hat");
  const fresh = () => (guessing ? with_last_guess(run, schedule) : run);
  return { schedule, shape, classes, fresh };
}

async function open(ort, name, weights) {
  try {
    return await ort.InferenceSession.create(weights, { executionProviders: ["wasm"] });
  } catch (error) {
    files.delete(`dist/${name}.onnx`);
    throw new Error(`dist/${name}.onnx does not load: it is damaged (${error.message})`);
  }
}

function runtime(report) {
  return once("runtime", async () => {
    const wasm = await load("dist/ort.wasm", report);
    const ort = await import("./dist/ort.mjs");
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
    return ort;
  });
}

/** The result of make(), made once; after a failure it is tried again. */
function once(name, make) {
  if (!files.has(name)) {
    const made = make();
    files.set(name, made);
    made.catch(() => files.delete(name));
  }
  return files.get(name);
}

/** The bytes of a file. report(share): how much of it is there. */
async function load(path, report) {
  let response;
  try {
    response = await fetch(path);
  } catch {
    throw new Error(`${path} does not load: there is no connection to the server.`);
  }
  if (!response.ok) {
    throw new Error(
      `${path} does not load: the server says ${response.status}. ` +
        "Was the page built? npm ci && npm run build",
    );
  }
  const total = Number(response.headers.get("content-length"));
  const parts = [];
  let length = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    if (total) report(Math.min(length / total, 1)); // compressed, it may come out longer
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
