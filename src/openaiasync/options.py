"""The table of all options of a client: names, environment variables, defaults, unit, check, and destination.

`OPTIONS` is the table. The constructors of `Client`, `AsyncOpenAI` and `AsyncAzureOpenAI`, their `with_options`, and
the bridge's `transport` have an `OptionSet` each: a selection of its rows under the names of that function. Type
checkers see TypedDicts next to those functions; tests compare these, the table and `docs/options.md`.

A resolved configuration is one immutable `ClientConfig`: the engine's `CallConfig` together with the values from which
it was made, so that `with_options` can make another one. Every check happens at construction, and no message quotes a
value that may be secret.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, Self, TypeVar, cast, get_args

from msgspec import Struct
from msgspec.structs import replace

from .core.codec.encode import encode_query, merge_queries
from .core.codec.endpoint import nearest
from .core.model.method_signatures import LazySignature, ShownParameter, common_first
from .core.model.omitted import is_omitted, omit
from .core.policy.limits import Limits
from .core.policy.request_options import Timeout
from .engine.config import UNSET, URL, BaseURL, CallConfig, KeySource, Secret, check_field, check_header
from .errors import ConfigurationError
from .lazy import resolve_annotations
from .version import __version__

if TYPE_CHECKING:
    from .transport.base import Transport

__all__ = [
    "AZURE",
    "AZURE_VARIANTS",
    "CLIENT",
    "DEFAULT_BASE",
    "DEFAULT_CONNECTION_LIMITS",
    "DEFAULT_MAX_RETRIES",
    "DEFAULT_TIMEOUT",
    "OFFICIAL",
    "OPTIONS",
    "PICKLE_ADVICE",
    "UNSET",
    "URL",
    "VARIANTS",
    "ApiKey",
    "AsyncAzureADTokenProvider",
    "ClientConfig",
    "ConnectionLimits",
    "DataResidency",
    "Option",
    "OptionSet",
    "shows",
]

F = TypeVar("F", bound=Callable[..., Any])
T_co = TypeVar("T_co", covariant=True)

ApiKey = str | Callable[[], Awaitable[str]]
AsyncAzureADTokenProvider = Callable[[], str | Awaitable[str]]
DataResidency = Literal["global", "us", "eu", "ae", "au", "in", "jp"]
"""The regions for `AsyncOpenAI(data_residency=...)`."""

DEFAULT_BASE: Final = "https://api.openai.com/v1"
DEFAULT_MAX_RETRIES: int = 2
DEFAULT_TIMEOUT: Timeout = Timeout(600.0, connect=5.0)
"""The default timeouts of `AsyncOpenAI`, in seconds."""
PICKLE_ADVICE = "pass the options instead, and create a client from them where it is used"
METHODS = frozenset(
    ["chat", "completion", "embedding", "image_generate", "responses", "speech_to_text", "text_to_speech", "vision"]
)
"""The methods that a mapping given as `model` may have as keys."""


class ConnectionLimits(NamedTuple):
    """The maximum number of connections of an `AsyncOpenAI`, and the time for which idle ones are kept (seconds)."""

    max_connections: int
    max_keepalive_connections: int
    keepalive_expiry: float


DEFAULT_CONNECTION_LIMITS: ConnectionLimits = ConnectionLimits(1000, 1000, 60.0)


# ---------------------------------------------------------------- checks: (name to show, value) → the value to keep


def _as_given(name: str, value: Any) -> Any:
    return value


class Hidden(Generic[T_co]):
    """A value that may contain a key or a password, hidden from `repr` and from code that prints public attributes."""

    __slots__ = ("__value",)

    def __init__(self, value: T_co) -> None:
        self.__value = value

    def reveal(self) -> T_co:
        """Return the value."""
        return self.__value

    def __repr__(self) -> str:
        return "<hidden>"


def seconds(name: str, value: float | None) -> float | None:
    """Return a number of seconds above 0, or `None`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if not value > 0 or math.isinf(value):
        raise ConfigurationError(f"{name} must be a finite number of seconds above 0, or None for no limit")
    return float(value)


