"""Parses a JSON text (RFC 8259) that is still being written, in linear time over all its pieces.

The value contains an unfinished string as far as it was received, a list with the items that have begun, an object with
the entries whose value has begun, but a number only after its end, since another digit would change it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["PartialJSON"]

_PLAIN = re.compile(r'[^"\\]*')
_BARE = re.compile(r"[-+.\w]*")
_BLANK = re.compile(r"[ \t\r\n]*")
# A bracket in prose that cannot begin a value, by the characters after it, is skipped here, at the speed of the regex.
_OPENING = re.compile(r"\{(?=[ \t\r\n]*+(?:[\"}]|\Z))|\[(?=[ \t\r\n]*+(?:[\"\[{\]-]|[^\W_]|\Z))")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LONGEST = 5_000  # characters of a number
# Limits of a value among words, without which a hostile text of 64 kB would take a fifth of a second: msgspec decodes
# fewer levels, and prose has fewer brackets that begin like a value without being one.
_DEEPEST = 500
_FALSE_STARTS = 4_000
_LOST = "\ufffd"  # half a surrogate pair is not a character

# What may come next.
_OUTSIDE: Final = 0
_VALUE: Final = 1
_ITEM_OR_END: Final = 2
_KEY_OR_END: Final = 3
_KEY: Final = 4
_COLON: Final = 5
_COMMA_OR_END: Final = 6
_IN_TEXT: Final = 7
_IN_KEY: Final = 8
_IN_BARE: Final = 9
_END: Final = 10
_BROKEN: Final = 11
_TEXTS = frozenset({_IN_TEXT, _IN_KEY})
_BEFORE_KEY = frozenset({_KEY, _KEY_OR_END})
_BEFORE_END = frozenset({_COMMA_OR_END, _ITEM_OR_END, _KEY_OR_END})


class PartialJSON:
    """A JSON text fed piece by piece. With `skip_prose`, words and fences before the first bracket are skipped.

    Parsing stops at text that is not JSON (`broken`): the value so far is a best effort, for a result decode the whole
    text. Text after the value is ignored.
    """

    __slots__ = ("_bare", "_escape", "_fed", "_high", "_keys", "_mode", "_pieces", "_skip", "_stack", "_starts", "span")

    def __init__(self, *, skip_prose: bool = False) -> None:
        self.span: tuple[int, int] = (0, 0)  # the position of the complete value in the whole text
        self._fed = 0
        self._skip = skip_prose
        self._starts = 0  # brackets in prose that did not begin a value
        self._mode: int = _OUTSIDE if skip_prose else _VALUE
        self._stack: list[Any] = [[]]  # containers that are open; the first holds the value itself
        self._keys: list[Any] = []  # the key or place that is being written in each of them
        self._pieces: list[str] = []
        self._bare = ""
        self._escape = ""
        self._high = 0

    @property
    def value(self) -> Any:
        """The plain values so far, `None` before any.

        Its lists and dicts are the same objects each time, and grow: copy them to keep a state.
        """
        self._settle()
        root = self._stack[0]
        return root[0] if root else None

    @property
    def complete(self) -> bool:
        """Whether the value has ended and will not change."""
        return self._mode == _END

    @property
    def outside(self) -> bool:
        """Whether no value has begun yet."""
        return self._mode == _OUTSIDE

    @property
    def in_text(self) -> bool:
        """Whether the text ends inside a JSON string."""
        return self._mode in _TEXTS

    @property
    def broken(self) -> bool:
        """Whether the text stopped being JSON."""
        return self._mode == _BROKEN

    def feed(self, piece: str) -> None:
        """Add the next piece of the text, cut anywhere."""
        at, end = 0, len(piece)
        while at < end and self._mode < _END:
            mode = self._mode
            if mode in _TEXTS:
                at = self._text(piece, at)
            elif mode == _IN_BARE:
                at = self._more_bare(piece, at)
            elif mode == _OUTSIDE:
                opening = _OPENING.search(piece, at)
                at = end if opening is None else opening.start()
                if opening is not None:
                    self._mode, self.span = _VALUE, (self._fed + at, 0)
            else:
                blank = _BLANK.match(piece, at)
                at = blank.end() if blank else at
                if at < end:
                    at = self._structure(mode, piece[at], at)
        if self._mode == _END and not self.span[1]:
            self.span = (self.span[0], self._fed + at)
        self._fed += end

    def finish(self) -> None:
        """End the text, which completes a number at the top level."""
        if self._mode == _IN_BARE:
            self._end_bare()

    # ---------------------------------------------------------------- between values

    def _structure(self, mode: int, char: str, at: int) -> int:
        """Take one character between values; return where to continue."""
        if mode == _VALUE or (mode == _ITEM_OR_END and char != "]"):
            return self._begin(char, at)
        if char == '"' and mode in _BEFORE_KEY:
            self._mode = _IN_KEY
        elif char == ":" and mode == _COLON:
            self._mode = _VALUE
        elif char == "," and mode == _COMMA_OR_END:
            self._mode = _VALUE if self._stack[-1].__class__ is list else _KEY
        elif char in "]}" and mode in _BEFORE_END:
            if (char == "]") is not (self._stack[-1].__class__ is list):
                return self._break(at)
            self._stack.pop()
            self._keys.pop()
            self._ended()
        else:
            return self._break(at)
        return at + 1

    def _begin(self, char: str, at: int) -> int:
        if char == '"':
            self._put("")
            self._mode = _IN_TEXT
        elif char == "{":
            return self._open({}, _KEY_OR_END, at)
        elif char == "[":
            return self._open([], _ITEM_OR_END, at)
        elif char == "-" or char.isalnum():
            self._mode = _IN_BARE
            return at
        else:
            return self._break(at)
        return at + 1

    def _open(self, container: Any, mode: int, at: int) -> int:
        if self._skip and len(self._stack) > _DEEPEST:
            return self._break(at)
        self._put(container)
        self._stack.append(container)
        self._keys.append(None)
        self._mode = mode
        return at + 1

    def _put(self, value: Any) -> None:
        container = self._stack[-1]
        if container.__class__ is list:
            container.append(value)
        else:
            container[self._keys[-1]] = value

    def _ended(self) -> None:
        self._mode = _COMMA_OR_END if len(self._stack) > 1 else _END

    def _break(self, at: int) -> int:
        """Note that the text is not JSON; among words, skip the bracket that did not begin a value."""
        self._settle()
        root = self._stack[0]
        if self._skip and root and not root[0] and len(self._stack) == 2 and self._starts < _FALSE_STARTS:
            self._starts += 1
            self._stack, self._keys, self._pieces = [[]], [], []
            self._mode = _OUTSIDE
        else:
            self._mode = _BROKEN
        return at

    # ---------------------------------------------------------------- texts

    def _text(self, piece: str, at: int) -> int:
        if self._escape:
            return self._unescape(piece[at], at)
        plain = _PLAIN.match(piece, at)
        end = plain.end() if plain else at
        if end > at:
            self._lose_half()
            self._pieces.append(piece[at:end])
        if end == len(piece):
            return end
        if piece[end] == "\\":
            self._escape = "\\"
            return end + 1
        self._lose_half()
        if self._mode == _IN_KEY:
            self._keys[-1] = "".join(self._pieces)
            self._pieces.clear()
            self._mode = _COLON
        else:
            self._settle()
            self._ended()
        return end + 1

    def _unescape(self, char: str, at: int) -> int:
        """Take the next character of an escape, which may be cut anywhere."""
        escape = self._escape = self._escape + char
        if len(escape) == 2 and char != "u":
            if char not in _ESCAPES:
                return self._break(at)
            self._lose_half()
            self._pieces.append(_ESCAPES[char])
            self._escape = ""
        elif len(escape) > 2 and char not in "0123456789abcdefABCDEF":
            return self._break(at)
        elif len(escape) == 6:
            self._escape = ""
            digits = escape[2:]
            self._unit(int(digits, 16))
        return at + 1

    def _unit(self, code: int) -> None:
        """Take a UTF-16 code unit; two surrogates make one character."""
        if self._high and 0xDC00 <= code < 0xE000:
            self._pieces.append(chr(0x10000 + ((self._high - 0xD800) << 10) + (code - 0xDC00)))
            self._high = 0
            return
        self._lose_half()
        if 0xD800 <= code < 0xDC00:
            self._high = code
        else:
            self._pieces.append(_LOST if 0xDC00 <= code < 0xE000 else chr(code))

    def _lose_half(self) -> None:
        if self._high:
            self._high = 0
            self._pieces.append(_LOST)

    def _settle(self) -> None:
        """Append the pieces received to the string that is open."""
        if self._mode != _IN_TEXT or not self._pieces:
            return
        more = "".join(self._pieces)
        self._pieces.clear()
        container = self._stack[-1]
        key = len(container) - 1 if container.__class__ is list else self._keys[-1]
        # CPython appends in place to a string with a single reference: without it, each piece would copy all before it.
        text = container[key]
        container[key] = None
        text += more
        container[key] = text

    # ---------------------------------------------------------------- numbers, true, false, null

    def _more_bare(self, piece: str, at: int) -> int:
        found = _BARE.match(piece, at)
        end = found.end() if found else at
        self._bare += piece[at:end]
        if len(self._bare) > _LONGEST:
            self._break(at)
        elif self._bare in _WORDS or end < len(piece):
            self._end_bare()
        return end

    def _end_bare(self) -> None:
        bare, self._bare = self._bare, ""
        if bare in _WORDS:
            self._put(_WORDS[bare])
        elif _NUMBER.fullmatch(bare):
            try:
                self._put(json.loads(bare))
            except ValueError:  # more digits than Python converts
                self._break(0)
                return
        else:
            self._break(0)
            return
        self._ended()
