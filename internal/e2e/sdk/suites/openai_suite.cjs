// What the official OpenAI client for JavaScript makes of an endpoint.
'use strict'

const OpenAI = require('openai')
const { toFile } = require('openai')
const { zodResponseFormat, zodTextFormat } = require('openai/helpers/zod')
const { z } = require('zod')
const { busy, check, equal, eventually, fails, freed, holds, run, silence, stage, target, watching } = require('./suite.cjs')

const { model, forever } = target
const baseURL = target.url + '/v1'
const TOKENS = 24
const QUESTION = 'Why is a radix tree a good index of prompts?'

const client = new OpenAI({ baseURL, apiKey: 'of-no-meaning', maxRetries: 0 })

const say = (text) => [{ role: 'user', content: text }]
// ignore_eos: an answer is as long as it may be.
const fields = (more = {}) => ({ model, messages: say(QUESTION), max_tokens: TOKENS, temperature: 0, ignore_eos: true, ...more })
const ask = (more, options) => client.chat.completions.create(fields(more), options)
const endless = (more, options) => ask({ max_tokens: forever, stream: true, ...more }, options)

async function all(stream) {
  const items = []
  for await (const item of await stream) items.push(item)
  return items
}

async function first(stream) {
  return (await stream[Symbol.asyncIterator]().next()).value
}

const contentOf = (chunks) => chunks.map((c) => c.choices[0]?.delta.content ?? '').join('')

// Chats.

check('chat: whole', async () => {
  const got = await ask()
  equal([got.object, got.model, got.choices.length], ['chat.completion', model, 1])
  const choice = got.choices[0]
  equal([choice.index, choice.finish_reason, choice.message.role], [0, 'length', 'assistant'])
  holds(choice.message.content && got.id && got.created > 1.6e9, got)
  equal([got.usage.completion_tokens, got.usage.total_tokens], [TOKENS, got.usage.prompt_tokens + TOKENS])
  equal((await ask()).choices[0].message.content, choice.message.content)
})

check('chat: streamed', async () => {
  const want = (await ask()).choices[0].message.content
  const chunks = await all(ask({ stream: true }))
  for (const chunk of chunks) {
    equal([chunk.object, chunk.model, chunk.usage ?? null, chunk.choices.length, chunk.id], ['chat.completion.chunk', model, null, 1, chunks[0].id])
  }
  const finishes = chunks.map((c) => c.choices[0].finish_reason).filter(Boolean)
  equal([contentOf(chunks), finishes, chunks[0].choices[0].delta.role], [want, ['length'], 'assistant'])
  holds(chunks.length > TOKENS / 2, chunks.length)
})

check('chat: stream helper', async () => {
  const text = (await ask()).choices[0].message.content
  const word = text.slice(text.length / 2).split(' ')[1] // this helper takes an answer that was cut for a failure
  const want = text.slice(0, text.indexOf(word))
  let deltas = ''
  const helper = client.chat.completions.stream(fields({ stop: word, stream_options: { include_usage: true } })).on('content', (delta) => (deltas += delta))
  const final = await helper.finalChatCompletion()
  equal([deltas, await helper.finalContent()], [want, want])
  equal([final.choices[0].message.content, final.choices[0].finish_reason, final.model], [want, 'stop', model])
  holds((await helper.totalUsage()).completion_tokens > 0, final)
})

check('chat: usage of a stream', async () => {
  const chunks = await all(ask({ stream: true, stream_options: { include_usage: true } }))
  const told = chunks.filter((c) => c.usage)
  equal([told.length, told[0].choices, chunks.at(-1)], [1, [], told[0]])
  const usage = told[0].usage
  equal([usage.completion_tokens, usage.total_tokens], [TOKENS, usage.prompt_tokens + TOKENS])
  holds(usage.prompt_tokens_details.cached_tokens > 0, usage) // asked before
})

check('chat: cached tokens', async () => {
  const long = say('A prompt that is long enough to be worth a cache, of JavaScript. '.repeat(40))
  await ask({ messages: long })
  const { usage } = await ask({ messages: long })
  holds(usage.prompt_tokens_details.cached_tokens >= usage.prompt_tokens * 0.9, usage)
})

