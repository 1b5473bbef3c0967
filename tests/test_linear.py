"""No regular expression takes more than linear time, whatever a server or a caller writes.

Every pattern of the package is found, those that modules hold and those that are written where they are used, and run
as it is used over strings made of its own characters: what makes it start again and again, or backtrack, repeats one of
its own parts. Where a string takes long and much longer than a short one, it is tried at four times its length: what is
linear takes four times as long then, what is not sixteen times. The demo models' patterns are held to the time that
they take for the most they read. All times are CPU times of this thread.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import time
from collections.abc import Iterator
from functools import cache
from re import _parser as parser
from types import ModuleType
from typing import Any

import pytest

import openaiasync
from openaiasync.demo.chat import MAX_READ

TINY, SHORT, LONG = 150, 1_000, 4_000
SUSPECT = 0.0005  # seconds of CPU for a short string: a quadratic pattern takes a millisecond and more
EXPLODES = 0.005  # seconds of CPU for a tiny string
# `SHORT` takes so many times as long as `TINY` if `LONG` takes nine times as long as `SHORT`. Neither is misled by
# quantifiers with an upper bound of 64, whose time is linear from there on.
LINEAR = 10
PARTS = 4  # tests that share the patterns
METHODS = ("search", "match", "fullmatch", "sub", "split", "findall", "finditer")
# What a table of patterns is used for, where it is not a search.
HOW = {"_COURTESY_PATTERNS": "fullmatch", "_streaming": "fullmatch"}
DEMO = "openaiasync.demo."
MOST_READ = 2_000  # characters that the rules of the demo models look at
DEMO_SECONDS = 0.2  # of CPU, for the worst of their patterns; the machine may be slow
GENERATED = ("types", "params", "api", "endpoints")

Found = tuple[str, re.Pattern[Any], str]  # where, the pattern, how it is used


def modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(openaiasync.__path__, "openaiasync."):
        parts = info.name.split(".")
        if parts[1] in GENERATED or parts[-1] == "__main__":
            continue
        try:
            yield importlib.import_module(info.name)
        except ModuleNotFoundError:
            continue  # an extra that is not installed


def held(value: Any, depth: int = 4) -> Iterator[re.Pattern[Any]]:
    if isinstance(value, re.Pattern):
        yield value
    elif depth and isinstance(value, (tuple, list, frozenset, set)):
        for item in value:
            yield from held(item, depth - 1)
    elif depth and hasattr(value, "cache_info") and not inspect.signature(value).parameters:
        yield from held(value(), depth - 1)  # compiled at first use
    elif depth and isinstance(value, dict):
        for item in (*value, *value.values()):
            yield from held(item, depth - 1)
    elif depth and type(value).__module__.startswith("openaiasync") and not isinstance(value, type):
        kind = type(value)
        for name in (*getattr(value, "__dict__", ()), *getattr(kind, "__slots__", ()), *getattr(kind, "_fields", ())):
            yield from held(getattr(value, name, None), depth - 1)


def uses(tree: ast.AST) -> dict[str, set[str]]:
    """How the names of a module's patterns are used in it: ``_PATTERN.search(...)``, also bound without a call."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in METHODS and isinstance(node.value, ast.Name):
            found.setdefault(node.value.id, set()).add(node.attr)
    return found


def inline(tree: ast.AST, module: ModuleType) -> Iterator[Found]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.func.attr in METHODS):
            continue
        flags = next((word.value for word in node.keywords if word.arg == "flags"), None)
        place = {"sub": 4, "split": 3}.get(node.func.attr, 2)
        flags = flags if flags is not None or len(node.args) <= place else node.args[place]
        try:
            pattern = eval(compile(ast.Expression(node.args[0]), "pattern", "eval"), vars(module))
            bits = 0 if flags is None else eval(compile(ast.Expression(flags), "flags", "eval"), vars(module))
            yield f"{module.__name__}:{node.lineno}", re.compile(pattern, bits), node.func.attr
        except NameError:
            # Made of what is known at run time only: every hole is a word.
            if isinstance(node.args[0], ast.JoinedStr):
                parts = node.args[0].values
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "word" for part in parts)
                yield f"{module.__name__}:{node.lineno}", re.compile(text), node.func.attr


