"""`openaiasync doctor` against servers, ports and bases that are right and wrong."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trustme

from openaiasync.cli import network_checks
from openaiasync.cli.network_checks import Finding, check_network

from .command import Answer, call, inside, refused, spied

KEY = "sk-doctor-0123456789"


def findings(*arguments: str) -> dict[str, dict[str, Any]]:
    """The findings by name, from the JSON output."""
    done = inside("doctor", "--json", *arguments)
    shown = json.loads(done.stdout)["findings"]
    found = {finding["name"]: finding for finding in shown}
    assert (done.returncode == 1) == any(finding["state"] == "failed" for finding in shown)
    assert KEY not in done.stdout + done.stderr
    return found


def checked(base: str, environment: dict[str, str]) -> list[Finding]:
    """The findings of the checks below HTTP."""

    async def collect() -> list[Finding]:
        return [finding async for finding in check_network(base, environment)]

    return asyncio.run(collect())


@contextmanager
def port_that_sends(data: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port that answers whatever it is sent with `data`, and then closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        spoken = connection if context is None else context.wrap_socket(connection, server_side=True)
                        with spoken:
                            spoken.recv(4096)
                            spoken.sendall(data)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_server_that_has_everything() -> None:
    """The demo server passes: each check is there, and the command ends with 0."""
    with spied() as (server, _):
        found = findings("--base-url", server.base_url)
    assert {"versions", "key", "url", "dns", "tcp", "models", "clock", "chat", "stream"} <= set(found)
    assert {"tools", "schema", "responses", "embeddings"} <= set(found)
    for name in ("models", "chat", "stream", "tools", "schema", "embeddings"):
        assert found[name]["state"] == "ok", found[name]
    assert found["embeddings"]["base64"] is True
    assert found["stream"]["usage"] is True
    assert found["stream"]["events"] > 1


def test_without_calls_nothing_is_charged() -> None:
    """`--no-calls` asks for the list of models only."""
    with spied() as (server, spy):
        found = findings("--no-calls", "--base-url", server.base_url)
    assert "/v1/models" in {path for path, _ in spy.requests}
    assert not [path for path, body in spy.requests if body is not None]
    assert "chat" not in found


def test_the_table_is_readable() -> None:
    """The command prints a table, and of the key only its length."""
    with spied() as (server, _):
        done = call("doctor", "--base-url", server.base_url, OPENAI_API_KEY=KEY)
    assert done.returncode == 0, done.stderr
    assert f"{len(KEY)} characters, from OPENAI_API_KEY" in done.stdout
    assert "first event after" in done.stdout
    assert KEY not in done.stdout + done.stderr


def test_a_base_that_lacks_v1_is_named() -> None:
    """Where the list of models is at `/v1` only, the finding says which base to use."""

    def answer(path: str, body: Any) -> Answer:
        return None if path.startswith("/v1/") else (404, b'{"detail":"Not Found"}')

    with spied(answer) as (server, _):
        base = server.base_url.removesuffix("/v1")
        found = findings("--base-url", base)
    assert found["models"]["state"] == "failed"
    assert f"{base}/v1" in found["models"]["advice"]


def test_a_base_that_ends_with_an_operation() -> None:
    """`…/v1/chat/completions` is a common mistake."""
    with spied() as (server, _):
        found = findings("--no-calls", "--base-url", server.base_url + "/chat/completions")
    assert found["url"]["state"] == "warning"
    assert "/chat/completions" in found["url"]["advice"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's own words are shown, and the key is not."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    refusal = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}})
    with spied(lambda path, body: (status, refusal.encode())) as (server, _):
        found = findings("--base-url", server.base_url)
    assert found["models"]["state"] == "failed"
    assert "Incorrect API key provided" in found["models"]["text"]


def test_features_that_a_server_lacks_are_warnings() -> None:
    """A server with chat alone passes; what it lacks is named."""

    def answer(path: str, body: Any) -> Answer:
        lacks = path.endswith(("/responses", "/embeddings")) or (
            body and ("tools" in body or "response_format" in body)
        )
        return (404, b'{"error":{"message":"not supported"}}') if lacks else None

    with spied(answer) as (server, _):
        found = findings("--base-url", server.base_url)
    assert found["chat"]["state"] == found["stream"]["state"] == "ok"
    for name in ("tools", "schema", "responses", "embeddings"):
        assert (found[name]["state"], found[name]["supported"]) == ("warning", False)
        assert "not supported" in found[name]["text"]


def test_models_of_no_use_for_chat() -> None:
    """A server that lists no model asks for `--model`."""
    with spied(lambda path, body: (200, b'{"object":"list","data":[]}')) as (server, _):
        found = findings("--base-url", server.base_url)
    assert found["models"]["state"] == "warning"
    assert "--model" in found["chat"]["advice"]


@pytest.mark.parametrize(
    ("base", "name", "words"),
    [
        ("localhost:8000/v1", "client", "absolute http or https URL"),
        ("ftp://localhost/v1", "client", "http"),
        ("http://127.0.0.1:9/v1", "tcp", "refused"),
        ("http://no-such-host.invalid/v1", "dns", "no-such-host.invalid"),
    ],
)
def test_what_cannot_be_reached(base: str, name: str, words: str) -> None:
    """The first step that fails is the last finding, and says why."""
    found = findings("--base-url", base)
    assert found[name]["state"] == "failed"
    assert words in found[name]["text"]
    assert list(found)[-1] == name


def test_a_web_page() -> None:
    """HTML with status 200 is not an API: a user interface, or a login."""
    page = b"<!doctype html><html><title>Open WebUI</title></html>"
    with spied(lambda path, body: (200, page)) as (server, _):
        found = findings("--base-url", server.base_url)
    assert found["models"]["state"] == "failed"
    assert "web page" in found["models"]["advice"]
    assert "Open WebUI" in found["models"]["text"]


@pytest.mark.commands
def test_a_port_that_never_answers() -> None:
    """The check ends after --timeout, with advice."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = findings("--base-url", f"http://127.0.0.1:{silent.getsockname()[1]}/v1", "--timeout", "0.3")
    assert found["tcp"]["state"] == "ok"
    assert found["models"]["state"] == "failed"
    assert "no answer" in found["models"]["text"]
    assert "--timeout" in found["models"]["advice"]


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the key, nor a password in the URL, nor a key that a server echoes."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-the-test")
    with spied(lambda path, body: refused("not sk-secret-of-the-test", 401)) as (server, _):
        base = server.base_url.replace("http://", "http://me:password-of-the-test@")
        done = inside("doctor", "--base-url", base, "--json")
    last = json.loads(done.stdout)["findings"][-1]
    assert (last["name"], last["state"]) == ("models", "failed")
    assert "refuses the key" in last["advice"]
    assert "of-the-test" not in done.stdout + done.stderr


