"""What a client is configured with: options, the environment, their checks; and what a call is told of it.

Every check happens at construction, and no message quotes a value that may be secret.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import urlsplit

from .core.codec.encode import encode_query, merge_queries
from .core.model.omitted import is_omitted
from .core.policy.options import HOOK_NAMES
from .engine.config import (
    BaseURL,
    CallConfig,
    KeySource,
    Secret,
    check_field,
    check_header,
)
from .errors import ConfigurationError
from .version import __version__

__all__ = [
    "DEFAULT_BASE",
    "METHODS",
    "PICKLE_ADVICE",
    "UNSET",
    "URL",
    "Settings",
    "base_from",
    "key_from",
    "secret_from",
    "user_agent",
]

DEFAULT_BASE = "https://api.openai.com/v1"
PICKLE_ADVICE = "pass the options, and make a client of them where it is used"
METHODS = frozenset(
    {
        "chat",
        "completion",
        "embedding",
        "image_generate",
        "text_to_speech",
        "speech_to_text",
        "vision",
    }
)
REGIONS = ("global", "us", "eu", "ae", "au", "in", "jp")
UNSET: Any = object()
"""Left to the default: told apart from `None`, which means "no limit" in most options."""

ApiKey = str | Callable[[], Awaitable[str]]


class URL(str):
    """An API base as text that ends with a slash, with its parts under the names that httpx gives them."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self).scheme

    @property
    def host(self) -> str:
        """The name or address."""
        return urlsplit(self).hostname or ""

    @property
    def port(self) -> int | None:
        """The port, where it is not the scheme's own."""
        return urlsplit(self).port

    @property
    def path(self) -> str:
        """The path."""
        return urlsplit(self).path


def retries_from(value: float) -> int:
    """`max_retries` as a number; `math.inf`, which the official client takes, as more than any call makes."""
    if value is None:  # pyright: ignore[reportUnnecessaryComparison]  # callers may be untyped
        raise TypeError(
            "max_retries cannot be None: pass 0 for no retries, math.inf for as many as it takes, or leave it out for "
            "the default, openaiasync.DEFAULT_MAX_RETRIES"
        )
    if value == math.inf:
        return sys.maxsize
    found = count("max_retries", cast("int", value), 0)
    assert found is not None
    return found


def mapping_from(value: object, name: str) -> None:
    """`TypeError` for default header fields or query parameters that are not a mapping."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a mapping from names to values, not {type(value).__name__}")


def env(*names: str) -> str | None:
    """The first of these environment variables that is set and not blank."""
    for name in names:
        value = os.environ.get(name, "").strip()
        if value:
            return value
    return None


def user_agent() -> str:
    """Library, version and Python's version."""
    return f"openaiasync/{__version__} Python/{sys.version.split()[0]}"