check('chat: several choices', async () => {
  const got = await ask({ n: 3, temperature: 1 })
  equal(got.choices.map((c) => c.index), [0, 1, 2])
  equal([new Set(got.choices.map((c) => c.message.content)).size, got.usage.completion_tokens], [3, 3 * TOKENS])
  const texts = ['', '', '']
  for await (const chunk of await ask({ n: 3, temperature: 1, stream: true })) {
    for (const choice of chunk.choices) texts[choice.index] += choice.delta.content ?? ''
  }
  holds(texts.every(Boolean), texts)
})

check('chat: logprobs', async () => {
  function same(text, tokens) {
    equal(Buffer.from(tokens.flatMap((t) => t.bytes)).toString(), text)
    holds(tokens.length === TOKENS && tokens.every((t) => t.logprob <= 0 && t.top_logprobs.length === 2), tokens)
  }
  const { message, logprobs } = (await ask({ logprobs: true, top_logprobs: 2 })).choices[0]
  same(message.content, logprobs.content)
  const chunks = await all(ask({ logprobs: true, top_logprobs: 2, stream: true }))
  equal(contentOf(chunks), message.content)
  same(message.content, chunks.flatMap((c) => c.choices[0].logprobs?.content ?? []))
})

check('chat: stop words', async () => {
  const text = (await ask()).choices[0].message.content
  const word = text.slice(text.length / 2).split(' ')[1]
  const want = text.slice(0, text.indexOf(word))
  const choice = (await ask({ stop: ['no such words', word] })).choices[0]
  equal([choice.message.content, choice.finish_reason], [want, 'stop'])
  const chunks = await all(ask({ stop: word, stream: true }))
  equal([contentOf(chunks), chunks.at(-1).choices[0].finish_reason], [want, 'stop'])
})

check('chat: seed', 'seed', async () => {
  const said = []
  for (const seed of [7, 7, 8]) said.push((await ask({ seed, temperature: 1 })).choices[0].message.content)
  equal(said[1], said[0])
  holds(said[2] !== said[0], said)
})

check('chat: parts, system and earlier turns', async () => {
  const turns = [
    { role: 'system', content: 'Be brief.' },
    { role: 'user', content: [{ type: 'text', text: 'Why?' }, { type: 'text', text: 'And since when?' }] },
  ]
  const before = await ask({ messages: turns })
  const { usage } = await ask({ messages: [...turns, before.choices[0].message, ...say('And why else?')] })
  holds(usage.prompt_tokens > before.usage.prompt_tokens + TOKENS / 2, before.usage, usage)
  holds(usage.prompt_tokens_details.cached_tokens > before.usage.prompt_tokens / 2, usage)
})

check('chat: an adapter', async () => {
  for (const name of [target.adapter, `${model}:${target.adapter}`]) {
    const got = await ask({ model: name })
    holds(got.choices[0].message.content && got.usage.completion_tokens === TOKENS, got)
  }
})

// Tools.

const SCHEMA = {
  type: 'object',
  properties: { city: { type: 'string', enum: ['Zürich', 'Genève'] }, days: { type: 'integer', minimum: 2, maximum: 9 } },
  required: ['city', 'days'],
  additionalProperties: false,
}
const WEATHER = { type: 'function', function: { name: 'weather', description: 'Tells the weather of Zürich "or" so.', strict: true, parameters: SCHEMA } }

const toolFields = (more) => ({ model, messages: say('How will the weather be?'), max_tokens: 200, temperature: 0, tools: [WEATHER], tool_choice: 'required', parallel_tool_calls: false, ...more })
const callTool = (more) => client.chat.completions.create(toolFields(more))

function right(call) {
  equal([call.type, call.function.name], ['function', 'weather'])
  const { city, days } = JSON.parse(call.function.arguments)
  holds(call.id && SCHEMA.properties.city.enum.includes(city) && days >= 2, call)
}

