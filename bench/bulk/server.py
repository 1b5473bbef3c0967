"""A simulated API server that enforces limits, injects faults and counts every row, for measuring bulk clients.

`python server.py [OPTIONS]` prints one line of JSON, ``{"port": …, "control": …}``, and serves until its standard input
ends. The API is at ``http://127.0.0.1:PORT/v1``: chat completions, completions, embeddings, responses, moderations. A
row is identified by the first ``row-NUMBER`` in its request's body.

The control port takes ``GET /report`` (what was counted, as JSON), ``POST /set`` (a JSON object of options to change
from now on, ``{"rpm": 3000}``; ``{"down": true}`` closes the listener and every connection, ``{"down": false}`` opens
it again on the same port) and ``POST /reset`` (counts from zero). A repeated row that was already answered is counted
as paid twice, unless its ``Idempotency-Key`` is the one of the answered request and ``--idempotent`` is on.

One process, one thread, no dependencies: about 25 µs of CPU a request, so that the client dominates the measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import time
from collections import deque
from typing import Any

ROW = re.compile(rb"row-(\d+)")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
KEY = re.compile(rb"\r\nidempotency-key: *([^\r]+)", re.IGNORECASE)
MODEL = re.compile(rb'"model" ?: ?"([^"]*)"')
MAX_TOKENS = re.compile(rb'"max_(?:completion_|output_)?tokens" ?: ?(\d+)')
WORDS = b"The answer is brief, and as far as one can tell it is right. "
SLICE = 0.1  # seconds of one count of the timeline

OPTIONS: dict[str, tuple[Any, str]] = {
    "rpm": (0.0, "requests a minute; 0: no limit"),
    "tpm": (0.0, "tokens a minute, prompt and answer; 0: no limit"),
    "burst": (1.0, "seconds of a limit that an idle bucket holds"),
    "headers": (False, "say x-ratelimit-* in every answer"),
    "retry_after": ("", "in a 429: nothing, `exact`, or seconds as text"),
    "slots": (0, "requests served at once; 0: no limit; more wait in line"),
    "cap": (0, "requests served and waiting above which there is a 429; 0: no limit"),
    "queue": (0, "requests that may wait for a slot, above which there is a 503; 0: any number"),
    "latency": (0.0, "seconds that an answer takes in its slot"),
    "jitter": (0.0, "share of the latency by which it varies, ±"),
    "output": (20, "tokens of an answer, on average"),
    "spread": (0.5, "share of the output by which it varies, ±"),
    "drops": (0.0, "share of requests whose connection is closed before a byte"),
    "halves": (0.0, "share of answers cut in the middle of their body"),
    "silent": (0.0, "share of requests that are never answered"),
    "errors": (0.0, "share of requests answered with 500"),
    "bad": (0.0, "share of rows, always the same ones, refused with 400"),
    "quota": (0, "answers after which everything is a 429 insufficient_quota; 0: never"),
    "idempotent": (False, "answer a repeated Idempotency-Key from memory"),
    "pad": (0, "bytes added to each answer"),
    "seed": (0, "of the random numbers"),
    "port": (0, "0: any free one"),
}


class Bucket:
    """A limit per minute as a bucket that fills evenly and holds `burst` seconds of it."""

    def __init__(self) -> None:
        self.level = 0.0
        self.at = time.monotonic()

    def refill(self, per_minute: float, burst: float, now: float) -> float:
        capacity = max(per_minute / 60 * burst, 1.0)
        self.level = min(capacity, self.level + (now - self.at) * per_minute / 60)
        self.at = now
        return self.level

    def wait(self, amount: float, per_minute: float) -> float:
        """Return the seconds until `amount` fits."""
        return max(0.0, (amount - self.level) * 60 / per_minute)


class Counts:
    """The counts of the report."""

    def __init__(self) -> None:
        self.requests = 0
        self.answers: dict[int, int] = {}  # whole 2xx written, by row
        self.paid: dict[int, int] = {}  # 2xx made, written or not, by row
        self.keys: dict[bytes, int] = {}  # answered Idempotency-Keys and how often they came again
        self.tokens = 0
        self.statuses: dict[int, int] = {}
        self.faults = {"drops": 0, "halves": 0, "silent": 0}
        self.began = 0.0
        self.last = 0.0
        self.timeline: dict[int, list[float]] = {}  # slice: admitted requests, their tokens, 429s
        self.in_flight = self.most = 0

    def slice(self, now: float) -> list[float]:
        at = int(now / SLICE)
        found = self.timeline.get(at)
        if found is None:
            found = self.timeline[at] = [0, 0, 0]
        return found


class Service:
    """The options, the limits and the work of the server, shared by all connections."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.__dict__.update(options)
        self.options = options
        self.random = random.Random(options["seed"])
        self.requests, self.tokens = Bucket(), Bucket()
        self.counts = Counts()
        self.connections: set[Connection] = set()
        self.busy = 0
        self.waiting: deque[tuple[Connection, bytes, int, bytes, int]] = deque()
        self.server: asyncio.Server | None = None
        self.fixed = random.Random(1)

    rpm: float
    tpm: float
    burst: float
    headers: bool
    retry_after: str
    slots: int
    cap: int
    queue: int
    latency: float
    jitter: float
    output: int
    spread: float
    drops: float
    halves: float
    silent: float
    errors: float
    bad: float
    quota: int
    idempotent: bool
    pad: int
    port: int

    # ------------------------------------------------------------ one request

    def handle(self, connection: Connection, head: bytes, body: bytes) -> None:
        counts = self.counts
        now = time.monotonic()
        counts.requests += 1
        counts.began = counts.began or now
        counts.last = now
        path = head[head.find(b"/") : head.find(b" HTTP/")]
        found = ROW.search(body)
        row = int(found[1]) if found else -1
        chance = self.random.random()
        if chance < (edge := self.drops):
            counts.faults["drops"] += 1
            connection.transport.abort()
            return
        if chance < (edge := edge + self.silent):
            counts.faults["silent"] += 1
            return
        if chance < edge + self.errors:
            self.refuse(connection, 500, "server_error", "The server had an error while processing your request.")
            return
        key = KEY.search(head)
        if self.idempotent and key and key[1] in counts.keys:
            counts.keys[key[1]] += 1
            self.write(connection, path, body, row, 1, 0.0)
            return
        if self.bad and self.is_bad(row):
            self.refuse(connection, 400, "invalid_request_error", "The prompt of this row is refused.", "bad_row")
            return
        if self.quota and len(counts.answers) >= self.quota:
            self.refuse(connection, 429, "insufficient_quota", "You exceeded your current quota.", "insufficient_quota")
            return
        spent = self.output if not self.spread else self.random.uniform(1 - self.spread, 1 + self.spread) * self.output
        output = max(1, int(spent))
        if limit := MAX_TOKENS.search(body):
            output = min(output, int(limit[1]))
        if not self.admit(connection, len(body) // 4 + output, now):
            return
        self.enter(connection, path, row, body, output)
        if key:
            counts.keys.setdefault(key[1], 0)

    def is_bad(self, row: int) -> bool:
        return (row * 2654435761 % 2**32) / 2**32 < self.bad

    def admit(self, connection: Connection, tokens: int, now: float) -> bool:
        """Book a request on the limits, or refuse it."""
        counts = self.counts
        if self.cap and counts.in_flight >= self.cap:
            self.refuse(connection, 429, "rate_limit_exceeded", "Too many concurrent requests.", "rate_limit_exceeded")
            counts.slice(now)[2] += 1
            return False
        wait = 0.0
        what = "requests"
        if self.rpm and self.requests.refill(self.rpm, self.burst, now) < 1:
            wait = self.requests.wait(1, self.rpm)
        if self.tpm:
            level = self.tokens.refill(self.tpm, self.burst, now)
            capacity = max(self.tpm / 60 * self.burst, 1.0)
            # A request larger than the bucket passes when the bucket is full, and leaves a debt.
            if level < min(tokens, capacity):
                wait, what = max(wait, self.tokens.wait(min(tokens, capacity), self.tpm)), "tokens"
        if wait:
            message = f"Rate limit reached for {what} per min. Please try again in {max(1, int(wait * 1000))}ms."
            self.refuse(connection, 429, what, message, "rate_limit_exceeded", wait)
            counts.slice(now)[2] += 1
            return False
        self.requests.level -= 1
        self.tokens.level -= tokens
        found = counts.slice(now)
        found[0] += 1
        found[1] += tokens
        counts.tokens += tokens
        return True

    def enter(self, connection: Connection, path: bytes, row: int, body: bytes, output: int) -> None:
        counts = self.counts
        if self.slots and self.busy >= self.slots and self.queue and len(self.waiting) >= self.queue:
            self.refuse(connection, 503, "overloaded", "The server is overloaded.")
            return
        counts.in_flight += 1
        counts.most = max(counts.most, counts.in_flight)
        if self.slots and self.busy >= self.slots:
            self.waiting.append((connection, path, row, body, output))
            return
        self.serve(connection, path, row, body, output)

    def serve(self, connection: Connection, path: bytes, row: int, body: bytes, output: int) -> None:
        self.busy += 1
        if not self.latency:
            self.finish(connection, path, row, body, output)
            return
        seconds = self.latency
        if self.jitter:
            seconds *= self.random.uniform(1 - self.jitter, 1 + self.jitter)
        connection.loop.call_later(seconds, self.finish, connection, path, row, body, output)

    def finish(self, connection: Connection, path: bytes, row: int, body: bytes, output: int) -> None:
        counts = self.counts
        self.busy -= 1
        counts.in_flight -= 1
        counts.last = time.monotonic()
        counts.paid[row] = counts.paid.get(row, 0) + 1
        half = bool(self.halves) and self.random.random() < self.halves
        if not connection.transport.is_closing():
            if half:
                counts.faults["halves"] += 1
            else:
                counts.answers[row] = counts.answers.get(row, 0) + 1
            self.write(connection, path, body, row, output, 0.5 if half else 0.0)
        while self.waiting and (not self.slots or self.busy < self.slots):
            waiter = self.waiting.popleft()
            if waiter[0].transport.is_closing():
                counts.in_flight -= 1
            else:
                self.serve(*waiter)

    # ------------------------------------------------------------ what is written

    def write(self, connection: Connection, path: bytes, body: bytes, row: int, output: int, cut: float) -> None:
        model = MODEL.search(body)
        name = model[1].decode() if model else "model"
        answer = answer_to(path, body, row, name, len(body) // 4, output, self.pad)
        if answer is None:
            self.refuse(connection, 404, "invalid_request_error", "Unknown request URL.", "unknown_url")
            return
        whole = b"%bcontent-length: %d\r\n\r\n%b" % (self.head(200, row), len(answer), answer)
        self.counts.statuses[200] = self.counts.statuses.get(200, 0) + 1
        if cut:
            connection.transport.write(whole[: len(whole) - int(len(answer) * cut)])
            connection.transport.close()
        else:
            connection.transport.write(whole)

    def refuse(
        self, connection: Connection, status: int, kind: str, message: str, code: str | None = None, wait: float = 0.0
    ) -> None:
        body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()
        head = self.head(status, -1)
        if status == 429 and self.retry_after:
            seconds = f"{wait:.3f}" if self.retry_after == "exact" else self.retry_after
            head += b"retry-after: %b\r\n" % seconds.encode()
        self.counts.statuses[status] = self.counts.statuses.get(status, 0) + 1
        connection.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))

    def head(self, status: int, row: int) -> bytes:
        head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nx-request-id: req_%d_%d\r\n" % (
            status,
            max(row, 0),
            self.counts.requests,
        )
        if self.headers:
            for name, limit, bucket in (("requests", self.rpm, self.requests), ("tokens", self.tpm, self.tokens)):
                if limit:
                    capacity = limit / 60 * self.burst
                    left = max(0.0, bucket.level) * limit / max(capacity, 1)  # as if the bucket held a minute
                    reset = max(0.0, capacity - bucket.level) * 60 / limit
                    head += (
                        f"x-ratelimit-limit-{name}: {limit:.0f}\r\nx-ratelimit-remaining-{name}: {left:.0f}\r\n"
                        f"x-ratelimit-reset-{name}: {reset * 1000:.0f}ms\r\n"
                    ).encode()
        return head

    # ------------------------------------------------------------ control

    async def listen(self) -> int:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, backlog=4096)
        self.port = self.server.sockets[0].getsockname()[1]
        return self.port

    async def change(self, options: dict[str, Any]) -> None:
        down = options.pop("down", None)
        unknown = options.keys() - OPTIONS.keys()
        if unknown:
            raise ValueError(f"no option {min(unknown)!r}")
        for name, value in options.items():
            setattr(self, name, type(OPTIONS[name][0])(value))
            self.options[name] = getattr(self, name)
        if down is True and self.server is not None:
            self.server.close()
            self.server = None
            for connection in list(self.connections):
                connection.transport.abort()
        elif down is False and self.server is None:
            await self.listen()

    def report(self) -> dict[str, Any]:
        """Return what was counted; `share` is that of the limit used most, in the middle of the run (see `steady`)."""
        counts = self.counts
        rows = [row for row in counts.paid if row >= 0]
        steady = self.steady()
        shares = (
            [
                steady[index] * 60 / limit
                for index, limit in ((0, self.rpm), (1, self.tpm))
                if limit and steady is not None
            ]
            if steady
            else []
        )
        return {
            "requests": counts.requests,
            "rows": len(rows),
            "answered_rows": len(counts.answers),
            "answers": sum(counts.answers.values()),
            "paid_twice": sum(count - 1 for count in counts.paid.values() if count > 1),
            "paid_twice_rows": sorted(row for row, count in counts.paid.items() if count > 1)[:10_000],
            "delivered_twice": sum(count - 1 for count in counts.answers.values() if count > 1),
            "refused": counts.statuses.get(429, 0),
            "refused_per_1000": 1000 * counts.statuses.get(429, 0) / max(1, len(rows)),
            "statuses": {str(status): count for status, count in sorted(counts.statuses.items())},
            "faults": counts.faults,
            "idempotent_replays": sum(counts.keys.values()),
            "tokens": counts.tokens,
            "seconds": counts.last - counts.began,
            "per_second": len(rows) / max(1e-9, counts.last - counts.began),
            "share": max(shares, default=None),
            "in_flight": counts.in_flight,
            "most_in_flight": counts.most,
            "connections": len(self.connections),
            "timeline": [[at * SLICE - counts.began, *found] for at, found in sorted(counts.timeline.items())],
        }

    def steady(self) -> tuple[float, float] | None:
        """Admitted requests and tokens a second, without the first 2 s and the last second (if there is a middle)."""
        found = self.counts.timeline
        if not found:
            return None
        first, last = min(found), max(found)
        begin, end = first + int(2 / SLICE), last - int(1 / SLICE)
        if end - begin < 10:
            begin, end = first, last + 1
        middle = [count for at, count in found.items() if begin <= at < end]
        seconds = (end - begin) * SLICE
        return sum(count[0] for count in middle) / seconds, sum(count[1] for count in middle) / seconds


