"""Embeds texts as a durable job and writes the vectors as a table: Parquet with the extra [data], else CSV."""

import asyncio
import importlib.util
import json
import subprocess
import sys

from openaiasync import Client

TEXTS = [f"The {colour} {thing}." for colour in ("red", "green", "blue") for thing in ("house", "door", "key")]


def write_requests() -> None:
    with open("texts.jsonl", "w") as file:
        for number, text in enumerate(TEXTS):
            body = {"model": "text-embedding-3-small", "input": text}
            row = {"custom_id": f"text-{number}", "method": "POST", "url": "/v1/embeddings", "body": body}
            file.write(json.dumps(row) + "\n")


async def main() -> None:
    async with Client() as client:
        print(await client.job("texts.jsonl", "vectors.jsonl"))
        # → …vectors.jsonl: 9 of 9 rows answered …


write_requests()
asyncio.run(main())
table = "vectors.parquet" if importlib.util.find_spec("pyarrow") else "vectors.csv"
subprocess.run([sys.executable, "-m", "openaiasync", "export", "vectors.jsonl", table], check=True)
