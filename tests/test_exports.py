"""The public names: each exists, is listed once, is documented, and says what it is for."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import openaiasync
from openaiasync import Client, server, testing

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "openaiasync"
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
NAMES = sorted(openaiasync.__all__)
# Made by the generator; what its namespaces and types are is in OpenAI's own reference.
GENERATED = tuple(f"openaiasync.{name}" for name in ("types", "params", "api", "endpoints"))


def public_classes() -> Iterator[type]:
    """What can be reached from `__all__`: the classes themselves, and those that a client's attributes are."""
    for module in (openaiasync, server, testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                yield value
    with_key = Client(api_base="http://localhost:1/v1")
    for name in (
        "completion",
        "embedding",
        "embed_many",
        "image_generate",
        "text_to_speech",
        "speech_to_text",
        "vision",
    ):
        yield type(getattr(with_key, name))
    for name in ("chat", "models", "webhooks"):
        yield from type(getattr(with_key, name)).__mro__


def members_of(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties, with their names in full, of a class and of its hand-written bases."""
    for base in cls.__mro__:
        module = base.__module__
        if not module.startswith("openaiasync") or module.startswith(GENERATED):
            continue
        for name, value in vars(base).items():
            if name.startswith("_") and name != "__call__":
                continue
            if isinstance(value, (property, staticmethod, classmethod)) or inspect.isfunction(value):
                yield f"{module}.{base.__qualname__}.{name}", value
            elif hasattr(value, "func") and inspect.isfunction(value.func):  # functools.cached_property
                yield f"{module}.{base.__qualname__}.{name}", value.func


CLASSES = sorted({f"{cls.__module__}.{cls.__qualname__}": cls for cls in public_classes()}.items())


@pytest.mark.parametrize("name", NAMES)
def test_names_exist(name: str) -> None:
    """Every public name can be imported; a class or function has it for its own, or a public one beside it."""
    value = getattr(openaiasync, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert getattr(openaiasync, value.__name__) is value


def test_names_are_listed_once() -> None:
    """`__all__` repeats nothing, `dir()` shows the same, and type checkers are told of just these names."""
    assert len(NAMES) == len(set(NAMES))
    assert dir(openaiasync) == NAMES
    source = (SOURCE / "__init__.py").read_text(encoding="utf-8")
    told = re.findall(r"import (?:\(\s*)?(\w+) as \1\b", source)
    assert sorted([*told, "__title__", "__version__"]) == NAMES


def test_star_import_gives_them_all() -> None:
    """`from openaiasync import *` works in a fresh interpreter."""
    code = "from openaiasync import *; import openaiasync; assert set(openaiasync.__all__) <= set(globals())"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=50)


@pytest.mark.parametrize("module", [openaiasync, server, testing], ids=lambda module: module.__name__)
def test_names_are_documented(module: ModuleType) -> None:
    """Each public name stands as code on some page of the docs."""
    code = " ".join(
        word
        for page in PAGES
        for span in re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL)
        for word in re.findall(r"\w+", span)
    ).split()
    assert sorted(set(module.__all__) - set(code)) == []


@pytest.mark.parametrize("name", [name for name, _ in CLASSES if not name.startswith(GENERATED)])
def test_what_is_public_is_explained(name: str) -> None:
    """A public class has a docstring, and so has each of its public methods and properties."""
    cls = dict(CLASSES)[name]
    silent = [] if not cls.__module__.startswith("openaiasync") or vars(cls).get("__doc__") else [name]
    silent += [member for member, value in members_of(cls) if not inspect.getdoc(value)]
    assert silent == []


def test_the_net_is_not_empty() -> None:
    """The tests above look at what they are meant to look at."""
    names = {name.rpartition(".")[2] for name, _ in CLASSES}
    assert {"Client", "ChatStream", "ChatMethods", "AudioAnswer", "APIError", "HTTPServer", "FakeAnswer"} <= names
    members = {member for _, cls in CLASSES for member, _ in members_of(cls)}
    assert "openaiasync.client.Client.with_options" in members
    assert "openaiasync.methods.chat.ChatMethods.stream" in members
    assert len(members) > 120


def test_modules_say_what_they_are_for() -> None:
    """A hand-written module opens with what it is for."""
    silent: list[str] = []
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if not source.startswith("# Generated by") and not re.match(r'r?"""\S', source):
            silent.append(str(path.relative_to(SOURCE)))
    assert silent == []
