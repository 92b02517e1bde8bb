"""What the official OpenAI client for Python makes of an endpoint."""

import asyncio
import json
import math
from typing import Literal

import openai
import pydantic
import websockets
from openai import AsyncOpenAI, OpenAI

from suite import busy, check, equal, eventually, fails, freed, holds, model, retried, run, silence, stage, target

BASE = target["url"] + "/v1"
TOKENS = 24

client = OpenAI(base_url=BASE, api_key="of-no-meaning", max_retries=0)
exact = {"ignore_eos": True}  # an answer is as long as it may be
forever = target["forever"]  # tokens: longer than any check


def say(text):
    return [{"role": "user", "content": text}]


def ask(text="Why is a radix tree a good index of prompts?", **more):
    fields = dict(model=model, messages=say(text), max_tokens=TOKENS, temperature=0, extra_body=exact)
    return client.chat.completions.create(**fields | more)


def endless(**more):
    return ask(max_tokens=forever, stream=True, **more)


# Chats.


@check("chat: whole")
def _():
    got = ask()
    equal((got.object, got.model, len(got.choices)), ("chat.completion", model, 1))
    choice = got.choices[0]
    equal((choice.index, choice.finish_reason, choice.message.role), (0, "length", "assistant"))
    holds(choice.message.content and got.id and got.created > 1_600_000_000, got)
    usage = got.usage
    equal((usage.completion_tokens, usage.total_tokens), (TOKENS, usage.prompt_tokens + TOKENS), "usage")
    equal(ask().choices[0].message.content, choice.message.content, "the same answer again")


@check("chat: streamed")
def _():
    want = ask().choices[0].message.content
    text, finishes, ids = "", [], set()
    chunks = list(ask(stream=True))
    for chunk in chunks:
        equal((chunk.object, chunk.model, chunk.usage, len(chunk.choices)), ("chat.completion.chunk", model, None, 1))
        ids.add(chunk.id)
        text += chunk.choices[0].delta.content or ""
        finishes += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
    equal((text, finishes, len(ids)), (want, ["length"], 1))
    equal(chunks[0].choices[0].delta.role, "assistant")
    holds(len(chunks) > TOKENS / 2, len(chunks))


@check("chat: stream helper")
def _():
    text = ask().choices[0].message.content
    word = text[len(text) // 2 :].split()[1]  # this helper takes an answer that was cut for a failure
    want = text[: text.index(word)]
    fields = dict(model=model, messages=say("Why is a radix tree a good index of prompts?"), max_tokens=TOKENS, temperature=0, stop=word, extra_body=exact)
    deltas, done = "", []
    with client.chat.completions.stream(**fields) as events:
        for event in events:
            if event.type == "content.delta":
                deltas += event.delta
                equal(event.snapshot, deltas)
            elif event.type == "content.done":
                done.append(event.content)
        final = events.get_final_completion()
    equal((deltas, done), (want, [want]))
    equal((final.choices[0].message.content, final.choices[0].finish_reason, final.model), (want, "stop", model))


@check("chat: usage of a stream")
def _():
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    told = [c for c in chunks if c.usage]
    equal((len(told), told[-1].choices, chunks[-1].usage), (1, [], told[-1].usage))
    usage = told[0].usage
    equal((usage.completion_tokens, usage.total_tokens), (TOKENS, usage.prompt_tokens + TOKENS))
    holds(usage.prompt_tokens_details.cached_tokens > 0, usage)  # asked before


@check("chat: cached tokens")
def _():
    long = "A prompt that is long enough to be worth a cache. " * 40
    usage = [ask(long).usage for _ in range(2)][1]
    holds(usage.prompt_tokens_details.cached_tokens >= usage.prompt_tokens * 0.9, usage)


@check("chat: several choices")
def _():
    got = ask(n=3, temperature=1)
    equal([c.index for c in got.choices], [0, 1, 2])
    equal((len({c.message.content for c in got.choices}), got.usage.completion_tokens), (3, 3 * TOKENS))
    texts = {0: "", 1: "", 2: ""}
    for chunk in ask(n=3, temperature=1, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    holds(all(texts.values()), texts)


@check("chat: logprobs")
def _():
    def same(text, tokens):
        equal(b"".join(bytes(t.bytes) for t in tokens).decode(errors="replace"), text)  # a model may say bytes that are no text
        holds(len(tokens) == TOKENS and all(t.logprob <= 0 and len(t.top_logprobs) == 2 for t in tokens), tokens)

    choice = ask(logprobs=True, top_logprobs=2).choices[0]
    same(choice.message.content, choice.logprobs.content)
    text, tokens = "", []
    for chunk in ask(logprobs=True, top_logprobs=2, stream=True):
        text += chunk.choices[0].delta.content or ""
        tokens += chunk.choices[0].logprobs.content if chunk.choices[0].logprobs else []
    same(text, tokens)
    equal(text, choice.message.content)


@check("chat: stop words")
def _():
    text = ask().choices[0].message.content
    word = text[len(text) // 2 :].split()[1]
    choice = ask(stop=["no such words", word]).choices[0]
    equal((choice.message.content, choice.finish_reason), (text[: text.index(word)], "stop"))
    streamed = list(ask(stop=word, stream=True))
    equal("".join(c.choices[0].delta.content or "" for c in streamed), text[: text.index(word)])
    equal(streamed[-1].choices[0].finish_reason, "stop")


@check("chat: seed", "seed")
def _():
    first, again, other = (ask(seed=seed, temperature=1).choices[0].message.content for seed in (7, 7, 8))
    equal(again, first)
    holds(other != first, first)


@check("chat: parts, system and earlier turns")
def _():
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "text", "text": "And since when?"}]},
    ]
    first = ask(messages=turns)
    turns += [{"role": "assistant", "content": first.choices[0].message.content}, *say("And why else?")]
    second = ask(messages=turns)
    holds(second.usage.prompt_tokens > first.usage.prompt_tokens + TOKENS / 2, first.usage, second.usage)
    holds(second.usage.prompt_tokens_details.cached_tokens > first.usage.prompt_tokens / 2, second.usage)