check('tools: forced call', async () => {
  for (const tool_choice of ['required', { type: 'function', function: { name: 'weather' } }]) {
    const choice = (await callTool({ tool_choice })).choices[0]
    equal([choice.finish_reason, choice.message.tool_calls.length], ['tool_calls', 1])
    right(choice.message.tool_calls[0])
  }
})

check('tools: streamed call', async () => {
  const chunks = await all(callTool({ stream: true }))
  const pieces = chunks.flatMap((c) => c.choices[0].delta.tool_calls ?? [])
  equal([pieces.map((p) => p.function.name ?? '').join(''), chunks.at(-1).choices[0].finish_reason], ['weather', 'tool_calls'])
  equal(pieces.map((p) => p.function.arguments ?? '').join(''), (await callTool()).choices[0].message.tool_calls[0].function.arguments)
  equal(new Set(pieces.map((p) => p.id).filter(Boolean)).size, 1)
  holds(pieces.length > 3 && pieces.every((p) => p.index === 0), pieces)
})

check('tools: stream helper', async () => {
  const done = []
  // Not strict: of a strict tool this helper wants the name in every chunk or in one, and SGLang writes it as null in the others.
  const tools = [{ type: 'function', function: { ...WEATHER.function, strict: false } }]
  const helper = client.chat.completions.stream(toolFields({ tools })).on('tool_calls.function.arguments.done', (call) => done.push(call))
  const choice = (await helper.finalChatCompletion()).choices[0]
  right(choice.message.tool_calls[0])
  equal([done.length, done[0].name, done[0].arguments, choice.finish_reason], [1, 'weather', choice.message.tool_calls[0].function.arguments, 'tool_calls'])
})

check('tools: result goes back', async () => {
  const asked = await callTool()
  const message = asked.choices[0].message
  const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: '12 °C, rain' }
  const got = await ask({ messages: [...say('How will the weather be?'), message, result], tools: [WEATHER] })
  holds(got.choices[0].message.content && got.usage.prompt_tokens > asked.usage.prompt_tokens + 10, asked.usage, got.usage)
})

check('tools: runner', async () => {
  const given = []
  const weather = (args) => (given.push(args), '12 °C, rain')
  const runner = client.chat.completions.runTools(
    toolFields({ tool_choice: { type: 'function', function: { name: 'weather' } }, tools: [{ type: 'function', function: { ...WEATHER.function, function: weather, parse: JSON.parse } }] }),
  )
  await runner.done()
  holds(given.length === 1 && given[0].days >= 2, given)
  equal(runner.messages.map((m) => m.role), ['user', 'assistant', 'tool'])
})

// Structured output.

// It leaves a model no room to go on.
const Event = z.object({ name: z.enum(['market', 'fair']), day: z.union([z.literal(1), z.literal(2)]), free: z.boolean() })

check('output: JSON schema', async () => {
  const choice = (await ask({ max_tokens: 200, ignore_eos: false, response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema: SCHEMA } } })).choices[0]
  const { city, days } = JSON.parse(choice.message.content)
  holds(choice.finish_reason === 'stop' && SCHEMA.properties.city.enum.includes(city) && days >= 2, choice)
})

check('output: parse helper', async () => {
  const asked = { model, messages: say('When?'), max_tokens: 400, temperature: 0, response_format: zodResponseFormat(Event, 'event') }
  const event = (await client.chat.completions.parse(asked)).choices[0].message.parsed
  holds(event.name && event.day && typeof event.free === 'boolean', event)
  equal((await client.chat.completions.stream(asked).finalChatCompletion()).choices[0].message.parsed, event)
})

// Completions.

const complete = (more) => client.completions.create({ model, prompt: 'Once upon a time', max_tokens: TOKENS, temperature: 0, ignore_eos: true, ...more })

check('completions: whole', async () => {
  const got = await complete()
  equal([got.object, got.choices.length, got.choices[0].finish_reason, got.usage.completion_tokens], ['text_completion', 1, 'length', TOKENS])
  holds(got.choices[0].text, got)
  equal((await complete({ echo: true })).choices[0].text, 'Once upon a time' + got.choices[0].text)
})

