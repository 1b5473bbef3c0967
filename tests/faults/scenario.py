"""A fault as data: what the server does, which call meets it, what its caller must get, and within what time.

`play` runs one scenario against a server of its own and answers what was wrong: the outcome, or an invariant that must
hold whatever happens (nothing held, nothing leaked, no secret shown).
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from openaiasync import AsyncOpenAI, Client, OpenAIError
from wireserver import Peer, Server, client_context, server_context

from .calls import CALLS
from .invariants import at_rest, error_faults
from .places import closed_port, expired_context, full_port

__all__ = ["CLOSE", "HANG", "HEAD", "READ", "RESET", "Drip", "Fails", "Gives", "Played", "Repeat", "Scenario", "play"]

KEY = "sk-planted-0123456789abcdef"  # in every scenario; may be seen nowhere
TLS: dict[str, Callable[[], ssl.SSLContext]] = {
    "good": server_context,
    "untrusted": server_context,
    "wrong host": lambda: server_context("elsewhere.example"),
    "expired": expired_context,
}


class Step:
    """One thing that a server does beside sending bytes (`bytes`) and waiting (`float`, seconds)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


READ = Step("READ")  # a whole request
HEAD = Step("HEAD")  # the head of a request
HANG = Step("HANG")  # until the client leaves
RESET = Step("RESET")  # close with a RST
CLOSE = Step("CLOSE")  # as the end of the steps does too


@dataclass(frozen=True)
class Drip:
    """Bytes one by one, so many seconds between."""

    data: bytes
    every: float


@dataclass(frozen=True)
class Repeat:
    """The same bytes again and again, so many seconds between; for ever without `times`."""

    data: bytes
    every: float = 0.0
    times: int = 1 << 60


Steps = Sequence[Any]


@dataclass(frozen=True)
class Gives:
    """The call answers; `value` is what `CALLS` makes of the answer (`None`: anything)."""

    value: Any = None
    tries: int | None = None


@dataclass(frozen=True)
class Fails:
    """The call raises exactly this class, with these facts; `delivered` is what a stream gave before."""

    error: type[BaseException]
    or_below: bool = False  # a class derived from it will do
    side: str | None = None
    retryable: bool | None = None
    clock: str | None = None
    says: str = ""
    never_says: str = ""
    meta: bool | None = None  # whether `.meta` is there
    partial: str | None = None
    delivered: str | None = None
    tries: int | None = None


@dataclass(frozen=True)
class Scenario:
    """`steps`: of each connection; or several of those, by connection, the last for all that follow."""

    name: str
    rules: tuple[int, ...]
    steps: Steps
    expect: Gives | Fails
    call: str = "chat"
    door: str = "Client"
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    limit: float = 10.0  # seconds
    connections: int | None = None
    tls: str | None = None
    base: str = "{scheme}://127.0.0.1:{port}/v1"  # {closed}: nobody listens; {full}: a listener that never accepts


@dataclass
class Played:
    """How a scenario went."""

    seconds: float = 0.0
    answer: Any = None
    error: BaseException | None = None
    delivered: list[str] = field(default_factory=list[str])
    tries: int = 0  # requests that the server read
    connections: int = 0
    problems: list[str] = field(default_factory=list[str])


async def act(peer: Peer, steps: Steps, played: Played) -> None:
    """Do one connection's steps; its end closes it."""
    for step in steps:
        if isinstance(step, bytes):
            await peer.send(step)
        elif isinstance(step, float):
            await asyncio.sleep(step)
        elif isinstance(step, Drip):
            for at in range(len(step.data)):
                await peer.send(step.data[at : at + 1])
                await asyncio.sleep(step.every)
        elif isinstance(step, Repeat):
            for _ in range(step.times):
                await peer.send(step.data)
                await asyncio.sleep(step.every)
        elif step is READ or step is HEAD:
            await (peer.request() if step is READ else peer.head())
            played.tries += 1
        elif step is HANG:
            await peer.gone()
        elif step is RESET:
            peer.reset()
        elif step is CLOSE:
            return
        else:
            raise TypeError(f"{step!r} is no step")


