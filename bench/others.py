"""Measure imports, first calls, encoding and memory, each in separate processes."""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

_START = """
import json, resource, sys
sys.path.insert(0, {here!r})
def usage():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
def rss():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
"""
_CLIENT = {
    "ours": "import openaiasync; client = openaiasync.Client(api_base={base!r} + '/chat', api_key='k', model='m', "
    "http_max_in_flight=4000, http_other={{'trust_env': False}})",
    "openai": "import openai; client = openai.AsyncOpenAI(base_url={base!r} + '/chat', api_key='k', timeout=60)",
}
_CALL = {
    "ours": "client.chat(messages())",
    "openai": "client.chat.completions.create(model='m', messages=messages())",
}
_IMPORT = """
before, least = usage(), rss()
{client}
print(json.dumps([(usage() - before) * 1e3, (rss() - least) / 1024]))
"""
_FIRST = """
import asyncio
from payloads import messages
{client}
async def main():
    before = usage()
    await {call}
    print(json.dumps([(usage() - before) * 1e3]))
asyncio.run(main())
"""
_WAITING = """
import asyncio, os
from contenders import CONTENDERS
async def main():
    contender = CONTENDERS[{who!r}]({base!r}, 4000)
    await contender.open()
    await contender.chat("chat")
    before, last = rss(), 0
    tasks = []
    for _ in range(40):  # not all at once: a client may give up connecting after some seconds
        tasks += [asyncio.create_task(contender.chat("hold")) for _ in range(50)]
        await asyncio.sleep(0.3)
    for _ in range(30):
        await asyncio.sleep(2)
        earlier, last = last, rss()
        if earlier == last:  # all are sent: nothing more is allocated
            break
    assert not any(task.done() for task in tasks)
    print(json.dumps([(last - before) / 2000]), flush=True)
    os._exit(0)
asyncio.run(main())
"""
_ENCODE = {
    "ours": """
from payloads import messages
from openaiasync.endpoints import CHAT_COMPLETIONS_CREATE
{client}
params = {{"messages": messages(), "model": "m"}}
encode = lambda: client._calls.request(CHAT_COMPLETIONS_CREATE, params)
""",
    "openai": """
from payloads import messages
from openai._models import FinalRequestOptions
from openai._utils import maybe_transform
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming as Params
{client}
params = {{"messages": messages(), "model": "m"}}
def encode():
    body = maybe_transform(params, Params)
    return client._build_request(FinalRequestOptions.construct(method="post", url="/chat/completions", json_data=body))
""",
}
_TIMED = """
encode()
best = 1e9
for _ in range(30):
    before = usage()
    for _ in range({times}):
        encode()
    best = min(best, (usage() - before) / {times} * 1e6)
print(json.dumps([best]))
"""
_FLAT = """
import asyncio
from payloads import messages
{client}
said = messages()
async def many(count):
    for _ in range(count):
        await client.chat(said)
async def main():
    await asyncio.gather(*(many(100) for _ in range(50)))
    before = rss()
    await asyncio.gather(*(many(1900) for _ in range(50)))
    print(json.dumps([(rss() - before) / 1024]))
asyncio.run(main())
"""


def _run(python: str, code: str) -> list[float]:
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr else "it failed")
    return [float(value) for value in json.loads(done.stdout.strip().splitlines()[-1])]


def others(base: str, python: str, times: int = 5) -> dict[str, Any]:
    """Return medians by row and contender; print why a contender that is left out cannot be measured."""
    found: dict[str, Any] = {}

    def add(row: str, who: str, code: str, count: int = times) -> None:
        start = _START.format(here=str(HERE))
        try:
            runs = [_run(python, start + code) for _ in range(count)]
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"    {row} without {who}: {error}")
            return
        found.setdefault(row, {})[who] = [statistics.median(column) for column in zip(*runs, strict=True)]
        print(f"{row}: {who} {[round(value, 2) for value in found[row][who]]}", flush=True)

    for who in ("ours", "openai"):
        client = _CLIENT[who].format(base=base)
        add("import", who, _IMPORT.format(client=client))
        add("first call", who, _FIRST.format(client=client, call=_CALL[who]))
        timed = _TIMED.format(times=500 if who == "ours" else 20)
        add("encoding", who, _ENCODE[who].format(client=client) + timed)
    for who in ("ours", "aiohttp+msgspec", "openai"):
        add("waiting", who, _WAITING.format(who=who, base=base), 1)
    add("100,000 calls", "ours", _FLAT.format(client=_CLIENT["ours"].format(base=base)), 1)
    return found
