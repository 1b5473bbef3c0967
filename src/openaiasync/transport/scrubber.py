"""Remove keys, cookies and organisations from requests and responses before they are written to a cassette.

A cassette is committed and read by others. Header fields of requests are not stored at all. In the stored parts, the
credentials of the request are removed wherever the server echoes them, and so are texts that look like credentials.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ..core.model.headers import Headers
from ..core.model.plain import is_dict, is_list
from ..core.model.secrets import HIDDEN, Secret, Secrets, SecretSource, is_secret_name, of_fields, of_query

__all__ = ["Scrubber", "secret_fields"]

# Characters. Placeholders for keys ("EMPTY", "sk-test") are shorter: removing them would damage ordinary words, and a
# request would no longer match its recording once another placeholder is used.
_SHORTEST: Final = 8
_SHORTEST_ENCODED: Final = 12  # bytes of a secret whose encoded forms are removed, too
_DEEPEST: Final = 200  # levels of JSON that are scrubbed one by one; deeper values are hidden

_TOKEN: Final = re.compile(
    r"(?<![A-Za-z0-9_+/=-])(?:"
    r"(?:sk|rk|pk|ek|sess|gsk|xai|pplx|r8|nvapi)[-_][A-Za-z0-9_-]{16,}"  # API keys of OpenAI, Groq, xAI, and others
    r"|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|AIza[A-Za-z0-9_-]{30,}"  # Hugging Face, GitHub, Google
    r"|org-[A-Za-z0-9]{16,}|proj_[A-Za-z0-9]{16,}"  # organisations and projects, in OpenAI's messages about limits
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"  # JSON Web Tokens (RFC 7519)
    r")"
)
_TOKEN_MARKS: Final = (
    "sk-", "sk_", "rk-", "rk_", "pk-", "pk_", "ek-", "ek_", "sess-", "sess_", "xai-", "xai_", "pplx-", "pplx_", "r8-",
    "r8_", "nvapi-", "nvapi_", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "AIza", "org-", "proj_", "eyJ",
)  # fmt: skip
# With a digit, so that "basic understanding" stays.
_SCHEME: Final = re.compile(r"(?i)\b(bearer|basic) +(?=[A-Za-z._~+/-]*[0-9])[A-Za-z0-9._~+/-]{16,}=*")
_USERINFO: Final = re.compile(r"(?i)\b(https?|wss?)://[^\s/?#@\"'<>\\]+@")
_NAMES: Final = (
    "authorization|proxy-authorization|(?:x-)?api[-_]?key|apikey|password|passwd|secret|client[-_]secret|"
    "access[-_]token|refresh[-_]token|id[-_]token|auth[-_]token|bearer[-_]token|private[-_]key|set-cookie|cookie"
)
_NAME_MARKS: Final = ("auth", "key", "pass", "secret", "token", "cookie")
_SECRET_KEY: Final = re.compile(f"(?i)(?:{_NAMES})")
# The same names in JSON as text, and in JSON that is quoted inside other JSON (the arguments of a tool call).
_PLAIN_PAIR: Final = re.compile(rf'(?i)("(?:{_NAMES})"\s*:\s*)"(?:\\.|[^"\\])*+"')
# Up to six levels deep: a level's marks are compared at each place of a value, which without this limit takes quadratic
# time.
_QUOTED_PAIR: Final = re.compile(rf'(?i)(?<!\\)(\\{{1,63}}")({_NAMES})\1(\s*:\s*)\1.*?\1')

# Fields of a response that describe its connection, or tell browsers where to send reports.
_DROPPED: Final = frozenset(
    {"alt-svc", "connection", "content-length", "keep-alive", "nel", "proxy-authenticate", "proxy-connection",
     "report-to", "reporting-endpoints", "set-cookie2", "strict-transport-security", "te", "trailer",
     "transfer-encoding", "upgrade", "via"}
)  # fmt: skip
_ACCOUNT: Final = re.compile(r"(?i)(?:^|[-_])(?:org|organi[sz]ation|project|account|tenant|user|customer)(?:[-_]?id)?$")
# Usual fields of a request, whose values are ordinary words.
_ORDINARY: Final = re.compile(
    r"(?i)accept.*|cache-control|connection|content-.*|date|expect|host|http-referer|idempotency-key|keep-alive|"
    r"openai-beta|origin|pragma|referer|sec-.*|te|traceparent|tracestate|transfer-encoding|upgrade|user-agent|via|"
    r"x-stainless-.*|x-client-request-id|x-request-id|x-title"
)


def secret_fields(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the header fields of a request that may identify its sender: all except the usual ones."""
    return [(name, value) for name, value in pairs if _ORDINARY.fullmatch(name) is None]


