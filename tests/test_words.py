"""One word for one thing: no class or module name twice, none of the words given up, and sentences read once."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from test_size import is_generated

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "openaiasync"

# Modules that may share their name, with the reason.
SAME_MODULES = {
    "agents audio chat embeddings files images models responses uploads": "a namespace of the API",
    "base": "the base classes of a package",
    "errors": "the errors of a package",
    "http": "the grammar in `core`, and the server that speaks it",
    "server": "the kit, and the test double made of it",
}

# Words that were given up, as parts of any name that is defined (`told`, `_told`, `is_told`): what to write instead.
# `spend` is not one: a budget is spent. Only the class `Spend` was a poor name for what counts the usage of tokens.
GIVEN_UP = {
    "allowance": "SimulatedRateLimit",
    "asked": "requested, request",
    "begun": "StartedTurn, started",
    "composer": "RequestBuilder",
    "conform": "validate",
    "doors": "client_methods",
    "fetcher": "LinkDownloader",
    "heard": "response",
    "ladder": "FormatFallback",
    "misfit misfits": "validation_errors",
    "mission": "methods",
    "obey": "execute",
    "rung": "level",
    "shelf": "SessionStore",
    "stray strayed strays": "non-conforming",
    "theirs": "response, server's",
    "told": "an observer's on_*; sent, listed",
    "watcher": "CallObserver",
    "wellformed": "check_schema",
    "whoever": "the caller, the holder",
}
CLASSES_GIVEN_UP = {
    "Calls", "Clocks", "TryClocks", "Places", "Gate", "Outgoing", "Incoming", "Shared", "Usual", "LiveStream", "Talk",
    "Plan", "Rounds", "Room", "Growing", "Said", "Wanted", "Refusal", "ChatAsk", "Spend",
}  # fmt: skip

# Turns of phrase that a reader has to parse twice, and what to write instead. They are looked for in comments,
# docstrings, messages and pages; the demo's own prose is literature.
PHRASES = {
    r"\bwhoever\b": "the caller, the holder",
    r"\b(?:what|that|which) is no [a-z]": "anything but a …, that is not a …",
    r"(?<!there )\bis none\b": "is not a …, has no …",
    r"\b[Aa]s (?:it|they) came\b": "unchanged",
    r"\bwhat (?:came|had come)\b": "the received …, the answer so far",
    r"\bhad come\b": "was received",
    r"\b(?:is|are|be) had\b": "is obtained, is available",
    r"\b(?:in|of) (?:its|their) own\b": "a separate …",
    r"\b[Ss]tray(?:s|ed)?\b": "a deviation, non-conforming",
    r"\bfor who\b|\b[Ww]ho comes\b": "for users of …",
    r"\b[Nn]obody\b|\b[Ss]omebody\b": "no caller, no other program; the passive",
    r"\bbecomes? of\b": "the result of, how … is handled",
    r"\b(?:is|are|was|were) told (?!apart)": "gets, is notified",
    r"\b[Aa]nything else than\b": "any other …",
    r"\bmade anew\b": "rebuilt, a new … each time",
}
PROSE = "demo/"


@cache
def trees() -> dict[str, ast.Module]:
    """Every hand-written module of the package: path → tree."""
    return {
        path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(SOURCE.rglob("*.py"))
        if not is_generated(path)
    }


def twice(sources: dict[str, ast.Module]) -> set[str]:
    """The names of classes, modules and packages that are in two places, official paths left out.

    The main module of a package may have its name (`engine/engine.py`).
    """
    places: defaultdict[str, set[str]] = defaultdict(set)
    for path, tree in sources.items():
        if path.startswith("lib/") or path == "pagination.py":
            continue
        if not path.endswith("__init__.py"):
            places[Path(path).stem].add(path)
        elif "/" in path and f"{Path(path).parent}/{Path(path).parent.name}.py" not in sources:
            places[Path(path).parent.name].add(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].add(f"{path}:{node.name}:{node.lineno}")
    return {name for name, found in places.items() if len(found) > 1}


def names(tree: ast.Module) -> Iterator[str]:
    """Every name that a module defines: classes, functions, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def words(name: str) -> set[str]:
    """The words that a name is made of, in lower case."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)}


def given_up(sources: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """Words that were given up, with the files that define a name with one of them."""
    listed = {word for row in GIVEN_UP for word in row.split()}
    found: set[tuple[str, str]] = set()
    for path, tree in sources.items():
        for name in (*names(tree), *Path(path).with_suffix("").parts):
            found |= {(word, path) for word in words(name) & listed}
        for node in ast.walk(tree):  # a former name that still leads to the class (`Refusal = HTTPError`) may stay
            if isinstance(node, ast.ClassDef) and node.name.lstrip("_") in CLASSES_GIVEN_UP:
                found.add((node.name.lstrip("_"), path))
    return found


def texts(source: str) -> Iterator[str]:
    """Every comment and every string of a module, docstrings included."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def phrases(text: str) -> set[str]:
    """The turns of phrase in a text that were given up."""
    return {match.group() for pattern in PHRASES for match in re.finditer(pattern, text)}


