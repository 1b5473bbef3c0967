"""The value that a JSON text makes so far, while it still grows (RFC 8259), in linear time over all its pieces.

A torn text is there as far as it came, a list with the items that have begun, an object with the entries whose value
has begun; a number only when something follows it, since the next digit would change it.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

__all__ = ["PartialJSON"]

_PLAIN = re.compile(r'[^"\\]*')
_BARE = re.compile(r"[-+.\w]*")
_BLANK = re.compile(r"[ \t\r\n]*")
_OPENING = re.compile(r"[{\[]")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", re.ASCII)
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_LONGEST = 5_000  # characters of a number
_DEEPEST = 500  # levels of a value among words: no decoder takes more, and many brackets would take long
_LOST = "\ufffd"  # half a surrogate pair is no character

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
    """A JSON text fed piece by piece. With `skip_prose`, words and fences before the first bracket are passed over.

    Text that is no JSON ends it where it stands (`broken`): a value that grows is best effort, whoever needs the whole
    decodes the whole. What follows the value is ignored.
    """

    __slots__ = ("_bare", "_escape", "_fed", "_high", "_keys", "_mode", "_pieces", "_skip", "_stack", "span")

    def __init__(self, *, skip_prose: bool = False) -> None:
        self.span: tuple[int, int] = (0, 0)  # where in the whole text a complete value stands
        self._fed = 0
        self._skip = skip_prose
        self._mode: int = _OUTSIDE if skip_prose else _VALUE
        self._stack: list[Any] = [[]]  # containers that are open; the first holds the value itself
        self._keys: list[Any] = []  # where in each of them something grows
        self._pieces: list[str] = []
        self._bare = ""
        self._escape = ""
        self._high = 0

    @property
    def value(self) -> Any:
        """What there is so far as plain values, `None` before anything came.

        Its lists and dicts are the same objects each time and grow; copy what has to stay as it is.
        """
        self._settle()
        root = self._stack[0]
        return root[0] if root else None

    @property
    def complete(self) -> bool:
        """Whether the value has ended, so that nothing will change it any more."""
        return self._mode == _END

    @property
    def outside(self) -> bool:
        """Whether no value has begun yet."""
        return self._mode == _OUTSIDE

    @property
    def in_text(self) -> bool:
        """Whether the text stands within a JSON string."""
        return self._mode in _TEXTS

    @property
    def broken(self) -> bool:
        """Whether the text stopped being JSON."""
        return self._mode == _BROKEN

    def feed(self, piece: str) -> None:
        """Take the next piece of the text, cut anywhere."""
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
        """Say that no more will come, which is what a number without anything around it waits for."""
        if self._mode == _IN_BARE:
            self._end_bare()

    # ---------------------------------------------------------------- between values

    def _structure(self, mode: int, char: str, at: int) -> int:
        """Take one character that is neither blank nor inside a text; where to go on."""
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
        """The text is no JSON; of prose, a bracket that began nothing is passed over."""
        self._settle()
        root = self._stack[0]
        if self._skip and root and not root[0] and len(self._stack) == 2:
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
        """Let the text that is open hold what came of it."""
        if self._mode != _IN_TEXT or not self._pieces:
            return
        more = "".join(self._pieces)
        self._pieces.clear()
        container = self._stack[-1]
        key = len(container) - 1 if container.__class__ is list else self._keys[-1]
        # Held by nothing but a local name, a text grows in place: no copy of all that came for every piece.
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