check('completions: streamed', async () => {
  const chunks = await all(complete({ stream: true, stream_options: { include_usage: true } }))
  equal(chunks.map((c) => c.choices[0]?.text ?? '').join(''), (await complete()).choices[0].text)
  equal(chunks.filter((c) => c.usage).map((c) => c.usage.completion_tokens), [TOKENS])
})

check('completions: batch of prompts', async () => {
  const prompts = ['One bus', 'Two trees', 'Three roots']
  const got = await complete({ prompt: prompts })
  equal(got.choices.map((c) => c.index), [0, 1, 2])
  for (const [i, prompt] of prompts.entries()) equal(got.choices[i].text, (await complete({ prompt })).choices[0].text)
  equal((await complete({ prompt: [5, 60, 7, 80] })).usage.prompt_tokens, 4)
})

check('completions: logprobs', async () => {
  const { text, logprobs } = (await complete({ logprobs: 2 })).choices[0]
  const said = [...logprobs.tokens.join('')]
  const want = [...text]
  equal([logprobs.tokens.length, said.length], [TOKENS, want.length])
  holds(want.every((c, i) => c === said[i] || c === '\ufffd'), said, text) // a token can be no text by itself
})

// Embeddings.

check('embeddings: numbers and base64', async () => {
  const embed = (more) => client.embeddings.create({ model: target.embedder, input: ['a bus', 'a tree'], ...more })
  const packed = await embed() // as base64, which the client asks for by itself
  const plain = await embed({ encoding_format: 'float' })
  equal(plain.data.map((d) => d.index), [0, 1])
  for (const i of [0, 1]) {
    const [a, b] = [packed.data[i].embedding, plain.data[i].embedding]
    holds(a.length === b.length && a.length > 1 && a.every((x, at) => Math.abs(x - b[at]) < 1e-6), a, b)
  }
  holds(typeof (await embed({ encoding_format: 'base64' })).data[0].embedding === 'string', plain)
  holds(plain.usage.prompt_tokens > 0 && plain.object === 'list', plain)
  equal((await embed({ input: [[1, 2, 3], [4]], dimensions: 8 })).data[1].embedding.length, 8)
})

// Models.

check('models: listed and one by one', async () => {
  const cards = await all(client.models.list())
  for (const name of [model, target.embedder, target.adapter]) {
    const card = cards.find((c) => c.id === name)
    equal(card.object, 'model')
    equal({ ...(await client.models.retrieve(name)) }, card)
  }
  await fails(OpenAI.NotFoundError, 404, () => client.models.retrieve('no/such-model'))
})

// Responses.

const respond = (more, options) => client.responses.create({ model, input: QUESTION, max_output_tokens: TOKENS, temperature: 0, ...more }, options)

check('responses: whole', async () => {
  const got = await respond({ instructions: 'Be brief.', metadata: { a: 'b' } })
  equal([got.object, got.model, got.error ?? null, got.output.length], ['response', model, null, 1])
  holds(got.id.startsWith('resp_') && got.output_text && got.output_text === got.output[0].content[0].text, got)
  holds(['completed', 'incomplete'].includes(got.status) && got.usage.input_tokens > 0 && got.usage.output_tokens > 0, got)
})

check('responses: streamed', async () => {
  const events = await all(respond({ stream: true }))
  equal(events.map((e) => e.sequence_number), [...events.keys()])
  const final = events.at(-1)
  holds(events[0].type === 'response.created' && ['response.completed', 'response.incomplete'].includes(final.type), events[0], final)
  const text = events.filter((e) => e.type === 'response.output_text.delta').map((e) => e.delta).join('')
  equal([text, new Set(events.flatMap((e) => e.response?.id ?? [])).size], [(await respond()).output_text, 1])
})