@check("chat: an adapter")
def _():
    text = ask().choices[0].message.content
    for name in target["adapter"], model + ":" + target["adapter"]:
        got = ask(model=name)
        holds(got.choices[0].message.content and got.usage.completion_tokens == TOKENS, got)
        equal(len(list(ask(model=name, stream=True, stop=["no such words"]))) > TOKENS / 2, True)
    equal(ask().choices[0].message.content, text, "the base model's answer")


# Tools.

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Tells the weather of Zürich "or" so.',
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Zürich", "Genève"]}, "days": {"type": "integer", "minimum": 2, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


def call_tool(**more):
    return ask("How will the weather be?", max_tokens=200, tools=[WEATHER], **{"tool_choice": "required", "parallel_tool_calls": False, "extra_body": None} | more)


def right(call):
    holds(call.id and call.type == "function", call)
    equal(call.function.name, "weather")
    arguments = json.loads(call.function.arguments)
    holds(arguments["city"] in ("Zürich", "Genève") and isinstance(arguments["days"], int), arguments)


@check("tools: forced call")
def _():
    for choice in "required", {"type": "function", "function": {"name": "weather"}}:
        got = call_tool(tool_choice=choice).choices[0]
        equal((got.finish_reason, len(got.message.tool_calls)), ("tool_calls", 1))
        right(got.message.tool_calls[0])


@check("tools: streamed call")
def _():
    name, arguments, ids, finish, pieces = "", "", set(), None, 0
    for chunk in call_tool(stream=True):
        choice = chunk.choices[0]
        finish = choice.finish_reason or finish
        for call in choice.delta.tool_calls or []:
            equal(call.index, 0)
            ids |= {call.id} - {None}
            name += call.function.name or ""
            arguments += call.function.arguments or ""
            pieces += 1
    equal((name, finish, len(ids)), ("weather", "tool_calls", 1))
    equal(arguments, call_tool().choices[0].message.tool_calls[0].function.arguments)
    holds(pieces > 3, pieces)


@check("tools: stream helper")
def _():
    done = []
    with client.chat.completions.stream(model=model, messages=say("How will the weather be?"), max_tokens=200, temperature=0, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False) as events:
        done += [e for e in events if e.type == "tool_calls.function.arguments.done"]
        final = events.get_final_completion().choices[0]
    equal((len(done), done[0].name, final.finish_reason), (1, "weather", "tool_calls"))
    right(final.message.tool_calls[0])
    equal(done[0].parsed_arguments, json.loads(final.message.tool_calls[0].function.arguments))


@check("tools: result goes back")
def _():
    turns = say("How will the weather be?")
    asked = call_tool()
    message = asked.choices[0].message
    turns += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12 °C, rain"}]
    got = ask(messages=turns, tools=[WEATHER])
    holds(got.choices[0].message.content and got.usage.prompt_tokens > asked.usage.prompt_tokens + 10, asked.usage, got.usage)


