"""How many tokens messages take: as the server counted them last, and for what it has not seen yet by the caller's
tokenizer, else by an estimate. A count says which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from ..core.codec.encode import encode_json
from .history import mended, plain_json

__all__ = ["Source", "TokenCount", "TokenCounter", "Tokenizer", "token_count"]

Source: TypeAlias = Literal["server", "tokenizer", "estimate"]
Tokenizer: TypeAlias = Callable[[str], "int | Sized"]
"""Takes a text; answers how many tokens it is, or the tokens."""

# What an estimate goes by. Tokens of words are about four letters of ASCII; other scripts take more, by their bytes.
_LETTERS = 0.25
_MORE_BYTES = 0.4
_OF_MESSAGE = 4  # role and separators
_OF_IMAGE = {"low": 85}
_OF_OTHER_IMAGE = 1000
_OF_FILE = 1000
_AUDIO_BYTES = {"wav": 3200, "mp3": 1600}  # a tenth of a second: 16 kHz and 16 bits, 128 kbit/s

_SCALE_FROM = 32  # of a difference in weight that tells how a server's tokens are to ours
_SCALES = (0.1, 16.0)
_CACHED = 16_384  # messages; more than any context holds


MOST_TOKENS = 10_000_000  # of one request or answer: more than any model takes


def token_count(value: Any) -> int | None:
    """A number of tokens as a server tells it; `None` for one that is none, or larger than any model takes.

    What such a number costs would use up a budget for ever, and leave no room in any context.
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


class TokenCount(NamedTuple):
    """How many tokens the next request takes, and who counted.

    ``"server"``: the server's own count of the last request, with what came since by tokenizer or estimate;
    ``"tokenizer"`` and ``"estimate"``: nothing was counted by a server yet.
    """

    tokens: int
    source: Source


class _Anchor(NamedTuple):
    """What a server said of messages of a certain weight."""

    tokens: int
    weight: float
    scale: float  # its tokens for one of ours


