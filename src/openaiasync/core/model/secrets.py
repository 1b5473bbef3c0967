"""Secrets: values that are never shown, and their removal from texts in which a server echoes them.

The secrets sent with an attempt are the `Secrets` of its `RequestInfo`; everything made from its response for an error,
the log or a hook is scrubbed of them. For tracebacks see `engine.sealing`.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import quote, unquote, unquote_plus

import msgspec

from ...lazy import json

__all__ = [
    "HIDDEN",
    "NO_SECRETS",
    "HiddenFields",
    "Secret",
    "SecretSource",
    "Secrets",
    "is_secret_name",
    "of_fields",
    "of_query",
    "redacted",
]

HIDDEN = "[redacted]"
_ECHO = "[key]"  # in place of a secret that a server echoes
_ECHOED = _ECHO.encode()
_SHORTEST = 4  # characters: a shorter value would match anywhere
_BEGINNING = 6  # bytes of each form of a secret that are searched first: longer ones would be more different ones
_SHORTEST_FIELD = 8  # the same for header fields without a secret name
_CUT = 8  # characters of a secret that may end a body that was cut
_DEEPEST = 60  # levels of a server's JSON that are scrubbed; deeper values are hidden

_NAME_PART = r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])"
_WORDS = frozenset(
    {"accesskey", "accesstoken", "apikey", "auth", "authorization", "authtoken", "clientsecret", "code", "cookie",
     "credential", "credentials", "jwt", "key", "passphrase", "passwd", "password", "pwd", "sas", "secret",
     "secretkey", "sig", "signature", "token"}
)  # fmt: skip
"""Last words of names, as ``x-api-key``, ``accessToken``, ``X-Amz-Signature``."""
_OPEN_FIELDS = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "content-type", "from", "http-referer",
     "idempotency-key", "openai-beta", "openai-organization", "openai-project", "origin", "referer", "traceparent",
     "tracestate", "user-agent", "x-client-request-id", "x-request-id", "x-title"}
)  # fmt: skip
"""Header fields that are never secret: removing their values from an error's text would only damage it."""

T = TypeVar("T")


def is_secret_name(name: str) -> bool:
    """Return whether the name of a query parameter or a header field indicates a secret value."""
    parts = [part for part in re.split(_NAME_PART, unquote(name)) if part]
    return bool(parts) and parts[-1].lower() in _WORDS


def redacted(url: str) -> str:
    """Return the URL without the values of query parameters with a secret name: ``key``, ``api-key``, ``sig`` etc."""
    before, found, query = url.partition("?")
    if not found:
        return url
    query, hashed, fragment = query.partition("#")
    return before + "?" + "&".join(map(_shown, query.split("&"))) + hashed + fragment


def _shown(pair: str) -> str:
    name, found, value = pair.partition("=")
    return f"{name}={HIDDEN}" if found and value and is_secret_name(name) else pair


