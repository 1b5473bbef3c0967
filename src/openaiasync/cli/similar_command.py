"""`openaiasync similar FILE TEXT`: the texts of a store that are nearest to another one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from ..lazy import resolve_annotations
from .console import CommandError, Exit, json_bytes, out, printable, write_bytes
from .fragments import StandardInput, text_in, text_of_argument
from .vector_file import Match, VectorFile

if TYPE_CHECKING:
    from .arguments import ServerOptions

__all__ = ["find_similar"]


def find_similar(server: ServerOptions, path: str, text: str | None, model: str | None, top: int, as_json: bool) -> int:
    """Print the nearest texts; return the exit code. Raises `CommandError` and `OpenAIError`."""
    stdin = StandardInput()
    if text is None and stdin.is_terminal:
        raise CommandError("say which text to compare with, as an argument or on stdin")
    what = "the text to compare with"
    wanted = text_in(stdin.read(what), "stdin") if text is None else text_of_argument(text, what)
    if not wanted.strip():
        raise CommandError("the text to compare with is empty")
    with VectorFile(path, create=False) as store:
        known = store.model
        if known is None or not store.count():
            raise CommandError(f"{path} has no vectors yet")
        if model is not None and model != known:
            raise CommandError(f"{path} has vectors of {known}, which cannot be compared with those of {model}")
        vector = asyncio.run(_vector(server, known, wanted, store.dimensions))
        matches = store.nearest(vector, top)
    if as_json:
        write_bytes(json_bytes([match._asdict() for match in matches]))
    elif sys.stdout.isatty():
        out().print(_table(matches))
    else:
        write_bytes("".join(f"{one.score:.4f}\t{' '.join(one.text.split())}\n" for one in matches).encode())
    return Exit.OK


async def _vector(server: ServerOptions, model: str, text: str, dimensions: int | None) -> Sequence[float]:
    """Return the vector of the text, as long as those of the store."""
    async with server.client() as client:
        vector = (await client.embedding(text, model=model)).vectors[0]
        if dimensions is not None and len(vector) != dimensions:
            vector = (await client.embedding(text, model=model, dimensions=dimensions)).vectors[0]
        if dimensions is not None and len(vector) != dimensions:
            raise CommandError(
                f"the server's vectors of {model} have {len(vector)} numbers, the stored ones {dimensions}"
            )
        return list(vector)


def _table(matches: list[Match]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("cosine", justify="right", no_wrap=True)
    table.add_column("row", justify="right", no_wrap=True)
    table.add_column("text", overflow="fold")
    for one in matches:
        table.add_row(f"{one.score:.4f}", str(one.row), Text(printable(" ".join(one.text.split()))))
    return table


resolve_annotations(__name__)
