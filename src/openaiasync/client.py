"""The two clients: `Client`, and `AsyncOpenAI` with the constructor of the official client, over one engine.

A client belongs to no event loop until it is used. It may be used from several loops (with a pool of connections for
each, and shared limits), and is not thread-safe: use one client per thread.
"""

from __future__ import annotations

import copy as copying
import os
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypedDict, Unpack, cast

from .api.root import Api
from .core.model.closing import AsyncClosing
from .core.model.omitted import NotGiven, Omit
from .core.model.secrets import redacted
from .core.policy.request_options import Timeout
from .engine import log
from .engine.config import BaseURL, KeySource, RenewableKey, Secret
from .engine.engine import Engine
from .engine.sealing import unquoting
from .engine.upstream import Connections
from .errors import ConfigurationError
from .lazy import resolve_annotations
from .methods.client_methods import ClientMethods
from .methods.http_methods import HTTPMethods
from .options import (
    CLIENT,
    DEFAULT_CONNECTION_LIMITS,
    DEFAULT_TIMEOUT,
    OFFICIAL,
    PICKLE_ADVICE,
    URL,
    VARIANTS,
    ApiKey,
    ClientConfig,
    Hidden,
    OptionSet,
    key_from,
    shows,
)

if TYPE_CHECKING:
    from .core.codec.file_types import FileTypes
    from .core.policy.limits import Limits
    from .engine.hooks import AnswerHook, ErrorHook, RequestHook
    from .identity.workload import WorkloadIdentity, X509WorkloadIdentity

__all__ = ["AsyncClient", "AsyncOpenAI", "Client", "DefaultAsyncHttpx2Client", "NoneType", "file_from_path"]


# ---------------------------------------------------------------- keywords, for type checkers


class TimeoutLike(Protocol):
    """A `Timeout`, or one of httpx's."""

    @property
    def connect(self) -> float | None:
        """Seconds until a connection is established."""
        ...

    @property
    def read(self) -> float | None:
        """Seconds until an answer starts, and between two units of progress."""
        ...


class CommonOptions(TypedDict, total=False):
    """The keywords that every constructor has."""

    api_key: ApiKey | None
    admin_api_key: str | None
    webhook_secret: str | None
    default_headers: Mapping[str, Any] | None
    default_query: Mapping[str, object] | None
    max_retries: int
    http_other: Mapping[str, Any] | None
    on_request: RequestHook | None
    on_answer: AnswerHook | None
    on_error: ErrorHook | None


class ClientOnlyOptions(TypedDict, total=False):
    """The keywords that only `Client` has."""

    api_base: str | Sequence[str] | Mapping[str, ApiKey | None] | None
    api_org_name: str | None
    model: str | Mapping[str, str] | None
    http_user_agent: str | None
    http_max_in_flight: int | None
    http_max_connections_per_host: int | None
    http_max_redirects: int
    http_timeout: float | None
    http_stall_timeout: float | None
    http_deadline: float | None
    http_connect_timeout: float | None
    auth_scheme: str
    strict: bool
    limits: Limits | None


class OfficialOnlyOptions(TypedDict, total=False):
    """The keywords that `AsyncOpenAI` and `AsyncAzureOpenAI` have."""

    base_url: Any
    websocket_base_url: Any
    organization: str | None
    project: str | None
    timeout: float | TimeoutLike | Omit | NotGiven | None
    http_client: Any
    _strict_response_validation: bool
    _enforce_credentials: bool | None


class OpenAIOnlyOptions(TypedDict, total=False):
    """The keywords that only `AsyncOpenAI` has."""

    data_residency: str | None
    workload_identity: WorkloadIdentity | X509WorkloadIdentity | None


class ClientOptions(CommonOptions, ClientOnlyOptions, total=False):
    """The keywords of `Client`."""


class OfficialOptions(CommonOptions, OfficialOnlyOptions, OpenAIOnlyOptions, total=False):
    """The keywords of `AsyncOpenAI`."""