# Structured output.


class Event(pydantic.BaseModel):  # leaves a model no room to go on
    name: Literal["market", "fair"]
    day: Literal[1, 2, 3]
    free: bool


SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Zürich", "Genève"]}, "days": {"type": "integer", "minimum": 2, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


@check("output: JSON schema")
def _():
    choice = ask(max_tokens=200, response_format=SCHEMA, extra_body=None).choices[0]
    answer = json.loads(choice.message.content)
    holds(choice.finish_reason == "stop" and answer["city"] in ("Zürich", "Genève") and 2 <= answer["days"], choice)


@check("output: parse helper")
def _():
    got = client.chat.completions.parse(model=model, messages=say("When?"), max_tokens=400, temperature=0, response_format=Event)
    event = got.choices[0].message.parsed
    holds(type(event) is Event, got)
    with client.chat.completions.stream(model=model, messages=say("When?"), max_tokens=400, temperature=0, response_format=Event) as events:
        done = [e.parsed for e in events if e.type == "content.done"]
    equal(done, [event])


# Completions.


def complete(prompt="Once upon a time", **more):
    return client.completions.create(**dict(model=model, prompt=prompt, max_tokens=TOKENS, temperature=0, extra_body=exact) | more)


@check("completions: whole")
def _():
    got = complete()
    equal((got.object, len(got.choices), got.choices[0].finish_reason, got.usage.completion_tokens), ("text_completion", 1, "length", TOKENS))
    holds(got.choices[0].text, got)
    equal(complete(echo=True).choices[0].text, "Once upon a time" + got.choices[0].text)


@check("completions: streamed")
def _():
    chunks = list(complete(stream=True, stream_options={"include_usage": True}))
    equal("".join(c.choices[0].text for c in chunks if c.choices), complete().choices[0].text)
    equal(([c.usage for c in chunks if c.usage][-1].completion_tokens, len([c for c in chunks if c.usage])), (TOKENS, 1))


@check("completions: batch of prompts")
def _():
    prompts = ["One bus", "Two trees", "Three roots"]
    got = complete(prompts)
    equal([c.index for c in got.choices], [0, 1, 2])
    equal([c.text for c in got.choices], [complete(p).choices[0].text for p in prompts])
    equal(complete([5, 60, 7, 80]).usage.prompt_tokens, 4, "tokens of a prompt of ids")


@check("completions: logprobs")
def _():
    choice = complete(logprobs=2).choices[0]
    said = "".join(choice.logprobs.tokens)
    equal((len(choice.logprobs.tokens), len(said)), (TOKENS, len(choice.text)))
    holds(all(want in (got, "\ufffd") for got, want in zip(said, choice.text)), said, choice.text)  # a token can be no text by itself


# Embeddings.


@check("embeddings: numbers and base64")
def _():
    embedder = target["embedder"]
    packed = client.embeddings.create(model=embedder, input=["a bus", "a tree"])  # as base64, which the client asks for by itself
    plain = client.embeddings.create(model=embedder, input=["a bus", "a tree"], encoding_format="float")
    raw = client.embeddings.create(model=embedder, input="a bus", encoding_format="base64")
    equal([d.index for d in plain.data], [0, 1])
    for a, b in zip(packed.data, plain.data):
        holds(len(a.embedding) == len(b.embedding) > 1 and all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(a.embedding, b.embedding)), a, b)
    holds(isinstance(raw.data[0].embedding, str) and plain.data[0].embedding != plain.data[1].embedding, raw)
    holds(plain.usage.prompt_tokens == plain.usage.total_tokens > 0 and plain.object == "list", plain)
    equal(len(client.embeddings.create(model=embedder, input=[[1, 2, 3], [4]], dimensions=8).data[1].embedding), 8)


# Models.


@check("models: listed and one by one")
def _():
    cards = {m.id: m for m in client.models.list()}
    for name in model, target["embedder"], target["adapter"]:
        equal((cards[name].object, cards[name].id), ("model", name))
        equal(client.models.retrieve(name), cards[name])
    fails(openai.NotFoundError, 404, lambda: client.models.retrieve("no/such-model"))


# Responses.


def respond(text="Why is a radix tree a good index of prompts?", **more):
    return client.responses.create(**dict(model=model, input=text, max_output_tokens=TOKENS, temperature=0) | more)


