"""What the official Anthropic client for Python makes of an endpoint."""

import asyncio
import json
from typing import Literal

import anthropic
import pydantic
from anthropic import Anthropic, AsyncAnthropic

from suite import busy, check, equal, fails, freed, holds, model, retried, run, stage, target

TOKENS = 24
URL = target["url"]

client = Anthropic(base_url=URL, api_key="of-no-meaning", max_retries=0)
forever = target["forever"]  # tokens: longer than any check


def say(text):
    return [{"role": "user", "content": text}]


def fields(text="Why is a radix tree a good index of prompts?", extra_body=None, **more):
    body = {"temperature": 0} | (extra_body or {})  # which this client knows no more
    return dict(model=model, messages=say(text), max_tokens=TOKENS, extra_body=body) | more


def ask(*text, **more):
    return client.messages.create(**fields(*text, **more))


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


@check("chat: whole")
def _():
    got = ask()
    equal((got.type, got.role, got.model, len(got.content)), ("message", "assistant", model, 1))
    holds(got.id.startswith("msg_") and got.content[0].type == "text" and got.content[0].text, got)
    holds(0 < got.usage.output_tokens <= TOKENS and got.stop_reason in ("max_tokens", "end_turn"), got)
    equal(text_of(ask()), text_of(got), "the same answer again")


@check("chat: streamed")
def _():
    events = list(ask(stream=True))
    kinds = [e.type for e in events]
    equal((kinds[0], kinds[1], kinds[-3:]), ("message_start", "content_block_start", ["content_block_stop", "message_delta", "message_stop"]))
    want = ask()
    equal("".join(e.delta.text for e in events if e.type == "content_block_delta"), text_of(want))
    equal((events[0].message.model, events[-2].delta.stop_reason), (model, want.stop_reason))
    holds(len(kinds) > TOKENS / 3, kinds)


@check("chat: stream helper")
def _():
    with client.messages.stream(**fields()) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    want = ask()
    equal((text, text_of(final), final.stop_reason), (text_of(want),) * 2 + (want.stop_reason,))
    with client.messages.stream(**fields()) as events:
        equal([e.text for e in events if e.type == "text"][0] != "", True)
    with client.messages.stream(**fields()) as events:
        equal(events.get_final_text(), text)


@check("chat: usage of a stream")
def _():
    whole = ask().usage
    events = list(ask(stream=True))
    start, end = events[0].message.usage, events[-2].usage
    holds(start.input_tokens >= 0 and start.cache_read_input_tokens > 0, start)  # asked before
    equal(start.input_tokens + start.cache_read_input_tokens, whole.input_tokens + whole.cache_read_input_tokens)
    equal(end.output_tokens, whole.output_tokens)


@check("chat: cached tokens")
def _():
    long = "A prompt that is long enough to be worth a cache, of Anthropic's clients. " * 40
    first, again = ask(long).usage, ask(long).usage
    holds(again.cache_read_input_tokens > 200 > again.input_tokens and first.input_tokens > 200, first, again)


