"""`openaiasync models`: the models that the server offers."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from ..lazy import resolve_annotations
from .console import Exit, json_bytes, note, out, printable, write, write_bytes

if TYPE_CHECKING:
    from ..types import Model
    from .arguments import ServerOptions

__all__ = ["list_models", "models_table"]


def list_models(server: ServerOptions, as_json: bool) -> int:
    """Print the models: as JSON, as a table on a terminal, otherwise as names, one per line."""
    found = asyncio.run(_fetch(server))
    if as_json:
        write_bytes(json_bytes([model.to_dict() for model in found]))
    elif sys.stdout.isatty():
        out().print(models_table(found))
    else:
        write("".join(f"{model.id}\n" for model in found))
    if not found:
        note("The server lists no models.")
    return Exit.OK


async def _fetch(server: ServerOptions) -> list[Model]:
    async with server.client() as client:
        return [model async for model in client.models()]


def models_table(models: list[Model]) -> Table:
    """Return a table of the name, owner and date of creation of each model."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("model", "owned by", "created"):
        table.add_column(title, overflow="fold")
    for model in models:
        table.add_row(printable(str(model.id)), printable(str(model.owned_by or "")), _day(model.created))
    return table


def _day(seconds: object) -> str:
    """Return the date of a Unix time, "" for anything else: servers send all kinds of values."""
    try:
        return f"{datetime.fromtimestamp(float(str(seconds)), UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return ""


resolve_annotations(__name__)
