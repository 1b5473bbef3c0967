"""Client CPU, memory and losses of bulk clients, side by side, against the simulated server of `server.py`.

`python bench/bulk/run.py [--rows N] [--peers PYTHON] [CONTENDER ...]` runs each contender in a process of its own and
prints a table. `--peers` is a Python with `openai`, `aiohttp`, `litellm` and `bespokelabs-curator`, of which those that
are missing are skipped; without it only this library is measured.

Contenders: job (durable, everything on), cookbook (a script like the well-known parallel processor: a task
per row over aiohttp, requests and tokens booked, five attempts), openai (the official client behind a semaphore),
litellm (its router) and curator (bespokelabs-curator over litellm).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from serving import running

IN_FLIGHT = 64
CONTENDERS = ("job", "cookbook", "openai", "litellm", "curator")
PACKAGES = {"cookbook": "aiohttp", "openai": "openai", "litellm": "litellm", "curator": "bespokelabs.curator"}


def write_rows(path: Path, count: int) -> None:
    """A file of chats in the Batch format; the text names the row."""
    with open(path, "w") as file:
        for number in range(count):
            text = f"Please classify the following text number row-{number} and say what it is."
            body = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 50}
            row = {"custom_id": f"k{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(row) + "\n")


def command(name: str, python: str, source: Path, out: Path, base: str) -> list[str]:
    if name == "job":
        words = [sys.executable, "-m", "openaiasync", "run", str(source), "-o", str(out), "--base-url", base]
        # A table of prices: the package genai-prices, where it is installed, takes 18 MB and 0.3 s of its own.
        prices = source.with_name("prices.json")
        prices.write_text('{"*": [0.5, 1.5]}')
        return [*words, "--max-in-flight", str(IN_FLIGHT), "--prices", str(prices)]
    return [python, str(Path(__file__).with_name("peers.py")), name, str(source), str(out), base, str(IN_FLIGHT)]


def measure(name: str, python: str, rows: int, **server: Any) -> dict[str, Any]:
    """Run a contender once; CPU seconds and peak memory are those of its process, including start and imports."""
    with tempfile.TemporaryDirectory() as folder, running(**server) as simulated:
        source, out = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        write_rows(source, rows)
        process = subprocess.Popen(
            command(name, python, source, out, simulated.base),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OPENAI_API_KEY": "sk-none", "LITELLM_LOG": "ERROR"},
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        report = simulated.report()
        return {
            "contender": name,
            "rows": rows,
            "cpu_ms_per_row": 1000 * (usage.ru_utime + usage.ru_stime) / rows,
            "rss_mb": usage.ru_maxrss / 1024,
            "lost": rows - report["answered_rows"],
            "refused_per_1000": report["refused_per_1000"],
            "paid_twice": report["paid_twice"],
            "share": report["share"],
            "seconds": report["seconds"],
            "exit": os.waitstatus_to_exitcode(status),
            "said": said.decode(errors="replace")[-300:] if status else "",
        }


def missing(name: str, python: str) -> str:
    """Why a contender cannot be run with this Python: the last line of the failed import; ``""`` if it can."""
    if name not in PACKAGES:
        return ""
    tried = subprocess.run([python, "-c", f"import {PACKAGES[name]}"], capture_output=True, text=True, check=False)
    return (tried.stderr.strip().splitlines() or ["the import failed"])[-1] if tried.returncode else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contenders", nargs="*", default=[])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--peers", default="")
    parser.add_argument("--rpm", type=float, default=0.0)
    given = parser.parse_args()
    names = given.contenders or (CONTENDERS if given.peers else CONTENDERS[:1])
    for name in names:
        if reason := missing(name, given.peers):
            print(f"{name:10} skipped: {reason}", flush=True)
            continue
        found = measure(name, given.peers, given.rows, latency=0.01, rpm=given.rpm)
        print(
            f"{name:10} {found['cpu_ms_per_row']:7.3f} ms/row  {found['rss_mb']:6.1f} MB  lost {found['lost']:5}  "
            f"429s/1000 {found['refused_per_1000']:7.1f}  {found['seconds']:6.1f} s  {found['said']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