def answer_to(path: bytes, body: bytes, row: int, model: str, prompt: int, output: int, pad: int) -> bytes | None:
    """Return the body of a 2xx, or `None` for a path that is not served."""
    # Percent formatting of bytes is several times as fast as encoding an object.
    text = b"%b(row-%d)%b" % (WORDS, row, b"." * pad)
    name = model.encode()
    if path.endswith(b"/chat/completions"):
        return (
            b'{"id":"chatcmpl-%d","object":"chat.completion","created":1700000000,"model":"%b","choices":[{"index":0,'
            b'"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,'
            b'"completion_tokens":%d,"total_tokens":%d}}' % (row, name, text, prompt, output, prompt + output)
        )
    if path.endswith(b"/embeddings"):
        inputs = json.loads(body)
        given = inputs["input"]
        count = len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1
        as_base64 = inputs.get("encoding_format") == "base64"
        vector = '"' + "AACAPwAAAEAAAEBAAACAQA==" + '"' if as_base64 else "[1.0,2.0,3.0,4.0]"
        data = ",".join(f'{{"object":"embedding","index":{index},"embedding":{vector}}}' for index in range(count))
        return (
            f'{{"object":"list","data":[{data}],"model":"{model}","usage":{{"prompt_tokens":{prompt},'
            f'"total_tokens":{prompt}}}}}'
        ).encode()
    if path.endswith(b"/completions"):
        return (
            b'{"id":"cmpl-%d","object":"text_completion","created":1700000000,"model":"%b","choices":[{"index":0,'
            b'"text":"%b","logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,'
            b'"total_tokens":%d}}' % (row, name, text, prompt, output, prompt + output)
        )
    if path.endswith(b"/responses"):
        return (
            b'{"id":"resp_%d","object":"response","created_at":1700000000,"status":"completed","model":"%b","output":'
            b'[{"type":"message","id":"msg_%d","status":"completed","role":"assistant","content":[{"type":"output_text",'
            b'"text":"%b","annotations":[]}]}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":'
            b'{"input_tokens":%d,"input_tokens_details":{"cached_tokens":0},"output_tokens":%d,"output_tokens_details":'
            b'{"reasoning_tokens":0},"total_tokens":%d}}' % (row, name, row, text, prompt, output, prompt + output)
        )
    if path.endswith(b"/moderations"):
        return b'{"id":"modr-%d","model":"%b","results":[{"flagged":false,"categories":{},"category_scores":{}}]}' % (
            row,
            name,
        )
    if path.endswith(b"/models"):
        return b'{"object":"list","data":[{"id":"model","object":"model","created":1700000000,"owned_by":"bench"}]}'
    return None