check('responses: stream helper', async () => {
  const text = { format: { type: 'json_schema', name: 'answer', schema: SCHEMA, strict: true } }
  let deltas = ''
  const helper = client.responses.stream({ model, input: 'When?', temperature: 0, text }).on('response.output_text.delta', (e) => (deltas += e.delta))
  const final = await helper.finalResponse()
  holds(final.status === 'completed' && JSON.parse(deltas).days >= 2, deltas)
  equal(final.output_text, deltas)
})

check('responses: parse helper', async () => {
  const got = await client.responses.parse({ model, input: 'When?', temperature: 0, text: { format: zodTextFormat(Event, 'event') } })
  holds(got.output_parsed.name && got.output_parsed.day, got)
})

check('responses: tools', async () => {
  const tool = { type: 'function', ...WEATHER.function }
  const call = (await respond({ input: 'How will the weather be?', tools: [tool], tool_choice: 'required', parallel_tool_calls: false, max_output_tokens: 200 })).output[0]
  equal([call.type, call.name], ['function_call', 'weather'])
  holds(JSON.parse(call.arguments).days >= 2, call)
  const result = { type: 'function_call_output', call_id: call.call_id, output: '12 °C, rain' }
  holds((await respond({ input: [{ role: 'user', content: 'How?' }, call, result], tools: [tool] })).output_text, call)
})

check('responses: gone on with and looked up', async () => {
  const earlier = []
  for (let n = 0; n < 8; n++) earlier.push(await respond({ input: `Question ${n}: why is a radix tree a good index of prompts?` })) // by more than one engine
  for (const before of earlier) {
    equal((await client.responses.retrieve(before.id)).output_text, before.output_text)
    const after = await respond({ input: 'And why else?', previous_response_id: before.id })
    equal(after.previous_response_id, before.id)
    holds(after.usage.input_tokens > before.usage.input_tokens, before.usage, after.usage)
  }
})

check('responses: in the background', async () => {
  let got = await respond({ background: true })
  holds(['queued', 'in_progress'].includes(got.status), got)
  await eventually('a background response ends', async () => {
    got = await client.responses.retrieve(got.id)
    return ['completed', 'incomplete'].includes(got.status)
  })
  equal(got.output_text, (await respond()).output_text)
})

check('responses: cancelled', async () => {
  const got = await respond({ background: true, max_output_tokens: forever })
  await busy()
  equal((await client.responses.cancel(got.id)).status, 'cancelled')
  await freed()
  equal((await client.responses.retrieve(got.id)).status, 'cancelled')
})

check('responses: not found', async () => {
  const error = await fails(OpenAI.NotFoundError, 404, () => client.responses.retrieve('resp_of_nobody'))
  holds(error.message.includes('resp_of_nobody'), error)
  await fails(OpenAI.NotFoundError, 404, () => client.responses.cancel('resp_of_nobody'))
  await fails(OpenAI.NotFoundError, 404, () => respond({ previous_response_id: 'resp_of_nobody' }))
})

// Everything else there is.

check('audio: transcription', 'audio', async () => {
  const hear = async (more) => client.audio.transcriptions.create({ model, file: await toFile(silence(2), 'silence.wav'), ...more })
  const got = await hear()
  holds(got.text, got)
  equal(await hear({ response_format: 'text' }), got.text)
  const long = await hear({ response_format: 'verbose_json', language: 'de' })
  equal([long.text, long.language, Math.round(long.duration)], [got.text, 'de', 2])
})

check('others by raw post', async () => {
  const model = target.embedder
  const ranked = await client.post('/rerank', { body: { model, query: 'a bus', documents: ['a tree', 'a bus'] } })
  equal(ranked.map((r) => r.document).sort(), ['a bus', 'a tree'])
  const scored = await client.post('/score', { body: { model: target.model, query: 'a', items: ['b', 'c'], label_token_ids: [1, 2], apply_softmax: true } })
  equal(scored.scores.map((s) => s.length), [2, 2])
  equal((await client.post('/classify', { body: { model, input: ['a', 'b'] } })).data.length, 2)
})

