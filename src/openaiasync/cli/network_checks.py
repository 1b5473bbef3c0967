"""Checks of `openaiasync doctor` below HTTP: URL, name, proxy, TCP, TLS, and which protocol the port speaks."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

from ..transport.base import Origin
from ..transport.proxies import Proxies

__all__ = ["Finding", "State", "check_network"]

State = Literal["ok", "warning", "failed", "skipped"]

PATIENCE = 5.0  # seconds for each connection, and for its first bytes
SOON = 21  # days before a certificate's expiry that are worth a warning
_PROBE = b"GET / HTTP/1.1\r\nHost: doctor.invalid\r\nConnection: close\r\n\r\n"


@dataclass
class Finding:
    """The outcome of one check: `text` for people, `advice` on what to do, `data` for programs."""

    name: str
    state: State
    text: str
    advice: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])


async def check_network(base: str, environment: dict[str, str]) -> AsyncIterator[Finding]:
    """Check the way to a server step by step; a failed step ends the checks."""
    try:
        url, port = _parsed(base)
    except ValueError as error:
        yield Finding("url", "failed", str(error), "Give a URL such as http://localhost:8000/v1.")
        return
    yield _url_finding(url, port)
    host = url.hostname or ""
    origin = Origin(url.scheme, host, port)
    try:
        proxy = Proxies(None, environment).for_origin(origin)
    except ValueError as error:
        yield Finding("proxy", "failed", str(error), "Correct or unset this variable, or name the host in NO_PROXY.")
        return
    if proxy is not None:
        yield Finding("proxy", "ok", f"{proxy.host}:{proxy.port}, as the environment says", data={"host": proxy.host})
    target = (host, port) if proxy is None else (proxy.host, proxy.port)
    resolved = await _resolve(*target)
    yield resolved
    if resolved.state == "failed":
        return
    connected = await _connect_to_any(resolved.data["addresses"], target[1])
    if connected.state == "failed" and proxy is not None:
        connected.advice = f"This is the proxy of an environment variable: unset it, or name {host} in NO_PROXY."
    yield connected
    if connected.state == "failed":
        return
    if proxy is not None:
        return  # the connection behind a proxy is checked by the requests themselves
    if url.scheme == "https":
        yield _bundle(environment)
        yield await _tls(host, port)
    elif await _speaks_tls(host, port):
        base = f"https://{url.netloc}{url.path.rstrip('/')}"
        yield Finding("scheme", "failed", "the port speaks TLS", f"Use {base} as the base URL.")


def _parsed(base: str) -> tuple[SplitResult, int]:
    try:
        url = urlsplit(base)
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        raise ValueError("not a URL") from None
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("a base URL begins with http:// or https:// and names a host")
    return url, port


def _url_finding(url: SplitResult, port: int) -> Finding:
    path = url.path.rstrip("/")
    host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
    shown = f"{url.scheme}://{host}{'' if url.port is None else f':{port}'}{path}"
    for ending in ("/chat/completions", "/completions", "/models", "/embeddings", "/responses"):
        if path.endswith(ending):
            advice = f"The base URL ends before the operation: remove {ending}."
            return Finding("url", "warning", shown, advice)
    return Finding("url", "ok", shown, data={"scheme": url.scheme, "port": port, "path": path})


async def _resolve(host: str, port: int) -> Finding:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return Finding("dns", "failed", f"no answer for {host} within {PATIENCE:g} s", "Check the resolver.")
    except (OSError, UnicodeError) as error:
        return Finding("dns", "failed", f"{host}: {_reason(error)}", "Check the host's name in the base URL.")
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    took = (time.perf_counter() - began) * 1000
    return Finding("dns", "ok", f"{', '.join(addresses)} in {took:.0f} ms", data={"addresses": addresses, "ms": took})


async def _connect_to_any(addresses: Sequence[str], port: int) -> Finding:
    """Return the finding about the first address that takes a connection, as clients try them, or about all of them.

    A server may listen on one of the addresses of a name only: on 127.0.0.1 but not on ::1, for ``localhost``.
    """
    failed: list[Finding] = []
    for address in addresses:
        connected = await _connect(address, port)
        if connected.state == "ok":
            connected.text += "".join(f"; {one.text}" for one in failed)
            connected.data["failed"] = [one.text for one in failed]
            return connected
        failed.append(connected)
    return Finding("tcp", "failed", "; ".join(one.text for one in failed), failed[0].advice)


async def _connect(address: str, port: int) -> Finding:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        advice = "A firewall may drop the packets, or the server's host is down."
        return Finding("tcp", "failed", f"{address} port {port}: no answer within {PATIENCE:g} s", advice)
    except OSError as error:
        advice = "Is the server running, on this port?" if isinstance(error, ConnectionRefusedError) else ""
        return Finding("tcp", "failed", f"{address} port {port}: {_reason(error)}", advice)
    took = (time.perf_counter() - began) * 1000
    writer.transport.abort()
    return Finding("tcp", "ok", f"{address} port {port} in {took:.1f} ms", data={"address": address, "ms": took})


def _bundle(environment: dict[str, str]) -> Finding:
    """Return the finding about the trusted certificates."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        path = environment.get(name)
        if path and not os.path.exists(path):
            return Finding("trust", "failed", f"{name} names {path}, which does not exist", f"Correct or unset {name}.")
        if path:
            return Finding("trust", "ok", f"{path}, by {name}", data={"path": path})
    paths = ssl.get_default_verify_paths()
    where = paths.cafile or paths.capath
    if not where or not os.path.exists(where):
        advice = "Set SSL_CERT_FILE to a bundle of certificate authorities."
        return Finding("trust", "warning", "OpenSSL's default folder of certificates does not exist", advice)
    return Finding("trust", "ok", f"{where}, OpenSSL's default", data={"path": where})


