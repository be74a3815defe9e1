// A contestant of `make bench`: workers of Node.js. It answers requests as package drive has them: a line of words, the last
// one the number of samples, answered by a line of JSON.
//
//   kill 1 0 0 N     worker.terminate() of one that spins in WebAssembly
//   kill 0 1 0 N     ... that is in memory.atomic.wait32
//   kill 0 0 1 N     ... that is blocked in a read of descriptor 3; announced before it is tried
//   spawn N          a worker that ends at once, until it has ended
import { createInterface } from "node:readline";
import { Worker } from "node:worker_threads";

// (module (import "env" "memory" (memory 1 1 shared))
//   (func (export "spin") (loop br 0))
//   (func (export "wait") (loop (drop (memory.atomic.wait32 (i32.const 64) (i32.const 0) (i64.const -1))) br 0)))
const guest = [
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x04, 0x01, 0x60, 0x00, 0x00,
  0x02, 0x10, 0x01, 0x03, 0x65, 0x6e, 0x76, 0x06, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 0x02, 0x03, 0x01, 0x01,
  0x03, 0x03, 0x02, 0x00, 0x00,
  0x07, 0x0f, 0x02, 0x04, 0x73, 0x70, 0x69, 0x6e, 0x00, 0x00, 0x04, 0x77, 0x61, 0x69, 0x74, 0x00, 0x01,
  0x0a, 0x1d, 0x02,
  0x07, 0x00, 0x03, 0x40, 0x0c, 0x00, 0x0b, 0x0b,
  0x13, 0x00, 0x03, 0x40, 0x41, 0xc0, 0x00, 0x41, 0x00, 0x42, 0x7f, 0xfe, 0x01, 0x02, 0x00, 0x1a, 0x0c, 0x00, 0x0b, 0x0b,
];

const body = `
const { parentPort, workerData } = require("node:worker_threads");
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const { exports } = new WebAssembly.Instance(new WebAssembly.Module(workerData.guest), { env: { memory } });
parentPort.postMessage("there");
if (workerData.what === "read") require("node:fs").readSync(3, Buffer.alloc(1));
else exports[workerData.what]();
`;

const arrival = (worker) => new Promise((there, failed) => worker.once("message", there).once("error", failed));
const settle = () => new Promise((done) => setTimeout(done, 1));
const elapsed = (begin) => Number(process.hrtime.bigint() - begin);

async function kill(what) {
  const worker = new Worker(body, { eval: true, workerData: { guest: Uint8Array.from(guest), what } });
  await arrival(worker);
  await settle();
  if (what === "read") console.log(JSON.stringify({ armed: true }));
  const begin = process.hrtime.bigint();
  await worker.terminate();
  return elapsed(begin);
}

async function spawn() {
  const begin = process.hrtime.bigint();
  const worker = new Worker("", { eval: true });
  await new Promise((ended, failed) => worker.once("exit", ended).once("error", failed));
  return elapsed(begin);
}

const requests = { "kill 1 0 0": () => kill("spin"), "kill 0 1 0": () => kill("wait"), "kill 0 0 1": () => kill("read"), spawn };

for await (const line of createInterface({ input: process.stdin })) {
  const words = line.trim().split(/\s+/);
  const request = requests[words.slice(0, -1).join(" ")];
  try {
    if (request === undefined) throw new Error("no such request");
    const ns = [];
    for (let i = 0; i < Number(words.at(-1)); i++) ns.push(await request());
    console.log(JSON.stringify({ ns }));
  } catch (err) {
    console.log(JSON.stringify({ error: String(err) }));
  }
}
