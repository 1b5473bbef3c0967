"""The options of the connections: which there are, what wins, and the transport that they make."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from .core.codec.endpoint import nearest
from .errors import ConfigurationError
from .settings import UNSET, count, seconds

if TYPE_CHECKING:
    from .transport.base import Transport

__all__ = ["Network", "checked_client", "network_from"]

_NAMED: dict[str, Any] = {
    "max_in_flight": 2,
    "max_connections_per_host": UNSET,  # as many as in flight
    "max_redirects": 3,
    "timeout": 120.0,
    "stall_timeout": 600.0,
    "deadline": None,
    "connect_timeout": 10.0,
    "user_agent": None,
}
_TCP = frozenset({"ssl", "proxy", "trust_env", "local_addr", "uds", "keepalive", "happy_eyeballs_delay"})
_OTHER = _TCP | {"max_body", "queue_timeout", "transport"}


@dataclass(frozen=True, slots=True)
class Network:
    """The resolved options of a client's connections."""

    max_in_flight: int | None
    max_connections_per_host: int | None
    max_redirects: int
    timeout: float | None
    stall_timeout: float | None
    deadline: float | None
    connect_timeout: float | None
    user_agent: str | None
    queue_timeout: float | None
    max_body: int | None
    tcp: Mapping[str, Any] = field(repr=False)  # a proxy's URL may hold a password
    http_client: Any = None
    own_transport: Transport | None = None

    def settings(self) -> dict[str, Any]:
        """Those of them that are `Settings` of every client, whatever its timeouts are called."""
        names = ("max_redirects", "connect_timeout", "deadline", "queue_timeout", "max_body")
        return {name: getattr(self, name) for name in names}

    def transport(self) -> Transport:
        """A pool for the running event loop."""
        if self.own_transport is not None:
            return self.own_transport
        if self.http_client is not None:
            from .transport.httpx2 import HTTPXTransport

            return HTTPXTransport(self.http_client)
        from .transport.tcp import TcpSettings, TcpTransport

        return TcpTransport(TcpSettings(max_connections_per_host=self.max_connections_per_host, **self.tcp))


def network_from(given: Mapping[str, Any], other: Mapping[str, Any], http_client: Any = None) -> Network:
    """Options from the named arguments (`given`; `UNSET` where the caller left the default) and from `http_other`.

    `http_other` may hold: ``ssl`` (an `ssl.SSLContext`; `False`: no certificate is checked), ``proxy`` (URL of an HTTP
    proxy for every request), ``trust_env`` (`False`: no proxy variables), ``local_addr`` (``(host, port)``), ``uds``
    (path of a Unix socket), ``keepalive`` (seconds an idle connection is kept, 60; `None`: until the server closes it),
    ``happy_eyeballs_delay`` (seconds, 0.25), ``queue_timeout`` (seconds to wait for a slot in flight, and as many for
    a connection, no limit), ``max_body`` (bytes that the body of an answer may have in memory; by default 1 GiB for
    embeddings, images and files, 128 MiB for other JSON),
    ``transport`` (a `Transport` of your own, as the `FakeTransport` of `openaiasync.testing`; for one event loop), and
    the named options without their ``http_``, which lose against the arguments themselves.

    Raises `TypeError` for an unknown name, `ConfigurationError` for a value that cannot work.
    """
    values: dict[str, Any] = dict(_NAMED)
    rest: dict[str, Any] = {}
    for name, value in other.items():
        short = name.removeprefix("http_")
        if short in _NAMED:
            values[short] = value
        elif name in _OTHER:
            rest[name] = value
        else:
            known = frozenset(_NAMED) | _OTHER
            raise TypeError(f"http_other has no option {name!r}{nearest(name, known)}")
    values.update({name: value for name, value in given.items() if value is not UNSET})
    if values["max_connections_per_host"] is UNSET:
        values["max_connections_per_host"] = values["max_in_flight"]
    for name in ("max_in_flight", "max_connections_per_host"):
        count(f"http_{name}", values[name], 1)
    _check(rest)
    if http_client is not None:
        checked_client(http_client)
    queue_timeout = seconds("queue_timeout", rest.pop("queue_timeout", None))
    max_body = count("max_body", rest.pop("max_body", None), 1)
    own = rest.pop("transport", None)
    if own is not None and not callable(getattr(own, "send", None)):
        raise ConfigurationError("transport is an object with the methods of openaiasync.transport.base.Transport")
    return Network(
        **values,
        queue_timeout=queue_timeout,
        max_body=max_body,
        tcp=rest,
        http_client=http_client,
        own_transport=own,
    )


def checked_client(http_client: Any) -> Any:
    """`http_client`, or `TypeError` for anything else than an asynchronous client of httpx2 or httpx."""
    if not (callable(getattr(http_client, "send", None)) and callable(getattr(http_client, "aclose", None))):
        kind = f"{type(http_client).__module__}.{type(http_client).__name__}"
        raise TypeError(f"Invalid `http_client` argument: an AsyncClient of httpx2 or httpx is needed, not {kind}")
    return http_client


def _check(tcp: Mapping[str, Any]) -> None:
    """`ConfigurationError` for an option of the sockets that cannot work, before anything is connected."""
    for name in ("keepalive", "happy_eyeballs_delay"):
        if tcp.get(name) is not None:
            seconds(name, tcp[name])
    tls = tcp.get("ssl")
    if not (tls is None or isinstance(tls, bool) or hasattr(tls, "wrap_bio")):  # importing ssl here would cost
        raise ConfigurationError("ssl is an ssl.SSLContext, or False to check no certificate")
    if not isinstance(tcp.get("trust_env", True), bool):
        raise ConfigurationError("trust_env is True or False")
    local: Any = tcp.get("local_addr")
    if local is not None and not (isinstance(local, (tuple, list)) and len(cast("list[Any]", local)) == 2):
        raise ConfigurationError("local_addr is a pair of a host and a port")
    if not isinstance(tcp.get("uds"), (str, os.PathLike, type(None))):
        raise ConfigurationError("uds is the path of a Unix socket")
    if tcp.get("proxy") is not None:
        from .transport.proxies import parse_proxy

        try:
            parse_proxy(str(tcp["proxy"]))
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