class Connection(asyncio.Protocol):
    """One connection of a client; requests on it are answered one after another."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self.service = service
        self.have = b""
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.service.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.service.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        have = self.have + data if self.have else data
        while (end := have.find(b"\r\n\r\n")) >= 0:
            length = LENGTH.search(have, 0, end + 2)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(have) < total:
                break
            head, body, have = have[: end + 2], have[end + 4 : total], have[total:]
            self.service.handle(self, head, body)
        self.have = have


async def control(service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request on the control port."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        status, answer = 200, b"{}"
        try:
            if head.startswith(b"GET /report"):
                answer = json.dumps(service.report()).encode()
            elif head.startswith(b"POST /set"):
                await service.change(json.loads(body))
            elif head.startswith(b"POST /reset"):
                service.counts = Counts()
            else:
                status = 404
        except (ValueError, TypeError) as error:
            status, answer = 400, json.dumps({"error": str(error)}).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(answer), answer)
        )
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(options: dict[str, Any]) -> None:
    service = Service(options)
    port = await service.listen()
    controls = await asyncio.start_server(lambda r, w: control(service, r, w), "127.0.0.1", 0)
    print(json.dumps({"port": port, "control": controls.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def parsed_options(words: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, text) in OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true", help=text)
        else:
            parser.add_argument(flag, type=type(default), default=default, help=f"{text} (default {default!r})")
    return vars(parser.parse_args(words))


if __name__ == "__main__":
    asyncio.run(main(parsed_options()))
