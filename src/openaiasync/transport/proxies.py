"""Choose the proxy of a request: an explicit one, or one from the environment.

``HTTP_PROXY``, ``HTTPS_PROXY`` and ``ALL_PROXY`` name proxies, ``NO_PROXY`` the hosts that bypass them, as curl and Go
interpret them; lower-case names win. Only ``http://`` proxies are supported.
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

    Raises `ValueError` that names `origin_of_url` but not the URL, which may contain a password.
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
    """Chooses the proxy for an origin; the settings are read once."""

    def __init__(self, proxy: str | None, environment: Mapping[str, str], *, case_blind: bool = False) -> None:
        """Create the choice: `proxy` serves every origin and overrides the `environment`; with `case_blind` variable
        names ignore case (Windows).

        Raises `ValueError` for an unusable explicit `proxy`.
        """
        self._explicit = parse_proxy(proxy) if proxy else None
        self._by_scheme: dict[str, tuple[str, str]] = {}
        self._bypass = _Bypass("*" if self._explicit else _lookup(environment, "no_proxy")[1])
        if self._explicit:
            return
        for scheme in ("http", "https"):
            name, url = _lookup(environment, f"{scheme}_proxy")
            # In a CGI program HTTP_PROXY holds the client's "Proxy" header field (httpoxy).
            if scheme == "http" and "REQUEST_METHOD" in environment and (name == "HTTP_PROXY" or case_blind):
                url = ""
            if not url:
                name, url = _lookup(environment, "all_proxy")
            if url:
                self._by_scheme[scheme] = (name, url)

    def for_origin(self, origin: Origin) -> Proxy | None:
        """Return the proxy for this origin. Raises `ValueError` if the environment names an unusable one."""
        if self._explicit is not None:
            return self._explicit
        found = self._by_scheme.get(origin.scheme)
        if found is None or self._bypass.matches(origin.host, origin.port):
            return None
        name, url = found
        return parse_proxy(url, name)

    def secrets(self) -> Iterator[Secret]:
        """Yield the passwords of all proxies, both encoded and in plain text."""
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
            # Some users write a URL instead of a host; only its host and port count.
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
    """Return an internationalised name in the form used for the hosts of requests."""
    if name.isascii():
        return name
    try:
        return ".".join(part.encode("idna").decode("ascii") if part.strip("*") else part for part in name.split("."))
    except UnicodeError:
        return name


def _matches(host: str, glob: str) -> bool:
    """Return whether a host matches a pattern in which ``*`` stands for any characters, or none."""
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
    """Return whether a host matches: ``example.com`` means itself and its subdomains, ``.example.com`` only the
    subdomains."""
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")
