// Fill dist/ with what the page loads when its second half is opened: ONNX Runtime Web and
// the networks, which Python writes. PYTHON names one that has nanodiff[onnx].

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync } from "node:fs";

process.chdir(import.meta.dirname);
rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
const runtime = "node_modules/onnxruntime-web/dist";
copyFileSync(`${runtime}/ort.wasm.bundle.min.mjs`, "dist/ort.mjs");
copyFileSync(`${runtime}/ort-wasm-simd-threaded.wasm`, "dist/ort.wasm");
execFileSync(process.env.PYTHON ?? "python3", ["models.py", "dist"], { stdio: "inherit" });
