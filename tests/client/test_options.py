"""Every option of the two doors, each shown to act over a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
import platform
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

import openaiasync
from conftest import run
from openaiasync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AsyncOpenAI,
    Client,
    ConfigurationError,
    InFlightError,
    Limits,
    RateLimitError,
    Timeout,
)
from openaiasync.testing import FakeAnswer, FakeTransport
from scripted import CHAT, STREAM_HEAD, Scripted, Seen, chat, chunk, event, head, json_answer, scripted

NO_KEY: dict[str, Any] = {"http_other": {"trust_env": False}}


def slow(seconds: float) -> Any:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await chat(seen, writer)

    return script


async def endless(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """A stream that begins and then says nothing more."""
    writer.write(STREAM_HEAD + event(chunk("Hel")))
    await writer.drain()
    await asyncio.sleep(3600)


class TestBaseAndKey:
    """Where calls go and what they carry."""

    def test_base_and_key_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`OPENAI_BASE_URL` before `OPENAI_API_BASE`, arguments before both; the key from `OPENAI_API_KEY`."""

        async def main() -> None:
            async with scripted() as server:
                monkeypatch.setenv("OPENAI_BASE_URL", server.url)
                monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
                monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
                async with Client(model="m") as client:
                    await client.chat("hi")
                monkeypatch.delenv("OPENAI_BASE_URL")
                monkeypatch.setenv("OPENAI_API_BASE", server.url)
                async with Client(model="m", api_key="sk-arg") as client:
                    await client.chat("hi")
                monkeypatch.setenv("OPENAI_API_BASE", "http://127.0.0.1:9/v1")
                async with Client(model="m", api_base=server.url) as client:
                    await client.chat("hi")
                assert [seen.headers["authorization"] for seen in server.seen] == [
                    "Bearer sk-env",
                    "Bearer sk-arg",
                    "Bearer sk-env",
                ]
                assert all(seen.target == "/v1/chat/completions" for seen in server.seen)

        run(main())

    @pytest.mark.parametrize("door", [Client, AsyncOpenAI])
    def test_a_missing_key_is_an_error_for_openai_only(self, door: Any) -> None:
        """The default base needs a key at construction; a local server needs none, and is sent none."""
        with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
            door()

        async def main() -> None:
            async with scripted() as server:
                word = "api_base" if door is Client else "base_url"
                async with door(**{word: server.url}) as client:
                    await client.chat("hi", model="m")
                assert "authorization" not in server.seen[0].headers

        run(main())

    def test_an_asynchronous_key_is_asked_for_each_try(self) -> None:
        """A key that expires between two tries is replaced."""
        keys = iter(["k1", "k2"])

        async def key() -> str:
            return next(keys)

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.headers["authorization"] == "Bearer k1":
                writer.write(json_answer({"error": {"message": "busy"}}, 503, Retry_After="0"))
            else:
                await chat(seen, writer)

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, api_key=key, model="m") as client:
                answer = await client.chat("hi")
                assert answer.meta.tries == 2

        run(main())

    def test_auth_scheme_and_organisation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The scheme stands before the key, `""` leaves the key alone; the organisation has its header field."""
        monkeypatch.setenv("OPENAI_ORG_ID", "org-env")

        async def main() -> None:
            async with scripted() as server:
                for options in ({"auth_scheme": "Token"}, {"auth_scheme": ""}, {"api_org_name": "org-arg"}):
                    async with Client(api_base=server.url, api_key="k", model="m", **options) as client:
                        await client.chat("hi")
                assert [s.headers["authorization"] for s in server.seen] == ["Token k", "k", "Bearer k"]
                assert [s.headers["openai-organization"] for s in server.seen] == ["org-env", "org-env", "org-arg"]

        run(main())

    def test_user_agent(self) -> None:
        """By default library, version and Python's; else what the user says."""

        async def main() -> None:
            async with scripted() as server:
                for options in ({}, {"http_user_agent": "mine/1"}):
                    async with Client(api_base=server.url, model="m", **options) as client:
                        await client.chat("hi")
                ours = f"openaiasync/{openaiasync.__version__} Python/{platform.python_version()}"
                assert [s.headers["user-agent"] for s in server.seen] == [ours, "mine/1"]

        run(main())

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"api_base": "localhost:8000"}, "absolute http or https URL"),
            ({"api_base": "ftp://host"}, "absolute http or https URL"),
            ({"api_base": "http://host:99999"}, "not a URL"),
            ({"api_base": "http://ho st"}, "space or a control"),
            ({"api_key": "sk-1\r\nX: y"}, "api_key"),
            ({"api_key": "sk-日本"}, "api_key"),
            ({"api_key": 7}, "api_key must be a string"),
            ({"model": {"chats": "m"}}, "'chats' is not one of the methods"),
            ({"http_max_in_flight": 0}, "http_max_in_flight"),
            ({"http_max_connections_per_host": 0}, "http_max_connections_per_host"),
            ({"http_max_redirects": -1}, "http_max_redirects"),
            ({"http_timeout": 0}, "http_timeout"),
            ({"http_stall_timeout": -1}, "http_stall_timeout"),
            ({"http_deadline": float("nan")}, "http_deadline"),
            ({"http_connect_timeout": "3"}, "http_connect_timeout"),
            ({"max_retries": -1}, "max_retries"),
            ({"http_user_agent": "a\nb"}, "http_user_agent"),
            ({"api_org_name": "a\rb"}, "api_org_name"),
        ],
    )
    def test_what_cannot_work_is_refused_at_construction(self, options: dict[str, Any], what: str) -> None:
        """`ConfigurationError` names the option and quotes no key."""
        with pytest.raises(ConfigurationError, match=what) as caught:
            Client(**{"api_base": "http://localhost:1", **options})
        assert "sk-" not in str(caught.value)


