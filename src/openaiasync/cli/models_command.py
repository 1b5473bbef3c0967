"""`openaiasync models`: what the server offers."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from .console import Exit, note, out, printable, write, write_bytes

if TYPE_CHECKING:
    from ..types import Model
    from .arguments import Connect

__all__ = ["json_bytes", "list_models", "models_table"]


def list_models(connect: Connect, as_json: bool) -> int:
    """Print the models: as JSON, as a table on a terminal, as names one a line elsewhere."""
    found = asyncio.run(_fetch(connect))
    if as_json:
        write_bytes(json_bytes([model.to_dict() for model in found]))
    elif sys.stdout.isatty():
        out().print(models_table(found))
    else:
        write("".join(f"{model.id}\n" for model in found))
    if not found:
        note("The server lists no model.")
    return Exit.OK


async def _fetch(connect: Connect) -> list[Model]:
    async with connect.client() as client:
        return [model async for model in client.models()]


def models_table(models: list[Model]) -> Table:
    """Name, owner and day of making of each model."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("model", "owned by", "created"):
        table.add_column(title, overflow="fold")
    for model in models:
        table.add_row(printable(str(model.id)), printable(str(model.owned_by or "")), _day(model.created))
    return table


def _day(seconds: object) -> str:
    """A Unix time as a day; nothing for what is none: servers send all kinds of values."""
    try:
        return f"{datetime.fromtimestamp(float(str(seconds)), UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return ""


def json_bytes(value: object) -> bytes:
    """Indented JSON in UTF-8 with a newline at the end; a lone surrogate stays an escape."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
