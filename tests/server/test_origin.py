"""Requests that web pages send: names that were made to mean this machine, and forms of other sites."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import run
from openaiasync.server import Server, serve


async def asked(app: Server, method: str, path: str, fields: dict[str, str], body: bytes = b"") -> int:
    """The status of the answer to one request over a socket."""
    import asyncio

    async with serve(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        given = {"Host": f"127.0.0.1:{server.port}", "Content-Length": str(len(body)), "Connection": "close", **fields}
        given = {name: value.replace("PORT", str(server.port)) for name, value in given.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status


def app(**options: Any) -> Server:
    return Server(**options)


FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="f.jsonl"\r\n\r\n{}\r\n--b--\r\n'
)
TYPE = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:PORT", 200),
        ("localhost:PORT", 200),
        ("LOCALHOST", 200),
        ("api.localhost", 200),
        ("[::1]:PORT", 200),
        ("workstation", 200),  # the machine's own name
        ("192.168.0.7", 200),
        ("evil.example", 403),
        ("evil.example:PORT", 403),
        ("evil.example.", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("api.example.com", 403),
    ],
)
def test_a_name_of_somebody_elses_is_refused(host: str, status: int) -> None:
    """Reached over loopback, the server answers to the machine's names and to addresses (DNS rebinding)."""
    assert run(asked(app(), "GET", "/v1/models", {"Host": host})) == status


def test_a_name_may_be_allowed() -> None:
    """Behind a proxy on the same machine, which passes its own name on."""
    allowed = app(allowed_hosts=["API.example.com"])
    assert run(asked(allowed, "GET", "/v1/models", {"Host": "api.example.com"})) == 200
    assert run(asked(app(allowed_hosts=["api.example.com"]), "GET", "/v1/models", {"Host": "evil.example"})) == 403


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),  # no browser
        ({"Origin": "http://127.0.0.1:PORT"}, 200),
        ({"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "Cross-Site", "Origin": "https://evil.example"}, 403),
    ],
)
def test_a_form_of_another_site_is_refused(fields: dict[str, str], status: int) -> None:
    """A page can make a browser send a file here; it cannot hide that it did."""
    assert run(asked(app(), "POST", "/v1/files", {**TYPE, **fields}, FORM)) == status


def test_reading_and_keys_need_no_origin() -> None:
    """Requests that change nothing are allowed from anywhere, and requests with the key may do anything."""
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert run(asked(app(), "GET", "/v1/models", evil)) == 200
    key = {"Authorization": "Bearer k"}
    assert run(asked(app(api_keys="k"), "POST", "/v1/files", {**TYPE, **evil, **key}, FORM)) == 200
    assert run(asked(app(api_keys="k"), "POST", "/v1/files", {**TYPE, **evil}, FORM)) == 401