def page_text(page: str) -> str:
    """A page without its examples: programs have names that are not sentences."""
    return re.sub(r"(?ms)^```.*?^```", "", page)


def test_sentences_are_read_once() -> None:
    """No comment, docstring, message or page has a turn of phrase that was given up."""
    sources = {path: (SOURCE / path).read_text(encoding="utf-8") for path in trees() if not path.startswith(PROSE)}
    found = {
        f"{path}: {phrase}"
        for path, source in sources.items()
        if phrases(source)  # perhaps in an identifier; the split into texts takes much longer
        for text in texts(source)
        for phrase in phrases(text)
    }
    pages = [
        *REPOSITORY.glob("docs/*.md"),
        *(REPOSITORY / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    ]
    for path in pages:
        found |= {f"{path.name}: {phrase}" for phrase in phrases(page_text(path.read_text(encoding="utf-8")))}
    assert found == set()


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("x = 1  # the value as it came", "as it came"),
        ('"""Read by whoever waits."""', "whoever"),
        ('"""Return what is no method."""', "what is no m"),
        ('raise ValueError("it is none")', "is none"),
        ('f"a thread of its own: {x}"', "of its own"),
        ('"""The model is told the text."""', "is told "),
        ('"""Events are told apart; `None` if there is none; it is nonetheless read."""', ""),
    ],
)
def test_a_phrase_is_found(text: str, phrase: str) -> None:
    """Phrases are seen in comments, docstrings and parts of f-strings; words that only resemble them are not."""
    assert {found for one in texts(text) for found in phrases(one)} == ({phrase} if phrase else set())


def test_examples_on_a_page_are_no_sentences() -> None:
    """Names in the examples of a page may be any words; the text around them may not."""
    assert phrases(page_text("Text.\n\n```python\nnobody = 1\n```\n\nMore text.")) == set()
    assert phrases(page_text("Read by nobody.\n\n```python\nnobody = 1\n```\n")) == {"nobody"}


def test_no_name_means_two_things() -> None:
    """No class or module name is in two hand-written places, but for modules with a reason."""
    allowed = {name for row in SAME_MODULES for name in row.split()}
    assert twice(trees()) - allowed == set()


def test_words_that_were_given_up_do_not_come_back() -> None:
    """No identifier is made of a word that was given up."""
    assert given_up(trees()) == set()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("class TryClocks: ...", "TryClocks"),
        ("class _Watcher: ...", "watcher"),
        ("def is_told(): ...", "told"),
        ("x.strayed = 1", "strayed"),
        ("def f(asked): ...", "asked"),
        ("for theirs in (): ...", "theirs"),
    ],
)
def test_a_word_is_found(text: str, word: str) -> None:
    """Each way to define a name is seen; names that only contain the letters of a word are not."""
    assert given_up({"a.py": ast.parse(text)}) == {(word, "a.py")}
    assert given_up({"a.py": ast.parse("stranger = retold = masked = Recall = ordering = planned = 1")}) == set()


def test_a_former_name_may_stay() -> None:
    """A class given up may not come back; its name may still lead to what took its place, and budgets are spent."""
    assert given_up({"a.py": ast.parse("class _Refusal: ...")}) == {("Refusal", "a.py")}
    assert given_up({"a.py": ast.parse("class Spend: ...")}) == {("Spend", "a.py")}
    assert given_up({"a.py": ast.parse("Refusal = HTTPError\ndef spend(): ...")}) == set()


def test_a_second_meaning_is_found() -> None:
    """A class or a module of a name that exists elsewhere is seen, private or not; official paths are not."""
    one, other = ast.parse("class Thing: ..."), ast.parse("class _Thing: ...")
    assert twice({"a/x.py": one, "b/y.py": other}) == {"Thing"}
    assert twice({"a/x.py": one, "b/x.py": ast.parse("")}) == {"x"}
    assert twice({"a/x.py": one, "lib/x.py": other}) == set()
    assert twice({"a/x.py": one, "b.py": ast.parse("if True:\n    class Thing: ...")}) == {"Thing"}
    assert twice({"a/x.py": one, "x/__init__.py": ast.parse("")}) == {"x"}
    assert twice({"x/x.py": one, "x/__init__.py": ast.parse("")}) == set()
