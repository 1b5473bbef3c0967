"""What options refer to: the server and the model, tools to import, a JSON schema in a file, an image on the disk."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..core.model.media_types import SNIFFED, audio_type, image_type
from ..lazy import resolve_annotations
from ..storage.disk import open_regular, read_open
from .api_options import header_fields
from .console import CommandError, note

if TYPE_CHECKING:
    from ..client import Client
    from ..core.model.secrets import Secrets
    from .fragments import StandardInput

__all__ = [
    "ANYWHERE",
    "Debug",
    "InputFile",
    "ModelName",
    "ServerOptions",
    "add_functions",
    "add_tools",
    "base_url_of",
    "choose_model",
    "image_at",
    "is_code",
    "is_not_an_option",
    "key_for",
    "schema_in",
    "sound_at",
]


def is_not_an_option(kind: Any, value: str | None) -> None:
    """Raise `ValueError` for a file that looks like an option; only ``-`` alone, for stdin, begins with a hyphen."""
    if value is not None and value.startswith("-") and value != "-":
        raise ValueError(f"there is no option {value}")


InputFile = Annotated[str, Parameter(allow_leading_hyphen=True, validator=is_not_an_option)]
"""A file, or ``-`` for stdin."""

Debug = Annotated[bool, Parameter(negative="", show_default=False, help="Show a traceback for errors.")]
ModelName = Annotated[
    str | None,
    Parameter(name=("--model", "-m"), help="The model. Default: the first suitable one that the server lists."),
]

_SCHEMA_KEYWORDS = frozenset({"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})
_LARGEST_SCHEMA = 16 << 20  # bytes
_LARGEST_FUNCTIONS = 4 << 20  # bytes
_CODE = re.compile(r"\n|^\s*(?:async\s+)?def\s")
_IMAGES = "PNG, JPEG, GIF, WebP or BMP"
_SOUNDS = ("audio/wav", "audio/mpeg")  # what a chat takes
_URLS = ("http://", "https://", "data:")


@Parameter(name="*", group=Group("Server", sort_key=10))
@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """The options of every command that calls a server."""

    base_url: Annotated[
        str | None,
        Parameter(help="URL of the API, such as http://localhost:8000/v1. Default: OPENAI_BASE_URL, or OpenAI's API."),
    ] = None
    api_key: Annotated[
        str | None,
        Parameter(
            help="The API key. Prefer setting OPENAI_API_KEY: other users of this machine can read arguments. "
            "Local servers usually need none."
        ),
    ] = None
    timeout: Annotated[
        float | None,
        Parameter(validator=Number(gt=0), help="Seconds until an answer starts. Default: 120."),
    ] = None
    header: Annotated[
        tuple[str, ...],
        Parameter(
            negative="", show_default=False, help="A header field of every request, such as 'X-Team: docs'. Repeatable."
        ),
    ] = ()
    debug: Debug = False

    key: Annotated[
        str | None,
        Parameter(help="The name of a kept key (openaiasync keys). Default: the one kept for this server's address."),
    ] = None

    def client(self, **options: Any) -> Client:
        """Return a client for this server. Raises `ConfigurationError`, and `CommandError` for a missing --key."""
        from ..client import Client

        if self.timeout is not None:
            options["http_timeout"] = self.timeout
        if self.header:
            options["default_headers"] = header_fields(self.header)
        return Client(api_base=self.base_url, api_key=self.find_key(), **options)

    def find_key(self) -> str | None:
        """Return the key that the options name, or the kept one if neither they nor the environment give one."""
        return key_for(self.base_url, self.api_key, self.key)

    def secrets(self) -> Secrets:
        """Return the keys and header fields of this command, for their removal from what is written."""
        from ..core.model.secrets import Secret, Secrets, of_fields

        keys = [self.find_key(), *(os.environ.get(name) for name in (*_KEYS, "OPENAI_ADMIN_KEY"))]
        lines = [*self.header, *os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()]
        fields = header_fields(line for line in lines if ":" in line)
        password = urlsplit(base_url_of(self.base_url)).password
        return Secrets(*(Secret(key) for key in (*keys, password) if key), *of_fields(fields.items()))


_KEYS = ("OPENAI_API_KEY",)
_BASES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")


def base_url_of(given: str | None) -> str:
    """Return the base URL that an option or the environment names, or that of OpenAI's API."""
    from ..options import DEFAULT_BASE

    return given or next(filter(None, (os.environ.get(name, "").strip() for name in _BASES)), DEFAULT_BASE)


