"""A budget in Redis, against a real server: the script, errors, outages, and processes on one quota."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conftest import run
from openaiasync import AsyncOpenAI, Client, Limits
from openaiasync.budget.base import SharedLimitsError
from openaiasync.budget.redis import RedisBudget, lease_script
from openaiasync.core.policy.shared_quota import Grant, LeaseRequest, Quota, ReportedRefusal
from openaiasync.errors import ConfigurationError
from scripted import CHAT, json_answer, scripted

sys.path.append(str(Path(__file__).parents[2] / "bench" / "bulk"))
from shared import Store

redis = pytest.importorskip("redis")
if shutil.which("redis-server") is None and not os.environ.get("CI"):
    pytest.skip("redis-server is not installed (Debian: apt install redis-server)", allow_module_level=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    one = Store(tmp_path_factory.mktemp("redis"))
    yield one
    one.kill()


@pytest.fixture
def connection(store: Store) -> Iterator[Any]:
    with redis.Redis(port=store.port) as client:
        client.flushall()
        client.execute_command("ACL", "DELUSER", "guest")  # of another test
        yield client


def lease(url: str, ask: LeaseRequest) -> Grant:
    async def main() -> Grant:
        budget = RedisBudget(url)
        try:
            return await budget.lease(ask)
        finally:
            await budget.aclose()

    return run(main(), real_clock=True)


def test_the_script_is_the_quota(connection: Any) -> None:
    """The script grants what `Quota` does, for any sequence of leases, returns, refusals, limits and clock times."""
    rng, quota, now = random.Random(7), Quota(), 1000.0
    text = lease_script()[0].decode()
    assert text.count("redis.call('TIME')") == 1
    script = connection.register_script(text.replace("redis.call('TIME')", "{ARGV[2], '0'}"))
    kinds = set()
    for _ in range(2500):
        now += rng.choice(
            [0.001, 0.01, 0.05, 0.2, 1.5 if rng.random() < 0.05 else 0.02, -3.0 if rng.random() < 0.02 else 0.0]
        )
        rows = rng.choice([0, 1, 4, 64])
        request = LeaseRequest(
            worker=rng.choice("abcde"),
            event=rng.choice(["", "", "", "", "", "", "leave", "join", "change" if rng.random() < 0.2 else ""]),
            rpm=rng.choice([6000.0, 6000.0, 6000.0, None]),
            tpm=rng.choice([600_000.0, None]),
            requests=rows,
            tokens=rows * rng.choice([50.0, 200.0]),
            left_requests=rng.choice([0.0, 0.0, 1.0]),
            left_tokens=rng.choice([0.0, 50.0, -120.0]),
            sent_requests=rng.choice([0.0, 7.0, 40.0]),
            sent_tokens=rng.choice([0.0, 900.0]),
            header_requests=rng.choice([None, None, 80.0, 200.0, 0.0]),
            refusals=[ReportedRefusal("requests", 0.1, rng.choice([0.0, 0.5]))] if rng.random() < 0.03 else [],
        )
        found = msgspec.json.decode(
            script(keys=["a", "b", "c"], args=[msgspec.json.encode(request), repr(now)]), type=Grant, strict=False
        )
        wanted = quota.lease(now, request)
        kinds.add((found.error, found.requests is None, found.tokens is None, bool(found.requests), found.hold > 0))
        for name in Grant.__struct_fields__:
            one, other = getattr(found, name), getattr(wanted, name)
            assert one == (pytest.approx(other, rel=1e-6, abs=1e-6) if isinstance(other, float) else other), name
    assert len(kinds) > 10  # all kinds of grants occurred


def test_keys_expire_and_hold_no_secret(store: Store, connection: Any) -> None:
    """All keys have the prefix and a time to live."""
    lease(store.url("prod"), LeaseRequest(worker="w", rpm=600.0, requests=2.0))
    keys = sorted(key.decode() for key in connection.scan_iter())
    assert keys == ["openaiasync:{prod}", "openaiasync:{prod}:seen", "openaiasync:{prod}:workers"]
    assert all(0 < connection.pttl(key) <= 600_000 for key in keys)


def refused(url: str, **limits: Any) -> BaseException:
    """The error of a run whose shared limits cannot be used; nothing may be sent."""
    sent: list[object] = []

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        sent.append(seen)
        writer.write(json_answer(CHAT))

    async def main() -> BaseException:
        async with scripted(script) as server:
            async with AsyncOpenAI(api_key="k", base_url=server.url) as client:
                with pytest.raises((ConfigurationError, SharedLimitsError)) as bulk:
                    await client.map(["a", "b"], model="m", limits=Limits(shared=url, **limits))
            with pytest.raises((ConfigurationError, SharedLimitsError)):
                async with Client(api_key="k", api_base=server.url, limits=Limits(shared=url, **limits)) as client:
                    await client.chat("hi", model="m")
            return bulk.value

    error = run(main(), real_clock=True)
    assert sent == []
    assert "hidden-word" not in f"{error}{error!r}"
    return error


def test_an_unreachable_store_is_an_error_before_anything_is_sent() -> None:
    """The error names the place and not the password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = refused(f"redis://user:hidden-word@127.0.0.1:{port}/0?name=n", rpm=600)
    assert isinstance(error, SharedLimitsError)
    assert f"127.0.0.1:{port}" in str(error)