@check("responses: whole")
def _():
    got = respond(instructions="Be brief.", metadata={"a": "b"})
    equal((got.object, got.model, got.error, len(got.output)), ("response", model, None, 1))
    holds(got.id.startswith("resp_") and got.output_text == got.output[0].content[0].text != "", got)
    holds(got.status in ("completed", "incomplete") and got.usage.input_tokens > 0 and 0 < got.usage.output_tokens <= TOKENS, got)


@check("responses: streamed")
def _():
    events = list(respond(stream=True))
    equal([e.sequence_number for e in events], list(range(len(events))))
    equal(events[0].type, "response.created")
    final = events[-1]
    holds(final.type in ("response.completed", "response.incomplete"), final.type)
    equal("".join(e.delta for e in events if e.type == "response.output_text.delta"), final.response.output_text)
    equal(final.response.output_text, respond().output_text)
    equal({e.response.id for e in events if hasattr(e, "response")}, {final.response.id})


@check("responses: stream helper")
def _():
    form = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA["json_schema"]["schema"], "strict": True}}
    with client.responses.stream(model=model, input="When?", temperature=0, text=form) as events:
        text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        final = events.get_final_response()
    holds(final.status == "completed" and json.loads(text)["days"] >= 2, text)
    equal(final.output_text, text)


@check("responses: parse helper")
def _():
    got = client.responses.parse(model=model, input="When?", temperature=0, text_format=Event)
    holds(type(got.output_parsed) is Event, got)


@check("responses: tools")
def _():
    tool = {"type": "function", **{k: v for k, v in WEATHER["function"].items()}}
    got = respond("How will the weather be?", tools=[tool], tool_choice="required", parallel_tool_calls=False, max_output_tokens=200)
    call = got.output[0]
    equal((call.type, call.name), ("function_call", "weather"))
    holds(json.loads(call.arguments)["city"], call)
    turns = [{"role": "user", "content": "How?"}, call, {"type": "function_call_output", "call_id": call.call_id, "output": "12 °C, rain"}]
    holds(respond(turns, tools=[tool]).output_text, "no answer to the tool's result")


@check("responses: gone on with and looked up")
def _():
    earlier = [respond(f"Question {n}: why is a radix tree a good index of prompts?") for n in range(8)]  # by more than one engine
    for first in earlier:
        equal(client.responses.retrieve(first.id).output_text, first.output_text)
        second = respond("And why else?", previous_response_id=first.id)
        holds(second.usage.input_tokens > first.usage.input_tokens, first.usage, second.usage)
        equal(second.previous_response_id, first.id)


@check("responses: in the background")
def _():
    got = respond(background=True)
    holds(got.status in ("queued", "in_progress"), got)

    def ended():
        nonlocal got
        got = client.responses.retrieve(got.id)
        return got.status in ("completed", "incomplete")

    eventually("a background response ends", ended)
    equal(got.output_text, respond().output_text)


@check("responses: cancelled")
def _():
    got = respond(background=True, max_output_tokens=forever)
    busy()
    equal(client.responses.cancel(got.id).status, "cancelled")
    freed()
    equal(client.responses.retrieve(got.id).status, "cancelled")


@check("responses: not found")
def _():
    error = fails(openai.NotFoundError, 404, lambda: client.responses.retrieve("resp_of_nobody"))
    holds("resp_of_nobody" in error.message, error)
    fails(openai.NotFoundError, 404, lambda: client.responses.cancel("resp_of_nobody"))
    error = fails(openai.NotFoundError, 404, lambda: respond(previous_response_id="resp_of_nobody"))
    holds("resp_of_nobody" in error.message and error.param, error)


# Everything else there is.


@check("audio: transcription", "audio")
def _():
    def hear(**more):
        return client.audio.transcriptions.create(model=model, file=("silence.wav", silence(2)), **more)

    got = hear()
    holds(got.text and got.usage.seconds == 3, got)  # a WAV has a head
    equal(hear(response_format="text"), got.text)
    long = hear(response_format="verbose_json", language="de")
    equal((long.text, long.language, round(long.duration)), (got.text, "de", 2))


@check("others by raw post")
def _():
    def post(path, **body):
        return client.post(path, cast_to=object, body=body)

    embedder = target["embedder"]
    ranked = post("/rerank", model=embedder, query="a bus", documents=["a tree", "a bus"])
    equal(sorted(r["document"] for r in ranked), ["a bus", "a tree"])
    equal([len(s) for s in post("/score", model=model, query="a", items=["b", "c"], label_token_ids=[1, 2], apply_softmax=True)["scores"]], [2, 2])
    equal(len(post("/classify", model=embedder, input=["a", "b"])["data"]), 2)