@check("chat: stop words")
def _():
    text = text_of(ask())
    word = text[len(text) // 2 :].split()[1]
    got = ask(stop_sequences=["no such words", word])
    equal(text_of(got), text[: text.index(word)])
    holds(got.stop_reason in ("stop_sequence", "end_turn"), got.stop_reason)


@check("chat: parts, system and earlier turns")
def _():
    turns = [{"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "text", "text": "And since when?"}]}]
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    first = ask(messages=turns, system=system)
    turns += [{"role": "assistant", "content": first.content}, *say("And why else?")]
    second = ask(messages=turns, system=system, metadata={"user_id": "somebody"})
    before, after = (u.input_tokens + (u.cache_read_input_tokens or 0) for u in (first.usage, second.usage))
    holds(after > before + TOKENS / 2, first.usage, second.usage)
    holds(second.usage.cache_read_input_tokens > before / 2, second.usage)


@check("chat: an adapter")
def _():
    got = ask(model=model + ":" + target["adapter"])
    holds(text_of(got) and got.usage.output_tokens, got)


# Tools.

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Zürich", "Genève"]}, "days": {"type": "integer", "minimum": 2, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"name": "weather", "description": 'Tells the weather of Zürich "or" so.', "input_schema": SCHEMA}


def tool_fields(**more):
    return fields("How will the weather be?", **dict(max_tokens=200, tools=[WEATHER], tool_choice={"type": "any", "disable_parallel_tool_use": True}) | more)


def right(message):
    use = message.content[-1]
    equal((message.stop_reason, use.type, use.name), ("tool_use", "tool_use", "weather"))
    holds(use.id and use.input["city"] in ("Zürich", "Genève") and use.input["days"] >= 2, use)


@check("tools: forced call")
def _():
    for choice in {"type": "any"}, {"type": "tool", "name": "weather"}:
        right(client.messages.create(**tool_fields(tool_choice=choice | {"disable_parallel_tool_use": True})))


@check("tools: streamed call")
def _():
    events = list(client.messages.create(**tool_fields(stream=True)))
    starts = [e.content_block for e in events if e.type == "content_block_start"]
    equal((starts[-1].type, starts[-1].name), ("tool_use", "weather"))
    pieces = [e.delta.partial_json for e in events if e.type == "content_block_delta" and e.delta.type == "input_json_delta"]
    holds(len(pieces) > 3 and json.loads("".join(pieces))["days"] >= 2, pieces)


@check("tools: stream helper")
def _():
    with client.messages.stream(**tool_fields()) as events:
        pieces = [e.partial_json for e in events if e.type == "input_json"]
        right(events.get_final_message())
    holds(json.loads("".join(pieces))["days"] >= 2, pieces)


@check("tools: result goes back")
def _():
    asked = client.messages.create(**tool_fields())
    result = {"type": "tool_result", "tool_use_id": asked.content[-1].id, "content": [{"type": "text", "text": "12 °C, rain"}]}
    turns = say("How will the weather be?") + [{"role": "assistant", "content": asked.content}, {"role": "user", "content": [result]}]
    got = ask(messages=turns, tools=[WEATHER])
    before, after = (u.input_tokens + (u.cache_read_input_tokens or 0) for u in (asked.usage, got.usage))
    holds(text_of(got) and after > before + 10, asked.usage, got.usage)


# Structured output.


class Event(pydantic.BaseModel):  # leaves a model no room to go on
    name: Literal["market", "fair"]
    day: Literal[1, 2, 3]
    free: bool


@check("output: JSON schema")
def _():
    got = ask(max_tokens=200, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    holds(json.loads(text_of(got))["days"] >= 2, got)


@check("output: parse helper")
def _():
    got = client.messages.parse(**fields("When?", max_tokens=400), output_format=Event)
    holds(type(got.parsed_output) is Event, got)
    with client.messages.stream(**fields("When?", max_tokens=400), output_format=Event) as events:
        equal(events.get_final_message().parsed_output, got.parsed_output)


# What is not a message.


@check("models: listed and one by one")
def _():
    holds(model in [m.id for m in client.models.list()], client.models.list())
    equal((client.models.retrieve(model).id, [m.id for m in client.models.list(limit=1000)].count(model)), (model, 1))
    error = fails(anthropic.NotFoundError, 404, lambda: client.models.retrieve("no-such-model"))
    holds("no-such-model" in str(error), error)


@check("tokens are counted")
def _():
    counted = client.messages.count_tokens(model=model, messages=say("Why is a radix tree a good index of prompts?"), system="Be brief.").input_tokens
    usage = ask(system="Be brief.").usage
    equal(counted, usage.input_tokens + (usage.cache_read_input_tokens or 0))


@check("keys as Anthropic sends them")
def _():
    with Anthropic(base_url=URL, auth_token="of-no-meaning") as c:
        holds(text_of(c.messages.create(**fields())), "no text")
    seen = []
    http = anthropic.DefaultHttpxClient(event_hooks={"request": [lambda r: seen.append(r.headers)]})
    with Anthropic(base_url=URL, default_headers={"X-Api-Key": "of-no-meaning"}, http_client=http) as c:  # as earlier ones do by themselves
        holds(text_of(c.messages.create(**fields())), "no text")
    equal((seen[0]["x-api-key"], seen[0].get("authorization")), ("of-no-meaning", None))


@check("names of requests")
def _():
    got = ask(extra_headers={"x-request-id": "my-label"})
    equal(got._request_id, "my-label")
    error = fails(anthropic.NotFoundError, 404, lambda: ask(model="no-such-model", extra_headers={"x-request-id": "my-label"}))
    equal(error.request_id, "my-label")


# Errors.


def counting(**more):
    """A client that tells of every answer it got."""
    seen = []
    http = anthropic.DefaultHttpxClient(event_hooks={"response": [seen.append]})
    return Anthropic(base_url=URL, api_key="of-no-meaning", http_client=http, **more), seen


@check("absent: files, batches, realtime")
def _():
    c, seen = counting()
    requests = [{"custom_id": "a", "params": fields()}]
    for word, do in ("Batches", lambda: c.messages.batches.create(requests=requests)), ("Batches", lambda: c.messages.batches.list()), ("Files", lambda: c.files.list()):
        error = fails(anthropic.HTTPNotImplementedError, 501, do)
        holds(word in str(error), error)
    equal(len(seen), 3, "answers: trying again cannot help")


@check("errors: unknown model")
def _():
    c, seen = counting()
    for stream in False, True:
        error = fails(anthropic.NotFoundError, 404, lambda: c.messages.create(**fields(model="no-such-model", stream=stream)))
        equal(error.type, "not_found_error")
        holds("no-such-model" in error.api_message and model in error.api_message, error)
    fails(anthropic.NotFoundError, 404, lambda: c.messages.count_tokens(model="no-such-model", messages=say("hello")))
    equal(len(seen), 3, "answers")


@check("errors: bad field")
def _():
    error = fails(anthropic.BadRequestError, 400, lambda: ask(messages="hello"))
    equal(error.type, "invalid_request_error")
    for stream in False, True:  # these the engine says
        error = fails(anthropic.BadRequestError, 400, lambda: ask(extra_body={"temperature": -1}, stream=stream))
        holds("temperature" in error.api_message, error)
        error = fails(anthropic.BadRequestError, 400, lambda: ask(max_tokens=0, stream=stream))
        holds("max_tokens" in error.api_message, error)


@check("errors: wrong method, unknown route")
def _():
    error = fails(anthropic.APIStatusError, 405, lambda: client.get("/v1/messages", cast_to=object))
    equal(error.type, "invalid_request_error")


@check("errors: body too large")
def _():
    error = fails(anthropic.ContentTooLargeError, 413, lambda: ask("x" * (target["bodyLimit"] + 1)))
    equal(error.type, "request_too_large")


@check("errors: deadline")
def _():
    c, seen = counting()
    brief = {"x-radixbus-deadline-ms": "400"}
    error = fails(anthropic.GatewayTimeoutError, 504, lambda: c.messages.create(**fields(max_tokens=forever, timeout=30, extra_headers=brief)))
    equal((error.type, len(seen)), ("timeout_error", 1))
    heard = []

    def listen():
        for event in ask(max_tokens=forever, stream=True, extra_headers=brief):
            heard.append(event)

    error = fails(anthropic.APIStatusError, None, listen)
    equal(error.type, "timeout_error")
    holds(heard, "nothing before the deadline")
    freed()


@check("errors: client's own timeout")
def _():
    fails(anthropic.APITimeoutError, None, lambda: ask(max_tokens=forever, timeout=0.5))
    freed()


@check("errors: engine breaks off")
def _():
    heard = []

    def listen():
        with client.messages.stream(**fields(model=target["scripted"])) as events:
            for text in events.text_stream:
                heard.append(text)

    error = fails(anthropic.APIStatusError, None, listen)
    equal((error.body["error"]["code"], error.type, "".join(heard)), ("engine_broke", "api_error", "half of "))


@check("errors: gateway dies")
def _():
    doomed = stage("/doomed")
    events = Anthropic(base_url=doomed["url"], api_key="x", max_retries=0).messages.create(**fields(model=doomed["model"], max_tokens=forever, stream=True))
    next(events)
    stage("/doomed/kill")
    try:
        list(events)
    except Exception as error:  # of the HTTP client: this SDK has no word of its own for it
        holds("incomplete" in str(error) or "peer closed" in str(error), error)
    else:
        raise AssertionError("the stream ended as if it were whole")


# Trying again.


def asks(url, hook, **more):
    http = anthropic.DefaultHttpxClient(event_hooks={"response": [hook]})
    got = Anthropic(base_url=url, api_key="x", max_retries=10, http_client=http).messages.create(**fields(**more))
    holds(text_of(got), got)


@check("retries: no worker yet")
def _():
    late = stage("/late")
    seen = retried(lambda hook: asks(late["url"], hook, model=late["model"]), lambda: stage("/late/begin"))
    equal(seen, {(503, "1")})


@check("retries: gateway is full")
def _():
    half = {"pad": "x" * (target["bodyLimit"] * 3 // 4)}
    full = stage("/full")
    seen = retried(lambda hook: asks(full["url"], hook, model=full["model"], extra_body=half), lambda: stage("/full/free"))
    equal(seen, {(429, "1")})


# Leaving.


@check("cancel: stream closed")
def _():
    events = ask(max_tokens=forever, stream=True)
    next(events)
    busy()
    events.close()
    freed()
    with client.messages.stream(**fields(max_tokens=forever)) as events:
        next(iter(events.text_stream))
        busy()
    freed()


@check("cancel: whole answer")
def _():
    async def leave():
        async with AsyncAnthropic(base_url=URL, api_key="x", max_retries=0) as c:
            asked = asyncio.ensure_future(c.messages.create(**fields(max_tokens=forever, timeout=60)))
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
        async with AsyncAnthropic(base_url=URL, api_key="x") as c:

            async def one(user):
                asked = fields(f"User {user}: say something of your own.")
                want = text_of(await c.messages.create(**asked))
                async with c.messages.stream(**asked) as events:
                    equal("".join([text async for text in events.text_stream]), want)
                return want

            return await asyncio.gather(*(one(user) for user in range(16)))

    holds(len(set(asyncio.run(everybody()))) > 1, "all say the same")


run()