class TokenCounter:
    """Counts messages. Their weight is what they take by tokenizer or estimate; what servers say puts it right."""

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        if tokenizer is not None and not callable(tokenizer):
            raise TypeError("tokenizer is a function that takes a text and answers its tokens or their number")
        self._tokenizer = tokenizer
        self._anchor: _Anchor | None = None
        self._least: tuple[float, int] | None = None  # the lightest request that a server counted, and its count
        self._scale = 1.0
        self._growth = 0.0  # tokens for one of ours in what the last longer request added
        self._weights: dict[int, tuple[Mapping[str, Any], float]] = {}  # by id: messages are many and do not change

    def fork(self) -> TokenCounter:
        """A counter that knows the same."""
        other = TokenCounter(self._tokenizer)
        other._anchor, other._least = self._anchor, self._least
        other._scale, other._growth = self._scale, self._growth
        return other

    def emptied(self) -> TokenCounter:
        """A counter with the same tokenizer that knows nothing yet."""
        return TokenCounter(self._tokenizer)

    @property
    def source(self) -> Source:
        """Who counts at present."""
        return "server" if self._anchor else "tokenizer" if self._tokenizer else "estimate"

    def text(self, text: str) -> float:
        """The weight of a text."""
        if self._tokenizer is None:
            return _LETTERS * len(text) + _MORE_BYTES * (len(text.encode("utf-8", "replace")) - len(text))
        count = self._tokenizer(mended(text))
        if isinstance(count, bool) or not isinstance(count, (int, Sized)):  # pyright: ignore[reportUnnecessaryIsInstance]  # a caller's function may answer anything
            raise TypeError(f"tokenizer answered {type(count).__name__}; it answers tokens or their number")
        return count if isinstance(count, int) else len(count)

    def weigh(self, messages: Sequence[Mapping[str, Any]]) -> float:
        """The weight of messages, which must not change afterwards."""
        total = 0.0
        for message in messages:
            known = self._weights.get(id(message))
            if known is None:
                known = self._weights[id(message)] = (message, self._message(message))
            total += known[1]
        if len(self._weights) > _CACHED:
            self._weights.clear()
        return total

    def params(self, params: Mapping[str, Any]) -> float:
        """The weight of what else a prompt is made of: descriptions of tools, the schema of the answer."""
        given = [params[name] for name in ("tools", "functions", "response_format") if params.get(name)]
        return self.text(encode_json(given).decode()) if given else 0.0

    def tokens(self, weight: float) -> int:
        """How many tokens a request of this weight takes."""
        anchor = self._anchor
        if anchor is None:
            return round(weight)
        return max(1, round(anchor.tokens + anchor.scale * (weight - anchor.weight)))

    def weight(self, tokens: float) -> float:
        """The weight of a text of so many tokens of the server."""
        return tokens / self._scale

    def within(self, tokens: int) -> float:
        """The weight of a request that takes so many tokens: what `tokens` says, the other way round."""
        anchor = self._anchor
        return float(tokens) if anchor is None else anchor.weight + (tokens - anchor.tokens) / anchor.scale

    def learn(self, weight: float, tokens: int, later: float = 0.0, more: int = 0, *, refused: bool = False) -> None:
        """A server counted `tokens` for a request of this weight, and `more` for its answer of the weight `later`.

        Of a request that it `refused` as too long, nearly all were the messages'.
        """
        least = self._least
        if least is None:
            if self._tokenizer is None and weight >= _SCALE_FROM:
                self._scale = tokens / weight if refused else _scale(tokens / weight)
        elif abs(weight - least[0]) >= _SCALE_FROM:
            # The difference of two counts leaves out what a server adds by itself.
            self._scale = _scale((tokens - least[1]) / (weight - least[0]))
        if least is None or weight < least[0]:
            self._least = (weight, tokens)
        if self._anchor is not None and weight - self._anchor.weight >= _SCALE_FROM:
            # What turns add may take more tokens than the summary that a request of the same weight begins with.
            self._growth = _scale((tokens - self._anchor.tokens) / (weight - self._anchor.weight))
        self._scale = max(self._scale, self._growth)
        self._anchor = _Anchor(tokens + (more + _OF_MESSAGE if later else 0), weight + later, self._scale)

    def learn_excess(self, weight: float, limit: int) -> None:
        """A server refused a request of this weight as longer than `limit` tokens; how many it counted is unknown.

        The next guess is a third higher. It is forgotten when the server counts.
        """
        tokens = max(limit + 1, round(self.tokens(weight) * 4 / 3))
        self._scale = _scale(tokens / max(weight, 1.0))
        self._least = None
        self._anchor = _Anchor(tokens, weight, self._scale)

    # ---------------------------------------------------------------- messages

    def _message(self, message: Mapping[str, Any]) -> float:
        total = _OF_MESSAGE + self._content(message.get("content"))
        for name in ("name", "refusal", "reasoning_content", "reasoning"):
            if isinstance(value := message.get(name), str):
                total += self.text(value)
        if calls := message.get("tool_calls"):
            total += self.text(encode_json(plain_json(calls)).decode())
        return total

    def _content(self, content: Any) -> float:
        if isinstance(content, str):
            return self.text(content)
        if not isinstance(content, list):
            return 0.0
        parts: list[Any] = cast("Any", content)
        return sum((self._part(part) for part in parts if isinstance(part, dict)), 0.0)

    def _part(self, part: Any) -> float:
        kind, inner = part.get("type"), part.get(cast("str", part.get("type")))
        if isinstance(inner, str):  # "text", "refusal"
            return self.text(inner)
        fields = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
        if kind == "image_url":
            return _OF_IMAGE.get(str(fields.get("detail")), _OF_OTHER_IMAGE)
        if kind == "input_audio":
            return len(str(fields.get("data", ""))) * 3 / 4 / _AUDIO_BYTES.get(str(fields.get("format")), 1600)
        return _OF_FILE


def _scale(ratio: float) -> float:
    return min(max(ratio, _SCALES[0]), _SCALES[1])