def key_for(base_url: str | None, given: str | None, name: str | None = None) -> str | None:
    """Return the key to use: the given one, the kept one of this name, or the one kept for a server.

    `None` without a key, and for a key in the environment, which the client reads.
    """
    if given is not None:
        return given
    from .key_store import find_key, named_key

    if name is not None:
        return named_key(name)
    if any(os.environ.get(one, "").strip() for one in _KEYS):
        return None  # the client reads it
    return find_key(base_url_of(base_url))


ANYWHERE = ServerOptions()
"""No option given: the environment decides."""


_Kind = Literal["chat", "embedding", "image", "speech", "transcription"]
_MARKS: dict[str, tuple[str, ...]] = {
    "embedding": ("embed",),
    "image": ("image", "dall-e", "flux", "diffusion", "sdxl"),
    "speech": ("tts", "speech", "kokoro", "voice"),
    "transcription": ("whisper", "transcribe", "stt", "asr"),
}
"""Parts of names that tell what a model is for; a chat model has none of them."""


async def choose_model(client: Client, named: str | None, kind: _Kind) -> str:
    """Return the named model, or the first suitable one that the server lists; print a note if there was a choice.

    Servers do not say what a model is for, so that its name decides. Raises `CommandError` if the server lists none, or
    none for pictures and sound.
    """
    if named:
        return named
    names = [model.id async for model in client.models()]
    if not names:
        raise CommandError("the server lists no models; name one with --model")
    suitable = [name for name in names if _suits(name.lower(), kind)]
    if not suitable and kind not in ("chat", "embedding"):
        raise CommandError(
            f"none of the {len(names)} models that the server lists has a name that suits this; name one with --model"
        )
    chosen = (suitable or names)[0]
    if len(names) > 1:
        note(f"Using {chosen}, one of {len(names)} models; choose another with --model.")
    return chosen


def _suits(name: str, kind: _Kind) -> bool:
    marks = sum(_MARKS.values(), ()) if kind == "chat" else _MARKS[kind]
    return any(mark in name for mark in marks) != (kind == "chat")


def add_tools(add: Callable[[Any], object], places: Iterable[str]) -> None:
    """Import each ``module:function`` and `add` it. Raises `CommandError`, which names the tool at fault."""
    for place in places:
        try:
            add(_imported(place))
        except (TypeError, ValueError) as error:
            raise CommandError(f"the tool {place}: {error}") from error


