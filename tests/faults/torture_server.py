"""A server that answers rightly or with any of the fault scenarios, drawn at random; a process that may be killed.

``python -m faults.torture_server SEED FAULTS LOG`` reads a port from stdin (0: any), prints ``ready`` and the port, and
writes to LOG which scenario answered which request (the request's ``X-Torture`` field, a tab, the scenario's name).
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TextIO

from scripted import CHAT, LAST_CHUNK, STREAM_HEAD, answer, chunk, event, json_answer
from wireserver import Peer, Request, Server

from .harness import REGISTERED
from .scenario import HEAD, READ, Played, Scenario, act

MODULES = ("bodies", "connecting", "events", "heads", "json", "keepalive", "statuses", "uploads")
ECHOES = 0.15  # of all faults
SOUND = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(300_000)


def by_call() -> dict[str, list[Scenario]]:
    """The scenarios of each call that one request on a plain connection can meet."""
    for name in MODULES:
        importlib.import_module(f"faults.test_{name}")
    found: dict[str, list[Scenario]] = {}
    for scenario in REGISTERED:
        if scenario.tls is None and "{port}" in scenario.base and first_steps(scenario):
            found.setdefault(scenario.call, []).append(scenario)
    return found


def first_steps(scenario: Scenario) -> tuple[Any, ...]:
    """What the server does once the first request was read, up to the next one."""
    steps = tuple(scenario.steps)
    if steps and isinstance(steps[0], tuple):
        steps = tuple(steps[0])
    if not steps or steps[0] not in (READ, HEAD):
        return ()
    rest = steps[1:]
    ends = [at for at, step in enumerate(rest) if step is READ or step is HEAD]
    return rest[: ends[0]] if ends else rest


class Behaviour:
    """Decides for each request."""

    def __init__(self, seed: int, faults: float, log: TextIO) -> None:
        self.dice = random.Random(seed)
        self.faults = faults
        self.log = log
        self.scenarios = by_call()

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.request()
            kind = kind_of(request)
            if self.dice.random() < self.faults * ECHOES:
                self.log.write(f"{request.field('x-torture')}\techo\n")
                self.log.flush()
                await echo(peer, request, kind, self.dice)
                return
            choice = self.scenarios.get(kind)
            if not choice or self.dice.random() >= self.faults:
                await self.answer(peer, request, kind)
                continue
            scenario = self.dice.choice(choice)
            self.log.write(f"{request.field('x-torture')}\t{scenario.name}\n")
            self.log.flush()
            await act(peer, first_steps(scenario), Played())
            return

    async def answer(self, peer: Peer, request: Request, kind: str) -> None:
        await ANSWERS.get(kind, plain)(peer, request, self.dice)


async def echo(peer: Peer, request: Request, kind: str, dice: random.Random) -> None:
    """Sends the key back, as servers do that want to be helpful."""
    key = (request.field("authorization") or "").removeprefix("Bearer ")
    error = {"error": {"message": f"the key {key} is wrong", "code": key, "param": {"was": [key]}}}
    forms = [
        json_answer(error, dice.choice([400, 401, 404, 429, 500]), X_Request_Id=key),
        answer(f"<html><body>who is {key}?</body></html>".encode(), 403, content_type="text/html"),
        answer(f"Bearer {key}".encode(), 500, content_type="text/plain"),
        json_answer(error),
        json_answer({"detail": [{"msg": "wrong", "input": {"headers": {"authorization": f"Bearer {key}"}}}]}, 422),
        STREAM_HEAD + event(chunk("re")) + event(error) + LAST_CHUNK,
        answer(key.encode(), 307, Location=f"http://elsewhere.example/?key={key}"),
        json_answer({"choices": key}),
    ]
    await peer.send(dice.choice(forms))


def kind_of(request: Request) -> str:
    method, target, _ = request.line.split(" ")
    path = target.partition("?")[0].removeprefix("/v1")
    streams = b'"stream":true' in request.body.replace(b" ", b"")
    names = {
        "/embeddings": "embedding", "/models": "models", "/audio/speech": "speech", "/responses": "responses",
        "/images/generations": "image",
    }  # fmt: skip
    if path == "/chat/completions":
        return "stream" if streams else "chat"
    if path == "/files":
        return "upload"
    if path.startswith("/files/"):
        return "delete" if method == "DELETE" else "content"
    found = names.get(path, "")
    return f"{found}_stream" if found == "responses" and streams else found


def said(body: dict[str, Any]) -> str:
    """What a right answer to a chat says: it belongs to this request and to no other."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return f"tool said {last['content']}"
    if body.get("response_format"):
        return json.dumps({"number": 7})
    return f"re {last['content']}"