def test_other_limits_formats_and_permissions_are_errors(store: Store, connection: Any) -> None:
    """Each is told apart, before anything is sent."""
    lease(store.url("limits"), LeaseRequest(worker="w", rpm=600.0, requests=2.0))
    connection.zadd("openaiasync:{limits}:seen", {"w": time.time() + 60})  # it stays alive
    assert "rpm=600.0" in str(refused(store.url("limits"), rpm=60))
    connection.set("openaiasync:{old}", msgspec.msgpack.encode({"format": 99}))
    assert "version" in str(refused(store.url("old"), rpm=60))
    for name, put in (("other", connection.set), ("others", connection.lpush)):
        put(f"openaiasync:{{{name}}}", "text")
        assert "other data" in str(refused(store.url(name), rpm=60))
    place = store.url("acl").replace("redis://", "redis://guest:hidden-word@")
    for rights, sign in (("+ping ~*", "may not"), ("+eval +evalsha ~*", "may not"), ("+@all ~other:*", "may not")):
        connection.execute_command("ACL", "SETUSER", "guest", "reset", "on", ">hidden-word", *rights.split())
        assert sign in str(refused(place, rpm=60))
    assert "password" in str(refused(place.replace("hidden-word", "hidden-wordy"), rpm=60))
    rights = "+@scripting +@string +@hash +@sortedset +time +del +pexpire ~openaiasync:*"
    connection.execute_command("ACL", "SETUSER", "guest", *rights.split())
    assert lease(place, LeaseRequest(worker="w", rpm=600.0, requests=1.0)).requests == 1  # as the error advises
    with pytest.raises(ConfigurationError, match="name"):
        Limits(shared=store.url("").partition("?")[0], rpm=1)
        lease(store.url("").partition("?")[0], LeaseRequest(worker="w"))


def test_a_unix_socket(store: Store, connection: Any) -> None:
    """The store is reached over a socket of its machine, too."""
    assert lease(f"unix://{store.folder}/s?name=n", LeaseRequest(worker="w", rpm=600.0, requests=1.0)).requests == 1


def test_plain_calls_share(store: Store, connection: Any) -> None:
    """Two clients with their own `Limits`, as in two processes, send no more than one quota."""
    at: list[float] = []

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        at.append(time.monotonic())
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            each = [Client(api_key="k", api_base=server.url, limits=Limits(rpm=1200, shared=store.url("plain")))
                    for _ in range(2)]  # fmt: skip
            await asyncio.gather(*(one.chat("hi", model="m") for one in each for _ in range(20)))
            for one in each:
                await one.aclose()

    run(main(), real_clock=True)
    assert len(at) == 40
    assert 1.4 <= at[-1] - at[0] <= 4.0  # 40 at 20 a second, 0.4 s of them ahead