check('tokens by raw post', async () => {
  const prompt = (await ask()).choices[0].message.content // which simulated engines know the tokens of, all of them
  const { tokens, count } = await client.post('/tokenize', { body: { model, prompt } })
  holds(count === tokens.length && count > 3, tokens)
  const back = await client.post('/detokenize', { body: { model, tokens } })
  holds(back.text.includes(prompt), back)
})

check('names of requests', async () => {
  const headers = { 'x-request-id': 'my-label' }
  equal((await ask({}, { headers }))._request_id, 'my-label')
  const { data, response, request_id } = await ask().withResponse()
  holds(data.choices && request_id && response.headers.get('x-radixbus-worker'), request_id)
  equal((await fails(OpenAI.NotFoundError, 404, () => ask({ model: 'no-such-model' }, { headers }))).requestID, 'my-label')
})

// Errors.

const counting = (seen, more) => new OpenAI({ baseURL, apiKey: 'of-no-meaning', fetch: watching(seen), ...more })

check('absent: files, batches, realtime', async () => {
  const seen = []
  const c = counting(seen)
  for (const [word, todo] of [
    ['Files', () => c.files.list()],
    ['Files', async () => c.files.create({ file: await toFile(Buffer.from('{}'), 'a.jsonl'), purpose: 'batch' })],
    ['Batches', () => c.batches.create({ input_file_id: 'f', endpoint: '/v1/chat/completions', completion_window: '24h' })],
    ['Realtime', () => c.realtime.clientSecrets.create({})],
  ]) {
    const error = await fails(OpenAI.InternalServerError, 501, todo)
    equal(error.code, 'not_implemented')
    holds(error.message.includes(word), error.message)
  }
  equal(seen.length, 4) // trying again cannot help
})

check('errors: unknown model', async () => {
  const seen = []
  const c = counting(seen)
  for (const stream of [false, true]) {
    const error = await fails(OpenAI.NotFoundError, 404, () => c.chat.completions.create({ model: 'no-such-model', messages: say('hello'), stream }))
    equal([error.code, error.param, error.type], ['model_not_found', 'model', 'invalid_request_error'])
    holds(error.message.includes('no-such-model') && error.message.includes(model), error.message)
  }
  await fails(OpenAI.NotFoundError, 404, () => c.responses.create({ model: 'no-such-model', input: 'hello' }))
  await fails(OpenAI.NotFoundError, 404, () => c.embeddings.create({ model: 'no-such-model', input: 'hello' }))
  equal(seen.length, 4)
})

check('errors: bad field', async () => {
  const error = await fails(OpenAI.BadRequestError, 400, () => ask({ messages: 'hello' }))
  equal([error.param, error.type], ['messages', 'invalid_request_error'])
  for (const stream of [false, true]) {
    holds((await fails(OpenAI.BadRequestError, 400, () => ask({ temperature: -1, stream }))).message.includes('temperature'))
    holds((await fails(OpenAI.BadRequestError, 400, () => ask({ max_tokens: 1e8, stream }))).message.includes('tokens'))
  }
})

check('errors: wrong method, unknown route', async () => {
  equal((await fails(OpenAI.APIError, 405, () => client.get('/chat/completions'))).code, 'method_not_allowed')
  const error = await fails(OpenAI.NotFoundError, 404, () => client.moderations.create({ input: 'hello' }))
  holds(error.message.includes('/v1/moderations'), error.message)
})

check('errors: body too large', async () => {
  const error = await fails(OpenAI.APIError, 413, () => ask({ messages: say('x'.repeat(target.bodyLimit + 1)) }))
  equal(error.code, 'request_too_large')
})

check('errors: deadline', async () => {
  const seen = []
  const headers = { 'x-radixbus-deadline-ms': '400' }
  const error = await fails(OpenAI.InternalServerError, 504, () => counting(seen).chat.completions.create(fields({ max_tokens: forever }), { headers }))
  equal([error.code, error.type, seen.length], ['deadline_exceeded', 'timeout_error', 1]) // the time is over for another try, too
  const heard = []
  const late = await fails(OpenAI.APIError, undefined, async () => {
    for await (const chunk of await endless({}, { headers })) heard.push(chunk)
  })
  holds(late.code === 'deadline_exceeded' && heard.length > 0, late, heard.length)
  await freed()
})

