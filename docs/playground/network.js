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
  const [told, weights] = await Promise.all(
    [`dist/${name}.json`, `dist/${name}.onnx`].map((path) =>
      once(path, () => load(path, report)),
    ),
  );
  const { schedule, shape, classes } = await whole(`dist/${name}.json`, () => {
    const { alpha_bar, ...rest } = JSON.parse(new TextDecoder().decode(told));
    return { schedule: Schedule.of(alpha_bar), ...rest };
  });
  const session = await once(name, () =>
    whole(`dist/${name}.onnx`, () =>
      ort.InferenceSession.create(weights, { executionProviders: ["wasm"] }),
    ),
  );

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

function runtime(report) {
  return once("runtime", async () => {
    const wasm = await load("dist/ort.wasm", report);
    await whole("dist/ort.wasm", () => WebAssembly.compile(wasm));
    const ort = await whole("dist/ort.mjs", () => import("./dist/ort.mjs"));
    ort.env.wasm.wasmBinary = wasm;
    ort.env.wasm.numThreads = 1; // more need headers that a plain server does not send
    return ort;
  });
}

/** What use() makes of a file, which is loaded again if it is damaged. */
async function whole(path, use) {
  try {
    return await use();
  } catch (error) {
    files.delete(path);
    throw new Error(`${path} does not load: it is missing or damaged (${error.message})`);
  }
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
  const parts = [];
  let length = 0;
  try {
    response = await fetch(path);
    const total = response.ok && Number(response.headers.get("content-length"));
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      length += value.length;
      if (total) report(Math.min(length / total, 1)); // compressed, it may come out longer
    }
  } catch {
    throw new Error(`${path} does not load: the connection to the server failed.`);
  }
  if (!response.ok) {
    throw new Error(
      `${path} does not load: the server says ${response.status}. ` +
        "Was the page built? npm ci && npm run build",
    );
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
