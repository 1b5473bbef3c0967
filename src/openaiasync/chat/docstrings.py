"""What a docstring says of a function and of each parameter, in the styles of Google, numpy and reST."""

from __future__ import annotations

import inspect
import re

__all__ = ["read_docstring"]

# A heading that ends the description: Google's ends in a colon, numpy's is underlined.
_OF_PARAMETERS = re.compile("args|arguments|params|((keyword|other) )?parameters|keyword (args|arguments)")
_SECTIONS = re.compile(
    f"{_OF_PARAMETERS.pattern}|returns?|yields?|receives|raises?|except|exceptions|warns|warnings|attributes|examples?|"
    "notes?|see also|references|todo"
)
_FIELD = re.compile(r":(\w+)(?:\s+([^:\n]*))?:(?=\s|$)\s*(.*)")
_FIELD_WORDS = frozenset({"param", "parameter", "arg", "argument", "key", "keyword"})
_GOOGLE = re.compile(r"\*{0,2}(\w++)\s*+(?:\(.*?\)\s*+)?:(?!:)\s*(.*)")
_NUMPY = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\*{0,2}\w+)*)\s*(?::.*)?$")


def read_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """The description, and what is said of parameters by name; paragraphs keep their breaks, lines are joined."""
    lines = inspect.cleandoc(text or "").splitlines()
    described: list[str] = []
    parameters: dict[str, str] = {}
    place = 0
    while place < len(lines):
        heading = _heading(lines, place)
        if heading is not None:
            word, numpy = heading
            begin = place + (2 if numpy else 1)
            place = _section_end(lines, begin, numpy)
            if _OF_PARAMETERS.fullmatch(word):
                entries = _numpy_entries if numpy else _google_entries
                parameters.update(entries(lines[begin:place]))
        elif _FIELD.match(lines[place]):
            begin, place = place, place + 1
            while place < len(lines) and lines[place][:1] in ("", " ", "\t") and not _FIELD.match(lines[place]):
                place += 1
            _take_field(lines[begin:place], parameters)
        else:
            described.append(lines[place])
            place += 1
    return _joined(described), parameters


def _heading(lines: list[str], place: int) -> tuple[str, bool] | None:
    """The heading in a line, and whether it is underlined; `None` for any other line."""
    line = lines[place]
    if line[:1] in ("", " ", "\t"):
        return None
    after = lines[place + 1] if place + 1 < len(lines) else ""
    word = line.strip().rstrip(":").lower()
    if not _SECTIONS.fullmatch(word):
        return None
    if re.fullmatch(r"-{3,}\s*", after):
        return word, True
    return (word, False) if line.rstrip().endswith(":") else None


def _section_end(lines: list[str], begin: int, numpy: bool) -> int:
    place = begin
    while place < len(lines):
        line = lines[place]
        if _heading(lines, place) is not None or (not numpy and line[:1] not in ("", " ", "\t")):
            break
        place += 1
    return place


def _google_entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    depth = min((_indent(line) for line in lines if line.strip()), default=0)
    current: list[str] = []
    for line in lines:
        match = _GOOGLE.match(line.strip()) if line.strip() and _indent(line) == depth else None
        if match:
            current = found.setdefault(match[1], [])
            current.append(match[2])
        else:
            current.append(line.strip())
    return {name: _joined(parts) for name, parts in found.items()}


def _numpy_entries(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        match = _NUMPY.match(line) if line[:1] not in ("", " ", "\t") else None
        if match:
            current = []
            for name in match[1].split(","):
                found[name.strip().lstrip("*")] = current
        else:
            current.append(line.strip())
    return {name: _joined(parts) for name, parts in found.items()}


def _take_field(lines: list[str], parameters: dict[str, str]) -> None:
    match = _FIELD.match(lines[0])
    assert match is not None
    word, subject, first = match[1], match[2], match[3]
    if word in _FIELD_WORDS and subject and subject.split():
        name = subject.split()[-1].lstrip("*\\")  # `:param int days:` names the type first
        parameters[name] = _joined([first, *(line.strip() for line in lines[1:])])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _joined(lines: list[str]) -> str:
    """Lines as paragraphs: those of one paragraph in one line, unless they are indented or a list."""
    paragraphs: list[str] = []
    open_ = False
    for line in lines:
        if not line.strip():
            open_ = False
            continue
        apart = line[:1] in (" ", "\t") or re.match(r"([-*+]|\d+[.)])\s", line) is not None
        if open_ and not apart:
            paragraphs[-1] += f" {line.strip()}"
        elif open_:
            paragraphs[-1] += f"\n{line.rstrip()}"
        else:
            paragraphs.append(line.rstrip())
        open_ = True
    return "\n\n".join(paragraphs).strip()
