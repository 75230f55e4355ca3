// Milliseconds per slice of onnxruntime, the best of some rounds, and its peak memory in MB:
//   node onnxruntime.js MODULE MODEL.onnx SIDE THREADS
'use strict'
const [module_path, model, side_text, threads] = process.argv.slice(2)
const ort = require(require('path').resolve(module_path))

async function main() {
  const side = Number(side_text)
  const options = { intraOpNumThreads: Number(threads), interOpNumThreads: 1, graphOptimizationLevel: 'all' }
  const session = await ort.InferenceSession.create(model, options)
  const x = Float32Array.from({ length: 3 * side * side }, (_, i) => Math.sin(i * 0.37) * 2)
  const feeds = { x: new ort.Tensor('float32', x, [1, 3, side, side]) }
  let best = Infinity
  for (let round = 0; round < 8; round++) {
    const start = process.hrtime.bigint()
    await session.run(feeds)
    best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e6)
  }
  console.log(best.toFixed(1), Math.round(process.resourceUsage().maxRSS / 1024))
}
main()
