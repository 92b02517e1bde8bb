#!/usr/bin/env python3
"""Engines whose streams say whose they are: every token repeats the mark that its prompt begins with.

  echo_engine.py --port P --n 4 --model NAME --pace SECONDS

A prompt is `MARK …`; token i of its answer is `MARK:i `. So a client sees at once when it is given what is another's. Thousands of slow
streams at a time, one process, loopback only.
"""

import argparse
import asyncio
import json
import resource


class Exchange(asyncio.Protocol):
    """One connection: requests one after the other."""

    def __init__(self, options):
        self.options = options
        self.buffer = b""
        self.transport = None
        self.busy = None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, _):
        if self.busy:
            self.busy.cancel()

    def data_received(self, data):
        self.buffer += data
        while not self.busy and b"\r\n\r\n" in self.buffer:
            head, _, rest = self.buffer.partition(b"\r\n\r\n")
            line, *fields = head.split(b"\r\n")
            headers = {key.strip().lower(): value.strip() for key, _, value in (field.partition(b":") for field in fields)}
            if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
                body, rest = dechunked(rest)
            else:
                length = int(headers.get(b"content-length", 0))
                body, rest = rest[:length], rest[length:] if len(rest) >= length else None
            if rest is None:
                return
            self.buffer = rest
            self.answer(line.split()[1].decode(), body)

    def answer(self, path, body):
        if path.endswith("/completions"):
            request = json.loads(body)
            mark = request["messages"][0]["content"].split()[0] if "messages" in request else request["prompt"].split()[0]
            tokens = int(request.get("max_tokens") or request.get("max_completion_tokens") or 16)
            if request.get("stream"):
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                self.token(mark, 0, tokens, len(body))
                return
            text = "".join(f"{mark}:{i} " for i in range(tokens))
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "length"}
            usage = {"prompt_tokens": len(body) // 4, "completion_tokens": tokens, "total_tokens": len(body) // 4 + tokens}
            self.whole({"id": mark, "object": "chat.completion", "model": self.options.model, "choices": [choice], "usage": usage})
            return
        known = {
            "/health": {}, "/abort_request": {},
            "/v1/models": {"object": "list", "data": [{"id": self.options.model, "object": "model", "owned_by": "sglang", "max_model_len": 131072}]},
            "/server_info": self.info(), "/get_server_info": self.info(),
            "/model_info": {"model_path": self.options.model, "is_generation": True}, "/get_model_info": {"model_path": self.options.model, "is_generation": True},
        }
        document = known.get(path.partition("?")[0])
        self.whole(document if document is not None else {"error": "no such route"}, "200 OK" if document is not None else "404 Not Found")

    def info(self):
        return {
            "version": "0.5.0", "served_model_name": self.options.model, "model_path": self.options.model, "page_size": 1, "dp_size": 1, "tp_size": 1,
            "max_total_num_tokens": 1 << 40, "max_running_requests": 100_000, "context_length": 131072,
        }

    def whole(self, document, status="200 OK"):
        body = json.dumps(document).encode()
        self.transport.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body))

    def token(self, mark, number, of, length):
        """Sends a token, and comes again after the pace."""
        last = number == of - 1
        delta = {"role": "assistant", "content": f"{mark}:{number} "} if number == 0 else {"content": f"{mark}:{number} "}
        self.event(json.dumps(self.part([{"index": 0, "delta": delta, "finish_reason": "length" if last else None}])))
        if not last:
            self.busy = asyncio.get_running_loop().call_later(self.options.pace, self.token, mark, number + 1, of, length)
            return
        usage = {"prompt_tokens": length // 4, "completion_tokens": of, "total_tokens": length // 4 + of}
        self.event(json.dumps({**self.part([]), "usage": usage}))
        self.event("[DONE]")
        self.transport.write(b"0\r\n\r\n")
        self.busy = None
        self.data_received(b"")

    def part(self, choices):
        return {"id": "echo", "object": "chat.completion.chunk", "created": 0, "model": self.options.model, "choices": choices}

    def event(self, data):
        text = b"data: " + data.encode() + b"\n\n"
        self.transport.write(b"%x\r\n%s\r\n" % (len(text), text))


def dechunked(rest):
    """The body as far as it is there, and what follows it: nothing before its end is there."""
    body = b""
    while True:
        size, found, more = rest.partition(b"\r\n")
        if not found:
            return body, None
        length = int(size, 16)
        body += more[:length]
        if len(more) < length + 2:
            return body, None
        rest = more[length + 2 :]
        if length == 0:
            return body, rest


async def serve(options):
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: Exchange(options), "127.0.0.1", options.port + i, backlog=4096) for i in range(options.n)
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--n", type=int, default=1)
    parser.add_argument("--model", default="echo")
    parser.add_argument("--pace", type=float, default=0.0)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