def key_from(api_key: ApiKey | None, *variables: str) -> KeySource:
    """The key from the argument or the environment, wrapped; `ConfigurationError` for one that no header can carry."""
    if api_key is None:
        api_key = env(*variables)
    if api_key is None or is_omitted(api_key):
        return None
    if callable(api_key):
        return api_key
    if not isinstance(api_key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise ConfigurationError("api_key is a string or an asynchronous function that answers one")
    text = check_field(api_key, "api_key")
    return Secret(text) if text else None


def secret_from(value: str | None, *variables: str) -> Secret | None:
    """Another secret from the argument or the environment, wrapped and checked like a key."""
    key = key_from(value, *variables)
    if key is not None and not isinstance(key, Secret):
        raise ConfigurationError("only api_key may be a function: other keys and secrets are strings")
    return key


def base_from(url: object, region: str | None = None) -> str:
    """The API base: the argument, OpenAI's in a region, ``OPENAI_BASE_URL``, ``OPENAI_API_BASE``, or OpenAI's own."""
    if region is not None:
        if url is not None:
            raise ConfigurationError("data_residency stands in place of an API base: give one of them")
        if region not in REGIONS:
            raise ConfigurationError(f"data_residency is one of {', '.join(REGIONS)}")
        return DEFAULT_BASE if region == "global" else f"https://{region}.api.openai.com/v1"
    if url is None:
        return env("OPENAI_BASE_URL", "OPENAI_API_BASE") or DEFAULT_BASE
    if isinstance(url, (list, tuple, set, frozenset)):
        several = cast("list[object]", list(cast("Any", url)))
        if len(several) != 1:
            raise ConfigurationError("several API bases for one client are not supported yet: give one URL")
        url = several[0]
    return str(url)


def seconds(name: str, value: float | None) -> float | None:
    """A number of seconds above 0, or `None`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{name} is a number of seconds or None, not {type(value).__name__}")
    if not value > 0 or math.isinf(value):
        raise ConfigurationError(f"{name} is a finite number of seconds above 0, or None for no limit")
    return float(value)


def count(name: str, value: int | None, least: int) -> int | None:
    """A whole number from `least` up, or `None`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{name} is a whole number from {least} up")
    return value


def models_from(model: str | Mapping[str, str] | None) -> Mapping[str, str]:
    """Default models by mission method; the key ``""`` stands for all methods."""
    if model is None:
        return {}
    if isinstance(model, str):
        return {"": model}
    unknown = set(model) - METHODS
    if unknown:
        raise ConfigurationError(f"model: {min(unknown)!r} is none of the methods {', '.join(sorted(METHODS))}")
    if "chat" in model and "vision" not in model:
        return {**model, "vision": model["chat"]}
    return dict(model)


def headers_from(headers: Mapping[str, Any] | None, what: str) -> tuple[tuple[str, Secret], ...]:
    """Default header fields, checked and wrapped, since they may be keys. What is omitted stays out."""
    return tuple(
        (name, Secret(check_header(name, value, what)))
        for name, value in (headers or {}).items()
        if not is_omitted(value) and value is not None
    )


def headers_from_environment() -> dict[str, str]:
    """``OPENAI_CUSTOM_HEADERS``: a line ``name: value`` for each field."""
    lines = (env("OPENAI_CUSTOM_HEADERS") or "").replace("\r", "\n").split("\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The resolved options of one client. `call_config` is what its calls are told."""

    base_url: str = field(repr=False)  # it may hold userinfo
    websocket_base_url: str | None = field(default=None, repr=False)
    key: KeySource = None
    admin_key: Secret | None = None
    webhook_secret: Secret | None = None
    organization: str | None = None
    project: str | None = None
    user_agent: str | None = None
    model: str | Mapping[str, str] | None = None
    auth_scheme: str = "Bearer"
    default_headers: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)  # they may be keys
    default_query: Mapping[str, object] = field(default_factory=dict[str, object], repr=False)  # so may these
    max_retries: int = 2
    max_redirects: int = 3
    connect_timeout: float | None = 10.0
    start_timeout: float | None = 120.0
    stall_timeout: float | None = 600.0
    timeout: Any = UNSET
    deadline: float | None = None
    queue_timeout: float | None = None
    max_body: int | None = None
    repeat_timed_out: bool = False
    strict: bool = False
    on_request: Any = None
    on_answer: Any = None
    on_error: Any = None
    observers: tuple[Callable[[Any], Any], ...] = ()  # telemetry, see `engine.observed`
    official: bool = False  # AsyncOpenAI: its user expects the official client's header fields

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_retries", retries_from(self.max_retries))
        mapping_from(self.default_headers, "default_headers")
        mapping_from(self.default_query, "default_query")
        count("http_max_redirects", self.max_redirects, 0)
        for name in ("connect_timeout", "stall_timeout", "deadline", "queue_timeout"):
            seconds(f"http_{name}", getattr(self, name))
        seconds("http_timeout", self.start_timeout)
        if self.timeout is not UNSET and not hasattr(self.timeout, "read"):
            seconds("timeout", self.timeout)
        for name in HOOK_NAMES:
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ConfigurationError(f"{name} is a function that takes an event, or None")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{type(self).__name__} holds a key and is not pickled: {PICKLE_ADVICE}")

    @property
    def is_default_base(self) -> bool:
        """Whether calls go to OpenAI itself, which answers nobody without a key."""
        return f".{BaseURL(self.base_url).origin.host}".endswith(".api.openai.com")

    def require_key(self) -> None:
        """`ConfigurationError` if the API base is OpenAI's own and there is no key."""
        named = any(name.lower() == "authorization" for name in self.default_headers)
        if self.key is None and self.admin_key is None and not named and self.is_default_base:
            raise ConfigurationError(
                f"no API key for {DEFAULT_BASE}: pass api_key=, or set OPENAI_API_KEY; for another server pass its URL "
                "or set OPENAI_BASE_URL (a local one usually needs no key)"
            )

    def _websocket_base(self) -> BaseURL | None:
        if self.websocket_base_url is None:
            return None
        url = self.websocket_base_url
        base = BaseURL(f"http{url[2:]}" if url[:2].lower() == "ws" else url)
        if self.default_query:
            base.query = merge_queries(base.query, encode_query(self.default_query.items()))
        return base

    def call_config(self) -> CallConfig:
        """What calls are made with; `ConfigurationError` for what cannot work."""
        base = BaseURL(self.base_url)
        if self.default_query:
            base.query = merge_queries(base.query, encode_query(self.default_query.items()))
        fields = [("User-Agent", check_field(self.user_agent or user_agent(), "http_user_agent"))]
        if self.organization:
            fields.append(("OpenAI-Organization", check_field(self.organization, "api_org_name")))
        if self.project:
            fields.append(("OpenAI-Project", check_field(self.project, "project")))
        has_timeout = self.timeout is not UNSET
        return CallConfig(
            base=base,
            websocket_base=self._websocket_base(),
            key=self.key,
            admin_key=self.admin_key,
            webhook_secret=self.webhook_secret,
            auth_scheme=check_field(self.auth_scheme, "auth_scheme"),
            fields=tuple(fields),
            secret_fields=self._secret_fields(),
            models=models_from(self.model),
            max_retries=self.max_retries,
            max_redirects=self.max_redirects,
            connect_timeout=self.connect_timeout,
            start_timeout=self.start_timeout,
            stall_timeout=self.stall_timeout,
            timeout=self.timeout if has_timeout else None,
            has_timeout=has_timeout,
            deadline=self.deadline,
            queue_timeout=self.queue_timeout,
            max_body=self.max_body,
            repeat_timed_out=self.repeat_timed_out,
            strict=self.strict,
            count_retries=self.official,
            observers=self._observers(),
        )

    def _secret_fields(self) -> tuple[tuple[str, Secret], ...]:
        """The default header fields: the environment's, unless the client has one of the same name."""
        own = {name.lower() for name in self.default_headers if isinstance(name, str)}  # pyright: ignore[reportUnnecessaryIsInstance]
        others = headers_from(headers_from_environment(), "OPENAI_CUSTOM_HEADERS")
        kept = tuple(pair for pair in others if pair[0].lower() not in own)
        return kept + headers_from(self.default_headers, "default_headers")

    def _observers(self) -> tuple[Callable[[Any], Any], ...]:
        """Telemetry, then the hooks: what they raise is measured too."""
        if self.on_request is None and self.on_answer is None and self.on_error is None:
            return self.observers
        from .engine.hooks import Hooks

        return (*self.observers, Hooks(self.on_request, self.on_answer, self.on_error))
