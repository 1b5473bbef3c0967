"""Execute a notebook with nbclient and a real kernel, then ask that kernel for completions and help.

The process is one of its own, since the libraries of Jupyter leave threads and sockets open: ``kernel_runner.py TASK
RESULT``, both JSON. A task has ``cells`` (sources), ``complete`` and ``inspect`` (code with the cursor at its end); a
result has the ``outputs`` of each cell as the notebook holds them, the names offered and the help shown.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

SECONDS = 60  # for a cell, and for a reply


async def run(task: dict[str, Any]) -> dict[str, Any]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in task["cells"]])
    client = NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", allow_errors=True)
    async with client.async_setup_kernel():
        for number, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, number)
        completed: dict[str, list[str]] = {}
        inspected: dict[str, str] = {}
        for code in task["complete"]:
            reply = await client.kc.complete(code, len(code), reply=True, timeout=SECONDS)
            completed[code] = reply["content"]["matches"]
        for code in task["inspect"]:
            reply = await client.kc.inspect(code, len(code), reply=True, timeout=SECONDS)
            inspected[code] = reply["content"]["data"].get("text/plain", "")
    nbformat.validate(notebook)
    outputs = [cell.outputs for cell in notebook.cells]
    return {"outputs": outputs, "completed": completed, "inspected": inspected}


if __name__ == "__main__":
    given, result = map(Path, sys.argv[1:])
    done = asyncio.run(run(json.loads(given.read_text(encoding="utf-8"))))
    result.write_text(json.dumps(done), encoding="utf-8")