class VariantOptions(CommonOptions, ClientOnlyOptions, OfficialOnlyOptions, OpenAIOnlyOptions, total=False):
    """The keywords of `with_options` and `copy`: those of both constructors, and two that replace instead of adding."""

    set_default_headers: Mapping[str, Any] | None
    set_default_query: Mapping[str, object] | None


# ---------------------------------------------------------------- clients


class Client(ClientMethods, HTTPMethods, Api, AsyncClosing):
    """The asyncio client for every OpenAI-compatible server.

    Use it as ``async with Client(...) as client``, or call `aclose` at the end. Nothing is connected before the first
    call. `openaiasync.options` has every option in one table; `docs/options.md` describes them at length.

    Args:
        api_base: URL of the API, such as ``http://localhost:8000/v1``; several in a list, or a mapping from URL to key,
            share the calls: each goes to the server with the least expected wait. Default: ``OPENAI_BASE_URL``,
            ``OPENAI_API_BASE``, ``https://api.openai.com/v1``.
        api_key: a string, or an async function that returns one and is called before each attempt. Default:
            ``OPENAI_API_KEY``. Required for OpenAI's own API only.
        admin_api_key: the key for administration endpoints. Default: ``OPENAI_ADMIN_KEY``.
        api_org_name: sent as ``OpenAI-Organization``. Default: ``OPENAI_ORG_ID``.
        webhook_secret: the secret for checking webhook signatures. Default: ``OPENAI_WEBHOOK_SECRET``.
        model: the model for calls that name none, or a mapping from method (``"chat"``, ``"embedding"``, …) to model.
        default_headers: header fields of every request.
        default_query: query parameters of every request.
        http_user_agent: the ``User-Agent``. Default: the versions of this library and of Python.
        http_max_in_flight: the maximum number of calls in flight (2; `None`: no limit). Others wait, first come,
            first served; an open stream counts until it is closed. A call that waits for more than 5 s is
            logged as a WARNING.
        http_max_connections_per_host: connections to one host (default: `http_max_in_flight`).
        http_max_redirects: redirects to follow (3). Requests with a key or a body only follow them within the origin.
        http_timeout: seconds until an answer starts, including the first event of a stream (120; `None`: no limit).
        http_stall_timeout: seconds without progress once an answer has started (600). Progress is an event of a stream,
            64 KiB of a binary answer, the whole of any other.
        http_deadline: seconds for the whole call with all its attempts and pauses (default: no limit).
        http_connect_timeout: seconds until a connection is established, DNS and TLS included (10).
        http_other: further options of the connections: ``ssl`` (an `ssl.SSLContext`; `False` checks no certificate),
            ``proxy`` (URL of an HTTP proxy), ``trust_env`` (`False` ignores the proxy variables), ``local_addr``
            (``(host, port)``), ``uds`` (path of a Unix socket), ``keepalive`` (seconds that an idle connection is
            kept, 60), ``happy_eyeballs_delay`` (seconds, 0.25), ``queue_timeout`` (seconds to wait for a slot, and
            again for a connection; no limit), ``max_body`` (bytes of an answer's body in memory; by default 1 GiB for
            embeddings, images and files, 128 MiB for other JSON), ``transport`` (a `Transport` of your own, for one
            event loop), and the options above without their ``http_``; keyword arguments override those.
        max_retries: how often a failed call is retried (2), where that is safe and the retry budget allows it.
        auth_scheme: the scheme before the key in ``Authorization`` (``"Bearer"``; ``""`` sends the key alone).
        strict: raise `APIResponseValidationError` for an answer that does not conform to the API's description,
            instead of decoding it leniently.
        limits: a `Limits` that several clients share, in place of `http_max_in_flight`.
        on_request: a function, async or not, that is called with a `RequestEvent` before each attempt of every call.
        on_answer: the same with an `AnswerEvent` when a call has succeeded.
        on_error: the same with an `ErrorEvent` when a call has failed. An exception from a hook fails the call.

    Raises:
        ConfigurationError: an option has a value that cannot work.
        TypeError: an option does not exist.
    """

    _variant_options: ClassVar[OptionSet] = VARIANTS

    @shows(CLIENT, ClientOptions)
    @unquoting
    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        first, others = _several(options)
        config = ClientConfig.resolved(CLIENT, first)
        self._open(config.with_fields(others=Hidden(others)) if others else config)

    def _open(self, config: ClientConfig) -> None:
        log.switch_on()
        self._attach(Engine(config, Connections(config.max_in_flight, config.transport, config.limits)))

    def _attach(self, calls: Engine) -> None:
        self._calls = calls
        self._share_out()
        key = calls.config.key
        if isinstance(key, RenewableKey):
            key.bind(calls.shared)

    def _share_out(self) -> None:
        """Distribute calls over further servers, if there are several."""
        config, calls = self._config, self._calls
        others = () if config.others is None else config.others.reveal()
        engines = [calls]
        for url, key in others:
            elsewhere = config.with_fields(base_url=Hidden(url), key=key or config.key, others=None)
            engines.append(Engine(elsewhere, calls.shared))
        for engine in engines:
            engine.others = tuple(one for one in engines if one is not engine)

    @property
    def _config(self) -> ClientConfig:
        config = self._calls.config
        assert isinstance(config, ClientConfig)
        return config

    # ---------------------------------------------------------------- variants

    @shows(VARIANTS, VariantOptions)
    @unquoting
    def with_options(self, **options: Unpack[VariantOptions]) -> Self:
        """Return a client with other options that shares connections, slots and the retry budget with this one.

        It takes the keywords of both constructors, except for what is shared: the limits of calls and connections, and
        `http_other`. Closing one of these clients closes all of them; only a client with another `http_client` shares
        nothing. `default_headers` and `default_query` are added to the existing ones; `set_default_headers` and
        `set_default_query` replace them. `None` leaves an option of the official client unchanged, except `timeout`.

        Raises:
            ConfigurationError: an option that is shared, or a value that cannot work.
            TypeError: an option that does not exist.
        """
        return self._variant(options)

    def _variant(self, options: Mapping[str, Any]) -> Self:
        old = self._config
        config = old.changed(self._variant_options, options)
        shared = self._calls.shared
        if config.http_client is not old.http_client:
            shared = Connections(config.max_in_flight, config.transport)
        if config.base_url is not old.base_url:
            config = config.with_fields(others=None)
        made = object.__new__(type(self))
        made._attach(Engine(config, shared))
        return made

    copy = with_options

    def __copy__(self) -> Self:
        """Return a client with the same options, key included, that shares connections with this one."""
        return self._twin(None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return what ``copy.copy`` does: connections and keys are not copied, attributes of a subclass are."""
        return self._twin(memo)

    def _twin(self, memo: dict[int, Any] | None) -> Self:
        """Return a copy; with a `memo` a deep one."""
        made = object.__new__(type(self))
        if memo is not None:
            memo[id(self)] = made
        made._attach(Engine(self._calls.config, self._calls.shared))
        for name, value in vars(self).items():
            if name not in vars(made) and getattr(value, "_calls", None) is not self._calls:  # not the namespaces
                vars(made)[name] = value if memo is None else copying.deepcopy(value, memo)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"a {type(self).__name__} holds connections and a key and cannot be pickled: {PICKLE_ADVICE}")

    # ---------------------------------------------------------------- attributes

    def _set(self, name: str, value: Any) -> None:
        """Change the option with this official name on this client; `None` resets it."""
        option = self._variant_options.option(name)
        nothing = value is None and not option.none
        reset = {option.field: option.kept(option.default), **dict(option.sets)}
        self._change(**(reset if nothing else option.value(name, value)))

    def _change(self, **changes: Any) -> None:
        # The existing namespaces hold this engine, so it is reconfigured instead of replaced.
        if "base_url" in changes:
            changes["others"] = None
        self._calls.configure(self._config.with_fields(**changes))
        self._share_out()

    @property
    def base_url(self) -> URL:
        """The API base with a slash at its end, without secrets. Settable; anything but a URL is refused."""
        base = BaseURL(self._config.base_url.reveal())
        return URL(f"{base.root}{base.path}/" + (redacted(f"?{base.query}") if base.query else ""))

    @base_url.setter
    @unquoting
    def base_url(self, url: object) -> None:
        self._set("base_url", url)

    @property
    def api_key(self) -> str:
        """The key itself; ``""`` without a key, or if a function returns it. Settable to another key or function."""
        return _shown(self._config.key)

    @api_key.setter
    @unquoting
    def api_key(self, key: ApiKey | None) -> None:
        self._set("api_key", key)

    @property
    def admin_api_key(self) -> str | None:
        """The key for administration endpoints itself. Settable."""
        return _shown(self._config.admin_key) or None

    @admin_api_key.setter
    @unquoting
    def admin_api_key(self, key: str | None) -> None:
        self._set("admin_api_key", key)

    @property
    def workload_identity(self) -> WorkloadIdentity | X509WorkloadIdentity | None:
        """The identity used instead of a key, if any."""
        return getattr(self._config.key, "workload_identity", None)

    @property
    def webhook_secret(self) -> str | None:
        """The secret that webhook signatures are checked with. Settable."""
        return _shown(self._config.webhook_secret) or None

    @webhook_secret.setter
    @unquoting
    def webhook_secret(self, secret: str | None) -> None:
        self._set("webhook_secret", secret)

    @property
    def default_headers(self) -> dict[str, Any]:
        """The header fields that were given for every request, as a new dict."""
        return dict(self._config.default_headers.reveal())

    @property
    def default_query(self) -> dict[str, object]:
        """The query parameters that were given for every request, as a new dict."""
        return dict(self._config.default_query.reveal())

    @property
    def websocket_base_url(self) -> str | None:
        """The URL of realtime connections, if it differs from `base_url`. Settable."""
        url = self._config.websocket_base_url
        return None if url is None else url.reveal()

    @websocket_base_url.setter
    def websocket_base_url(self, url: object) -> None:
        self._set("websocket_base_url", url)

    @property
    def max_retries(self) -> int:
        """How often a failed call is retried, where that is safe. Settable."""
        return self._config.max_retries

    @max_retries.setter
    def max_retries(self, retries: int) -> None:
        self._set("max_retries", retries)

    @property
    def timeout(self) -> float | Timeout | None:
        """Seconds until an answer starts; of `AsyncOpenAI` its `timeout` option. Settable."""
        config = self._config
        return config.timeout if config.has_timeout else config.start_timeout

    @timeout.setter
    def timeout(self, timeout: Any) -> None:
        self._set("timeout" if self._config.has_timeout else "http_timeout", timeout)

    @property
    def organization(self) -> str | None:
        """The value of ``OpenAI-Organization``. Settable."""
        return self._config.organization

    @organization.setter
    def organization(self, organization: str | None) -> None:
        self._set("organization", organization)

    @property
    def project(self) -> str | None:
        """The value of ``OpenAI-Project``. Settable."""
        return self._config.project

    @project.setter
    def project(self, project: str | None) -> None:
        self._set("project", project)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._config.base}{', closed' if self.is_closed() else ''}>"

    # ---------------------------------------------------------------- the end

    def is_closed(self) -> bool:
        """Whether `aclose` was called, here or on a client that shares with this one."""
        return self._calls.shared.closed

    async def aclose(self) -> None:
        """Drop every connection; calls in flight end with `ClientClosedError`. Idempotent."""
        await self._calls.shared.aclose()

    close = aclose

    async def __aenter__(self) -> Self:
        if self.is_closed():
            raise ConfigurationError("the client is closed; make a new one")
        return self


class AsyncOpenAI(Client):
    """`Client` with the constructor of the official client: its names and its defaults. Everything else is the same.

    Args:
        api_key: as in `Client`.
        admin_api_key: the key for administration endpoints. Default: ``OPENAI_ADMIN_KEY``.
        organization: sent as ``OpenAI-Organization``. Default: ``OPENAI_ORG_ID``.
        project: sent as ``OpenAI-Project``. Default: ``OPENAI_PROJECT_ID``.
        webhook_secret: the secret that webhook signatures are checked with. Default: ``OPENAI_WEBHOOK_SECRET``.
        base_url: as `api_base` in `Client`.
        websocket_base_url: the URL of realtime connections. Default: `base_url`.
        data_residency: one of OpenAI's regions (``"eu"``, ``"us"``, …), in place of `base_url`.
        workload_identity: the identity of this workload, in place of a key: see `openaiasync.auth`.
        timeout: seconds (600), or a `Timeout`, for each attempt: for the whole of a JSON answer; for streams and binary
            answers until they start, and then without progress.
        max_retries: how often a failed call is retried (2), timeouts included.
        default_headers: header fields of every request.
        default_query: query parameters of every request.
        http_client: an ``httpx2.AsyncClient`` (or httpx's) that carries the requests, in place of our connections.
        http_other: as in `Client`.
        on_request: as in `Client`.
        on_answer: as in `Client`.
        on_error: as in `Client`.

    Up to 1,000 connections to a host, 20 redirects, any number of calls in flight. Raises the errors of `Client`.
    """

    @shows(OFFICIAL, OfficialOptions)
    @unquoting
    def __init__(self, **options: Unpack[OfficialOptions]) -> None:
        given: dict[str, Any] = dict(options)
        if options.get("workload_identity") is not None:
            from .identity.workload import with_base

            given = with_base(given, OFFICIAL.keywords["base_url"].from_environment()[1])
        self._open(ClientConfig.resolved(OFFICIAL, given))


AsyncClient = AsyncOpenAI


def _several(options: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[tuple[str, KeySource], ...]]:
    """Return the options with the first of several API bases, and the others, each with its own key if it has one."""
    first = dict(options)
    given: Any = options.get("api_base")
    pairs: list[tuple[Any, Any]]
    if isinstance(given, Mapping):
        keys: Any = first["api_base"]
        pairs = [(url, keys[url]) for url in keys]
    elif isinstance(given, (list, tuple)):
        pairs = [(url, None) for url in cast("list[Any]", given)]
    else:
        return first, ()
    if not pairs:
        raise ConfigurationError("api_base: there is no URL in it")
    first["api_base"], key = pairs[0]
    if key is not None:
        first["api_key"] = key
    return first, tuple((str(url), None if key is None else key_from("api_base", key)) for url, key in pairs[1:])


def _shown(key: KeySource) -> str:
    return key.reveal() if isinstance(key, Secret) else ""


# ---------------------------------------------------------------- the official client's functions


def file_from_path(path: str | os.PathLike[str]) -> FileTypes:
    """Return a file for an upload: its name and content, read at once.

    Pass a `pathlib.Path` instead for large files, which are then read in slices. Raises `OSError`, also for more than
    1 GiB and for anything but a regular file.
    """
    from .storage.disk import read_file

    return os.path.basename(path), read_file(path, 1 << 30), None


def DefaultAsyncHttpx2Client(**options: Any) -> Any:
    """Return an ``httpx2.AsyncClient`` with this library's limits, timeouts and redirects, for ``http_client=``.

    `options` are those of ``httpx2.AsyncClient`` and override these defaults. Raises `ModuleNotFoundError` if httpx2 is
    not installed.
    """
    import importlib

    httpx2: Any = importlib.import_module("httpx2")
    defaults = {
        "limits": httpx2.Limits(**DEFAULT_CONNECTION_LIMITS._asdict()),
        "timeout": httpx2.Timeout(DEFAULT_TIMEOUT.read, connect=DEFAULT_TIMEOUT.connect),
        "follow_redirects": True,
    }
    return httpx2.AsyncClient(**{**defaults, **options})


resolve_annotations(__name__)