@pytest.mark.redis
def test_an_outage_is_said_once_and_ends(store: Store, connection: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A run goes on without Redis, says so once, and leases again when it is back."""
    caplog.set_level(logging.INFO, "openaiasync")

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT))

    def said(text: str) -> int:
        return sum(text in record.getMessage() for record in caplog.records)

    def prompts() -> Iterator[str]:
        """Rows until the run leases again, however long Redis takes to start."""
        for number in range(5000):
            if said("available again"):
                return
            yield f"row {number}"

    async def main() -> None:
        async with scripted(script) as server:
            async with AsyncOpenAI(api_key="k", base_url=server.url) as client:
                limits = Limits(rpm=6000, shared=store.url("outage"))
                count = 0
                async for row in client.map(prompts(), model="m", limits=limits):
                    assert row.ok
                    count += 1
                    if count == 50:
                        store.kill()
                    elif count == 120:
                        await asyncio.to_thread(store.start)
                assert 120 < count < 5000

    run(main(), real_clock=True)
    assert (said("not available"), said("available again")) == (1, 1)


# ---------------------------------------------------------------- what Redis answers instead of a grant

ANSWERS = {
    "old": (
        "-ERR Write commands not allowed after non deterministic commands",
        ConfigurationError,
        "older than Redis 5",
    ),
    "none": ("-ERR unknown command 'EVALSHA'", ConfigurationError, "older than"),
    "replica": ("-READONLY You can't write against a read only replica.", ConfigurationError, "read-only replica"),
    "cluster": ("-MOVED 3999 127.0.0.1:6381", ConfigurationError, "cluster"),
    "memory": ("-OOM command not allowed when used memory > 'maxmemory'.", SharedLimitsError, "maxmemory"),
    "loading": ("-LOADING Redis is loading the dataset in memory", SharedLimitsError, "loading"),
    "busy": ("-BUSY Redis is busy running a script.", SharedLimitsError, "busy"),
    "number": (":1", ConfigurationError, "does not answer like Redis"),
    "text": ("+fine", ConfigurationError, "does not answer like Redis"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_store_that_cannot_keep_limits(case: str) -> None:
    """Each answer that is not a grant is an error with its reason, before anything is sent."""
    answer, kind, sign = ANSWERS[case]

    ended = asyncio.Event()

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"*"):
                words = [await _word(reader) for _ in range(int(line[1:]))]
                greets = words[0].upper() in (b"CLIENT", b"SELECT", b"AUTH")
                writer.write(b"+OK\r\n" if greets else answer.encode() + b"\r\n")
        writer.close()
        ended.set()

    async def main() -> BaseException:
        server = await asyncio.start_server(answering, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        budget = RedisBudget(f"redis://127.0.0.1:{port}/0?name=n&protocol=2")
        try:
            with pytest.raises((ConfigurationError, SharedLimitsError)) as caught:
                await budget.lease(LeaseRequest(worker="w", event="join"))
        finally:
            await budget.aclose()
            async with asyncio.timeout(5):
                await ended.wait()
            server.close()
            await server.wait_closed()
        return caught.value

    error = run(main(), real_clock=True)
    assert type(error) is kind
    assert sign in str(error)


async def _word(reader: asyncio.StreamReader) -> bytes:
    length = int((await reader.readline())[1:])
    return (await reader.readexactly(length + 2))[:-2]


@pytest.mark.redis
def test_a_store_that_is_suspended_never_stops_calls(store: Store, connection: Any) -> None:
    """With Redis suspended, calls that were made before go on, and a client that joins gets an error in seconds."""

    async def script(seen: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT))

    async def main() -> None:
        async with scripted(script) as server:
            limits = Limits(rpm=6000, shared=store.url("suspended"))
            async with Client(api_key="k", api_base=server.url, limits=limits) as client:
                await asyncio.gather(*(client.chat("hi", model="m") for _ in range(10)))
                store.signal(signal.SIGSTOP)
                try:
                    async with asyncio.timeout(5):
                        await asyncio.gather(*(client.chat("hi", model="m") for _ in range(40)))
                    late = Limits(rpm=6000, shared=store.url("suspended"))
                    async with Client(api_key="k", api_base=server.url, limits=late) as other:
                        with pytest.raises(SharedLimitsError, match=r"cannot be reached|did not answer"):
                            await other.chat("hi", model="m")
                finally:
                    store.signal(signal.SIGCONT)

    run(main(), real_clock=True)


def test_passwords_databases_and_tls(tmp_path: Path) -> None:
    """A password is used and never shown; databases are separate; a certificate that is not trusted is an error."""
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    secure = Store(
        tmp_path, "--requirepass", "hidden-word", "--tls-port", str(port),
        "--tls-cert-file", str(tmp_path / "cert.pem"),
        "--tls-key-file", str(tmp_path / "key.pem"), "--tls-ca-cert-file", str(tmp_path / "ca.pem"),
        "--tls-auth-clients", "no",
    )  # fmt: skip
    try:
        plain = f"redis://:hidden-word@127.0.0.1:{secure.port}"
        request = LeaseRequest(worker="w", rpm=60.0, requests=1.0)
        assert lease(f"{plain}/0?name=n", request).requests == 1
        assert lease(f"{plain}/0?name=n", request).requests == 0
        assert lease(f"{plain}/3?name=n", request).requests == 1
        tls = f"rediss://:hidden-word@localhost:{port}/4?name=n"
        assert lease(f"{tls}&ssl_ca_certs={tmp_path / 'ca.pem'}", request).requests == 1
        for url, sign in (
            (f"redis://127.0.0.1:{secure.port}/0?name=n", "password"),
            (f"{plain}/99?name=n", "no database of this number"),
            (tls, "certificate"),
        ):
            with pytest.raises((ConfigurationError, SharedLimitsError), match=sign) as caught:
                lease(url, request)
            assert "hidden-word" not in f"{caught.value!r}{caught.value.__cause__!r}"
    finally:
        secure.kill()


def test_the_command_line_says_why(store: Store, connection: Any, tmp_path: Path) -> None:
    """`run` with limits that cannot be used sends nothing, and ends with one clear line without the password."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    row = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    place = store.url("cli").replace("redis://", "redis://guest:hidden-word@")
    words = [
        sys.executable,
        "-m",
        "openaiasync",
        "run",
        "in.jsonl",
        "-o",
        "out.jsonl",
        "--base-url",
        "http://127.0.0.1:9/v1",
    ]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "OPENAI_API_KEY": "k", "OPENAIASYNC_SHARED": place},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode not in (0, 3)
    assert "cannot keep the shared limits" in done.stderr
    assert "Traceback" not in done.stderr
    written = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "hidden-word" not in done.stderr + written