def _whole(least: int, none: bool = True) -> Callable[[str, Any], int | None]:
    """Return the check for a whole number from `least` up; with `none` also `None`, which means no limit."""

    def check(name: str, value: Any) -> int | None:
        if value is None and none:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            more = ", or None for no limit" if none else ""
            raise ConfigurationError(f"{name} must be a whole number from {least} up{more}")
        return value

    return check


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {type(value).__name__}")
    return value


def _retries(name: str, value: Any) -> int | None:
    """Return a number of retries; `math.inf`, as the official client accepts, becomes one that no call reaches."""
    if value is None:
        raise TypeError(
            f"{name} cannot be None: pass 0 for no retries, math.inf for as many as it takes, or leave it out for "
            "the default, openaiasync.DEFAULT_MAX_RETRIES"
        )
    return sys.maxsize if value == math.inf else _whole(0, none=False)(name, value)


def _timeout(name: str, value: Any) -> Any:
    """Return seconds, `None`, or an object with `read` and `connect`: a `Timeout`, or one of httpx's."""
    return value if hasattr(value, "read") else seconds(name, value)


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping from names to values, not {type(value).__name__}")
    return cast("Mapping[str, Any]", value)


def _field_value(name: str, value: object) -> str:
    return check_field(value, name)


def _text(name: str, value: object) -> str:
    return str(value)


def _hook(name: str, value: object) -> object:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{name} must be a function that takes an event, or None")
    return value


def key_from(name: str, value: Any) -> KeySource:
    """Return a key, wrapped. Raises `ConfigurationError` for one that a header field cannot carry."""
    if callable(value):
        return cast("Callable[[], Awaitable[str]]", value)
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a string or an async function that returns one")
    text = check_field(value, name)
    return Secret(text) if text else None


def _secret(name: str, value: object) -> KeySource:
    """Return a secret that cannot be a function, wrapped and checked like a key."""
    if callable(value):
        raise ConfigurationError(f"{name} must be a string: only api_key may be a function")
    return key_from(name, value)


def _identity(name: str, value: Any) -> KeySource:
    """Return the key that exchanges the tokens of this workload identity."""
    from .identity.workload import WorkloadIdentityAuth

    return WorkloadIdentityAuth(workload_identity=value)


def _token_provider(name: str, value: Any) -> KeySource:
    """Return a key that calls this function for a token of Microsoft Entra ID before each attempt."""
    provider: AsyncAzureADTokenProvider = value
    if not callable(value):
        raise ConfigurationError(f"{name} must be a function that returns a token")
    from .engine.callback import ask

    async def token() -> str:
        got: Any = await ask(provider, name)
        if not isinstance(got, str) or not got:
            raise ConfigurationError(f"{name} must return a token, a string that is not empty")
        return got

    return token


def _base_url(name: str, value: Any) -> str:
    """Return the API base as text; `BaseURL` checks it. A list may hold one URL: `Client` handles several."""
    if isinstance(value, (list, tuple, set, frozenset)):
        several = cast("list[object]", list(cast("Any", value)))
        if len(several) != 1:
            raise ConfigurationError(f"{name}: several API bases are given to Client(api_base=[…]) alone")
        value = several[0]
    return str(value)


def _region(name: str, value: object) -> str:
    """Return the API base of one of OpenAI's regions."""
    regions = get_args(DataResidency)
    if value not in regions:
        raise ConfigurationError(f"{name} must be one of {', '.join(regions)}")
    return DEFAULT_BASE if value == "global" else f"https://{value}.api.openai.com/v1"


def _models(name: str, value: Any) -> Mapping[str, str]:
    """Return default models by method; the key ``""`` stands for every method."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"": value}
    if not issubclass(type(value), Mapping):
        raise TypeError(
            f"{name} must be a model's name, or a mapping from methods to names, not {type(value).__name__}"
        )
    models: dict[str, str] = dict(_mapping(name, value))
    if unknown := models.keys() - METHODS:
        raise ConfigurationError(f"{name}: {min(unknown)!r} is not one of the methods {', '.join(sorted(METHODS))}")
    if "chat" in models:
        models.setdefault("vision", models["chat"])
    return models


def _endpoint(name: str, value: object) -> str:
    """Return the URL of an Azure resource without a slash at its end."""
    url = str(value).rstrip("/")
    BaseURL(url)  # raises for an invalid URL, before a path is appended
    return url


def _segment(name: str, value: object) -> str | None:
    """Return a deployment's name, which is one segment of a path."""
    if value is not None and str(value) in ("", ".", ".."):
        raise ConfigurationError(f"{name} cannot be {str(value)!r}, which would lead to another path")
    return None if value is None else str(value)