def calls(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The tool calls that a model with tools makes after a question."""
    if not body.get("tools") or body["messages"][-1]["role"] != "user":
        return None
    names = [tool["function"]["name"] for tool in body["tools"]]
    return [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": '{"word": "x"}'}}
        for at, name in enumerate(names)
    ]


async def chat(peer: Peer, request: Request, dice: random.Random) -> None:
    body = json.loads(request.body)
    made, wanted = json.loads(json.dumps(CHAT)), calls(body)
    choice = made["choices"][0]
    if wanted:
        choice["message"] |= {"content": None, "tool_calls": wanted}
        choice["finish_reason"] = "tool_calls"
    else:
        choice["message"]["content"] = said(body)
    made["usage"] = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    await asyncio.sleep(dice.random() * 0.02)
    await peer.send(json_answer(made))


async def stream(peer: Peer, request: Request, dice: random.Random) -> None:
    body = json.loads(request.body)
    wanted = calls(body)
    parts: list[Any] = []
    if wanted:
        piece = chunk()
        piece["choices"][0]["delta"]["tool_calls"] = [{"index": at, **one} for at, one in enumerate(wanted)]
        parts += [piece, chunk(finish="tool_calls")]
    else:
        text = said(body)
        parts += [chunk(text[at : at + 4]) for at in range(0, len(text), 4)] + [chunk(finish="stop")]
    await peer.send(STREAM_HEAD)
    for part in parts:
        await asyncio.sleep(dice.random() * 0.01)
        await peer.send(event(part))
    await peer.send(event("[DONE]") + LAST_CHUNK)


async def sound(peer: Peer, request: Request, dice: random.Random) -> None:
    raw = answer(SOUND, content_type="audio/wav")
    await peer.send(*(raw[at : at + 65_536] for at in range(0, len(raw), 65_536)), pause=dice.random() * 0.01)


async def embedding(peer: Peer, request: Request, dice: random.Random) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    await peer.send(json_answer({"object": "list", "model": "m", "data": data, "usage": {"total_tokens": 1}}))


async def models(peer: Peer, request: Request, dice: random.Random) -> None:
    await peer.send(json_answer({"object": "list", "data": [{"id": "m", "object": "model"}]}))


async def image(peer: Peer, request: Request, dice: random.Random) -> None:
    await peer.send(json_answer({"created": 1, "data": [{"b64_json": "aW1hZ2U="}]}))


async def upload(peer: Peer, request: Request, dice: random.Random) -> None:
    await peer.send(json_answer({"id": f"file-{len(request.body)}", "object": "file", "bytes": len(request.body)}))


async def plain(peer: Peer, request: Request, dice: random.Random) -> None:
    await peer.send(json_answer({"error": {"message": "nothing here"}}, 404))


ANSWERS: dict[str, Callable[[Peer, Request, random.Random], Awaitable[None]]] = {
    "chat": chat,
    "stream": stream,
    "speech": sound,
    "content": sound,
    "embedding": embedding,
    "models": models,
    "image": image,
    "upload": upload,
}


async def main(seed: int, faults: float, log: str) -> None:
    with open(log, "a", encoding="utf-8") as file:  # noqa: ASYNC230 (before anything runs)
        behaviour = Behaviour(seed, faults, file)
        port = int(sys.stdin.readline() or -1)  # it is to take the place of one that is killed
        if port < 0:
            return
        server = Server(behaviour, port=port)
        async with server:
            print("ready", server.port, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]))
