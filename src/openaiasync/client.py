"""The two doors: `Client`, and `AsyncOpenAI` for who comes from the official client. One engine behind both.

A client belongs to no event loop until it is used, may be used from several (a pool of connections for each, the limits
shared), and is not thread-safe: one client per thread.
"""

from __future__ import annotations

import copy as copying
import dataclasses
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from .api.root import Api
from .core.model.omitted import is_omitted
from .core.model.secrets import redacted
from .core.policy.limits import Limits
from .core.policy.options import Timeout
from .engine import log
from .engine.config import (
    BaseURL,
    KeySource,
    Secret,
    unquoting,
)
from .engine.engine import Engine
from .engine.shared import Shared
from .errors import ConfigurationError
from .methods.client_methods import ClientMethods
from .methods.http_methods import HTTPMethods
from .network import Network, checked_client, network_from
from .settings import (
    PICKLE_ADVICE,
    UNSET,
    URL,
    ApiKey,
    Settings,
    base_from,
    env,
    key_from,
    secret_from,
)
from .variants import ClientOptions, changed_settings, takes

if TYPE_CHECKING:
    from .engine.hooks import AnswerHook, ErrorHook, RequestHook
    from .identity.workload import WorkloadIdentity, X509WorkloadIdentity

__all__ = ["AsyncOpenAI", "Client"]