def _imported(place: str) -> Any:
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise CommandError(f"{place!r} is not a tool; write module:function, such as mytools:search")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: tools are mostly in the current directory
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CommandError(f"the tool {place}: there is no module {error.name!r}") from error
    except Exception as error:  # of the module's own code
        raise CommandError(f"the tool {place}: importing {module} failed: {error!r}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"the tool {place}: {module} has no {part!r}") from None
    return found


def add_functions(add: Callable[[Any], object], file: str) -> None:
    """Run Python code, or a file of it, and `add` each function that it defines whose name has no leading underscore.

    `file` is code if it has several lines or defines a function. Raises `CommandError`, which names the file or the
    function at fault.
    """
    module = ModuleType("openaiasync_functions")
    sys.modules[module.__name__] = module  # where annotations are resolved
    try:
        if is_code(file):
            source: str | bytes = file
            file = "--functions"
        else:
            path = Path(file).expanduser()
            module.__file__ = str(path)
            with open(path, "rb") as opened:
                source = read_open(opened, _LARGEST_FUNCTIONS, file)
    except OSError as error:
        raise CommandError(f"cannot read the functions in {file}: {error.strerror}") from None
    try:
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except SyntaxError as error:
        raise CommandError(f"the functions in {file}: line {error.lineno}: {error.msg}") from error
    except Exception as error:  # of the user's code
        raise CommandError(f"the functions in {file}: running the code failed: {error!r}") from error
    found = [one for name, one in vars(module).items() if not name.startswith("_") and _is_defined_in(one, module)]
    if not found:
        raise CommandError(f"{file} defines no function whose name begins without an underscore")
    for one in found:
        try:
            add(one)
        except (TypeError, ValueError) as error:
            raise CommandError(f"the function {one.__name__} in {file}: {error}") from error


def is_code(text: str) -> bool:
    """Return whether the value of ``--functions`` is code and not the name of a file."""
    return _CODE.search(text) is not None


def _is_defined_in(value: object, module: ModuleType) -> bool:
    return isinstance(value, FunctionType) and value.__module__ == module.__name__


def schema_in(given: str) -> dict[str, Any]:
    """Return a JSON schema, given as JSON or as a file. Raises `CommandError` if it cannot be read or used."""
    from ..core.schema.structured import shape_of

    inline = given.lstrip().startswith("{")
    called = "in --schema" if inline else given
    try:
        if inline:
            value: Any = json.loads(given)
        else:
            with open(given, "rb") as opened:  # possibly a pipe: the shell's <(…)
                value = json.loads(read_open(opened, _LARGEST_SCHEMA, given))
    except OSError as error:
        raise CommandError(f"cannot read the schema {given}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the schema {called} is not JSON: {error}") from None
    if not isinstance(value, dict) or not _SCHEMA_KEYWORDS & set(cast("dict[str, Any]", value)):
        raise CommandError(
            f'the schema {called} is JSON, but not a JSON schema, which starts like {{"type": "object", …'
        )
    schema = cast("dict[str, Any]", value)
    try:
        shape_of(schema)
    except (TypeError, ValueError, AttributeError, LookupError, RecursionError) as error:
        raise CommandError(f"the schema {called} cannot be used: {error}") from error
    return schema


def image_at(place: str, stdin: StandardInput | None = None) -> str | bytes:
    """Return a URL unchanged, the path of an image file, or for ``-`` the image on `stdin`. Raises `CommandError`."""
    if place[:8].lower().startswith(_URLS):
        return place
    if place == "-" and stdin is not None:
        data = stdin.read("-i -")
        if image_type(data[:SNIFFED]) is None:
            raise CommandError(f"stdin is not an image ({_IMAGES})")
        return data
    path, head = _head_of(place)
    if image_type(head) is None:
        raise CommandError(f"{place} is not an image ({_IMAGES})")
    return str(path)


def sound_at(place: str, stdin: StandardInput | None = None) -> str | bytes:
    """Return the path of a sound file, or for ``-`` the sound on `stdin`. Raises `CommandError`."""
    if place == "-" and stdin is not None:
        data = stdin.read("--audio -")
        if audio_type(data[:SNIFFED]) not in _SOUNDS:
            raise CommandError("stdin is not a sound (WAV or MP3)")
        return data
    path, head = _head_of(place)
    if audio_type(head) not in _SOUNDS:
        raise CommandError(f"{place} is not a sound (WAV or MP3)")
    return str(path)


def _head_of(place: str) -> tuple[Path, bytes]:
    path = Path(place).expanduser()
    try:
        with open_regular(path) as file:
            return path, file.read(SNIFFED)
    except OSError as error:
        raise CommandError(f"cannot read {place}: {error.strerror}") from None


resolve_annotations(__name__)
