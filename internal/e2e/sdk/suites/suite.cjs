// The frame of the suites in JavaScript; suite.py tells what a suite is.
'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')

const target = JSON.parse(fs.readFileSync(0, 'utf8'))
const checks = []

/** Makes a function a check. What the engine lacks of its needs is a reason to skip it. */
function check(name, ...rest) {
  checks.push({ name, needs: rest.slice(0, -1), todo: rest.at(-1) })
}

async function run() {
  for (const { name, needs, todo } of checks) {
    const line = { check: name }
    const began = performance.now()
    const lacking = needs.find((need) => need in target.lacks)
    if (lacking) {
      line.skipped = target.lacks[lacking]
    } else {
      try {
        await todo()
      } catch (error) {
        line.failed = String(error.stack ?? error)
      }
    }
    line.seconds = (performance.now() - began) / 1000
    fs.writeSync(1, JSON.stringify(line) + '\n')
  }
  fs.writeSync(1, JSON.stringify({ end: true }) + '\n')
  process.exit(0) // whatever a failed check has left open
}

const equal = assert.deepStrictEqual

function holds(truth, ...got) {
  assert.ok(truth, 'got ' + got.map((one) => JSON.stringify(one)).join(', '))
}

/** Does what must fail, and returns the error, which must be exactly of that class. */
async function fails(kind, status, todo) {
  let came
  try {
    came = await todo()
  } catch (error) {
    assert.equal(error.constructor.name, kind.name, String(error.stack))
    if (status) assert.equal(error.status, status)
    return error
  }
  assert.fail(`got ${JSON.stringify(came)}, want a ${kind.name}`)
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms))

async function eventually(what, holds) {
  for (const end = performance.now() + 10_000; !(await holds()); await sleep(20)) {
    if (performance.now() > end) assert.fail('not in 10 s: ' + what)
  }
}

/** How many requests the engines of the model have, by their own count. */
async function running() {
  const { loads } = await (await fetch(target.url + '/v1/loads')).json()
  return loads.filter((one) => one.model === target.model).reduce((sum, one) => sum + one.num_running_reqs + one.num_waiting_reqs, 0)
}

const busy = () => eventually('the engine has the request', async () => (await running()) > 0)
const freed = () => eventually('the engine has nothing to do any more', async () => (await running()) === 0)

/** Has something done on the stage: see stage_test.go. */
async function stage(path) {
  const answer = await fetch(target.stage + path, { method: 'POST' })
  assert.equal(answer.status, 200, path)
  return answer.json()
}

/** A fetch that tells of every answer, and does something at the first one that is none. */
function watching(seen, onFirst = async () => {}) {
  const watched = async (...args) => {
    const answer = await fetch(...args)
    seen.push([answer.status, answer.headers.get('retry-after')])
    if (seen.length === 1 && answer.status !== 200) await onFirst()
    return answer
  }
  return Object.assign(watched, { Response }) // without it the SDK fetches something to find out
}

/** A WAV file of that length. */
function silence(seconds) {
  const file = Buffer.alloc(44 + 32000 * seconds)
  file.write('RIFF', 0)
  file.writeUInt32LE(file.length - 8, 4)
  file.write('WAVEfmt ', 8)
  file.writeUInt32LE(16, 16) // PCM of one channel
  file.writeUInt16LE(1, 20)
  file.writeUInt16LE(1, 22)
  file.writeUInt32LE(16000, 24)
  file.writeUInt32LE(32000, 28)
  file.writeUInt16LE(2, 32)
  file.writeUInt16LE(16, 34)
  file.write('data', 36)
  file.writeUInt32LE(file.length - 44, 40)
  return file
}

module.exports = { busy, check, equal, eventually, fails, freed, holds, run, silence, stage, target, watching }