class Client(ClientMethods, HTTPMethods, Api):
    """The asyncio client for every OpenAI-compatible server.

    Use it as ``async with Client(...) as client``, or `aclose` it. Nothing is connected before the first call.

    Args:
        api_base: URL of the API, as ``http://localhost:8000/v1``. Default: ``OPENAI_BASE_URL``, ``OPENAI_API_BASE``,
            ``https://api.openai.com/v1``.
        api_key: a string, or an asynchronous function that answers one and is asked for each try. Default:
            ``OPENAI_API_KEY``. Missing is an error for the default base only.
        api_org_name: sent as ``OpenAI-Organization``. Default: ``OPENAI_ORG_ID``.
        model: the model of calls that name none; or a mapping from method (``"chat"``, ``"embedding"``, …) to model.
        http_user_agent: the ``User-Agent``. Default: this library, its version, Python's.
        http_max_in_flight: how many calls the server sees at once (2; `None`: no limit). Others wait in line, first
            come, first served; an open stream counts until it is closed. After 5 s a waiting call is logged as WARNING.
        http_max_connections_per_host: connections to one host (default: as many as calls in flight).
        http_max_redirects: redirects that are followed (3). With a key or a body only within the origin.
        http_timeout: seconds until an answer starts, a stream's first event included (120; `None`: no limit).
        http_stall_timeout: seconds without progress once it started (600): per event of a stream, per 64 KiB of a
            binary answer, for the whole of any other.
        http_deadline: seconds for the whole call with all its tries (`None`: no limit).
        http_connect_timeout: seconds until a connection stands, DNS and TLS included (10).
        http_other: further options of the connections, see `network_from`; options named here win.
        max_retries: how often a failed call is tried again (2), where that is safe and the budget allows it.
        auth_scheme: the scheme before the key in ``Authorization`` ("Bearer"; ``""``: the key alone).
        strict: raise `APIResponseValidationError` where an answer strays from the API's description, instead of
            taking it as it is.
        limits: a `Limits` to share places in flight between clients; it takes the place of `http_max_in_flight`.
        on_request: a function, asynchronous or not, that is given a `RequestEvent` before each try of every call.
        on_answer: the same, given an `AnswerEvent` when a call ended well.
        on_error: the same, given an `ErrorEvent` when a call failed. What a hook raises, the call raises.

    Raises `ConfigurationError` for options that cannot work.
    """

    @unquoting
    def __init__(
        self,
        *,
        api_base: str | list[str] | None = None,
        api_key: ApiKey | None = None,
        api_org_name: str | None = None,
        model: str | Mapping[str, str] | None = None,
        http_user_agent: str | None = None,
        http_max_in_flight: int | None = UNSET,
        http_max_connections_per_host: int | None = UNSET,
        http_max_redirects: int = UNSET,
        http_timeout: float | None = UNSET,
        http_stall_timeout: float | None = UNSET,
        http_deadline: float | None = UNSET,
        http_connect_timeout: float | None = UNSET,
        http_other: Mapping[str, Any] | None = None,
        max_retries: int = 2,
        auth_scheme: str = "Bearer",
        strict: bool = False,
        limits: Limits | None = None,
        on_request: RequestHook | None = None,
        on_answer: AnswerHook | None = None,
        on_error: ErrorHook | None = None,
    ) -> None:
        given = {
            "max_in_flight": http_max_in_flight,
            "max_connections_per_host": http_max_connections_per_host,
            "max_redirects": http_max_redirects,
            "timeout": http_timeout,
            "stall_timeout": http_stall_timeout,
            "deadline": http_deadline,
            "connect_timeout": http_connect_timeout,
            "user_agent": UNSET if http_user_agent is None else http_user_agent,
        }
        network = network_from(given, http_other or {})
        settings = Settings(
            base_url=base_from(api_base),
            key=key_from(api_key, "OPENAI_API_KEY"),
            admin_key=secret_from(None, "OPENAI_ADMIN_KEY"),
            webhook_secret=secret_from(None, "OPENAI_WEBHOOK_SECRET"),
            organization=api_org_name if api_org_name is not None else env("OPENAI_ORG_ID"),
            user_agent=network.user_agent,
            model=model,
            auth_scheme=auth_scheme,
            max_retries=max_retries,
            start_timeout=network.timeout,
            stall_timeout=network.stall_timeout,
            **network.settings(),
            strict=strict,
            on_request=on_request,
            on_answer=on_answer,
            on_error=on_error,
        )
        self._open(settings, network, limits)

    def _open(self, settings: Settings, network: Network, limits: Limits | None, enforced: bool = True) -> None:
        log.switch_on()
        if enforced:
            settings.require_key()
        shared = Shared(network.max_in_flight, network.transport, limits)
        self._settings = settings
        self._network = network
        self._attach(Engine(settings.call_config(), shared))

    def _attach(self, calls: Engine) -> None:
        self._calls = calls
        bind = getattr(calls.config.key, "bind", None)
        if bind is not None:  # it exchanges its tokens over this client's connections
            bind(calls.shared)

    # ---------------------------------------------------------------- variants

    @takes(ClientOptions)
    @unquoting
    def with_options(self, **options: Unpack[ClientOptions]) -> Self:
        """A client with other options that shares connections, places in flight and retry budget with this one.

        Takes the words of both constructors, but for what is shared: in-flight and connection limits, `http_other`.
        Closing one closes both; only a client with another `http_client` shares nothing. `default_headers` and
        `default_query` are added to those there are, `set_default_headers` and `set_default_query` take their place.
        `None` for what the official client has leaves it as it is, except for `timeout`. Raises `TypeError` for an
        unknown word.
        """
        return self._variant(dict(options))

    def _variant(self, options: dict[str, Any]) -> Self:
        enforced = options.pop("_enforce_credentials", True)
        http_client = options.pop("http_client", None)
        made = object.__new__(type(self))
        made._settings = changed_settings(self._settings, options)
        made._network = self._network
        if enforced is not False:
            made._settings.require_key()
        shared = self._calls.shared
        if http_client is not None and not is_omitted(http_client):
            made._network = dataclasses.replace(self._network, http_client=checked_client(http_client))
            shared = Shared(made._network.max_in_flight, made._network.transport)
        made._attach(Engine(made._settings.call_config(), shared))
        return made

    copy = with_options

    def __copy__(self) -> Self:
        """A client with the same options, key included, that shares connections with this one: as `with_options`."""
        return self._twin(None)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """As ``copy.copy``: connections and keys are not copied. Attributes of a subclass are."""
        return self._twin(memo)

    def _twin(self, memo: dict[int, Any] | None) -> Self:
        """A copy; with a `memo` a deep one."""
        made = object.__new__(type(self))
        if memo is not None:
            memo[id(self)] = made
        made._settings = self._settings
        made._attach(Engine(self._calls.config, self._calls.shared))
        for name, value in vars(self).items():
            if name not in vars(made) and getattr(value, "_calls", None) is not self._calls:  # namespaces are made anew
                vars(made)[name] = value if memo is None else copying.deepcopy(value, memo)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(f"a {type(self).__name__} holds connections and a key and cannot be pickled: {PICKLE_ADVICE}")

    # ---------------------------------------------------------------- what it is

    @property
    def base_url(self) -> URL:
        """The API base with a slash at its end, without secrets. May be set; `ConfigurationError` for no URL."""
        base = BaseURL(self._settings.base_url)
        return URL(f"{base.root}{base.path}/" + (redacted(f"?{base.query}") if base.query else ""))

    @base_url.setter
    @unquoting
    def base_url(self, url: object) -> None:
        self._change(base_url=str(url))

    def _change(self, **changes: Any) -> None:
        self._settings = dataclasses.replace(self._settings, **changes)
        # The namespaces made so far hold these very calls: they have to see the change.
        self._calls.configure(self._settings.call_config())

    @property
    def api_key(self) -> str:
        """The key itself, `""` without one or where a function answers it. May be set to another key or function."""
        return _shown(self._settings.key)

    @api_key.setter
    @unquoting
    def api_key(self, key: ApiKey | None) -> None:
        self._change(key=key_from(key))

    @property
    def admin_api_key(self) -> str | None:
        """The key of administration endpoints itself. May be set."""
        return _shown(self._settings.admin_key) or None

    @admin_api_key.setter
    def admin_api_key(self, key: str | None) -> None:
        self._change(admin_key=secret_from(key))

    @property
    def workload_identity(self) -> WorkloadIdentity | X509WorkloadIdentity | None:
        """Who this workload is, where that stands in place of a key."""
        return getattr(self._settings.key, "workload_identity", None)

    @property
    def webhook_secret(self) -> str | None:
        """What checks webhooks' signatures. May be set."""
        return _shown(self._settings.webhook_secret) or None

    @webhook_secret.setter
    @unquoting
    def webhook_secret(self, secret: str | None) -> None:
        self._change(webhook_secret=secret_from(secret))

    @property
    def default_headers(self) -> dict[str, Any]:
        """The header fields that were given for every request, as a new dict."""
        return dict(self._settings.default_headers)

    @property
    def default_query(self) -> dict[str, object]:
        """The query parameters that were given for every request, as a new dict."""
        return dict(self._settings.default_query)

    @property
    def websocket_base_url(self) -> str | None:
        """Where realtime connections go, if not where everything goes."""
        return self._settings.websocket_base_url

    @websocket_base_url.setter
    def websocket_base_url(self, url: object) -> None:
        self._change(websocket_base_url=None if url is None else str(url))

    @property
    def max_retries(self) -> int:
        """How often a failed call is tried again, where that is safe (2). May be set."""
        return self._settings.max_retries

    @max_retries.setter
    def max_retries(self, retries: int) -> None:
        self._change(max_retries=retries)

    @property
    def timeout(self) -> float | Timeout | None:
        """Seconds until an answer starts (`AsyncOpenAI`: its `timeout` option). May be set."""
        settings = self._settings
        return settings.start_timeout if settings.timeout is UNSET else settings.timeout

    @timeout.setter
    def timeout(self, timeout: Any) -> None:
        self._change(**{"start_timeout" if self._settings.timeout is UNSET else "timeout": timeout})

    @property
    def organization(self) -> str | None:
        """What is sent as ``OpenAI-Organization``. May be set."""
        return self._settings.organization

    @organization.setter
    def organization(self, organization: str | None) -> None:
        self._change(organization=organization)

    @property
    def project(self) -> str | None:
        """What is sent as ``OpenAI-Project``. May be set."""
        return self._settings.project

    @project.setter
    def project(self, project: str | None) -> None:
        self._change(project=project)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {BaseURL(self._settings.base_url)}>"

    # ---------------------------------------------------------------- the end

    def is_closed(self) -> bool:
        """Whether `aclose` was called, here or on a client that shares with this one."""
        return self._calls.shared.closed

    async def aclose(self) -> None:
        """Drop every connection; calls under way end with `ClientClosedError`. Idempotent."""
        await self._calls.shared.aclose()

    close = aclose

    async def __aenter__(self) -> Self:
        if self.is_closed():
            raise ConfigurationError("the client is closed; make a new one")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class AsyncOpenAI(Client):
    """`Client` under the official client's constructor: its words and its defaults, everything else the same.

    Args:
        api_key: as in `Client`.
        admin_api_key: the key of administration endpoints. Default: ``OPENAI_ADMIN_KEY``.
        organization: sent as ``OpenAI-Organization``. Default: ``OPENAI_ORG_ID``.
        project: sent as ``OpenAI-Project``. Default: ``OPENAI_PROJECT_ID``.
        webhook_secret: checks webhooks' signatures. Default: ``OPENAI_WEBHOOK_SECRET``.
        base_url: as `api_base` in `Client`.
        websocket_base_url: where realtime connections go.
        data_residency: a region of OpenAI's ("eu", "us", …) in place of `base_url`.
        workload_identity: who this workload is, in place of a key: see `openaiasync.auth`.
        timeout: seconds (600), or a `Timeout`, for each try: whole for a JSON answer, until its start and then per
            unit of progress for streams and binary answers.
        max_retries: how often a failed call is tried again (2), timeouts included.
        default_headers: header fields of every request.
        default_query: query parameters of every request.
        http_client: an ``httpx2.AsyncClient`` (or httpx's) that carries the requests in place of our connections.
        http_other: as in `Client`.
        on_request, on_answer, on_error: as in `Client`.

    Up to 1,000 connections to a host, 20 redirects, any number of calls in flight.
    """

    @unquoting
    def __init__(
        self,
        *,
        api_key: ApiKey | None = None,
        admin_api_key: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        webhook_secret: str | None = None,
        base_url: Any = None,
        data_residency: str | None = None,
        workload_identity: WorkloadIdentity | X509WorkloadIdentity | None = None,
        websocket_base_url: Any = None,
        timeout: Any = UNSET,
        max_retries: int = 2,
        default_headers: Mapping[str, Any] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: Any = None,
        http_other: Mapping[str, Any] | None = None,
        on_request: RequestHook | None = None,
        on_answer: AnswerHook | None = None,
        on_error: ErrorHook | None = None,
        _strict_response_validation: bool = False,
        _enforce_credentials: bool = True,
    ) -> None:
        official = {
            "max_in_flight": None,
            "max_connections_per_host": 1000,
            "max_redirects": 20,
            "connect_timeout": 5.0,
        }
        network = network_from(official, http_other or {}, http_client)
        base_url = None if is_omitted(base_url) else base_url
        key: Any = None
        if workload_identity is not None:
            from .identity.workload import base_of, key_of

            key = key_of(workload_identity, api_key)
            base_url, data_residency = base_of(workload_identity, base_url, data_residency)
        settings = Settings(
            base_url=base_from(base_url, data_residency),
            websocket_base_url=None if websocket_base_url is None else str(websocket_base_url),
            key=key_from(api_key, "OPENAI_API_KEY") if key is None else key,
            admin_key=secret_from(admin_api_key, "OPENAI_ADMIN_KEY"),
            organization=organization if organization is not None else env("OPENAI_ORG_ID"),
            project=project if project is not None else env("OPENAI_PROJECT_ID"),
            webhook_secret=secret_from(webhook_secret, "OPENAI_WEBHOOK_SECRET"),
            default_headers={} if default_headers is None else default_headers,
            default_query={} if default_query is None else default_query,
            max_retries=max_retries,
            **network.settings(),
            timeout=Timeout(600.0, connect=network.connect_timeout) if _is_unset(timeout) else timeout,
            repeat_timed_out=True,
            strict=_strict_response_validation,
            on_request=on_request,
            on_answer=on_answer,
            on_error=on_error,
            official=True,
        )
        self._open(settings, network, None, _enforce_credentials)


def _is_unset(value: object) -> bool:
    return value is UNSET or is_omitted(value)


def _shown(key: KeySource) -> str:
    return key.reveal() if isinstance(key, Secret) else ""