def test_https_to_a_plain_port() -> None:
    """The mistake is named, with the scheme to use."""
    with spied() as (server, _):
        found = findings("--base-url", server.base_url.replace("http://", "https://"))
    assert "plain HTTP" in found["tls"]["text"]
    assert "http://" in found["tls"]["advice"]


def server_context(tmp_path: Path, **options: Any) -> tuple[ssl.SSLContext, Path]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", **options).configure_cert(context)
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, path


def test_http_to_a_tls_port(tmp_path: Path) -> None:
    """The mistake is named, with the base to use."""
    context, _ = server_context(tmp_path)
    with port_that_sends(b"", context) as port:
        found = findings("--base-url", f"http://127.0.0.1:{port}/v1")
    assert "speaks TLS" in found["scheme"]["text"]
    assert f"https://127.0.0.1:{port}/v1" in found["scheme"]["advice"]


@pytest.mark.parametrize(
    ("options", "trusted", "state", "words"),
    [
        ({}, False, "failed", "SSL_CERT_FILE"),
        ({"not_after": datetime.now(UTC) + timedelta(days=3)}, True, "warning", "expires soon"),
        ({"not_after": datetime.now(UTC) - timedelta(days=3)}, True, "failed", "out of date"),
        ({"not_after": datetime.now(UTC) + timedelta(days=300)}, True, "ok", ""),
    ],
    ids=["unknown authority", "expires soon", "expired", "good"],
)
def test_certificates(
    options: dict[str, Any], trusted: bool, state: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each problem with a certificate has its own words."""
    context, path = server_context(tmp_path, **options)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with port_that_sends(b"HTTP/1.1 400 Bad Request\r\n\r\n", context) as port:
        base = f"https://127.0.0.1:{port}/v1"
        found = {finding.name: finding for finding in checked(base, {"SSL_CERT_FILE": str(path)})}
    assert found["tls"].state == state
    assert words in found["tls"].advice


def test_a_bundle_that_does_not_exist() -> None:
    """`SSL_CERT_FILE` that names nothing is found before the handshake fails with other words."""
    with port_that_sends(b"") as port:
        environment = {"SSL_CERT_FILE": "/does/not/exist.pem"}
        found = checked(f"https://127.0.0.1:{port}/v1", environment)
    (trust,) = [finding for finding in found if finding.name == "trust"]
    assert (trust.state, "SSL_CERT_FILE" in trust.advice) == ("failed", True)


def test_a_proxy_is_named() -> None:
    """The proxy of the environment is shown, without its password."""
    with port_that_sends(b"") as port:
        environment = {"HTTP_PROXY": f"http://user:{KEY}@127.0.0.1:{port}"}
        found = checked("http://models.example/v1", environment)
    (proxy,) = [finding for finding in found if finding.name == "proxy"]
    assert f"127.0.0.1:{port}" in proxy.text
    assert KEY not in repr(found)


def test_a_proxy_that_does_not_run() -> None:
    """The advice is about the proxy, not about the server behind it."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    last = checked("http://127.0.0.1:9/v1", {"HTTP_PROXY": f"http://127.0.0.1:{port}"})[-1]
    assert (last.name, last.state) == ("tcp", "failed")
    assert "name 127.0.0.1 in NO_PROXY" in last.advice


@pytest.mark.skipif(sys.platform != "linux", reason="needs a second address of this machine")
def test_a_server_on_one_of_two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` often has an address on which the server does not listen: that is told, and is no failure."""

    async def resolve(host: str, port: int) -> Finding:
        return Finding("dns", "ok", "", data={"addresses": addresses})

    monkeypatch.setattr(network_checks, "_resolve", resolve)
    with spied() as (server, _):
        addresses = ["127.0.0.2", "127.0.0.1"]
        found = {one.name: one for one in checked(server.base_url, {})}
        assert found["tcp"].state == "ok"
        assert "127.0.0.2 port" in found["tcp"].text
        addresses = ["127.0.0.2", "127.0.0.3"]
        last = checked(server.base_url, {})[-1]
    assert last.state == "failed"
    assert last.text.count("connection refused") == 2


@pytest.mark.parametrize(
    ("base", "shown"),
    [("http://[::1]/v1/", "http://[::1]/v1"), ("https://example.org:8443/v1", "https://example.org:8443/v1")],
)
def test_the_address_is_shown_as_it_is_written(base: str, shown: str) -> None:
    """Brackets stay, and no port is added."""
    assert checked(base, {})[0].text == shown


def test_clocks_that_differ() -> None:
    """A `Date` that is an hour off is a warning."""
    later = datetime.now(UTC) + timedelta(hours=1)
    with spied() as (server, _), mock.patch("openaiasync.cli.doctor_command.time") as clock:
        clock.time.return_value = later.timestamp()
        clock.perf_counter.side_effect = lambda: 0.0
        found = findings("--no-calls", "--base-url", server.base_url)
    assert found["clock"]["state"] == "warning"
    assert found["clock"]["skew"] == pytest.approx(3600, abs=30)
