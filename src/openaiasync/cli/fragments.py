"""Texts for the prompt that are not typed: files, web pages, and stdin, which only one option can read."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import APIStatusError, OpenAIError
from ..lazy import resolve_annotations
from ..storage.disk import FileTooLargeError, read_open
from .console import CommandError, Exit

if TYPE_CHECKING:
    from .arguments import ServerOptions

__all__ = [
    "LARGEST",
    "Fragment",
    "Prompt",
    "StandardInput",
    "read_fragments",
    "text_in",
    "text_of_argument",
    "text_of_prompt",
]

LARGEST = 64 << 20
"""The largest number of bytes that are read of a file or of stdin."""
LARGEST_PAGE = 16 << 20  # bytes behind a URL
_PATIENCE = 30.0  # seconds until a web server answers


class StandardInput:
    """Stdin, for the one option that reads it, or else for the question."""

    def __init__(self) -> None:
        self._reader = ""

    @property
    def is_terminal(self) -> bool:
        """Whether stdin is a terminal."""
        return sys.stdin is not None and sys.stdin.isatty()

    @property
    def reader(self) -> str:
        """What has read stdin; "" before anything did."""
        return self._reader

    def read(self, reader: str) -> bytes:
        """Return all of stdin; `reader` is named in errors. Raises `CommandError`, also if it was read before."""
        if self._reader:
            raise CommandError(f"stdin can be read only once, but both {self._reader} and {reader} are to read it")
        self._reader = reader
        if sys.stdin is None:
            return b""
        try:
            return read_open(sys.stdin.buffer, LARGEST, "stdin")
        except FileTooLargeError as error:
            raise CommandError(f"{reader}: stdin is {error.strerror}") from None


class Fragment(NamedTuple):
    """A text in front of the prompt, and the file or URL that it is from."""

    source: str
    text: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the text, in hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def text_in(data: bytes, source: str) -> str:
    """Return the text in these bytes, stripped. Raises `CommandError` if they are not UTF-8."""
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise CommandError(f"{source} is not UTF-8 text: {error.reason} at byte {error.start}") from None


def text_of_argument(text: str, name: str) -> str:
    """Return an argument of the command line, read as UTF-8 if the locale's encoding cannot express it.

    Raises `CommandError` if it is not UTF-8 either; `name` says what it is.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text_in(os.fsencode(text), name)
    return text


def text_of_prompt(fragments: Sequence[Fragment], text: str) -> str:
    """Return fragments and a text as one text, separated by blank lines."""
    return "\n\n".join(part for part in (*(fragment.text for fragment in fragments), text) if part)


@dataclass(frozen=True)
class Prompt:
    """A question with everything that goes with it. `text` is what was typed, piped, or made by a template."""

    text: str = ""
    fragments: Sequence[Fragment] = ()
    images: Sequence[str | bytes] = ()
    audio: Sequence[str | bytes] = ()

    @property
    def whole(self) -> str:
        """The fragments and the text, separated by blank lines."""
        return text_of_prompt(self.fragments, self.text)

    def turn(self) -> dict[str, Any]:
        """Return the arguments of `session.say` for this prompt."""
        turn: dict[str, Any] = {"text": self.whole, "images": list(self.images)}
        if self.audio:
            turn["audio"] = list(self.audio)
        return turn


async def read_fragments(server: ServerOptions, sources: Sequence[str], stdin: StandardInput) -> list[Fragment]:
    """Read the texts of ``-f``: files, http and https URLs, and ``-`` for stdin. Raises `CommandError`."""
    return [Fragment(source, text_in(await _read(server, source, stdin), source)) for source in sources]


async def _read(server: ServerOptions, source: str, stdin: StandardInput) -> bytes:
    if source == "-":
        return stdin.read("-f -")
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    if scheme in ("http", "https"):
        return await _download(server, source)
    if scheme:
        raise CommandError(f"-f {source}: only http and https URLs are read")
    return _file(source)


def _file(source: str) -> bytes:
    try:
        with open(Path(source).expanduser(), "rb") as file:  # possibly a pipe: the shell's <(…)
            return read_open(file, LARGEST, source)
    except OSError as error:
        raise CommandError(f"cannot read {source}: {error.strerror}") from None


async def _download(server: ServerOptions, url: str) -> bytes:
    """Return the body behind a URL: without the API's key and header fields, through the proxy of the environment."""
    from ..bulk.scheduler import engine_of
    from ..client import Client
    from ..engine.codecs import LinkDownloader

    parts = urlsplit(url)
    if not parts.hostname:
        raise CommandError(f"-f {url}: the URL has no host")
    timeout = _PATIENCE if server.timeout is None else server.timeout
    base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    async with Client(api_base=base, api_key="", http_timeout=timeout, http_other={"max_body": LARGEST_PAGE}) as client:
        try:
            return await LinkDownloader(engine_of(client))(url.partition("#")[0])
        except APIStatusError as error:  # whose text has advice about the base URL of an API
            why = f"the server answered with status {error.status_code}"
            raise CommandError(f"cannot read {url}: {why}", Exit.FAILED) from error
        except (OpenAIError, ValueError) as error:
            raise CommandError(f"cannot read {url}: {error}", Exit.FAILED) from error


resolve_annotations(__name__)