def script_of(scenario: Scenario, played: Played) -> Callable[[Peer], Awaitable[None]]:
    by_connection = [scenario.steps] if not _nested(scenario.steps) else list(scenario.steps)

    async def script(peer: Peer) -> None:
        played.connections += 1
        await act(peer, by_connection[min(peer.number, len(by_connection) - 1)], played)

    return script


def _nested(steps: Steps) -> bool:
    return bool(steps) and all(isinstance(step, tuple) for step in steps)


def client_of(scenario: Scenario, url: str) -> Client:
    options: dict[str, Any] = {"api_key": KEY, "max_retries": 0, **scenario.options}
    if scenario.tls not in (None, "untrusted"):
        options["http_other"] = {"ssl": client_context(), **options.get("http_other", {})}
    if scenario.door == "Client":
        return Client(api_base=url, model="m", **options)
    return AsyncOpenAI(base_url=url, **options)


async def play(scenario: Scenario) -> Played:
    """Run it; `problems` is empty if every promise was kept."""
    played = Played()
    tls = TLS[scenario.tls]() if scenario.tls else None
    server = Server(script_of(scenario, played), tls=tls)
    async with server:
        scheme = "https" if tls else "http"
        url = scenario.base.format(scheme=scheme, port=server.port, closed=closed_port(), full=full_port())
        client = client_of(scenario, url)
        try:
            await _call(scenario, client, played)
            played.problems += at_rest(client)
        finally:
            await client.aclose()
        try:
            await server.settled(0, timeout=3.0)
        except AssertionError:
            played.problems.append(f"{server.open} connections are open after the client was closed")
    played.problems += [f"the server's script failed: {error!r}" for error in server.errors]
    return played


async def _call(scenario: Scenario, client: Client, played: Played) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(20):
            played.answer = await CALLS[scenario.call](client, played.delivered)
    except TimeoutError:
        played.problems.append("the call hung")
        return
    except Exception as error:
        played.error = error
    finally:
        played.seconds = loop.time() - began
    if played.seconds > scenario.limit:
        played.problems.append(f"it took {played.seconds:.2f} s instead of {scenario.limit} s at most")
    judge(scenario, played)
    if played.error is not None:
        allowed = scenario.expect.error if isinstance(scenario.expect, Fails) else OpenAIError
        played.problems += error_faults(played.error, allowed, KEY)


def judge(scenario: Scenario, played: Played) -> None:
    """Compare the outcome with the expectation."""
    expect, error, problems = scenario.expect, played.error, played.problems
    if expect.tries is not None and played.tries != expect.tries:
        problems.append(f"the server saw {played.tries} requests instead of {expect.tries}")
    if scenario.connections is not None and played.connections != scenario.connections:
        problems.append(f"the server saw {played.connections} connections instead of {scenario.connections}")
    if isinstance(expect, Gives):
        if error is not None:
            problems.append("it raised " + "".join(traceback.format_exception(error)))
        elif expect.value is not None and played.answer != expect.value:
            problems.append(f"it answered {played.answer!r} instead of {expect.value!r}")
        return
    if error is None:
        problems.append(f"it answered {played.answer!r} instead of raising {expect.error.__name__}")
        return
    kind = expect.error if expect.or_below and isinstance(error, expect.error) else type(error)
    facts: list[tuple[str, Any, Any]] = [("class", kind, expect.error)]
    plain = [(name, getattr(expect, name)) for name in ("side", "retryable", "clock")]
    facts += [(name, getattr(error, name, None), wanted) for name, wanted in plain if wanted is not None]
    if expect.meta is not None:
        facts.append(("meta", getattr(error, "meta", None) is not None, expect.meta))
    if expect.partial is not None:
        facts.append(("partial", getattr(getattr(error, "partial", None), "text", None), expect.partial))
    if expect.delivered is not None:
        facts.append(("delivered", "".join(played.delivered), expect.delivered))
    problems += [f"{name} is {got!r} instead of {wanted!r} ({error})" for name, got, wanted in facts if got != wanted]
    if expect.says not in str(error):
        problems.append(f"{expect.says!r} is not said in {error}")
    if expect.never_says and expect.never_says in str(error):
        problems.append(f"{expect.never_says!r} is said in {error}")
