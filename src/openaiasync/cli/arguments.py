"""What options name: the server and the model, tools to import, a JSON schema in a file, an image on the disk."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..core.http.media_types import SNIFFED, image_type
from ..storage.files import open_regular, read_open
from .console import CommandError, note

if TYPE_CHECKING:
    from ..client import Client

__all__ = ["ANYWHERE", "SERVER", "Connect", "Debug", "ModelName", "add_tools", "choose_model", "image_at", "schema_in"]

SERVER = Group("Server", sort_key=10)

Debug = Annotated[bool, Parameter(negative="", show_default=False, help="Show where an error came from.")]
ModelName = Annotated[
    str | None,
    Parameter(name=("--model", "-m"), help="The model. Default: the first fitting one that the server lists."),
]


@Parameter(name="*", group=SERVER)
@dataclass(frozen=True, kw_only=True)
class Connect:
    """Options of every command that calls a server."""

    base_url: Annotated[
        str | None,
        Parameter(help="URL of the API, as http://localhost:8000/v1. Default: OPENAI_BASE_URL, else OpenAI's own."),
    ] = None
    api_key: Annotated[
        str | None,
        Parameter(
            help="The server's key. Better set OPENAI_API_KEY: other users of this machine can read arguments. "
            "A local server usually needs none."
        ),
    ] = None
    timeout: Annotated[
        float | None,
        Parameter(validator=Number(gt=0), help="Seconds until an answer starts. Default: 120."),
    ] = None
    debug: Debug = False

    def client(self, **options: Any) -> Client:
        """A client for this server; `ConfigurationError` if there cannot be one."""
        from ..client import Client

        if self.timeout is not None:
            options["http_timeout"] = self.timeout
        return Client(api_base=self.base_url, api_key=self.api_key, **options)


ANYWHERE = Connect()
"""No option given: the environment decides."""


async def choose_model(client: Client, named: str | None, kind: Literal["chat", "embedding"]) -> str:
    """The model named, or the first that the server lists and whose name fits; says so where there was a choice.

    Servers do not tell what a model is for, so its name must do: embedding models have "embed" in it.
    """
    if named:
        return named
    names = [model.id async for model in client.models()]
    if not names:
        raise CommandError("the server lists no model; name one with --model")
    fitting = [name for name in names if ("embed" in name.lower()) == (kind == "embedding")]
    chosen = (fitting or names)[0]
    if len(names) > 1:
        note(f"Using {chosen}, of {len(names)} models; --model names another.")
    return chosen


_WORDS_OF_SCHEMAS = frozenset({"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const"})
_LARGEST_SCHEMA = 16 << 20  # bytes
_URLS = ("http://", "https://", "data:")


def add_tools(add: Callable[[Any], object], places: Iterable[str]) -> None:
    """Import each ``module:function`` and `add` it. `CommandError` says what is wrong with which."""
    for place in places:
        try:
            add(_imported(place))
        except (TypeError, ValueError) as error:
            raise CommandError(f"the tool {place}: {error}") from error


def _imported(place: str) -> Any:
    module, colon, name = place.partition(":")
    if not colon or not module or not name:
        raise CommandError(f"{place!r} names no tool; write module:function, as mytools:search")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: one's tools are where one works
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise CommandError(f"the tool {place}: there is no module {error.name!r} here") from error
    except Exception as error:  # the module's own code fails
        raise CommandError(f"the tool {place}: importing {module} failed: {error!r}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(f"the tool {place}: {module} has no {part!r}") from None
    return found


def schema_in(file: str) -> dict[str, Any]:
    """The JSON schema in a file. `CommandError` if it cannot be read, is no JSON, or no schema."""
    from ..core.schema.structured import shape_of

    try:
        with open(file, "rb") as opened:  # a pipe as well: a shell's <(…)
            value: Any = json.loads(read_open(opened, _LARGEST_SCHEMA, file))
    except OSError as error:
        raise CommandError(f"cannot read the schema {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the schema {file} is no JSON: {error}") from None
    if not isinstance(value, dict) or not _WORDS_OF_SCHEMAS & set(cast("dict[str, Any]", value)):
        raise CommandError(f'the schema {file} is JSON, but no JSON schema; one begins like {{"type": "object", …')
    schema = cast("dict[str, Any]", value)
    try:
        shape_of(schema)
    except (TypeError, ValueError, AttributeError, LookupError, RecursionError) as error:
        raise CommandError(f"the schema {file} is no JSON schema that can be asked for: {error}") from error
    return schema


def image_at(place: str) -> str:
    """A URL as it is, or the path of a file that is an image. `CommandError` if it is none."""
    if place[:8].lower().startswith(_URLS):
        return place
    path = Path(place).expanduser()
    try:
        with open_regular(path) as file:
            head = file.read(SNIFFED)
    except OSError as error:
        raise CommandError(f"cannot read {place}: {error.strerror}") from None
    if image_type(head) is None:
        raise CommandError(f"{place} is no image: PNG, JPEG, GIF, WebP and BMP are")
    return str(path)
