"""Bulk clients that people use, for comparison: `python peers.py NAME IN OUT BASE IN_FLIGHT`. See `run.py`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any


def requests(path: str) -> list[dict[str, Any]]:
    with open(path) as file:
        return [json.loads(line) for line in file]


async def cookbook(source: str, out: str, base: str, in_flight: int) -> None:
    """A task per row over aiohttp, refilled budgets of requests and tokens, five attempts, a line appended for each."""
    import aiohttp

    capacity, updated, cooling = 1e9, time.monotonic(), 0.0
    running: set[asyncio.Task[None]] = set()

    def append(row: dict[str, Any], answer: Any) -> None:
        with open(out, "a") as file:
            file.write(json.dumps([row["body"], answer]) + "\n")

    async def call(session: aiohttp.ClientSession, row: dict[str, Any], attempts: int) -> None:
        nonlocal cooling
        for _ in range(attempts):
            try:
                async with session.post(f"{base}/chat/completions", json=row["body"]) as response:
                    answer = await response.json()
            except (aiohttp.ClientError, ValueError) as error:
                answer = {"error": repr(error)}
            if "error" not in answer:
                append(row, answer)
                return
            if "rate limit" in str(answer["error"]).lower():
                cooling = time.monotonic()
        append(row, answer)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:
        for row in requests(source):
            now = time.monotonic()
            capacity, updated = min(1e9, capacity + (now - updated) * 1e7), now
            capacity -= len(json.dumps(row["body"])) // 4
            task = asyncio.create_task(call(session, row, 5))
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(0.0)
            if time.monotonic() - cooling < 15 and cooling:
                await asyncio.sleep(15 - (time.monotonic() - cooling))
        while running:
            await asyncio.wait(running)


def write(path: str, lines: list[str]) -> None:
    with open(path, "w") as file:
        file.writelines(line + "\n" for line in lines)


async def _gathered(source: str, out: str, in_flight: int, one: Callable[[dict[str, Any]], Awaitable[str]]) -> None:
    slots = asyncio.Semaphore(in_flight)

    async def limited(row: dict[str, Any]) -> str:
        async with slots:
            try:
                return await one(row["body"])
            except Exception as error:
                return json.dumps({"error": repr(error)})

    answers = await asyncio.gather(*(limited(row) for row in requests(source)))
    write(out, answers)


async def openai(source: str, out: str, base: str, in_flight: int) -> None:
    """The official client with a semaphore."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=base) as client:

        async def one(body: dict[str, Any]) -> str:
            return (await client.chat.completions.create(**body)).model_dump_json()

        await _gathered(source, out, in_flight, one)


async def litellm(source: str, out: str, base: str, in_flight: int) -> None:
    """litellm's router, with limits and retries."""
    from litellm import Router

    model = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": base, "api_key": "sk-none"}}
    router = Router(model_list=[model], num_retries=5)

    async def one(body: dict[str, Any]) -> str:
        answer: Any = await router.acompletion(**body)
        return str(answer.model_dump_json())

    await _gathered(source, out, in_flight, one)


async def curator(source: str, out: str, base: str, in_flight: int) -> None:
    """bespokelabs-curator's LLM over the same prompts, its cache in a folder of its own."""
    import os
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(CURATOR_CACHE_DIR=folder, CURATOR_VIEWER="0", TELEMETRY_ENABLED="0", HF_HUB_OFFLINE="1")
        from bespokelabs import curator as library

        parameters = {"base_url": base, "api_key": "sk-none", "max_concurrent_requests": in_flight}
        model: Any = library.LLM(model_name="openai/m", backend="litellm", backend_params=parameters)
        texts = [row["body"]["messages"][-1]["content"] for row in requests(source)]
        answers: Any = await asyncio.to_thread(model, texts)
        write(out, [json.dumps(str(answer)) for answer in answers.dataset])


if __name__ == "__main__":
    name, source, out, base, in_flight = sys.argv[1:]
    asyncio.run(globals()[name](source, out, base, int(in_flight)))