@cache
def patterns() -> list[Found]:
    found: list[Found] = []
    for module in modules():
        assert module.__file__ is not None
        with open(module.__file__, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        used = uses(tree)
        found += inline(tree, module)
        for name, value in vars(module).items():
            if isinstance(value, ModuleType) or name.startswith("__"):
                continue
            own = used.get(name, set())
            for pattern in held(value):
                # What is in a table, or used elsewhere, may be used in any way.
                found += [(f"{module.__name__}.{name}", pattern, how) for how in (own or {HOW.get(name, "search")})]
    once = {(pattern.pattern, pattern.flags, how): (where, pattern, how) for where, pattern, how in found}
    return list(once.values())


def letters(pattern: re.Pattern[Any]) -> list[str]:
    """Characters that its parts accept, and its literal words."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    chars: dict[str, None] = {}
    words: dict[str, None] = {}

    def see(items: Any) -> None:
        word = ""
        for kind, value in items:
            name = str(kind)
            if name == "LITERAL":
                word += chr(value)
                chars[chr(value)] = None
                continue
            if len(word) > 1:
                words[word] = None
            word = ""
            if name == "IN":
                for inner, one in value:
                    if str(inner) == "RANGE":
                        chars[chr(one[0])] = None
                    elif str(inner) == "LITERAL":
                        chars[chr(one)] = None
                    elif str(inner) == "CATEGORY":
                        category = str(one)
                        chars["1" if "DIGIT" in category else " " if "SPACE" in category else "a"] = None
            elif name == "CATEGORY":
                chars["1" if "DIGIT" in str(value) else " " if "SPACE" in str(value) else "a"] = None
            elif name in ("ANY", "NOT_LITERAL"):
                chars["b"] = None
            elif name == "BRANCH":
                for branch in value[1]:
                    see(branch)
            elif isinstance(value, (tuple, list)):
                for one in value:
                    if isinstance(one, parser.SubPattern):
                        see(one)
            elif isinstance(value, parser.SubPattern):
                see(value)
        if len(word) > 1:
            words[word] = None

    see(parser.parse(text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags))
    return [*list(chars)[:9], *list(words)[:8]]


def shortest(items: Any, ends: list[str] | None = None) -> str:
    """A short string that a part matches. `ends` gets what matches all parts before each repetition without a bound."""
    made = ""
    for kind, value in items:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            if ends is not None and value[1] > 1_000:
                ends.append(made)
            made += shortest(value[2]) * value[0]
        elif name == "LITERAL":
            made += chr(value)
        elif name == "IN":
            inner, one = value[0]
            made += chr(one if str(inner) == "LITERAL" else one[0]) if str(inner) in ("LITERAL", "RANGE") else "1"
        elif name in ("ANY", "NOT_LITERAL"):
            made += "b"
        elif name == "BRANCH":
            made += shortest(value[1][0])
        elif name == "SUBPATTERN":
            made += shortest(value[3])
        elif name == "ATOMIC_GROUP":
            made += shortest(value)
    return made


def beginnings(pattern: re.Pattern[Any]) -> list[str]:
    """What a pattern matches before it may run to the end of the text, which it does again for each repetition."""
    text = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode("latin-1")
    found: list[str] = []
    shortest(
        parser.parse(text, pattern.flags & ~re.UNICODE if isinstance(pattern.pattern, bytes) else pattern.flags), found
    )
    return [one for one in found if len(one) > 1]


def attacks(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str, str]]:
    """Beginning, what repeats, end."""
    for one in dict.fromkeys(beginnings(pattern)):
        yield "", one, "\x01"
        yield "", f"{one} ", "\x01"
    parts = letters(pattern) or ["a"]
    singles = [part for part in parts if len(part) == 1]
    pumps = [*parts, *map("".join, itertools.permutations(singles, 2))]
    pumps += [f"{one}{two}" for one in parts if len(one) > 1 for two in (*singles[:4], " ", "\n")]
    whole = "".join(parts)
    pumps += [whole, " ", "x", "\n", "\0"]
    for pump in dict.fromkeys(pumps):
        for first in ("", parts[0]):
            yield first, pump, "\x01"
    for first in parts:
        for pump in parts[:8]:
            yield first, pump, "\x01"


def seconds(pattern: re.Pattern[Any], how: str, attack: tuple[str, str, str], size: int, times: int) -> float:
    first, pump, last = attack
    text: Any = first + pump * (size // len(pump)) + last
    if isinstance(pattern.pattern, bytes):
        text = text.encode("latin-1", "replace")
    call = getattr(pattern, how)
    given = (text[:0], text) if how == "sub" else (text,)
    best = float("inf")
    for _ in range(times):
        began = time.thread_time()
        if how == "finditer":
            for _ in call(text):
                pass
        else:
            call(*given)
        best = min(best, time.thread_time() - began)
    return best


def worst(pattern: re.Pattern[Any], how: str) -> str | None:
    """A string over which the pattern takes more than linear time, shown; `None` if none was found."""
    for attack in attacks(pattern):
        if seconds(pattern, how, attack, TINY, 1) > EXPLODES and seconds(pattern, how, attack, TINY, 3) > EXPLODES:
            return f"{attack!r}: {TINY} characters take more than {EXPLODES} s"
        short = seconds(pattern, how, attack, SHORT, 1)
        if short < SUSPECT or short < LINEAR * seconds(pattern, how, attack, TINY, 3):
            continue
        short = seconds(pattern, how, attack, SHORT, 3)
        if short < SUSPECT:
            continue
        long = seconds(pattern, how, attack, LONG, 3)
        ratio = long / short
        # A quantifier with an upper bound looks like more than linear until its bound is reached.
        if ratio > 9 and (long > 1 or seconds(pattern, how, attack, 4 * LONG, 2) / long > 9):
            return f"{attack!r}: {ratio:.0f} times as long for 4 times the length"
    return None


def test_patterns_are_found() -> None:
    """The search finds what modules hold, what tables hold, and what is written in the middle of a function."""
    places = {where for where, _, _ in patterns()}
    assert len(patterns()) > 120
    assert {f"openaiasync.core.model.credentials.{name}" for name in ("_FIRST", "_NAMED", "_LAST")} <= places
    assert any(where.startswith("openaiasync.engine.config:") for where in places)


@pytest.mark.parametrize("bad", [r"a*a*a*$", r"<.*>", r"(?i)request (?:is )?too large\b.*(?:tokens per|TPM|limit)"])
def test_what_is_not_linear_is_found(bad: str) -> None:
    """The strings are good enough to find patterns that are known to be slow."""
    pattern = re.compile(bad)
    assert worst(pattern, "search") is not None


@pytest.mark.parametrize("part", range(PARTS))
def test_patterns_are_linear(part: int) -> None:
    """None of them can be made to take long."""
    slow: list[str] = []
    for where, pattern, how in patterns()[part::PARTS]:
        if not where.startswith(DEMO) and (told := worst(pattern, how)):
            slow.append(f"{where} ({how}) {pattern.pattern!r}\n    {told}")
    assert not slow, f"{len(slow)} slow patterns:\n" + "\n".join(slow)


def test_patterns_of_the_demo_models_are_quick_over_what_they_read() -> None:
    """Their texts are cut before any rule sees them."""
    assert MAX_READ <= MOST_READ
    slow: list[str] = []
    for where, pattern, how in patterns():
        if where.startswith(DEMO):
            for attack in attacks(pattern):
                # What is cubic takes longer for a quarter of the length already.
                if seconds(pattern, how, attack, MOST_READ // 4, 1) < DEMO_SECONDS / 16:
                    continue
                if seconds(pattern, how, attack, MOST_READ, 2) > DEMO_SECONDS:
                    slow.append(f"{where} ({how}) {attack!r}")
                    break
    assert not slow, "\n".join(slow)
