"""Workload identity: when tokens are exchanged, which calls wait for an exchange, and the handling of failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import openaiasync
from conftest import run
from faults.harness import LogText
from faults.invariants import deep, error_faults
from openaiasync import APIError, AsyncOpenAI, ConfigurationError, OAuthError, SubjectTokenProviderError
from openaiasync.auth import WorkloadIdentityAuth, x509_workload_identity
from openaiasync.identity import workload
from realtime.loopback import CREATED, loopback, say
from realtime.test_dial import refusing
from scripted import Scripted, Seen, json_answer, scripted

SUBJECT = "subject-token-of-the-workload"
LIST = {"object": "list", "data": []}


class Tokens:
    """A token server and an API on one socket: who asked for what, and which tokens the API takes."""

    def __init__(self) -> None:
        self.exchanges: list[Any] = []
        self.used: list[str] = []
        self.life: Any = 3600
        self.refuse: Callable[[str], bool] = lambda token: False
        self.answer: Callable[[int], bytes] | None = None
        self.pause = 0.0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.target == "/oauth/token":
            assert "authorization" not in seen.headers
            self.exchanges.append(seen.json())
            number = len(self.exchanges)
            await self.open.wait()
            answer = self.answer(number) if self.answer else json_answer(token_of(number, self.life))
            writer.write(answer)
            return
        token = seen.headers["authorization"].removeprefix("Bearer ")
        self.used.append(token)
        refused = {"error": {"message": f"bad {token}", "code": "expired"}}
        writer.write(json_answer(refused, 401) if self.refuse(token) else json_answer(LIST))


def token_of(number: int, life: Any) -> dict[str, Any]:
    return {"access_token": f"access-token-{number}", "expires_in": life, "token_type": "Bearer"}


def identity(get_token: Any = lambda: SUBJECT, **more: Any) -> Any:
    provider = {"token_type": "jwt", "get_token": get_token}
    return {"identity_provider_id": "idp", "service_account_id": "sa", "provider": provider, **more}


@asynccontextmanager
async def served(
    monkeypatch: pytest.MonkeyPatch, given: Any = None, **options: Any
) -> AsyncIterator[tuple[Tokens, AsyncOpenAI, Scripted]]:
    tokens = Tokens()
    async with scripted(tokens) as server:
        monkeypatch.setattr(workload, "EXCHANGE_URL", f"http://127.0.0.1:{server.port}/oauth/token")
        client = AsyncOpenAI(base_url=server.url, workload_identity=given or identity(), **options)
        async with client:
            yield tokens, client, server


class TestExchange:
    """The request, and what it is good for."""

    def test_a_token_is_exchanged_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the fields of RFC 8693; the access token serves all calls and relatives."""

        async def main() -> None:
            async with served(monkeypatch, max_retries=0) as (tokens, client, _):
                assert (client.api_key, client.workload_identity) == ("", identity_of(client))
                for one in (client, client, client.with_options(timeout=5.0)):
                    await one.models.list()
            assert tokens.used == ["access-token-1"] * 3
            assert tokens.exchanges == [
                {
                    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                    "subject_token": SUBJECT,
                    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                    "identity_provider_id": "idp",
                    "service_account_id": "sa",
                }
            ]

        run(main())

    def test_many_waiting_calls_make_one_exchange(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also in one place in flight: the exchange takes none; a blocking provider blocks no loop."""
        threads: list[bool] = []

        def blocking() -> str:
            threads.append(threading.current_thread() is threading.main_thread())
            return SUBJECT

        async def main() -> None:
            async with served(monkeypatch, identity(blocking)) as (tokens, client, _):
                await asyncio.gather(*(client.models.list() for _ in range(20)))
                assert len(tokens.exchanges) == 1
                assert tokens.used == ["access-token-1"] * 20
            assert threads == [False]

        run(main())

    def test_a_waiter_who_leaves_hurts_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The others get the token; when all have left, the exchange ends with them and the next begins anew."""

        async def main() -> None:
            async with served(monkeypatch) as (tokens, client, _):
                tokens.open.clear()
                calls = [asyncio.create_task(_list(client)) for _ in range(3)]
                await _until(lambda: bool(tokens.exchanges))
                calls[0].cancel()
                await asyncio.sleep(0.01)
                tokens.open.set()
                done = await asyncio.gather(*calls, return_exceptions=True)
                assert isinstance(done[0], asyncio.CancelledError)
                assert [len(one.data) for one in done[1:]] == [0, 0]
                _auth(client).invalidate_token()
                tokens.open.clear()
                alone = asyncio.create_task(_list(client))
                await _until(lambda: len(tokens.exchanges) == 2)
                alone.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await alone
                tokens.open.set()
                await _list(client)
            assert len(tokens.exchanges) == 3
            assert tokens.used == ["access-token-1", "access-token-1", "access-token-3"]

        run(main())

    @pytest.mark.parametrize(
        ("life", "buffer", "after", "exchanges"),
        [
            (3600, None, 2399, 1),
            (3600, None, 2401, 2),  # 20 minutes before its end
            (600, None, 299, 1),
            (600, None, 301, 2),  # half of its life
            (3600, 10, 3589, 1),
            (3600, 10, 3591, 2),
            (3600, 0, 3601, 2),
        ],
    )
    def test_before_it_expires(
        self, monkeypatch: pytest.MonkeyPatch, life: float, buffer: float | None, after: float, exchanges: int
    ) -> None:
        """A token is exchanged anew so many seconds before its end, half of its life at most."""
        now = [1000.0]
        monkeypatch.setattr(workload, "clock", lambda: now[0])
        given = identity() if buffer is None else identity(refresh_buffer_seconds=buffer)

        async def main() -> None:
            async with served(monkeypatch, given) as (tokens, client, _):
                tokens.life = life
                auth = _auth(client)
                assert await auth() == "access-token-1"
                now[0] += after
                assert await auth() == f"access-token-{exchanges}"
            assert len(tokens.exchanges) == exchanges

        run(main())

    def test_a_failed_exchange_leaves_the_old_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As long as it is good: with a warning, and another try after a pause; then the failure is raised."""
        now = [1000.0]
        monkeypatch.setattr(workload, "clock", lambda: now[0])
        monkeypatch.setattr("openaiasync.core.policy.retry.FIRST_PAUSE", 0.001)

        async def main() -> None:
            async with served(monkeypatch) as (tokens, client, _):
                auth = _auth(client)
                await auth()
                tokens.answer = lambda number: json_answer({"error": "down"}, 503)
                now[0] += 3000
                assert [await auth(), await auth()] == ["access-token-1"] * 2
                tries = len(tokens.exchanges)
                now[0] += 29
                assert (await auth(), len(tokens.exchanges)) == ("access-token-1", tries)
                now[0] += 2
                assert await auth() == "access-token-1"
                assert len(tokens.exchanges) > tries
                now[0] += 1000
                with pytest.raises(openaiasync.InternalServerError):
                    await auth()
                tokens.answer = None
                assert await auth() == f"access-token-{len(tokens.exchanges)}"

        with LogText() as log:
            run(main())
        assert any("the old one is valid for another 600 s" in line for line in log.lines)


class TestRefused:
    """A 401 of the API."""

    def test_once_more_with_a_fresh_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token that was taken back is exchanged anew, once a call, whatever `max_retries` says; for many at once."""

        async def main() -> None:
            async with served(monkeypatch, max_retries=0) as (tokens, client, _):
                tokens.refuse = lambda token: token == "access-token-1"
                answers = await asyncio.gather(*(_list(client) for _ in range(5)))
                assert len(answers) == 5
                assert len(tokens.exchanges) == 2
                assert sorted(tokens.used) == ["access-token-1"] * 5 + ["access-token-2"] * 5
                stream = await client.chat.completions.with_raw_response.create(model="m", messages=[])
                assert stream.status_code == 200

        run(main())

    def test_a_fresh_token_that_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is an `AuthenticationError`, after two tries; no token is in it."""

        async def main() -> None:
            async with served(monkeypatch) as (tokens, client, _):
                tokens.refuse = lambda token: True
                with pytest.raises(openaiasync.AuthenticationError, match=r"bad \[key\]") as caught:
                    await client.models.list()
                assert (tokens.used, caught.value.tries) == (["access-token-1", "access-token-2"], 2)
                assert not error_faults(caught.value, OSError, SUBJECT, "access-token")

        run(main())

    def test_a_key_of_the_caller(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who names other credentials for a call gets its 401 at once."""

        async def main() -> None:
            async with served(monkeypatch) as (tokens, client, _):
                tokens.refuse = lambda token: token == "other"
                with pytest.raises(openaiasync.AuthenticationError):
                    await client.models.list(extra_headers={"Authorization": "Bearer other"})
                assert tokens.used == ["other"]

        run(main())

    def test_an_upgrade(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """WebSockets are also opened with a token, and a refused one is renewed."""
        statuses = iter([401, None])

        def process(ws: ServerConnection, request: Any) -> Any:
            status = next(statuses)
            return None if status is None else refusing(status)(ws, request)

        async def script(ws: ServerConnection) -> None:
            await say(ws, CREATED)

        async def main() -> None:
            async with loopback(script, process_request=process) as sockets:
                url = f"ws://127.0.0.1:{sockets.port}/v1"
                async with served(monkeypatch, websocket_base_url=url) as (tokens, client, _):
                    async with client.realtime.connect(model="m") as connection:
                        assert (await connection.recv()).type == "session.created"
                    assert len(tokens.exchanges) == 2
                assert sockets.field("Authorization") == "Bearer access-token-2"

        run(main())


async def fails() -> str:
    raise KeyError("x")


LIES: dict[str, tuple[bytes, type[APIError], str]] = {
    "refused": (
        json_answer({"error": "invalid_grant", "error_description": f"no {SUBJECT}"}, 400),
        OAuthError,
        r"no \[key\]",
    ),
    "not authorised": (json_answer({"error": "invalid_client"}, 401), OAuthError, "exchange failed"),
    "no token": (json_answer({"expires_in": 5}), openaiasync.APIResponseValidationError, "access_token"),
    "no life": (json_answer({"access_token": SUBJECT}), openaiasync.APIResponseValidationError, "access_token"),
    "no number": (json_answer(token_of(1, "soon")), openaiasync.APIResponseValidationError, "access_token"),
    "endless life": (json_answer(token_of(1, float("inf"))), openaiasync.APIResponseValidationError, "access_token"),
    "too long a life": (json_answer(token_of(1, 10**400)), openaiasync.APIResponseValidationError, "access_token"),
    "half of a surrogate pair": (
        json_answer({"error": "invalid_grant", "error_description": "no \ud800"}, 400),
        OAuthError,
        "no \ufffd",
    ),
    "dead already": (json_answer(token_of(1, 0)), openaiasync.APIResponseValidationError, "access_token"),
    "a page": (json_answer("<html>"), openaiasync.APIResponseValidationError, "access_token"),
    "nothing": (json_answer(None), openaiasync.APIResponseValidationError, "access_token"),
    "a redirect": (
        b"HTTP/1.1 307 X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        openaiasync.APIStatusError,
        "307",
    ),
    "no HTTP": (b"\x00\x00\r\n\r\n", openaiasync.APIConnectionError, "POST"),
    "too much": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", openaiasync.APIConnectionError, "POST"),
}


class TestFailing:
    """Providers and token servers that fail, hang or lie."""

    @pytest.mark.parametrize("lie", list(LIES))
    def test_token_servers(self, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
        """Each is a typed error without a token in it; the next call asks again."""
        raw, kind, text = LIES[lie]

        async def main() -> None:
            async with served(monkeypatch) as (tokens, client, _):
                tokens.answer = lambda number: raw
                with pytest.raises(kind, match=text) as caught:
                    await client.models.list()
                assert not error_faults(caught.value, OSError, SUBJECT, "access-token")
                assert tokens.used == []
                tokens.answer = None
                await client.models.list()

        run(main())

    def test_the_code_of_a_refusal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`OAuthError.error` is the code of RFC 6749, and the error is an `AuthenticationError`."""

        async def main() -> None:
            async with served(monkeypatch) as (tokens, client, _):
                tokens.answer = lambda number: json_answer({"error": "invalid_grant"}, 403)
                with pytest.raises(openaiasync.AuthenticationError) as caught:
                    await client.models.list()
                assert isinstance(caught.value, OAuthError)
                assert (caught.value.error, caught.value.status_code) == ("invalid_grant", 403)
                assert len(tokens.exchanges) == 1

        run(main())

    @pytest.mark.parametrize(
        ("get_token", "text"),
        [(fails, "failed: KeyError"), (lambda: "", "did not return a token"), (lambda: None, "did not return a token")],
    )
    def test_providers(self, monkeypatch: pytest.MonkeyPatch, get_token: Any, text: str) -> None:
        """A provider's exception is the cause of a `SubjectTokenProviderError`; an invalid token raises it, too."""

        async def main() -> None:
            async with served(monkeypatch, identity(get_token)) as (tokens, client, _):
                with pytest.raises(SubjectTokenProviderError, match=text) as caught:
                    await client.models.list()
                assert isinstance(caught.value.__cause__, KeyError) == ("KeyError" in text)
                assert (tokens.exchanges, tokens.used) == ([], [])

        run(main())

    @pytest.mark.parametrize("who", ["provider", "server"])
    def test_what_hangs_ends_with_the_call(self, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
        """With its deadline, or with the client; nothing is left."""

        async def hang() -> str:
            if who == "provider":
                await asyncio.Event().wait()
            return SUBJECT

        async def main() -> None:
            async with served(monkeypatch, identity(hang)) as (tokens, client, _):
                tokens.open.clear()
                with pytest.raises(openaiasync.APITimeoutError) as caught:
                    await client.models.list(deadline=0.1)
                assert caught.value.clock == "deadline"
                waiting = asyncio.create_task(_list(client))
                await asyncio.sleep(0.05)
                await client.aclose()
                with pytest.raises(openaiasync.ClientClosedError):
                    await waiting
                with pytest.raises(openaiasync.ClientClosedError):
                    await _auth(client)()
                tokens.open.set()

        run(main())

    def test_an_exchange_without_a_deadline_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Provider and exchange together have a limit of their own."""
        monkeypatch.setattr(workload, "PATIENCE", 0.1)

        async def hang() -> str:
            await asyncio.Event().wait()
            return SUBJECT

        async def main() -> None:
            async with served(monkeypatch, identity(hang), timeout=None) as (_, client, _server):
                with pytest.raises(openaiasync.OpenAIError, match=r"no token within 0\.1 s"):
                    await client.models.list()

        run(main())


class TestOptions:
    """What an identity has to be."""

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            (5, "must be a dict"),
            ({**identity(), "service_acount_id": "x"}, "did you mean 'service_account_id'"),
            ({**identity(), "identity_provider_id": ""}, "lacks identity_provider_id"),
            ({**identity(), "provider": None}, "lacks provider"),
            ({**identity(), "provider": {"get_token": print, "token_type": "saml"}}, "one of jwt, id"),
            (identity(refresh_buffer_seconds=-1), "refresh_buffer_seconds"),
            ({**identity(), "type": "x509"}, "has no provider"),
        ],
    )
    def test_what_cannot_work(self, given: Any, text: str) -> None:
        """Is refused when the client is made."""
        with pytest.raises(ConfigurationError, match=text):
            AsyncOpenAI(workload_identity=given)

    def test_a_key_beside_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One of both; a key of the environment is not used; `with_options` puts one in the other's place."""
        monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
        with pytest.raises(ConfigurationError, match="mutually exclusive"):
            AsyncOpenAI(api_key="k", workload_identity=identity())
        client = AsyncOpenAI(workload_identity=identity())
        assert client.api_key == ""
        keyed = client.with_options(api_key="k")
        assert (keyed.api_key, keyed.workload_identity) == ("k", None)
        assert keyed.with_options(workload_identity=identity()).workload_identity is not None
        with pytest.raises(ConfigurationError, match="mutually exclusive"):
            client.with_options(api_key="k", workload_identity=identity())
        assert repr(client._config.key) == "<WorkloadIdentityAuth sa>"

    def test_certificates(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A workload that its certificate proves has hosts of its own, https, and sends no subject token."""
        given = x509_workload_identity(identity_provider_id="i", service_account_id="s", refresh_buffer_seconds=1)
        assert AsyncOpenAI(workload_identity=given).base_url == "https://mtls.api.openai.com/v1/"
        assert (
            AsyncOpenAI(workload_identity=given, data_residency="eu").base_url == "https://mtls-eu.api.openai.com/v1/"
        )
        for wrong in ({"data_residency": "jp"}, {"base_url": "http://h/v1"}):
            with pytest.raises(ConfigurationError, match="certificate"):
                AsyncOpenAI(workload_identity=given, **wrong)  # type: ignore[arg-type]
        monkeypatch.setenv("OPENAI_BASE_URL", "https://mine/v1")
        assert AsyncOpenAI(workload_identity=given).base_url == "https://mine/v1/"

    def test_with_the_other_door(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`Client` takes the key itself where it takes a function."""

        async def main() -> None:
            async with served(monkeypatch) as (tokens, _, server):
                auth = WorkloadIdentityAuth(workload_identity=identity())
                async with openaiasync.Client(api_base=server.url, api_key=auth, http_max_in_flight=1) as client:
                    await asyncio.gather(client.models.list(), client.models.list())
            assert tokens.used == ["access-token-1"] * 2

        run(main())

    def test_by_itself(self) -> None:
        """Outside a client it has no connections to exchange with."""
        auth = WorkloadIdentityAuth(workload_identity=identity())
        with pytest.raises(ConfigurationError, match="belongs to a client"):
            run(auth())


def test_a_token_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the log at DEBUG, and not the client."""

    async def main() -> None:
        async with served(monkeypatch) as (_, client, _server):
            await client.models.list()
            texts = [deep(client), deep(client._config), repr(vars(_auth(client)))]
            assert not [text for text in texts if SUBJECT in text or "access-token" in text]

    with LogText() as log:
        run(main())
    assert log.lines
    assert not [line for line in log.lines if SUBJECT in line or "access-token" in line]


def identity_of(client: AsyncOpenAI) -> Any:
    return _auth(client).workload_identity


def _auth(client: AsyncOpenAI) -> WorkloadIdentityAuth:
    key = client._config.key
    assert isinstance(key, WorkloadIdentityAuth)
    return key


async def _list(client: AsyncOpenAI) -> Any:
    return await client.models.list()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)