class TestInFlight:
    """Places in flight."""

    @pytest.mark.parametrize(("limit", "calls"), [(2, 12), (64, 100), (1, 5)])
    def test_the_server_never_sees_more(self, limit: int, calls: int) -> None:
        """As many calls at once as asked for: no more, and no fewer."""

        async def main() -> None:
            options = {} if limit == 2 else {"http_max_in_flight": limit}
            async with scripted(slow(0.05)) as server, Client(api_base=server.url, model="m", **options) as client:
                answers = await asyncio.gather(*(client.chat("hi") for _ in range(calls)))
                assert len(answers) == calls
                assert server.peak == limit
                assert server.connections <= limit

        run(main())

    def test_the_other_door_is_unbounded(self) -> None:
        """`AsyncOpenAI` sends everything at once, as its users expect."""

        async def main() -> None:
            async with scripted(slow(0.2)) as server, AsyncOpenAI(base_url=server.url) as client:
                await asyncio.gather(*(client.chat("hi", model="m") for _ in range(50)))
                assert server.peak == 50

        run(main())

    def test_connections_per_host(self) -> None:
        """Fewer connections than places: the rest waits for a connection, and all are answered."""

        async def main() -> None:
            async with scripted(slow(0.02)) as server:
                options: dict[str, Any] = {"http_max_in_flight": 10, "http_max_connections_per_host": 3}
                async with Client(api_base=server.url, model="m", **options) as client:
                    await asyncio.gather(*(client.chat("hi") for _ in range(30)))
                assert server.connections == server.peak == 3

        run(main())

    def test_waiting_long_is_logged_with_the_options_name(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """After 5 s (shortened here) a WARNING names `http_max_in_flight`; a short wait says nothing."""
        monkeypatch.setattr("openaiasync.engine.in_flight.SLOW_QUEUE", 0.1)

        async def main() -> None:
            async with scripted(slow(0.3)) as server:
                async with Client(api_base=server.url, model="m", http_max_in_flight=1) as client:
                    await client.chat("hi")
                    assert not caplog.records
                    answers = await asyncio.gather(client.chat("hi"), client.chat("hi"))
                    assert max(answer.meta.queued for answer in answers) > 0.2

        with caplog.at_level(logging.WARNING, "openaiasync"):
            run(main())
        assert ["http_max_in_flight" in record.getMessage() for record in caplog.records] == [True]

    def test_two_open_streams_and_a_nested_call_are_an_error(self) -> None:
        """A wait that can never end is refused, and the streams go on as if nothing had been."""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                async with client.chat.stream("a") as one, client.chat.stream("b") as two:
                    with pytest.raises(InFlightError, match="http_max_in_flight"):
                        await client.chat("nested")
                    assert (await one.final()).text == (await two.final()).text == "Hello."
                assert (await client.chat("now")).text == "Hello."

        run(main())

    def test_no_place_is_ever_lost(self) -> None:
        """Cancelled waiters, holders, and both at once: at the end every place is free."""

        async def main() -> None:
            async with scripted(slow(0.01)) as server:
                async with Client(api_base=server.url, model="m", http_max_in_flight=4) as client:
                    for round_ in range(30):
                        tasks = [asyncio.create_task(client.chat("hi")) for _ in range(12)]
                        await asyncio.sleep(0.001 * (round_ % 7))
                        for task in tasks[round_ % 3 :: 2]:
                            task.cancel()
                        await asyncio.gather(*tasks, return_exceptions=True)
                    places = client._calls.shared.limiter
                    assert (places.used, places.waiting) == (0, 0)
                    server.peak = 0
                    await asyncio.gather(*(client.chat("hi") for _ in range(20)))
                    assert server.peak == 4

        run(main())

    def test_shared_limits(self) -> None:
        """Clients with one `Limits` share its places."""

        async def main() -> None:
            limits = Limits(max_in_flight=3)
            async with scripted(slow(0.05)) as server:
                async with (
                    Client(api_base=server.url, model="m", limits=limits) as one,
                    Client(api_base=server.url, model="m", limits=limits) as two,
                ):
                    await asyncio.gather(*(client.chat("hi") for client in (one, two) for _ in range(8)))
                assert server.peak == 3

        run(main())

    def test_a_queue_clock_can_be_set(self) -> None:
        """`queue_timeout` bounds the wait for a place; nothing is sent then."""

        async def main() -> None:
            async with scripted(endless) as server:
                options: dict[str, Any] = {"http_max_in_flight": 1, "http_other": {"queue_timeout": 0.1}}
                async with Client(api_base=server.url, model="m", **options) as client:
                    async with client.chat.stream("a") as stream:
                        await anext(stream)
                        task = asyncio.create_task(client.chat("hi"))
                        with pytest.raises(APITimeoutError) as caught:
                            await task
                        assert caught.value.clock == "queue"
                    assert len(server.seen) == 1

        run(main())


class TestRedirects:
    """How far a redirect leads."""

    @staticmethod
    def hops(total: int, status: int = 307, to: str = "") -> Any:
        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            _, _, n = seen.target.partition("?n=")
            if int(n or 0) < total:
                writer.write(head(status, "Moved", Location=f"{to}/v1/again?n={int(n or 0) + 1}", Content_Length="0"))
            else:
                await chat(seen, writer)

        return script

    def test_three_are_followed_and_the_fourth_is_refused(self) -> None:
        """307 keeps method and body; the limit is the option's."""

        async def main() -> None:
            async with scripted(self.hops(3)) as server, Client(api_base=server.url, model="m", api_key="k") as client:
                assert (await client.chat("hi")).text == "Hello."
                assert [seen.method for seen in server.seen] == ["POST"] * 4
                assert len({seen.body for seen in server.seen}) == 1
            async with scripted(self.hops(4)) as server, Client(api_base=server.url, model="m") as client:
                with pytest.raises(APIStatusError, match="http_max_redirects"):
                    await client.chat("hi")
            async with scripted(self.hops(4)) as server:
                async with Client(api_base=server.url, model="m", http_max_redirects=4) as client:
                    await client.chat("hi")

        run(main())

    def test_another_origin_never_sees_key_or_prompt(self) -> None:
        """With a key or a body a redirect across origins is refused, and the error says where to point instead."""

        async def main() -> None:
            async with scripted() as other:
                away = self.hops(1, to=f"http://127.0.0.1:{other.port}")
                async with scripted(away) as server:
                    async with Client(api_base=server.url, model="m", max_retries=0) as client:
                        with pytest.raises(APIStatusError, match="another origin"):
                            await client.chat("hi")
                    async with Client(api_base=server.url, api_key="k", max_retries=0) as client:
                        with pytest.raises(APIStatusError, match="another origin"):
                            await client.models()
                assert other.seen == []

        run(main())

    def test_a_post_never_becomes_a_get(self) -> None:
        """301, 302 and 303 on a POST are refused."""

        async def main() -> None:
            for status in (301, 302, 303):
                async with scripted(self.hops(1, status)) as server, Client(api_base=server.url, model="m") as client:
                    with pytest.raises(APIStatusError, match="would make it a GET") as caught:
                        await client.chat("hi")
                    assert caught.value.status_code == status
                    assert len(server.seen) == 1

        run(main())


class TestClocks:
    """Clocks that hold."""

    def test_a_server_that_accepts_and_says_nothing(self) -> None:
        """`http_timeout` ends the wait; the call was sent and is not repeated, since it would be paid twice."""

        async def main() -> None:
            async with scripted(slow(3600)) as server:
                async with Client(api_base=server.url, model="m", http_timeout=0.2) as client:
                    began = asyncio.get_running_loop().time()
                    with pytest.raises(APITimeoutError) as caught:
                        await client.chat("hi")
                    assert asyncio.get_running_loop().time() - began < 20  # the server would take an hour
                    assert caught.value.clock == "start"
                    assert ".stream" in str(caught.value)
                assert len(server.seen) == 1

        run(main())

    def test_the_other_door_repeats_timeouts(self) -> None:
        """`AsyncOpenAI` tries again after a timeout, as the official client does."""

        async def main() -> None:
            async with scripted(slow(3600)) as server:
                async with AsyncOpenAI(base_url=server.url, timeout=0.1, max_retries=1) as client:
                    with pytest.raises(APITimeoutError) as caught:
                        await client.chat("hi", model="m")
                    assert caught.value.tries == 2
                assert len(server.seen) == 2

        run(main())

    def test_a_stream_that_stops(self) -> None:
        """`http_stall_timeout` ends a stream without progress; comments are not progress; the received part is kept."""

        async def dripping(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(STREAM_HEAD + event(chunk("Hel")))
            while True:
                writer.write(b"7\r\n: ping\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)

        async def main() -> None:
            for script in (endless, dripping):
                async with scripted(script) as server:
                    async with Client(api_base=server.url, model="m", http_stall_timeout=0.3) as client:
                        stream = client.chat.stream("hi")
                        began = asyncio.get_running_loop().time()
                        with pytest.raises(APITimeoutError) as caught:
                            await stream.final()
                        assert 0.25 < asyncio.get_running_loop().time() - began < 20  # there is no end to wait for
                        assert caught.value.clock == "stall"
                        assert caught.value.partial.text == stream.text == "Hel"

        run(main())

    def test_a_body_that_drips(self) -> None:
        """A JSON body has one stall period in all, however many bytes trickle in."""

        async def drip(seen: Seen, writer: asyncio.StreamWriter) -> None:
            body = json.dumps(CHAT).encode()
            writer.write(head(Content_Type="application/json", Content_Length=str(len(body))))
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)

        async def main() -> None:
            async with scripted(drip) as server:
                async with Client(api_base=server.url, model="m", http_stall_timeout=0.3, max_retries=0) as client:
                    began = asyncio.get_running_loop().time()
                    with pytest.raises(APITimeoutError) as caught:
                        await client.chat("hi")
                    assert asyncio.get_running_loop().time() - began < 8  # the whole body would take longer
                    assert caught.value.clock == "stall"

        run(main())

    def test_a_deadline_holds_over_all_tries(self) -> None:
        """Retries and their pauses do not outlive `http_deadline`, nor a `deadline` of one call."""

        async def busy(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.15)
            writer.write(json_answer({"error": {"message": "busy"}}, 503, Retry_After="0.1"))

        async def main() -> None:
            async with scripted(busy) as server:
                async with Client(api_base=server.url, model="m", http_deadline=0.6, max_retries=50) as client:
                    began = asyncio.get_running_loop().time()
                    with pytest.raises((APITimeoutError, APIStatusError)):
                        await client.chat("hi")
                    assert asyncio.get_running_loop().time() - began < 6  # fifty tries take longer
                    with pytest.raises((APITimeoutError, APIStatusError)):
                        await client.chat("hi", deadline=0.1)
            async with scripted(slow(3600)) as server:
                async with Client(api_base=server.url, model="m", http_deadline=0.2) as client:
                    with pytest.raises(APITimeoutError) as caught:
                        await client.chat("hi")
                    assert caught.value.clock == "deadline"

        run(main())

    @pytest.mark.parametrize("timeout", [0.2, Timeout(0.2), Timeout(5, read=0.2)])
    def test_timeout_per_call_in_the_official_words(self, timeout: Any) -> None:
        """A number or a `Timeout`; JSON is complete within it."""

        async def main() -> None:
            async with scripted(slow(3600)) as server, Client(api_base=server.url, model="m") as client:
                with pytest.raises(APITimeoutError):
                    await client.chat("hi", timeout=timeout, max_retries=0)

        run(main())

    def test_no_connection(self) -> None:
        """Refused is a connection error that names the URL and the tries; only clocks make timeouts."""

        async def main() -> None:
            async with Client(api_base="http://127.0.0.1:9/v1", model="m", max_retries=1) as client:
                with pytest.raises(APIConnectionError) as caught:
                    await client.chat("hi")
                assert not isinstance(caught.value, APITimeoutError)
                assert "http://127.0.0.1:9/v1/chat/completions" in str(caught.value)
                assert caught.value.tries == 2

        run(main())


class TestRetries:
    """`max_retries` and what it may repeat."""

    @staticmethod
    def failing(times: int, status: int = 503) -> Any:
        count = 0

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            if count <= times:
                writer.write(json_answer({"error": {"message": "busy", "code": "c"}}, status, retry_after_ms="1"))
            else:
                await chat(seen, writer)

        return script

    def test_tried_again_until_it_works(self) -> None:
        """Two retries by default, told in `meta.tries`."""

        async def main() -> None:
            async with scripted(self.failing(2)) as server, Client(api_base=server.url, model="m") as client:
                assert (await client.chat("hi")).meta.tries == 3

        run(main())

    @pytest.mark.parametrize("options", [{"max_retries": 0}, {}])
    def test_the_limit_is_the_option_or_the_calls(self, options: dict[str, Any]) -> None:
        """The client's number, or this call's."""

        async def main() -> None:
            async with (
                scripted(self.failing(9, 429)) as server,
                Client(api_base=server.url, model="m", **options) as client,
            ):
                with pytest.raises(RateLimitError, match="busy"):
                    await client.chat("hi", **({} if options else {"max_retries": 0}))
                assert len(server.seen) == 1

        run(main())

    def test_a_connection_that_its_server_closed_is_no_failure(self) -> None:
        """An idle connection closed by the server costs a try that nobody notices, even with no retries allowed."""

        async def once(seen: Seen, writer: asyncio.StreamWriter) -> None:
            await chat(seen, writer)
            await writer.drain()
            writer.close()

        async def main() -> None:
            async with scripted(once) as server, Client(api_base=server.url, model="m", max_retries=0) as client:
                for _ in range(5):
                    assert (await client.chat("hi")).text == "Hello."
                assert server.connections == 5

        run(main())


class TestOther:
    """`http_other`, `strict`, the environment's proxies, loops."""

    def test_named_options_win(self) -> None:
        """What `http_other` says of a named option counts only where the argument was left out."""

        async def main() -> None:
            async with scripted(slow(0.03)) as server:
                other = {"max_in_flight": 5, "http_user_agent": "other/1"}
                async with Client(api_base=server.url, model="m", http_max_in_flight=3, http_other=other) as client:
                    await asyncio.gather(*(client.chat("hi") for _ in range(12)))
                assert server.peak == 3
                assert server.seen[0].headers["user-agent"] == "other/1"

        run(main())

    def test_unknown_words_are_named(self) -> None:
        """A misspelt option is a `TypeError` with the nearest name."""
        with pytest.raises(TypeError, match="did you mean 'proxy'"):
            Client(api_base="http://localhost:1", http_other={"proxi": "http://localhost:2"})

    @pytest.mark.parametrize(
        "other",
        [
            {"proxy": "socks5://localhost:1"},
            {"proxy": "http://"},
            {"ssl": "yes"},
            {"trust_env": "no"},
            {"local_addr": "127.0.0.1"},
            {"uds": 7},
            {"keepalive": 0},
            {"happy_eyeballs_delay": "soon"},
        ],
        ids=str,
    )
    def test_what_cannot_work_is_refused_at_once(self, other: dict[str, Any]) -> None:
        """An option of the sockets that cannot work is a `ConfigurationError` at construction that names it."""
        with pytest.raises(ConfigurationError, match=next(iter(other))):
            Client(api_base="http://localhost:1", http_other=other)

    def test_a_unix_socket(self, tmp_path: Path) -> None:
        """`uds` carries the calls; the API base still names host and path."""

        async def main() -> None:
            path = str(tmp_path / "s")
            async with scripted(uds=path) as server:
                async with Client(api_base="http://localhost/v1", model="m", http_other={"uds": path}) as client:
                    await client.chat("hi")
                assert server.seen[0].headers["host"] == "localhost"

        run(main())

    def test_a_proxy_sees_the_whole_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """`proxy` and `HTTP_PROXY` lead there, `trust_env=False` and `NO_PROXY` do not."""

        async def main() -> None:
            async with scripted() as proxy, scripted() as server:
                url = f"http://127.0.0.1:{proxy.port}"
                async with Client(api_base="http://far.example/v1", model="m", http_other={"proxy": url}) as client:
                    await client.chat("hi")
                monkeypatch.setenv("HTTP_PROXY", url)
                async with Client(api_base="http://far.example/v1", model="m") as client:
                    await client.chat("hi")
                assert [seen.target for seen in proxy.seen] == ["http://far.example/v1/chat/completions"] * 2
                async with Client(api_base=server.url, model="m", http_other={"trust_env": False}) as client:
                    await client.chat("hi")
                monkeypatch.setenv("NO_PROXY", "127.0.0.1")
                async with Client(api_base=server.url, model="m") as client:
                    await client.chat("hi")
                assert (len(proxy.seen), len(server.seen)) == (2, 2)

        run(main())

    def test_strict_raises_where_an_answer_does_not_conform(self) -> None:
        """Unknown fields are kept. With `strict` a missing or ill-typed field is refused, the body in the error."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            fields = {"created": "yesterday"} if "bad" in str(seen.json()) else {"surprise": 1}
            writer.write(json_answer({**CHAT, **fields}))

        async def main() -> None:
            async with scripted(script) as server:
                async with Client(api_base=server.url, model="m") as client:
                    assert (await client.chat("hi")).extra == {"surprise": 1}
                    assert str((await client.chat("bad")).created) == "yesterday"
                async with Client(api_base=server.url, model="m", strict=True) as client:
                    assert (await client.chat("hi")).extra == {"surprise": 1}
                    with pytest.raises(openaiasync.APIResponseValidationError, match="created") as caught:
                        await client.chat("bad")
                    assert b"yesterday" in caught.value.response.content

        run(main())

    def test_one_client_in_several_loops(self) -> None:
        """One after another, never closed in between: each loop has its own connections, nothing leaks."""

        async def call(server: Scripted, client: Client) -> str:
            return (await client.chat("hi")).text

        clients: list[Client] = []

        async def main(last: bool) -> None:
            async with scripted() as server:
                if not clients:
                    clients.append(Client(api_base=server.url, model="m"))
                client = clients[0]
                client.base_url = server.url
                assert await call(server, client) == "Hello."
                assert await call(server, client) == "Hello."
                assert server.connections == 1
                if last:
                    await client.aclose()

        for last in (False, False, True):
            run(main(last))

    def test_two_threads_with_a_client_each(self) -> None:
        """Two loops at once do not meet."""
        failures: list[BaseException] = []

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m", http_max_in_flight=8) as client:
                for _ in range(10):
                    await asyncio.gather(*(client.chat("hi") for _ in range(20)))
                assert len(server.seen) == 200

        def work() -> None:
            try:
                run(main())
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


class TestConnections:
    """TLS, idle connections, the address to connect from, a transport of one's own."""

    def test_tls_by_context_and_by_environment(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """`ssl=` or `SSL_CERT_FILE` make a private authority trusted; without either the call fails as a TLS error."""
        trustme = pytest.importorskip("trustme")
        authority = trustme.CA()
        server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(server_side)
        client_side = ssl.create_default_context()
        authority.configure_trust(client_side)
        bundle = tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(bundle))

        async def main() -> None:
            async with scripted(tls=server_side) as server:
                async with Client(api_base=server.url, model="m", http_other={"ssl": client_side}) as client:
                    assert (await client.chat("hi")).text == "Hello."
                async with Client(api_base=server.url, model="m") as client:
                    with pytest.raises(APIConnectionError) as caught:
                        await client.chat("hi")
                    assert caught.value.tries == 1, "a certificate does not become valid by trying again"
                monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
                async with Client(api_base=server.url, model="m") as client:
                    assert (await client.chat("hi")).text == "Hello."

        run(main())

    def test_idle_connections_are_kept_for_so_long(self) -> None:
        """`keepalive` seconds: sooner the connection is used again, later there is a new one."""

        async def main() -> None:
            async with scripted() as server:
                async with Client(api_base=server.url, model="m", http_other={"keepalive": 0.3}) as client:
                    await client.chat("hi")
                    await client.chat("hi")
                    assert server.connections == 1
                    await asyncio.sleep(0.6)
                    assert server.open == 0
                    await client.chat("hi")
                    assert server.connections == 2

        run(main())

    def test_the_address_to_connect_from(self) -> None:
        """`local_addr` is where the server sees the call come from."""
        seen: list[str] = []

        async def script(one: Seen, writer: asyncio.StreamWriter) -> None:
            seen.append(writer.get_extra_info("peername")[0])
            await chat(one, writer)

        async def main() -> None:
            async with scripted(script) as server:
                other = {"local_addr": ("127.0.0.2", 0)}
                async with Client(api_base=server.url, model="m", http_other=other) as client:
                    await client.chat("hi")
            assert seen == ["127.0.0.2"]

        run(main())

    def test_a_transport_of_ones_own(self) -> None:
        """The fake transport answers without a network; an object that is not a transport is refused."""

        async def main() -> None:
            transport = FakeTransport(lambda request: FakeAnswer(events=[chunk("Hi."), chunk(finish="stop")]))
            async with Client(api_base="http://fake/v1", model="m", http_other={"transport": transport}) as client:
                assert (await client.chat.stream("hello").final()).text == "Hi."
            assert transport.requests[0].json()["stream"] is True

        run(main())
        with pytest.raises(ConfigurationError, match="Transport"):
            Client(api_base="http://fake/v1", http_other={"transport": object()})
