"""Which proxy, if any, a request goes through: an explicit one, or what the environment says.

``HTTP_PROXY``, ``HTTPS_PROXY`` and ``ALL_PROXY`` name proxies, ``NO_PROXY`` what goes past them, in the sense in which
curl and Go read them; lower-case names win. Only ``http://`` proxies are spoken to.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..core.model.secrets import Secret
from .base import Credentials, Origin

__all__ = ["Proxies", "Proxy", "parse_proxy"]


class Proxy(NamedTuple):
    """An ``http://`` proxy; `credentials` is its ``Proxy-Authorization``, hidden, perhaps empty."""

    host: str
    port: int
    credentials: Credentials


def parse_proxy(url: str, origin_of_url: str = "proxy") -> Proxy:
    """Read ``http://[user:password@]host[:port]`` (port 80 if none is given; ``http://`` may be left out).

    Raises `ValueError` that names `origin_of_url`, never the URL, which may hold a password.
    """
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("http:")
    if parts.scheme != "http":
        raise ValueError(f"{origin_of_url}: only http:// proxies are supported, not {parts.scheme}://")
    if not host or port == 0 or re.search(r"[\x00-\x20\x7f-\xff%]", host):
        raise ValueError(f"{origin_of_url}: not a proxy URL of the form http://user:password@host:port")
    pairs: list[tuple[str, str]] = []
    if parts.username is not None:
        userinfo = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        pairs.append(("Proxy-Authorization", f"Basic {base64.b64encode(userinfo.encode()).decode('ascii')}"))
    return Proxy(host, 80 if port is None else port, Credentials(pairs))


class Proxies:
    """The answer to "which proxy for this origin?", read from the settings once."""

    def __init__(self, proxy: str | None, environment: Mapping[str, str], *, case_blind: bool = False) -> None:
        """`proxy` is for every origin and makes the `environment` void; `case_blind`: its names have no case (Windows).

        Raises `ValueError` for an explicit `proxy` that cannot be used.
        """
        self._explicit = parse_proxy(proxy) if proxy else None
        self._by_scheme: dict[str, tuple[str, str]] = {}
        self._bypass = _Bypass("*" if self._explicit else _lookup(environment, "no_proxy")[1])
        if self._explicit:
            return
        for scheme in ("http", "https"):
            name, url = _lookup(environment, f"{scheme}_proxy")
            # In a CGI program HTTP_PROXY is what a client wrote into its header field "Proxy" (httpoxy).
            if scheme == "http" and "REQUEST_METHOD" in environment and (name == "HTTP_PROXY" or case_blind):
                url = ""
            if not url:
                name, url = _lookup(environment, "all_proxy")
            if url:
                self._by_scheme[scheme] = (name, url)

    def for_origin(self, origin: Origin) -> Proxy | None:
        """Return the proxy for this origin; raises `ValueError` if the environment names one that cannot be used."""
        if self._explicit is not None:
            return self._explicit
        found = self._by_scheme.get(origin.scheme)
        if found is None or self._bypass.matches(origin.host, origin.port):
            return None
        name, url = found
        return parse_proxy(url, name)

    def secrets(self) -> Iterator[Secret]:
        """Yield the passwords of all of them, as they are sent and as they are written."""
        found = [self._explicit] if self._explicit is not None else []
        for name, url in self._by_scheme.values():
            with contextlib.suppress(ValueError):
                found.append(parse_proxy(url, name))
        for proxy in found:
            yield from proxy.credentials.secrets()


def _lookup(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    for spelling in (name, name.upper()):
        value = environment.get(spelling, "").strip()
        if value:
            return spelling, value
    return name, ""


class _Bypass:
    """``NO_PROXY``: names (with their subdomains), ``.suffixes``, addresses, CIDR blocks, each perhaps with a port."""

    def __init__(self, value: str) -> None:
        self._everything = False
        self._names: list[tuple[str, int | None]] = []
        self._networks: list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int | None]] = []
        self._globs: list[tuple[str, int | None]] = []
        for entry in re.split(r"[\s,;]", value.lower()):
            # Some write a URL where a host is meant; only its host and port count.
            entry = entry.rpartition("://")[2]
            entry = entry if _is_network(entry) else entry.partition("/")[0]
            if entry == "*":
                self._everything = True
            elif entry:
                self._add(entry)

    def _add(self, entry: str) -> None:
        match = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?|(.+)", entry)
        assert match is not None
        name = match[1] or match[3] or match[5]
        digits = match[2] or match[4]
        port = int(digits) if digits else None
        try:
            self._networks.append((ipaddress.ip_network(name, strict=False), port))
        except ValueError:
            name = _ascii_name(name.removeprefix("*") if name.startswith("*.") else name).rstrip(".")
            if "*" in name:
                self._globs.append((name, port))
            else:
                self._names.append((f".{name.lstrip('.')}" if name.startswith(".") else name, port))

    def matches(self, host: str, port: int) -> bool:
        if self._everything:
            return True
        host = host.lower().rstrip(".")
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            within = any(_is_within(host, name) and only in (None, port) for name, only in self._names)
            return within or any(_matches(host, glob) and only in (None, port) for glob, only in self._globs)
        return any(address in network and only in (None, port) for network, only in self._networks)


def _is_network(entry: str) -> bool:
    try:
        ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return True


def _ascii_name(name: str) -> str:
    """Return an internationalised name as the hosts of requests are written."""
    if name.isascii():
        return name
    try:
        return ".".join(part.encode("idna").decode("ascii") if part.strip("*") else part for part in name.split("."))
    except UnicodeError:
        return name


def _matches(host: str, glob: str) -> bool:
    """Return whether a host is what a name with ``*`` in it stands for: any characters, none included."""
    first, *middle, last = glob.split("*")
    if not host.startswith(first) or not host.endswith(last) or len(host) < len(first) + len(last):
        return False
    at, end = len(first), len(host) - len(last)
    for part in middle:
        found = host.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _is_within(host: str, name: str) -> bool:
    """``example.com`` means itself and its subdomains, ``.example.com`` the subdomains only."""
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")
