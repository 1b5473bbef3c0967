"""Files of rows for jobs on a cluster, and the simulated server."""

from __future__ import annotations

import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "bench" / "bulk"))
from serving import Server, running  # noqa: E402
from shared import Store  # noqa: E402

__all__ = ["KEY", "REPOSITORY", "Server", "Store", "keys_of", "running", "write_rows"]

KEY = "sk-secret-of-the-workers-0123456789"


def write_rows(path: Path, count: int) -> str:
    with open(path, "w") as file:
        for number in range(count):
            body = {"model": "m", "messages": [{"role": "user", "content": f"row-{number} {'x' * (number % 200)}"}]}
            row = {"custom_id": f"k{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(row) + "\n")
    return str(path)


def keys_of(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]