@check("tokens by raw post")
def _():
    text = ask().choices[0].message.content  # which simulated engines know the tokens of, all of them
    tokens = client.post("/tokenize", cast_to=object, body={"model": model, "prompt": text})
    holds(tokens["count"] == len(tokens["tokens"]) > 3, tokens)
    back = client.post("/detokenize", cast_to=object, body={"model": model, "tokens": tokens["tokens"]})
    holds(text in back["text"], back)


@check("names of requests")
def _():
    got = ask(extra_headers={"x-request-id": "my-label"})
    equal(got._request_id, "my-label")
    raw = client.chat.completions.with_raw_response.create(model=model, messages=say("Who?"), max_tokens=2)
    holds(raw.request_id and raw.headers["x-radixbus-worker"] and raw.parse().choices, raw.headers)
    error = fails(openai.NotFoundError, 404, lambda: ask(model="no-such-model", extra_headers={"x-request-id": "my-label"}))
    equal(error.request_id, "my-label")


# Errors.


def counting(**more):
    """A client that tells of every answer it got."""
    seen = []
    http = openai.DefaultHttpxClient(event_hooks={"response": [seen.append]})
    return OpenAI(base_url=BASE, api_key="of-no-meaning", http_client=http, **more), seen


@check("absent: files, batches, realtime")
def _():
    c, seen = counting()
    for word, do in (
        ("Files", lambda: c.files.list()),
        ("Files", lambda: c.files.create(file=("a.jsonl", b"{}"), purpose="batch")),
        ("Batches", lambda: c.batches.create(input_file_id="f", endpoint="/v1/chat/completions", completion_window="24h")),
        ("Realtime", lambda: c.realtime.client_secrets.create()),
    ):
        error = fails(openai.InternalServerError, 501, do)
        equal(error.code, "not_implemented")
        holds(word in error.message, error)
    equal(len(seen), 4, "answers: trying again cannot help")
    try:
        with client.realtime.connect(model=model):
            raise AssertionError("a realtime session began")
    except websockets.InvalidStatus as error:
        equal(error.response.status_code, 501)
        holds(b"Realtime" in error.response.body, error.response.body)


@check("errors: unknown model")
def _():
    c, seen = counting()
    for stream in False, True:
        error = fails(openai.NotFoundError, 404, lambda: c.chat.completions.create(model="no-such-model", messages=say("hello"), stream=stream))
        equal((error.code, error.param, error.type), ("model_not_found", "model", "invalid_request_error"))
        holds("no-such-model" in error.message and model in error.message, error)
    fails(openai.NotFoundError, 404, lambda: c.completions.create(model="no-such-model", prompt="hello"))
    fails(openai.NotFoundError, 404, lambda: c.responses.create(model="no-such-model", input="hello"))
    fails(openai.NotFoundError, 404, lambda: c.embeddings.create(model="no-such-model", input="hello"))
    equal(len(seen), 5, "answers")


@check("errors: bad field")
def _():
    error = fails(openai.BadRequestError, 400, lambda: ask(messages="hello"))
    equal((error.param, error.type), ("messages", "invalid_request_error"))
    for stream in False, True:  # these the engine says
        error = fails(openai.BadRequestError, 400, lambda: ask(temperature=-1, stream=stream))
        holds("temperature" in error.message, error)
        error = fails(openai.BadRequestError, 400, lambda: ask(max_tokens=100_000_000, stream=stream))
        holds("tokens" in error.message, error)


@check("errors: wrong method, unknown route")
def _():
    error = fails(openai.APIStatusError, 405, lambda: client.get("/chat/completions", cast_to=object))
    equal(error.code, "method_not_allowed")
    error = fails(openai.NotFoundError, 404, lambda: client.moderations.create(input="hello"))
    holds("/v1/moderations" in error.message, error)


@check("errors: body too large")
def _():
    error = fails(openai.APIStatusError, 413, lambda: ask("x" * (target["bodyLimit"] + 1)))
    equal(error.code, "request_too_large")


