"""The sources of a workload's token: files and metadata servers, and their failures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from conftest import run
from faults.invariants import error_faults
from openaiasync import SubjectTokenProviderError
from openaiasync.auth import (
    SubjectTokenProvider,
    azure_managed_identity_token_provider,
    gcp_id_token_provider,
    k8s_service_account_token_provider,
)
from scripted import Scripted, Seen, answer, json_answer, scripted
from wireserver import Peer, Server

SUBJECT = "token-of-the-metadata-server"


async def asked(provider: SubjectTokenProvider) -> str:
    token: Any = provider["get_token"]()
    return str(await token)


class TestKubernetes:
    """A projected file."""

    def test_it_is_read_anew(self, tmp_path: Path) -> None:
        """Kubernetes replaces the file; white space around the token is not part of it."""
        file = tmp_path / "token"
        provider = k8s_service_account_token_provider(file)
        assert provider["token_type"] == "jwt"
        for text in ("one", "two\n"):
            file.write_text(text)
            assert run(asked(provider)) == text.strip()

    @pytest.mark.parametrize(
        ("content", "text"), [(None, "No such file"), (b" \n", "it is empty"), (b"\xff\xfe", "not text"), ("dir", "")]
    )
    def test_no_token(self, tmp_path: Path, content: Any, text: str) -> None:
        """A file that is not there, empty, no text or no file says so, with its path."""
        file = tmp_path / "token"
        if content == "dir":
            file.mkdir()
        elif content is not None:
            file.write_bytes(content)
        with pytest.raises(SubjectTokenProviderError, match=f"token.*{text}"):
            run(asked(k8s_service_account_token_provider(str(file))))


def azure(server: Scripted, **options: Any) -> SubjectTokenProvider:
    return azure_managed_identity_token_provider(metadata_url=f"http://127.0.0.1:{server.port}", **options)


def google(server: Scripted, **options: Any) -> SubjectTokenProvider:
    return gcp_id_token_provider(metadata_url=f"http://127.0.0.1:{server.port}/", **options)


class TestMetadata:
    """The servers of Azure and Google."""

    def test_azure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The resource, the identity and the version asked for, past every proxy."""
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(json_answer({"access_token": SUBJECT, "expires_in": "3600"}))

        async def main() -> None:
            async with scripted(script) as server:
                provider = azure(server, resource="api://r", client_id="c 1")
                assert (provider["token_type"], await asked(provider)) == ("jwt", SUBJECT)
            url = urlsplit(server.seen[0].target)
            assert url.path == "/metadata/identity/oauth2/token"
            assert parse_qs(url.query) == {"api-version": ["2018-02-01"], "resource": ["api://r"], "client_id": ["c 1"]}
            assert server.seen[0].headers["metadata"] == "true"

        run(main())

    def test_google(self) -> None:
        """The audience; the answer is the token itself."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(f" {SUBJECT}\n".encode(), content_type="text/html"))

        async def main() -> None:
            async with scripted(script) as server:
                provider = google(server, audience="https://a/b")
                assert (provider["token_type"], await asked(provider)) == ("id", SUBJECT)
            url = urlsplit(server.seen[0].target)
            assert url.path == "/computeMetadata/v1/instance/service-accounts/default/identity"
            assert parse_qs(url.query) == {"audience": ["https://a/b"]}
            assert server.seen[0].headers["metadata-flavor"] == "Google"

        run(main())

    def test_another_client(self) -> None:
        """An ``httpx2.AsyncClient`` carries the request, and stays open."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(SUBJECT.encode()))

        async def main() -> None:
            async with scripted(script) as server, httpx2.AsyncClient(headers={"X-Mine": "1"}) as client:
                provider = google(server, http_client=client)
                assert await asked(provider) == await asked(provider) == SUBJECT
                assert not client.is_closed
            assert len(server.seen) == 2

        run(main())

    @pytest.mark.parametrize("kind", [azure, google])
    @pytest.mark.parametrize(
        ("raw", "text"),
        [
            (answer(f"no {SUBJECT}".encode(), 404), "answered with status 404"),
            (answer(b""), "answered without"),
            (b"\x00\x01\r\n\r\n", "could not be reached"),
            (b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "status 302"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "could not be reached"),
        ],
    )
    def test_servers_that_fail(self, kind: Any, raw: bytes, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """One error for all of them, with the answer's status but not its body; nothing is left."""
        monkeypatch.setattr("openaiasync.core.policy.retry.FIRST_PAUSE", 0.001)

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(raw)

        async def main() -> None:
            async with scripted(script) as server:
                with pytest.raises(SubjectTokenProviderError, match=text) as caught:
                    await asked(kind(server))
                assert not error_faults(caught.value, OSError, SUBJECT)
                if "status" in text:
                    assert str(caught.value.response.status_code) in text
                    assert caught.value.response.content == b""

        run(main())

    @pytest.mark.parametrize("body", ["null", "[]", '{"access_token": 5}', '{"access_token": ""}', "{", "[" * 9999])
    def test_azure_answers_something_else(self, body: str) -> None:
        """A value that is not a token is refused."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(body.encode()))

        async def main() -> None:
            async with scripted(script) as server:
                with pytest.raises(SubjectTokenProviderError, match="without an access_token"):
                    await asked(azure(server))

        run(main())

    def test_a_server_that_hangs(self) -> None:
        """`timeout` ends it; off Azure nobody is there at all."""

        async def main() -> None:
            async with Server(lambda peer: hang(peer)) as server:
                provider = azure_managed_identity_token_provider(
                    metadata_url=f"http://127.0.0.1:{server.port}", timeout=0.1
                )
                with pytest.raises(SubjectTokenProviderError, match=r"deadline of 0\.1 s"):
                    await asked(provider)
                await server.settled()

        run(main())


async def hang(peer: Peer) -> None:
    await peer.head()
    await peer.gone()