class _Long:
    """The secrets of a request that are too long to be ordinary words."""

    def __init__(
        self,
        sources: Sequence[SecretSource],
        fields: Sequence[tuple[str, str]],
        query: str,
        texts: Sequence[str],
    ) -> None:
        self._sources = sources
        self._fields = fields
        self._query = query
        self._texts = texts

    def secrets(self) -> Iterator[Secret]:
        found = [one for source in self._sources for one in source.secrets()]
        # `of_fields` leaves out organisations and projects, which an error may well show but a file should not.
        found += [*of_query(self._query), *of_fields(self._fields), *(Secret(value) for _, value in self._fields)]
        found += [Secret(one.partition("=")[2]) for cookie in _cookies(found) for one in cookie.split("; ")]
        for one in found:
            if len(one.reveal()) >= _SHORTEST:
                yield one
                yield from map(Secret, _encoded(one.reveal()))
        yield from map(Secret, self._texts)


def _encoded(secret: str) -> Iterator[str]:
    """Yield what a secret looks like in base64 and in hexadecimal digits, alone or within a longer text.

    Three bytes make four characters of base64, so that there are three forms, by the place at which the secret begins.
    The characters at its ends depend on its neighbours; without them a form must still be long enough to be no word.
    """
    raw = secret.encode("utf-8", "surrogatepass")
    if len(raw) < _SHORTEST_ENCODED:
        return
    yield raw.hex()
    for offset in range(3):
        first = -(-offset * 8 // 6)
        text = base64.b64encode(bytes(offset) + raw).decode()
        inner = text[first : (offset + len(raw)) * 8 // 6]
        yield inner
        if "+" in inner or "/" in inner:
            yield inner.replace("+", "-").replace("/", "_")


def _cookies(secrets: Iterable[Secret]) -> list[str]:
    return [one.reveal() for one in secrets if "=" in one.reveal()]


class Scrubber:
    """Removes the secrets of one request from it and from its response.

    `sources` are its credentials, `fields` its other header fields, `query` is the query of its URL. `texts` are
    further secrets that only the user knows.
    """

    def __init__(
        self,
        *sources: SecretSource,
        fields: Iterable[tuple[str, str]] = (),
        query: str = "",
        texts: Sequence[str] = (),
    ) -> None:
        self._secrets = Secrets(_Long(sources, secret_fields(fields), query, texts))

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        text = self._secrets.scrub_text(text)
        # A search for plain words costs a fraction of a search for a pattern that can begin anywhere.
        if any(mark in text for mark in _TOKEN_MARKS):
            text = _TOKEN.sub(HIDDEN, text)
        lower = text.lower()
        if "bearer " in lower or "basic " in lower:
            text = _SCHEME.sub(rf"\1 {HIDDEN}", text)
        if "@" in text and "://" in text:
            text = _USERINFO.sub(r"\1://", text)
        if any(mark in lower for mark in _NAME_MARKS):
            text = _PLAIN_PAIR.sub(rf'\1"{HIDDEN}"', text)
            text = _QUOTED_PAIR.sub(rf"\1\2\1\3\1{HIDDEN}\1", text)
        return text

    def body(self, raw: bytes) -> bytes:
        """Return a body without secrets. From a binary body only the secrets of the request are removed."""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return self._secrets.scrub(raw)
        return self.text(text).encode()

    def events(self, events: Sequence[bytes]) -> list[bytes]:
        """Return the events of a stream without secrets, even those that a model spells over several of them.

        Where only the joined deltas of a text show a secret, the first of them gets the whole text, without the secret,
        and the others nothing.
        """
        documents = [_document_in(event) for event in events]
        texts: dict[tuple[Any, ...], list[tuple[int, Any, Any]]] = {}
        for number, document in enumerate(documents):
            if is_dict(document):
                for place, holder, name in _deltas(document, _item_of(document), within=False):
                    texts.setdefault(place, []).append((number, holder, name))
        changed: set[int] = set()
        for parts in texts.values():
            given = [str(holder[name]) for _, holder, name in parts]
            clean = self.text("".join(given))
            if clean != "".join(map(self.text, given)):
                for number, holder, name in parts:
                    holder[name], clean = clean, ""
                    changed.add(number)
        return [
            self.body(_with_document(event, documents[number]) if number in changed else event)
            for number, event in enumerate(events)
        ]

    def value(self, value: Any, depth: int = _DEEPEST) -> Any:
        """Return a JSON value without secrets, including the values of secret names and all values in ``headers``."""
        if isinstance(value, str):
            return self.text(value)
        if depth == 0:
            return HIDDEN
        if is_list(value):
            return [self.value(one, depth - 1) for one in value]
        if is_dict(value):
            return {self.text(name): self._member(name, one, depth) for name, one in value.items()}
        return value

    def _member(self, name: str, value: Any, depth: int) -> Any:
        if isinstance(value, str) and _SECRET_KEY.fullmatch(name):
            return HIDDEN
        if name.lower() == "headers" and is_dict(value):  # of a remote MCP server
            return dict.fromkeys(value, HIDDEN)
        return self.value(value, depth - 1)

    def query(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the parameters of a query without secrets."""
        return [(name, HIDDEN if is_secret_name(name) else self.text(value)) for name, value in pairs]

    def fields(self, raw_fields: bytes) -> list[tuple[str, str]]:
        """Return the header fields of a response that are recorded, with names in lower case.

        Framing, cookies, credentials, and fields that name the account are omitted.
        """
        kept: list[tuple[str, str]] = []
        for name, value in Headers(raw_fields).raw_pairs():
            lower = name.lower()
            if lower not in _DROPPED and not is_secret_name(lower) and _ACCOUNT.search(lower) is None:
                kept.append((lower, self.text(value)))
        return kept


# ------------------------------------------------------------------------------------------------ texts in deltas

_DATA: Final = re.compile(rb"^data:(.*)$", re.MULTILINE)
_ITEM: Final = ("type", "item_id", "output_index", "content_index", "summary_index", "index")


def _document_in(event: bytes) -> Any:
    """Return the JSON value of an event with a single line of data, `None` for any other event."""
    lines = _DATA.findall(event)
    if len(lines) != 1:
        return None
    try:
        return msgspec.json.decode(lines[0])
    except (ValueError, RecursionError):
        return None


def _with_document(event: bytes, document: Any) -> bytes:
    data = b"data: " + msgspec.json.encode(document)
    return _DATA.sub(lambda _: data, event)


def _item_of(document: dict[str, Any]) -> tuple[Any, ...]:
    """Return the properties that tell which text an event of the Responses API, or a similar one, adds to."""
    return tuple(one if isinstance(one := document.get(name), str | int) else None for name in _ITEM)


def _deltas(
    value: dict[str, Any] | list[Any], place: tuple[Any, ...], *, within: bool, depth: int = 8
) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Yield the texts in ``delta``, and the ``text`` of a choice: the place, and the container and the name in it.

    The place is the same in all events: items of a list are told apart by their ``index``, if they have one.
    """
    pairs: Iterable[tuple[Any, Any]] = value.items() if is_dict(value) else enumerate(value)
    for name, one in pairs:
        index = one.get("index") if is_dict(one) and is_list(value) else None
        here = (*place, name if index is None else str(index))
        inside = within or name == "delta"
        if isinstance(one, str):
            if inside or (name == "text" and "choices" in place):
                yield here, value, name
        elif depth and (is_dict(one) or is_list(one)):
            yield from _deltas(one, here, within=inside, depth=depth - 1)
