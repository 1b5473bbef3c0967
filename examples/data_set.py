"""Makes a data set: three variants of each seed text, as a durable job that the same program continues."""

import asyncio
import json
from pathlib import Path

from openaiasync import Client

SEEDS = ["a delayed train", "a lost umbrella", "a very small dog"]


def write_requests(path: Path) -> None:
    with open(path, "w") as file:
        for seed in SEEDS:
            for variant in range(3):
                body = {
                    "messages": [{"role": "user", "content": f"Write one sentence about {seed}."}],
                    "temperature": 1,
                    "seed": variant,
                }
                name = f"{seed}/{variant}"
                row = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
                file.write(json.dumps(row) + "\n")


def show(answers: Path) -> None:
    for line in answers.read_text().splitlines():
        row = json.loads(line)
        print(row["custom_id"], "→", row["response"]["body"]["choices"][0]["message"]["content"][:60])
        # → a delayed train/0 → Tell me more about sentence.
        # → …


async def main(requests: Path, answers: Path) -> None:
    async with Client(model="gpt-4o-mini") as client:
        print(await client.job(requests, answers))
        # → …sentences.jsonl: 9 of 9 rows answered …


requests, answers = Path("seeds.jsonl"), Path("sentences.jsonl")
if not requests.exists():  # a changed input file would be another job
    write_requests(requests)
asyncio.run(main(requests, answers))
show(answers)