class Secret:
    """A key that `repr`, `str` and pickles do not show; `reveal` is called only where bytes are written."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        return self.__value

    def secrets(self) -> Iterable[Secret]:
        return (self,)

    def __repr__(self) -> str:
        return "<Secret: hidden>"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return (Secret, ("",))


class SecretSource(Protocol):
    """An object with secrets: a `Secret`, the `Credentials` of an attempt, other `Secrets`."""

    def secrets(self) -> Iterable[Secret]: ...


class Secrets:
    """The secrets of an attempt, to be removed from texts. Nothing is computed before there is a text to scrub."""

    __slots__ = ("__beginnings", "__marks", "__sources")

    def __init__(self, *sources: SecretSource) -> None:
        self.__sources: tuple[SecretSource, ...] = sources
        self.__marks: tuple[bytes, ...] | None = None
        self.__beginnings: tuple[bytes, ...] = ()

    def secrets(self) -> Iterator[Secret]:
        for source in self.__sources:
            yield from source.secrets()

    def _marks(self) -> tuple[bytes, ...]:
        if self.__marks is None:
            found = {mark for secret in self.secrets() for mark in _marks(secret.reveal())}
            self.__marks = tuple(sorted(found, key=len, reverse=True))
            self.__beginnings = tuple({mark[:_BEGINNING] for mark in found})
        return self.__marks

    def scrub(self, raw: bytes) -> bytes:
        """Return the bytes without the secrets, also as they are written in JSON, URLs or HTML."""
        marks = self._marks()
        # Nearly all texts are short and have no secret. Its forms have few different beginnings, which halves the cost.
        for beginning in self.__beginnings:
            if raw.find(beginning) >= 0:  # `in` raises and catches an exception first, which doubles the cost
                break
        else:
            return raw
        for mark in marks:
            if raw.find(mark) >= 0:
                raw = raw.replace(mark, _ECHOED)
        return raw

    def scrub_cut(self, raw: bytes) -> bytes:
        """Return the bytes without the secrets, for a body that was cut and may end in the middle of a secret."""
        raw = self.scrub(raw)
        for mark in self._marks():
            for size in range(min(len(mark) - 1, len(raw)), _CUT - 1, -1):
                if raw.endswith(mark[:size]):
                    return raw[:-size] + _ECHOED
        return raw

    def scrub_text(self, text: str) -> str:
        """Return the text without the secrets."""
        raw = text.encode("utf-8", "surrogatepass")
        clean = self.scrub(raw)
        return text if clean is raw else clean.decode("utf-8", "surrogatepass")

    def scrub_url(self, url: str) -> str:
        """Return the URL without the secrets, and without the values of secret query parameters."""
        return self.scrub_text(redacted(url))

    def tells(self, error: BaseException) -> bool:
        """Return whether an error's text contains a secret."""
        text = f"{error} {error!r}"
        return self.scrub_text(text) is not text

    def clean(self, value: T, depth: int = _DEEPEST) -> T:
        """Return the value without the secrets in its texts; the same object if there are none.

        Scrubs plain containers, answers, and objects with a method ``cleaned(secrets)``.
        """
        if not self._marks() or not self._may_hold(value, depth):
            return value
        return cast("T", self._clean(value, depth))

    def _may_hold(self, value: Any, depth: int) -> bool:
        """Whether a value has to be scrubbed text by text.

        Searching all its texts at once costs a tenth of that: an error's body may be a list of thousands, and it is
        checked each time the error is raised again.
        """
        texts: list[str] = []
        level: list[Any] = [value]
        while level:
            if depth < 0:
                return True
            depth -= 1
            below: list[Any] = []
            for one in level:
                kind: Any = one.__class__
                if kind is str:
                    texts.append(one)
                elif kind is list or kind is tuple:
                    below += one
                elif kind is dict:
                    below += one
                    below += one.values()
                elif kind is int or kind is float or kind is bytes:
                    if self._clean(one, 1) is not one:
                        return True
                elif hasattr(kind, "__struct_fields__"):
                    below += [getattr(one, name) for name in one.__struct_fields__]
                    below.append(getattr(one, "__dict__", None))
                elif one is not None and kind is not bool and self._clean(one, 1) is not one:
                    return True
            level = below
        joined = "\n".join(texts)
        return self.scrub_text(joined) is not joined

    def _clean(self, value: Any, depth: int) -> Any:
        kind: Any = value.__class__
        if kind is str:
            return self.scrub_text(value)
        if kind is bytes:
            return self.scrub(value)
        if value is None or kind is bool:
            return value
        if kind is int or kind is float:
            text = str(value) if kind is float or abs(value) < 1 << 512 else ""
            return _ECHO if text.encode() in self._marks() else value
        if depth == 0:
            return HIDDEN
        if kind is list or kind is tuple:
            items: list[Any] = value
            made = [self._clean(item, depth - 1) for item in items]
            same = all(new is old for new, old in zip(made, items, strict=True))
            if same:
                return items
            return made if kind is list else tuple(made)
        if kind is dict:
            return self._clean_dict(value, depth)
        if hasattr(kind, "__struct_fields__"):
            return self._clean_struct(value, depth)
        cleaned = getattr(value, "cleaned", None)
        return cleaned(self) if callable(cleaned) else value

    def _clean_dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        made = {self._clean(key, 1): self._clean(item, depth - 1) for key, item in value.items()}
        same = len(made) == len(value) and all(
            new is old and made[new] is value[old] for new, old in zip(made, value, strict=True)
        )
        return value if same else made

    def _clean_struct(self, value: Any, depth: int) -> Any:
        """Return a shallow copy of an answer with scrubbed fields, the unknown ones included."""
        made = value
        for name in value.__struct_fields__:
            old = getattr(value, name)
            new = self._clean(old, depth - 1)
            if new is not old:
                made = copy.copy(value) if made is value else made
                try:
                    setattr(made, name, new)
                except AttributeError:  # a frozen one
                    made = msgspec.structs.replace(made, **{name: new})
        extra: dict[str, Any] | None = getattr(value, "__dict__", None)
        if extra:
            clean = self._clean_dict(extra, depth)
            if clean is not extra:
                made = copy.copy(value) if made is value else made
                made.__dict__.update(clean)
        return made

    def __repr__(self) -> str:
        return "<Secrets: hidden>"

    def __copy__(self) -> Secrets:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secrets:
        return self

    def __reduce__(self) -> tuple[type[Secrets], tuple[()]]:
        return (Secrets, ())