@check("errors: deadline")
def _():
    c, seen = counting()
    brief = {"x-radixbus-deadline-ms": "400"}
    error = fails(openai.InternalServerError, 504, lambda: c.chat.completions.create(model=model, messages=say("hello"), max_tokens=forever, extra_headers=brief, extra_body=exact))
    equal((error.code, error.type), ("deadline_exceeded", "timeout_error"))
    equal(len(seen), 1, "answers: the time is over for another try, too")
    heard = []

    def listen():
        for chunk in endless(extra_headers=brief):
            heard.append(chunk)

    error = fails(openai.APIError, None, listen)
    equal(error.code, "deadline_exceeded")
    holds(heard, "nothing before the deadline")
    freed()


@check("errors: client's own timeout")
def _():
    impatient = client.with_options(timeout=0.5)
    fails(openai.APITimeoutError, None, lambda: impatient.chat.completions.create(model=model, messages=say("hello"), max_tokens=forever, extra_body=exact))
    freed()


@check("errors: engine breaks off")
def _():
    def listen(events):
        for event in events:
            heard.append(event)

    heard = []
    error = fails(openai.APIError, None, lambda: listen(ask(model=target["scripted"], stream=True)))
    equal((error.code, "".join(c.choices[0].delta.content for c in heard)), ("engine_broke", "half of "))
    heard = []
    error = fails(openai.APIError, None, lambda: listen(respond(model=target["scripted"], stream=True)))
    equal((error.code, heard[-1].delta), ("engine_broke", "half of "))


@check("errors: gateway dies")
def _():
    doomed = stage("/doomed")
    events = OpenAI(base_url=doomed["url"] + "/v1", api_key="x", max_retries=0).chat.completions.create(
        model=doomed["model"], messages=say("hello"), max_tokens=forever, stream=True
    )
    next(events)
    stage("/doomed/kill")
    fails(openai.APIConnectionError, None, lambda: list(events))


# Trying again.


def asks(url, hook, **more):
    http = openai.DefaultHttpxClient(event_hooks={"response": [hook]})
    c = OpenAI(base_url=url + "/v1", api_key="x", max_retries=10, http_client=http)
    got = c.chat.completions.create(**dict(model=model, messages=say("hello"), max_tokens=TOKENS) | more)
    holds(got.choices[0].message.content, got)


@check("retries: no worker yet")
def _():
    late = stage("/late")
    seen = retried(lambda hook: asks(late["url"], hook, model=late["model"]), lambda: stage("/late/begin"))
    equal(seen, {(503, "1")})


@check("retries: gateway is full")
def _():
    half = exact | {"pad": "x" * (target["bodyLimit"] * 3 // 4)}
    full = stage("/full")
    seen = retried(lambda hook: asks(full["url"], hook, model=full["model"], extra_body=half), lambda: stage("/full/free"))
    equal(seen, {(429, "1")})


# Leaving.


@check("cancel: stream closed")
def _():
    for leave in lambda s: s.close(), lambda s: s.__exit__(None, None, None):
        events = endless()
        next(events)
        busy()
        leave(events)
        freed()
    with client.chat.completions.stream(model=model, messages=say("hello"), max_tokens=forever, extra_body=exact) as events:
        next(events)
        busy()
    freed()
    with respond(stream=True, max_output_tokens=forever, extra_body=exact) as events:
        next(e for e in events if e.type == "response.output_text.delta")
        busy()
    freed()


@check("cancel: whole answer")
def _():
    async def leave():
        async with AsyncOpenAI(base_url=BASE, api_key="x", max_retries=0) as c:
            asked = asyncio.ensure_future(c.chat.completions.create(model=model, messages=say("hello"), max_tokens=forever, extra_body=exact))
            await asyncio.to_thread(busy)
            asked.cancel()
            try:
                await asked
            except asyncio.CancelledError:
                return
            raise AssertionError("it was not cancelled")

    asyncio.run(leave())
    freed()


@check("many at once")
def _():
    async def everybody():
        async with AsyncOpenAI(base_url=BASE, api_key="x") as c:

            async def one(user):
                fields = dict(model=model, messages=say(f"User {user}: say something of your own."), max_tokens=TOKENS, temperature=0, extra_body=exact)
                want = (await c.chat.completions.create(**fields)).choices[0].message.content
                got = ""
                async for chunk in await c.chat.completions.create(**fields, stream=True):
                    got += chunk.choices[0].delta.content or ""
                equal(got, want)
                return got

            return await asyncio.gather(*(one(user) for user in range(16)))

    holds(len(set(asyncio.run(everybody()))) > 1, "all say the same")


run()