check("errors: client's own timeout", async () => {
  await fails(OpenAI.APIConnectionTimeoutError, undefined, () => ask({ max_tokens: forever }, { timeout: 500 }))
  await freed()
})

check('errors: engine breaks off', async () => {
  let heard = ''
  const error = await fails(OpenAI.APIError, undefined, async () => {
    for await (const chunk of await ask({ model: target.scripted, stream: true })) heard += chunk.choices[0].delta.content
  })
  equal([error.code, heard], ['engine_broke', 'half of '])
  heard = ''
  const other = await fails(OpenAI.APIError, undefined, async () => {
    for await (const event of await respond({ model: target.scripted, stream: true })) heard = event.delta ?? heard
  })
  equal([other.code, heard], ['engine_broke', 'half of '])
  const third = await fails(OpenAI.APIError, undefined, () => client.chat.completions.stream(fields({ model: target.scripted })).finalContent())
  equal(third.code, 'engine_broke')
})

check('errors: gateway dies', async () => {
  const doomed = await stage('/doomed')
  const c = new OpenAI({ baseURL: doomed.url + '/v1', apiKey: 'x', maxRetries: 0 })
  const stream = await c.chat.completions.create(fields({ model: doomed.model, max_tokens: forever, stream: true }))
  let heard = 0
  let died
  try {
    for await (const _ of stream) if (++heard === 1) await stage('/doomed/kill')
  } catch (error) {
    died = error
  }
  holds(heard > 0 && died instanceof Error, heard, String(died))
})

// Trying again.

async function retried(url, onFirst, more) {
  const seen = []
  const c = new OpenAI({ baseURL: url + '/v1', apiKey: 'x', maxRetries: 10, fetch: watching(seen, onFirst) })
  const got = await c.chat.completions.create(fields(more))
  equal([got.usage.completion_tokens, seen.pop()[0]], [TOKENS, 200])
  holds(seen.length > 0, seen)
  return [...new Set(seen.map(String))]
}

check('retries: no worker yet', async () => {
  const late = await stage('/late')
  equal(await retried(late.url, () => stage('/late/begin'), { model: late.model }), ['503,1'])
})

check('retries: gateway is full', async () => {
  const half = { pad: 'x'.repeat((target.bodyLimit * 3) / 4) }
  const full = await stage('/full')
  equal(await retried(full.url, () => stage('/full/free'), { ...half, model: full.model }), ['429,1'])
})

// Leaving.

check('cancel: stream closed', async () => {
  for await (const _ of await endless()) {
    await busy()
    break // which closes it
  }
  await freed()
  const stream = await endless()
  await first(stream)
  await busy()
  stream.controller.abort()
  await freed()
  const helper = client.chat.completions.stream(fields({ max_tokens: forever }))
  await first(helper)
  await busy()
  helper.abort()
  await freed()
  for await (const event of await respond({ stream: true, max_output_tokens: forever })) {
    if (event.type !== 'response.output_text.delta') continue
    await busy()
    break
  }
  await freed()
})

check('cancel: whole answer', async () => {
  const leave = new AbortController()
  const asked = fails(OpenAI.APIUserAbortError, undefined, () => ask({ max_tokens: forever }, { signal: leave.signal }))
  await busy()
  leave.abort()
  await asked
  await freed()
})

check('many at once', async () => {
  const c = new OpenAI({ baseURL, apiKey: 'x' })
  const one = async (user) => {
    const asked = fields({ messages: say(`User ${user}: say something of your own.`) })
    const want = (await c.chat.completions.create(asked)).choices[0].message.content
    equal(contentOf(await all(c.chat.completions.create({ ...asked, stream: true }))), want)
    return want
  }
  const said = await Promise.all([...Array(16).keys()].map(one))
  holds(new Set(said).size > 1, said)
})

run()