NO_SECRETS = Secrets()


def _marks(value: str) -> set[bytes]:
    """Return the forms in which a server's text may contain this value; none for a value that is too short."""
    if len(value) < _SHORTEST:
        return set()
    in_json = json.dumps(value)[1:-1]
    quoted = quote(value, safe="")
    in_html = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    escaped = "".join(one if one.isalnum() else f"\\u{ord(one):04x}" for one in value)
    texts = {
        value,
        in_json,
        in_json.replace("/", "\\/"),
        quoted,
        quote(value),
        re.sub("%..", lambda code: code[0].lower(), quoted),
        in_html,
        in_html.replace("/", "&#x2F;"),
        re.sub(r"[^0-9A-Za-z]", lambda one: f"&#{ord(one[0])};", value),
        escaped,
        re.sub(r"\\u....", lambda code: "\\u" + code[0][2:].upper(), escaped),
    }
    # A gateway quotes another server's JSON inside its own.
    texts |= {json.dumps(text)[1:-1] for text in texts}
    raw = {value.encode(coding, "replace") for coding in ("latin-1", "utf-16-le", "utf-16-be")}
    return raw | {text.encode("utf-8", "surrogatepass") for text in texts}


def of_fields(pairs: Iterable[tuple[str, str]]) -> Iterator[Secret]:
    """Yield the secrets in header fields: keys with and without their scheme, the password of Basic credentials."""
    for name, value in pairs:
        if name.lower() in _OPEN_FIELDS:
            continue
        scheme, found, rest = value.partition(" ")
        if is_secret_name(name):
            yield Secret(value)
            if found:  # a scheme, perhaps of two words
                yield from (Secret(rest.strip()), Secret(value.rpartition(" ")[2]))
            if scheme.lower() == "basic":
                yield from _of_basic(rest)
        elif len(value) >= _SHORTEST_FIELD:
            yield Secret(value)


def _of_basic(encoded: str) -> Iterator[Secret]:
    try:
        userinfo = base64.b64decode(encoded).decode()
    except ValueError:
        return
    yield Secret(userinfo)
    yield Secret(userinfo.partition(":")[2])


def of_query(query: str) -> Iterator[Secret]:
    """Yield the values of a query's parameters with a secret name."""
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if value and is_secret_name(name):
            yield Secret(value)
            yield Secret(unquote_plus(value))


class HiddenFields(Mapping[str, Any]):
    """A caller's header fields or query parameters, whose values `repr` does not show."""

    __slots__ = ("__fields",)

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.__fields = fields

    def __getitem__(self, name: str) -> Any:
        return self.__fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__fields)

    def __len__(self) -> int:
        return len(self.__fields)

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self.__fields, HIDDEN))

    def __reduce__(self) -> tuple[type[HiddenFields], tuple[dict[str, Any]]]:
        return (HiddenFields, (dict.fromkeys(self.__fields, HIDDEN),))
