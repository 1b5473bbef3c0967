"""Evaluates a model on questions with known answers; failed rows are kept apart and can be sent again."""

import asyncio
import json
from pathlib import Path

from openaiasync import Client, JobProgress

QUESTIONS = {f"{one} + {other}": str(one + other) for one in range(2, 8) for other in range(2, 8)}


def show(progress: JobProgress) -> None:
    if progress.done:
        print(progress)


def write_questions() -> None:
    with open("questions.jsonl", "w") as file:
        for question in QUESTIONS:
            body = {
                "messages": [{"role": "user", "content": f"What is {question}? Only the number."}],
                "temperature": 0,
            }
            row = {"custom_id": question, "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(row) + "\n")


def count_right() -> int:
    right = 0
    for line in Path("results.jsonl").read_text().splitlines():
        row = json.loads(line)
        right += QUESTIONS[row["custom_id"]] in row["response"]["body"]["choices"][0]["message"]["content"]
    return right


async def main() -> None:
    async with Client(model="gpt-4o-mini") as client:
        report = await client.job("questions.jsonl", "results.jsonl", progress=show, report="results.html")
    print(f"{report.ok} answered, {report.failed} failed; plots are in results.html")
    # → 36 answered, 0 failed; plots are in results.html


write_questions()
asyncio.run(main())
print(f"{count_right()} of {len(QUESTIONS)} right")  # → 36 of 36 right