def _http_client(name: str, value: Any) -> Any:
    if not (callable(getattr(value, "send", None)) and callable(getattr(value, "aclose", None))):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise TypeError(f"Invalid `{name}` argument: pass an AsyncClient of httpx2 or httpx, not {kind}")
    return value


def _transport(name: str, value: Any) -> Any:
    if not callable(getattr(value, "send", None)):
        raise ConfigurationError(f"{name} must have the methods of openaiasync.transport.base.Transport")
    return value


def _ssl(name: str, value: object) -> object:
    if not (isinstance(value, bool) or hasattr(value, "wrap_bio")):  # importing ssl only to check would be slow
        raise ConfigurationError(f"{name} must be an ssl.SSLContext, or False to check no certificate")
    return value


def _proxy(name: str, value: object) -> str:
    from .transport.proxies import parse_proxy

    try:
        parse_proxy(str(value))
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return str(value)


def _local_addr(name: str, value: Any) -> tuple[str, int]:
    if not (isinstance(value, (tuple, list)) and len(cast("list[Any]", value)) == 2):
        raise ConfigurationError(f"{name} must be a pair of a host and a port")
    host, port = cast("tuple[str, int]", value)
    return (host, port)


def _path(name: str, value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigurationError(f"{name} must be the path of a Unix socket")
    return os.fspath(cast("str | os.PathLike[str]", value))


# ---------------------------------------------------------------- the table


_SAME: Any = object()


class Option(Struct, frozen=True, eq=False):
    """One option: a row of the table.

    Attributes:
        field: the field of `ClientConfig` for its value, or, with `tcp`, of `TcpSettings`.
        client: its keyword of `Client`, if it is one of `Client`'s.
        official: its keyword of `AsyncOpenAI` and `AsyncAzureOpenAI`, if it is one of theirs.
        other: its key in ``http_other``, for options without a keyword in some or all constructors.
        check: returns the value to keep, or raises an error that names the option as the caller did.
        unit: the unit of a number.
        default: the value if it is neither given nor in the environment; a function is passed the other fields.
        official_default: the same for `AsyncOpenAI` and `AsyncAzureOpenAI`, if it differs.
        environment: the variables that are read if it is not given; the first one that is set counts.
        per_call: the keyword of every method that replaces it, or adds to it, for one call (`RequestOptions`).
        none: whether `None` is a value ("no limit", "no hook"). Otherwise it means "not given".
        shared: whether clients made by `with_options` share it, so that they cannot change it.
        merged: whether it adds to existing values: the environment's, and in `with_options` the client's.
        client_only: whether it is also not allowed in `http_other` of `AsyncOpenAI`.
        tcp: whether it configures the sockets.
        hidden: whether it may hold a key or a password and is kept in a `Hidden`.
        sets: further fields, and the values they get with this option.
    """

    field: str
    client: str = ""
    official: str = ""
    other: str = ""
    check: Callable[[str, Any], Any] = _as_given
    unit: str = ""
    default: Any = None
    official_default: Any = _SAME
    environment: tuple[str, ...] = ()
    per_call: str = ""
    none: bool = False
    shared: bool = False
    merged: bool = False
    client_only: bool = False
    tcp: bool = False
    hidden: bool = False
    sets: tuple[tuple[str, Any], ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a value of this option sets."""
        return (self.field, *dict(self.sets))

    @property
    def names(self) -> set[str]:
        """All names of this option."""
        other = self.other and f"http_{self.other}"
        return {name for name in (self.client, self.official, self.other, other) if name}

    def value(self, name: str, value: Any) -> dict[str, Any]:
        """Return the fields that this value sets, checked. `name` is the caller's name for the option, for errors."""
        return {self.field: self.kept(self.check(name, value)), **dict(self.sets)}

    def from_environment(self) -> tuple[str, str]:
        """Return the first of its variables that is set and not blank, and its text; two empty texts without one."""
        texts = ((name, os.environ.get(name, "").strip()) for name in self.environment)
        return next((pair for pair in texts if pair[1]), ("", ""))

    def kept(self, value: Any) -> Any:
        """Return a checked value, or a default, in the form of `ClientConfig`."""
        return Hidden(value) if self.hidden and value is not None else value


def _official_timeout(values: Mapping[str, Any]) -> Timeout:
    return Timeout(DEFAULT_TIMEOUT.read, connect=values["connect_timeout"])


def _as_many_as_in_flight(values: Mapping[str, Any]) -> int | None:
    slots: int | None = values["max_in_flight"]
    return slots


_BEARER, _NO_BEARER = (("bearer", True),), (("bearer", False),)
_NO_ENDPOINT = (("endpoint", None),)
_BASES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
_POOL = DEFAULT_CONNECTION_LIMITS.max_connections
# fmt: off
_OPENAI = (
    # field        Client           AsyncOpenAI        http_other  check       unit   default
    Option("base_url", "api_base", "base_url", "", _base_url, "URL", DEFAULT_BASE, environment=_BASES, hidden=True),
    Option("base_url", "", "data_residency", "", _region, hidden=True),
    Option("key", "api_key", "api_key", "", key_from, environment=("OPENAI_API_KEY",)),
    Option("key", "", "workload_identity", "", _identity),
    Option("admin_key", "admin_api_key", "admin_api_key", "", _secret, environment=("OPENAI_ADMIN_KEY",)),
)
# A token of the environment wins over a key of the environment, so it stands above it. OpenAI's administration key is
# not read from the environment, so that it is never sent to Azure.
_AZURE = (
    Option("endpoint", "", "azure_endpoint", "", _endpoint, "URL", environment=("AZURE_OPENAI_ENDPOINT",), hidden=True),
    Option("deployment", "", "azure_deployment", "", _segment, none=True),
    Option("base_url", "api_base", "base_url", "", _base_url, "URL", "", sets=_NO_ENDPOINT, hidden=True),
    Option("version", "", "api_version", "", _text, "", "", environment=("OPENAI_API_VERSION",)),
    Option("key", "", "azure_ad_token_provider", "", _token_provider, sets=_BEARER),
    Option("key", "", "azure_ad_token", "", _secret, environment=("AZURE_OPENAI_AD_TOKEN",), sets=_BEARER),
    Option("key", "api_key", "api_key", "", key_from, environment=("AZURE_OPENAI_API_KEY",), sets=_NO_BEARER),
    Option("admin_key", "admin_api_key", "admin_api_key", "", _secret),
)
_COMMON = (
    Option("organization", "api_org_name", "organization", "", _field_value, environment=("OPENAI_ORG_ID",)),
    Option("project", "", "project", "", _field_value, environment=("OPENAI_PROJECT_ID",)),
    Option("webhook_secret", "webhook_secret", "webhook_secret", "", _secret, environment=("OPENAI_WEBHOOK_SECRET",)),
    Option("websocket_base_url", "", "websocket_base_url", "", _text, "URL", hidden=True),
    Option("models", "model", "", "", _models, none=True, default={}),
    Option("auth_scheme", "auth_scheme", "", "", _field_value, "", "Bearer"),
    Option("strict", "strict", "_strict_response_validation", "", _flag, "", False),
    Option("max_retries", "max_retries", "max_retries", "", _retries, "attempts", DEFAULT_MAX_RETRIES, none=True,
           per_call="max_retries"),
    Option("default_headers", "default_headers", "default_headers", "", _mapping, "", {}, merged=True, hidden=True,
           environment=("OPENAI_CUSTOM_HEADERS",), per_call="extra_headers"),
    Option("default_query", "default_query", "default_query", "", _mapping, "", {}, merged=True, hidden=True,
           per_call="extra_query"),
    Option("user_agent", "http_user_agent", "", "user_agent", _field_value),
    Option("max_in_flight", "http_max_in_flight", "", "max_in_flight", _whole(1), "calls", 2, None, none=True,
           shared=True),
    Option("max_connections_per_host", "http_max_connections_per_host", "", "max_connections_per_host", _whole(1),
           "connections", _as_many_as_in_flight, _POOL, none=True, shared=True),
    Option("max_redirects", "http_max_redirects", "", "max_redirects", _whole(0, none=False), "", 3, 20, none=True),
    Option("connect_timeout", "http_connect_timeout", "", "connect_timeout", seconds, "s", 10.0,
           DEFAULT_TIMEOUT.connect, none=True),
    Option("start_timeout", "http_timeout", "", "timeout", seconds, "s", 120.0, none=True, client_only=True),
    Option("stall_timeout", "http_stall_timeout", "", "stall_timeout", seconds, "s", 600.0, none=True,
           client_only=True),
    Option("timeout", "", "timeout", "timeout", _timeout, "s", UNSET, _official_timeout, none=True,
           per_call="timeout"),
    Option("deadline", "http_deadline", "", "deadline", seconds, "s", none=True, per_call="deadline"),
    Option("queue_timeout", "", "", "queue_timeout", seconds, "s", none=True),
    Option("max_body", "", "", "max_body", _whole(1), "bytes"),
    Option("limits", "limits", shared=True),
    Option("http_client", "", "http_client", "", _http_client),
    Option("http_other", "http_other", "http_other", shared=True),
    Option("own_transport", "", "", "transport", _transport),
    Option("ssl", "", "", "ssl", _ssl, tcp=True),
    Option("proxy", "", "", "proxy", _proxy, "URL", tcp=True),
    Option("trust_env", "", "", "trust_env", _flag, "", True, tcp=True),
    Option("local_addr", "", "", "local_addr", _local_addr, tcp=True),
    Option("uds", "", "", "uds", _path, "path", tcp=True),
    Option("keepalive", "", "", "keepalive", seconds, "s", DEFAULT_CONNECTION_LIMITS.keepalive_expiry, none=True,
           tcp=True),
    Option("happy_eyeballs_delay", "", "", "happy_eyeballs_delay", seconds, "s", 0.25, tcp=True),
    Option("on_request", "on_request", "on_request", "", _hook, none=True, per_call="on_request"),
    Option("on_answer", "on_answer", "on_answer", "", _hook, none=True, per_call="on_answer"),
    Option("on_error", "on_error", "on_error", "", _hook, none=True, per_call="on_error"),
    Option("enforce_credentials", "", "_enforce_credentials", default=True),
)
# fmt: on

OPTIONS = (*_OPENAI, *_AZURE, *_COMMON)
"""The table: every option of every client."""


_SHOWN_FIRST = ("azure_endpoint", "api_base", "base_url", "api_key", "model")  # in `help`
_ELSEWHERE_NAMED = {  # names of httpx, requests and other clients
    **dict.fromkeys(("verify", "ssl_context", "verify_ssl"), "ssl"),
    **dict.fromkeys(("proxies", "http_proxy"), "proxy"),
    **dict.fromkeys(("url", "api_url", "endpoint", "host", "server"), "api_base"),
    **dict.fromkeys(("token", "api_token", "key", "auth"), "api_key"),
    **dict.fromkeys(("default_model", "model_name"), "model"),
    **dict.fromkeys(("org", "api_org", "org_id"), "organization"),
    **dict.fromkeys(("max_concurrency", "max_inflight", "concurrency"), "max_in_flight"),
    **dict.fromkeys(("headers", "extra_headers"), "default_headers"),
    **dict.fromkeys(("params", "query", "extra_query"), "default_query"),
    **dict.fromkeys(("rpm", "tpm", "rate_limit"), "limits"),
}


class OptionSet:
    """The options of one function: its keywords, and the keys of its ``http_other``.

    `fixed` are fields that its callers cannot choose; `defaults` replace those of the rows.
    """

    def __init__(
        self,
        owner: str,
        keywords: Iterable[tuple[str, Option]],
        other: Iterable[Option] = (),
        *,
        official: bool = False,
        fixed: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.owner = owner
        self.keywords: dict[str, Option] = dict(keywords)
        self.other: dict[str, Option] = {option.other: option for option in other if option.other}
        self.official = official
        self.fixed: Mapping[str, Any] = fixed or {}
        self.defaults: Mapping[str, Any] = defaults or {}
        mine = {*self.keywords.values(), *self.other.values()}
        self.options: list[Option] = [option for option in OPTIONS if option in mine]

    def default(self, option: Option) -> Any:
        """Return the option's default here: a value, or a function of the other fields' values."""
        if option.field in self.defaults:
            return self.defaults[option.field]
        return option.official_default if self.official and option.official_default is not _SAME else option.default

    def initial(self, option: Option) -> dict[str, Any]:
        """Return the fields that the environment sets for this option, if it does."""
        variable, text = option.from_environment()
        return option.value(variable, text) if text and not option.merged else {}

    def option(self, name: str) -> Option:
        """Return the option with this keyword. Raises `TypeError` with a hint for an unknown one."""
        try:
            return self.keywords[name]
        except KeyError:
            raise TypeError(f"{self.owner} has no option {name!r}{self._hint(name)}") from None

    def _hint(self, name: str) -> str:
        """Return a hint for an unknown keyword: the nearest one, or the constructor that has it."""
        name = _ELSEWHERE_NAMED.get(name, name)
        known = [option for option in OPTIONS if name in option.names]
        for option in known:
            for keyword, mine in self.keywords.items():
                if mine.field == option.field:
                    example = "; did you mean limits=Limits(rpm=..., tpm=...)?" if keyword == "limits" else ""
                    return example or f"; did you mean {keyword!r}?"
            if option.other and self.other.get(option.other) is option:
                return f"; did you mean http_other={{{option.other!r}: ...}}?"
        if known:
            azure = known[0] in _AZURE
            owner = "Client" if known[0].client else "AsyncAzureOpenAI" if azure else "AsyncOpenAI"
            return f"; it is an option of {owner}"
        return nearest(name, frozenset(self.keywords))

    def given(self, keywords: Mapping[str, Any]) -> Iterator[tuple[str, Option, Any]]:
        """Yield the options set by these keywords: keyword, row, value.

        Raises:
            TypeError: an unknown keyword.
            ConfigurationError: two options for one field.
        """
        setters: dict[str, str] = {}
        for name, value in keywords.items():
            option = self.option(name)
            if is_omitted(value) or (value is None and not option.none):
                continue
            for one in option.fields:
                other = setters.setdefault(one, name)
                if other != name:
                    raise ConfigurationError(f"`{other}` and `{name}` arguments are mutually exclusive")
            yield name, option, value

    def values(self, keywords: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every field of these options: given, from the environment, or by default.

        Options of the sockets are in the field ``tcp``.
        """
        other: dict[str, Any] = {**(keywords.get("http_other") or {})}
        values: dict[str, Any] = dict(self.fixed)
        tcp: dict[str, Any] = {}
        for name, option, value in self.given(keywords):
            values.update(option.value(name, value))
        for name, value in other.items():
            found = self.other.get(name) or self.other.get(name.removeprefix("http_"))
            if found is None:
                usual = _ELSEWHERE_NAMED.get(name)
                hint = f"; did you mean {usual!r}?" if usual else nearest(name, frozenset(self.other))
                raise TypeError(f"http_other has no option {name!r}{hint}")
            option = found
            if option.field not in values and not is_omitted(value) and (value is not None or option.none):
                (tcp if option.tcp else values)[option.field] = option.check(name, value)
        mine = [option for option in self.options if not option.tcp]
        for option in mine:
            if option.environment and values.keys().isdisjoint(option.fields):
                values.update(self.initial(option))
        for option in mine:
            if option.field not in values:
                default = self.default(option)
                values[option.field] = option.kept(default(values) if callable(default) else default)
        values.pop("http_other", None)
        return {**values, "tcp": Hidden(tcp)}

    def signature(self, annotations: Mapping[str, Any]) -> Signature:
        """Return a signature with these keywords as parameters, for `help()` and tools that read signatures."""
        parameters = [Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)]
        for name in common_first((name for name in annotations if name in self.keywords), _SHOWN_FIRST):
            option, kind = self.keywords[name], annotations[name]
            default = None if self.default(option) == {} else self.default(option)
            shown = default if self.other and not callable(default) and default is not UNSET else omit
            annotation = getattr(kind, "__forward_arg__", kind)
            parameters.append(ShownParameter(name, Parameter.KEYWORD_ONLY, default=shown, annotation=annotation))
        return Signature(parameters)


def shows(options: OptionSet, typed: Any) -> Callable[[F], F]:
    """Show the keywords of the TypedDict `typed` as parameters of the method that takes them by ``Unpack``."""
    signature = LazySignature(make=lambda: options.signature(typed.__annotations__))

    def mark(method: F) -> F:
        method.__dict__["__signature__"] = signature
        return method

    return mark


def _client(rows: Iterable[Option]) -> list[tuple[str, Option]]:
    return [(option.client, option) for option in rows if option.client]


def _official(rows: Iterable[Option]) -> list[tuple[str, Option]]:
    return [(option.official, option) for option in rows if option.official]


def _variants(rows: tuple[Option, ...]) -> list[tuple[str, Option]]:
    """Return the keywords of `with_options`: those of both constructors, and those that replace instead of adding."""
    merged = [(f"set_{option.field}", option) for option in rows if option.merged]
    return [*_client(rows), *_official(rows), *merged]


_AS_OFFICIALLY = {"repeat_timed_out": True, "count_retries": True}
_FOR_CLIENT = [option for option in _COMMON if option.client or not option.official]
_FOR_OFFICIAL = [option for option in _COMMON if not option.client_only]
CLIENT = OptionSet("Client()", _client((*_OPENAI, *_COMMON)), _FOR_CLIENT)
OFFICIAL = OptionSet(
    "AsyncOpenAI()", _official((*_OPENAI, *_COMMON)), _FOR_OFFICIAL, official=True, fixed=_AS_OFFICIALLY
)
AZURE = OptionSet(
    "AsyncAzureOpenAI()", _official((*_AZURE, *_COMMON)), _FOR_OFFICIAL, official=True, fixed=_AS_OFFICIALLY
)
VARIANTS = OptionSet("with_options()", _variants((*_OPENAI, *_COMMON)))
AZURE_VARIANTS = OptionSet("with_options()", _variants((*_AZURE, *_COMMON)))


# ---------------------------------------------------------------- the configuration


_OPENAI_BASE = Hidden(DEFAULT_BASE)
_NOTHING: Hidden[Mapping[str, Any]] = Hidden({})


class ClientConfig(CallConfig, frozen=True, kw_only=True):
    """The resolved options of one client: the configuration of its calls, and the values from which it was made."""

    base_url: Hidden[str] = _OPENAI_BASE  # it may hold userinfo
    websocket_base_url: Hidden[str] | None = None
    organization: str | None = None
    project: str | None = None
    user_agent: str | None = None
    default_headers: Hidden[Mapping[str, Any]] = _NOTHING  # they may be keys
    default_query: Hidden[Mapping[str, object]] = _NOTHING  # so may these
    on_request: Any = None
    on_answer: Any = None
    on_error: Any = None
    telemetry: tuple[Callable[[Any], Any], ...] = ()  # observers that are not hooks
    enforce_credentials: bool | None = True
    # Shared by all clients of one `with_options` family:
    max_in_flight: int | None = 2
    max_connections_per_host: int | None = 2
    limits: Limits | None = None
    tcp: Hidden[Mapping[str, Any]] = _NOTHING  # a proxy's URL may hold a password
    http_client: Any = None
    own_transport: Any = None
    others: Hidden[tuple[tuple[str, KeySource], ...]] | None = None  # further API bases, with separate keys

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"{type(self).__name__} holds a key and cannot be pickled: {PICKLE_ADVICE}")

    @classmethod
    def resolved(cls, options: OptionSet, keywords: Mapping[str, Any]) -> Self:
        """Return the configuration for these keywords. Raises `TypeError` and `ConfigurationError` for invalid ones."""
        return cls(base=_NOWHERE, **options.values(keywords)).with_fields()

    def changed(self, options: OptionSet, keywords: Mapping[str, Any]) -> Self:
        """Return this configuration with the options given to `with_options` changed.

        `None` leaves an official option unchanged, unless it is a value of that option; options of `Client` return to
        their defaults. Raises the errors of `resolved`, and `ConfigurationError` for a shared option.
        """
        changes: dict[str, Any] = {}
        for name, value in keywords.items():
            option = options.option(name)
            if option.shared and not is_omitted(value):
                raise ConfigurationError(f"{name} is shared by all clients made by with_options: make a new client")
            if value is None and not option.none and name == option.client != option.official:
                changes.update({option.field: option.kept(options.default(option)), **options.initial(option)})
        for name, option, value in options.given(keywords):
            changes.update(option.value(name, value))
            if option.merged and name == option.field:
                changes[name] = Hidden({**getattr(self, name).reveal(), **changes[name].reveal()})
        if "http_client" in changes:
            changes["own_transport"] = None
        return self.with_fields(**changes)

    def with_fields(self, **changes: Any) -> Self:
        """Return this configuration with these fields changed and all derived fields recomputed."""
        raw = replace(self, **changes)
        made = replace(raw, **raw.derived())
        if made.enforce_credentials is not False:
            made.require_key()
        return made

    def derived(self) -> dict[str, Any]:
        """Return the fields of `CallConfig` that are made from others."""
        base = BaseURL(self.base_url.reveal())
        websocket_base = None
        if self.websocket_base_url is not None:
            url = self.websocket_base_url.reveal()
            websocket_base = BaseURL(f"http{url[2:]}" if url[:2].lower() == "ws" else url)
        for one in (base, websocket_base):
            if one is not None and (query := self.default_query.reveal()):
                one.query = merge_queries(one.query, encode_query(query.items()))
        agent = self.user_agent or f"openaiasync/{__version__} Python/{sys.version.split()[0]}"
        pairs = [("User-Agent", agent), ("OpenAI-Organization", self.organization), ("OpenAI-Project", self.project)]
        observers = self.telemetry  # before the hooks, so that their exceptions are measured, too
        if self.on_request is not None or self.on_answer is not None or self.on_error is not None:
            from .engine.hooks import Hooks

            observers = (*observers, Hooks(self.on_request, self.on_answer, self.on_error))
        return {
            "base": base,
            "websocket_base": websocket_base,
            "fields": tuple((name, value) for name, value in pairs if value),
            "secret_fields": self._secret_fields(),
            "observers": observers,
        }

    def _secret_fields(self) -> tuple[tuple[str, Secret], ...]:
        """Return the default header fields: the environment's, unless the client has one of the same name."""
        given = self.default_headers.reveal()
        own = {name.lower() for name in given if isinstance(name, str)}  # pyright: ignore[reportUnnecessaryIsInstance]
        variable, text = CLIENT.keywords["default_headers"].from_environment()
        lines = text.replace("\r", "\n").split("\n")
        pairs = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]
        others = {name: value for name, value in pairs if name.lower() not in own}
        return (*_wrapped(others, variable), *_wrapped(given, "default_headers"))

    def require_key(self) -> None:
        """Raise `ConfigurationError` if the API base is OpenAI's own, which refuses every call without a key."""
        named = any(name.lower() == "authorization" for name in self.default_headers.reveal())
        official = f".{self.base.origin.host}".endswith(".api.openai.com")
        if official and self.key is None and self.admin_key is None and not named:
            raise ConfigurationError(
                f"no API key for {DEFAULT_BASE}: pass api_key=, or set OPENAI_API_KEY; for another server pass its URL "
                "or set OPENAI_BASE_URL (a local one usually needs no key)"
            )

    def transport(self) -> Transport:
        """Return the transport for one event loop: a pool of connections, unless the caller gave another one."""
        if self.own_transport is not None:
            own: Transport = self.own_transport
            return own
        if self.http_client is not None:
            from .transport.httpx2 import HTTPXTransport

            return HTTPXTransport(self.http_client)
        from .transport.tcp import TcpSettings, TcpTransport

        return TcpTransport(TcpSettings(max_connections_per_host=self.max_connections_per_host, **self.tcp.reveal()))


_NOWHERE = BaseURL("http://unset")  # placeholder until `derived` has made the base


def _wrapped(headers: Mapping[str, Any], source: str) -> Iterator[tuple[str, Secret]]:
    """Yield header fields, checked and wrapped, since they may be keys. Omitted ones stay out."""
    for name, value in headers.items():
        if not is_omitted(value) and value is not None:
            yield name, Secret(check_header(name, value, source))


resolve_annotations(__name__)