async def _tls(host: str, port: int) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return Finding("tls", "failed", _certificate_problem(error), _certificate_advice(error))
    except ssl.SSLError as error:
        if await _speaks_http(host, port):
            return Finding("tls", "failed", "the port speaks plain HTTP", "Use http:// in the base URL.")
        return Finding("tls", "failed", _reason(error), "The server's TLS versions or ciphers may be too old.")
    except TimeoutError:
        return Finding("tls", "failed", f"no handshake within {PATIENCE:g} s", "Does the port speak TLS?")
    except OSError as error:
        return Finding("tls", "failed", _reason(error), "Does the port speak TLS?")
    session = writer.get_extra_info("ssl_object")
    certificate: dict[str, Any] = writer.get_extra_info("peercert") or {}
    writer.transport.abort()
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    days = (ends - datetime.now(UTC)).days
    text = f"{session.version()}, certificate of {_issuer(certificate)}, valid for {days} days"
    data = {"version": session.version(), "not_after": ends.isoformat(), "days": days}
    if days < SOON:
        return Finding("tls", "warning", text, "The certificate expires soon.", data)
    return Finding("tls", "ok", text, data=data)


def _issuer(certificate: dict[str, Any]) -> str:
    names = {key: value for part in certificate.get("issuer", ()) for key, value in part}
    return str(names.get("organizationName") or names.get("commonName") or "an unnamed authority")


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    return str(getattr(error, "verify_message", "") or _reason(error))


def _certificate_advice(error: ssl.SSLCertVerificationError) -> str:
    words = _certificate_problem(error).lower()
    if "expired" in words or "not yet valid" in words:
        return "The certificate is out of date, or this machine's clock is wrong."
    if "mismatch" in words or "not valid for" in words:
        return "The base URL names another host than the certificate."
    return 'Trust the authority that signed it: SSL_CERT_FILE=its.pem, or http_other={"ssl": context} in Python.'


async def _first_bytes(host: str, port: int) -> bytes:
    """Return the first bytes of a port's answer to a plain HTTP request."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(_PROBE)
            return await reader.read(16)
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.transport.abort()


async def _speaks_tls(host: str, port: int) -> bool:
    """Return whether a port expected to speak HTTP answers with a TLS alert, or with HTTP that says so."""
    first = await _first_bytes(host, port)
    if first[:1] == b"\x15":
        return True
    if first.startswith(b"HTTP/1.1 400") or not first:  # nginx answers 400 on its TLS port; others close the connection
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            async with asyncio.timeout(PATIENCE):
                _, writer = await asyncio.open_connection(host, port, ssl=context)
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True
    return False


async def _speaks_http(host: str, port: int) -> bool:
    return (await _first_bytes(host, port)).startswith(b"HTTP/")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, (socket.gaierror, ssl.SSLError)):
        return os.strerror(error.errno).lower()  # asyncio replaces the reason by the address
    text = getattr(error, "strerror", None) or str(error)
    return str(text) or type(error).__name__
