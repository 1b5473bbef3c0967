"""What the torture test does: operations of every kind, each with what may come of it, and the checks after a round."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from asyncio import events
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openaiasync import APIConnectionError, ChatSession, Client, OpenAIError
from openaiasync.chat.session_file import read_session

from .invariants import at_rest, error_faults
from .torture_server import SOUND

__all__ = ["KEY", "CallbackTimes", "ServerProcess", "Victim", "World", "round_of", "warm_up"]

KEY = "sk-planted-torture-0123456789"
LONGEST_CALLBACK = 0.05  # seconds of its thread's CPU
OLD = b"what was there before"
WHOLE_SIZES = {0, 5, 10, 297, 70_000, 393_216}  # of sound that scenarios send as a whole answer
PATIENCE = 30.0  # seconds that any operation may take; every clock of the clients is far shorter
TESTS = Path(__file__).resolve().parents[1]


class CallbackTimes:
    """The CPU that each callback of an event loop takes of its own thread; what a test does itself is left out.

    A virtual machine's clock charges a thread with what other guests took, now and then: so a callback is slow that
    was twice over the limit, or twice the limit once.
    """

    def __init__(self) -> None:
        self.slow: list[str] = []
        self._once: Counter[str] = Counter()
        self.count = 0
        self.longest = 0.0
        self._exempt = False

    def _note(self, handle: events.Handle, took: float) -> None:
        callback: Any = handle._callback  # type: ignore[attr-defined]
        task = getattr(callback, "__self__", None)
        name = repr(task.get_coro()) if isinstance(task, asyncio.Task) else repr(callback)
        name = name.partition(" at 0x")[0]
        self._once[name] += 1
        if self._once[name] > 1 or took > 2 * LONGEST_CALLBACK:
            self.slow.append(f"{took * 1000:.0f} ms: {name} {handle!r:.400}")

    @contextmanager
    def exempt(self) -> Iterator[None]:
        """The callback that this runs in is not counted."""
        self._exempt = True
        yield

    @contextmanager
    def watching(self) -> Iterator[None]:
        plain = events.Handle._run
        times = self

        def run(handle: events.Handle) -> None:
            times._exempt = False
            began = time.thread_time()
            plain(handle)
            took = time.thread_time() - began
            times.count += 1
            if not times._exempt:
                times.longest = max(times.longest, took)
                if took > LONGEST_CALLBACK:
                    times._note(handle, took)

        events.Handle._run = run  # type: ignore[method-assign]
        try:
            yield
        finally:
            events.Handle._run = plain  # type: ignore[method-assign]


class ServerProcess:
    """`torture_server` in a process of its own, on a port that it keeps; another one stands by to take its place."""

    def __init__(self, folder: Path, faults: float, seed: int) -> None:
        self.folder = folder
        self.port = 0
        self.kills = 0
        self._faults = faults
        self._dice = random.Random(seed)
        self._process: subprocess.Popen[str] | None = None
        self._next = self._spawn()

    def _spawn(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "faults.torture_server", str(self._dice.getrandbits(30)), str(self._faults)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
        log, pipe = str(self.folder / "server.log"), subprocess.PIPE
        return subprocess.Popen([*command, log], stdin=pipe, stdout=pipe, text=True, env=env)

    def start(self) -> None:
        process, self._next = self._next, self._spawn()
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdin.write(f"{self.port}\n")
        process.stdin.flush()
        words = process.stdout.readline().split()
        assert words, "the server did not start"
        self.port, self._process = int(words[1]), process

    def kill(self) -> None:
        """SIGKILL: its connections are reset."""
        if self._process is not None:
            _killed(self._process)
            self._process = None
            self.kills += 1

    def close(self) -> None:
        self.kill()
        _killed(self._next)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


def _killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


_VICTIM = """
import asyncio, sys
from openaiasync import Client, OpenAIError, SessionFileError

async def main(url, path, name):
    async with Client(api_base=url, api_key=%r, model="m", max_retries=0, http_timeout=1.0) as client:
        session = client.chat.load_session(path, append=True)
        number = 0
        while True:
            number += 1
            try:
                await session.say(f"{name}-{number}")
            except SessionFileError:
                raise
            except OpenAIError:
                continue
            print(f"{name}-{number}", flush=True)

asyncio.run(main(*sys.argv[1:4]))
"""


class Victim:
    """A process that talks in a session of its own until it is killed; what it confirmed must be in the file."""

    def __init__(self, folder: Path, url: str, number: int) -> None:
        self.path = folder / f"victim-{number}.jsonl"
        self.path.write_bytes(b'{"openaiasync":"session","version":1}\n')
        self._log = folder / f"victim-{number}.log"
        self._errors = folder / f"victim-{number}.err"
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with open(self._log, "wb") as out, open(self._errors, "wb") as err:
            command = [sys.executable, "-c", _VICTIM % KEY, url, str(self.path), f"v{number}"]
            self._process = subprocess.Popen(command, stdout=out, stderr=err, env=env)

    def kill(self) -> list[str]:
        """What was wrong."""
        ended = self._process.poll()
        self._process.kill()
        self._process.wait()
        problems = [f"a victim ended by itself: {self._errors.read_text()[-2000:]}"] if ended is not None else []
        confirmed = self._log.read_text().split("\n")[:-1]
        there = set(turns_in(self.path))
        return problems + [f"the killed process had confirmed {one!r}" for one in confirmed if one not in there]


def turns_in(path: Path) -> list[str]:
    return [str(turn.messages[0]["content"]) for turn in read_session(path).history.turns]


@dataclass
class Kept:
    """A session with its file, and what was asked and finished in it."""

    session: ChatSession
    path: Path
    asked: set[str] = field(default_factory=set[str])
    finished: list[str] = field(default_factory=list[str])


@dataclass
class World:
    """Everything that a round's operations share."""

    folder: Path
    client: Client
    dice: random.Random
    times: CallbackTimes
    number: int = 0
    begun: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    ended: Counter[int] = field(default_factory=Counter[int])
    answers: dict[int, str] = field(default_factory=dict[int, str])  # texts of calls that were made without retries
    errors: list[BaseException] = field(default_factory=list[BaseException])
    problems: list[str] = field(default_factory=list[str])
    sessions: list[Kept] = field(default_factory=list[Kept])

    def next(self) -> int:
        self.number += 1
        return self.number

    def marked(self, number: int) -> dict[str, Any]:
        return {"extra_headers": {"X-Torture": str(number)}}

    def wrong(self, number: int, text: str, right: str) -> None:
        """A chat's text is the right one, or that of a scenario, which the server's log tells."""
        if text != right:
            self.answers[number] = text


Operation = Callable[[World, int], Awaitable[None]]
OPERATIONS: dict[str, tuple[int, Operation]] = {}


def operation(weight: int) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        OPERATIONS[function.__name__] = (weight, function)
        return function

    return add


@operation(8)
async def chat(world: World, number: int) -> None:
    answer = await world.client.chat(f"chat {number}", **world.marked(number))
    world.wrong(number, answer.text, f"re chat {number}")


@operation(8)
async def stream(world: World, number: int) -> None:
    got: list[str] = []
    async with world.client.chat.stream(f"stream {number}", **world.marked(number)) as live:
        async for piece in live:
            got.append(piece.text)
    world.wrong(number, "".join(got), f"re stream {number}")


@operation(3)
async def official_stream(world: World, number: int) -> None:
    messages: Any = [{"role": "user", "content": f"official {number}"}]
    live = await world.client.chat.completions.create(messages=messages, model="m", stream=True, **world.marked(number))
    got = [choice.delta.content or "" async for piece in live for choice in piece.choices]
    world.wrong(number, "".join(got), f"re official {number}")


@operation(3)
async def left_early(world: World, number: int) -> None:
    async with world.client.chat.stream(f"left {number}", **world.marked(number)) as live:
        async for _ in live:
            break


@operation(2)
async def forgotten(world: World, number: int) -> None:
    """A stream that nobody closes, and garbage collection."""
    live = world.client.chat.stream(f"forgotten {number}", **world.marked(number))
    with contextlib.suppress(StopAsyncIteration):
        await anext(live)
    del live
    with world.times.exempt():
        gc.collect()


@operation(2)
async def raw(world: World, number: int) -> None:
    messages: Any = [{"role": "user", "content": f"raw {number}"}]
    response: Any = await world.client.chat.completions.with_raw_response.create(
        messages=messages, model="m", **world.marked(number)
    )
    world.wrong(number, response.parse().text, f"re raw {number}")


@operation(2)
async def streamed_raw(world: World, number: int) -> None:
    async with world.client.files.with_streaming_response.content("f", **world.marked(number)) as response:
        async for _ in response.iter_bytes(1000):
            if world.dice.random() < 0.05:
                break


@operation(2)
async def embedding(world: World, number: int) -> None:
    await world.client.embedding("hi", model="m", **world.marked(number))


@operation(2)
async def models(world: World, number: int) -> None:
    async for _ in world.client.models(**world.marked(number)):
        pass


@operation(2)
async def speech(world: World, number: int) -> None:
    await world.client.text_to_speech("hi", model="m", voice="alloy", **world.marked(number))


async def _saved(world: World, number: int, save: Callable[[Path], Awaitable[Any]]) -> None:
    """A call that fails leaves the file as it was; one that is cancelled leaves the old or the new one, whole."""
    path = world.folder / f"download-{number}"
    old = OLD if world.dice.random() < 0.5 else None
    if old is not None:
        path.write_bytes(old)
    ended = "succeeded"
    try:
        await save(path)
    except asyncio.CancelledError:
        ended = "cancelled"
        raise
    except BaseException:
        ended = "failed"
        raise
    finally:
        with world.times.exempt():
            now = path.read_bytes() if path.exists() else None
            path.unlink(missing_ok=True)
            if (ended == "failed" and now != old) or (ended == "succeeded" and now in (None, OLD)):
                world.problems.append(f"download {number} {ended} and left {now and len(now)} bytes")
            if ended == "cancelled" and now not in (old, SOUND) and now is not None and len(now) not in WHOLE_SIZES:
                world.problems.append(f"download {number} was cancelled and left {len(now)} bytes")


@operation(4)
async def download(world: World, number: int) -> None:
    async def save(path: Path) -> None:
        live = world.client.text_to_speech.stream("hi", model="m", voice="alloy", **world.marked(number))
        await live.stream_to_file(path)

    await _saved(world, number, save)


@operation(2)
async def download_raw(world: World, number: int) -> None:
    async def save(path: Path) -> None:
        async with world.client.files.with_streaming_response.content("f", **world.marked(number)) as response:
            await response.stream_to_file(path)

    await _saved(world, number, save)


@operation(1)
async def image(world: World, number: int) -> None:
    answer = await world.client.image_generate("x", model="m", **world.marked(number))
    await answer.data[0].save(world.folder / f"image-{number % 3}")


class Unseekable(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = self.left if size < 0 else min(size, self.left, 40_000)
        self.left -= taken
        return b"u" * taken


@operation(4)
async def upload(world: World, number: int) -> None:
    path = world.folder / "upload.bin"
    sources: list[Any] = [path, ("a.bin", b"b" * 200_000), ("a.bin", Unseekable(300_000)), ("a.bin", io.BytesIO(b"c"))]
    await world.client.files.create(file=world.dice.choice(sources), purpose="batch", **world.marked(number))


@operation(1)
async def missing_upload(world: World, number: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        await world.client.files.create(file=world.folder / "missing", purpose="batch", **world.marked(number))
        world.problems.append("a file that does not exist was uploaded")


@operation(6)
async def turn(world: World, number: int) -> None:
    kept = world.dice.choice(world.sessions)
    text = f"turn {number}"
    kept.asked.add(text)
    if world.dice.random() < 0.5:
        await kept.session.say(text, **world.marked(number))
    else:
        async with kept.session.stream(text, **world.marked(number)) as live:
            async for _ in live:
                pass
            await live.final()
    kept.finished.append(text)


def slow_tool(word: str) -> str:
    """A tool that blocks."""
    time.sleep(0.01)
    return f"slow {word}"


async def quick_tool(word: str) -> str:
    """A tool that waits."""
    await asyncio.sleep(0.005)
    return f"quick {word}"


def broken_tool(word: str) -> str:
    """A tool that fails."""
    raise ValueError(f"broken {word}")


@operation(4)
async def tools(world: World, number: int) -> None:
    some = world.dice.sample([slow_tool, quick_tool, broken_tool], world.dice.randint(1, 3))
    session = world.client.chat.session(tools=some, **world.marked(number))
    await session.say(f"tools {number}")


@operation(2)
async def forked_session(world: World, number: int) -> None:
    forked = world.dice.choice(world.sessions).session.fork()
    await forked.say(f"fork {number}", **world.marked(number))
    path = world.folder / f"fork-{number}.jsonl"
    await asyncio.sleep(0)  # so that saving, and the reading below, are callbacks beside that of the answer
    try:
        forked.save(path)
        forked.close()
        await asyncio.sleep(0)
        with world.times.exempt():
            if (turns_in(path) or [""])[-1] != f"fork {number}":
                world.problems.append("a saved fork lacks its last turn")
    finally:
        path.unlink()


@operation(1)
async def clone(world: World, number: int) -> None:
    other = world.client.with_options(timeout=0.05, max_retries=1)
    await other.chat(f"clone {number}", **world.marked(number))


@operation(1)
async def deadline(world: World, number: int) -> None:
    await world.client.chat(f"deadline {number}", deadline=0.02 + world.dice.random() * 0.2, **world.marked(number))


@operation(1)
async def forked_process(world: World, number: int) -> None:
    """A child made in mid-flight makes a call of its own with the same client."""
    if not hasattr(os, "fork") or world.dice.random() < 0.7:
        return
    with world.times.exempt():
        pid = os.fork()
        if not pid:
            _child(world, number)
        child = asyncio.get_running_loop().time()
    try:
        while (status := _status(pid)) is None:
            if asyncio.get_running_loop().time() - child > 20:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        os.kill(pid, signal.SIGKILL)
        while _status(pid) is None:
            time.sleep(0.001)  # noqa: ASYNC251 (it is being killed)
        raise
    if status:
        world.problems.append(f"a forked child ended with {os.waitstatus_to_exitcode(status)} (3: its call hung)")


def _status(pid: int) -> int | None:
    """How a child ended; `None` while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return status if done else None


def _child(world: World, number: int) -> None:
    code = 4
    try:

        async def call() -> None:
            async with asyncio.timeout(10):
                await world.client.chat(f"child {number}", max_retries=0, **world.marked(number))

        asyncio.run(call())
        code = 0
    except OpenAIError:
        code = 0
    except TimeoutError:
        code = 3
    finally:
        os._exit(code)


# -------------------------------------------------------------------------------------------------- a round


async def perform(world: World, name: str, function: Operation) -> None:
    """One operation, cancelled at a random instant now and then; its end is counted."""
    number = world.next()
    world.begun += 1
    task = asyncio.ensure_future(function(world, number))
    loop = asyncio.get_running_loop()
    cancelled = world.dice.random() < 0.2
    timer = loop.call_later(world.dice.random() * 0.15, task.cancel) if cancelled else None
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    if timer is not None:
        timer.cancel()
    if not done:
        with world.times.exempt():
            out = io.StringIO()
            task.print_stack(file=out)
        world.problems.append(f"{name} {number} hung:\n{out.getvalue()}")
        task.cancel()
        await asyncio.wait([task], timeout=5)
    world.ended[number] += 1
    if task.cancelled():
        world.ends["cancelled"] += 1
        if not cancelled and done:
            world.problems.append(f"{name} {number} was cancelled by nobody")
    elif not task.done():
        world.problems.append(f"{name} {number} cannot even be cancelled")
    elif (error := task.exception()) is not None:
        world.ends[type(error).__name__] += 1
        if not isinstance(error, OpenAIError):
            world.problems.append(f"{name} {number} raised {error!r}")
        if isinstance(error, APIConnectionError):
            await asyncio.sleep(0.1)  # the server is being started: most operations shall meet one that runs
        if len(world.errors) < 60 or world.dice.random() < 0.02:
            world.errors.append(error)
    else:
        world.ends["success"] += 1


async def worker(world: World, stop: asyncio.Event) -> None:
    left_out = os.environ.get("OPENAIASYNC_TORTURE_WITHOUT", "").split(",")
    names = [name for name in OPERATIONS if name not in left_out]
    weights = [OPERATIONS[name][0] for name in names]
    while not stop.is_set():
        name = world.dice.choices(names, weights)[0]
        await perform(world, name, OPERATIONS[name][1])


async def killer(server: ServerProcess, dice: random.Random, stop: asyncio.Event) -> None:
    """Kills the server now and then, and starts it again."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1 + dice.random() * 4)
            return
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(dice.random() * 0.2)
        await asyncio.to_thread(server.start)


def client_of(server: ServerProcess, dice: random.Random) -> Client:
    return Client(
        api_base=server.url,
        api_key=KEY,
        model="m",
        max_retries=dice.choice([0, 0, 2]),
        http_max_in_flight=dice.choice([3, 8, 24]),
        http_timeout=1.0,
        http_stall_timeout=1.0,
        http_deadline=8.0,
    )


@contextlib.asynccontextmanager
async def sessions_of(world: World, count: int) -> AsyncIterator[None]:
    for number in range(count):
        session = world.client.chat.session()
        path = world.folder / f"session-{world.dice.getrandbits(40)}-{number}.jsonl"
        session.save(path)
        world.sessions.append(Kept(session, path))
    yield
    for kept in world.sessions:
        kept.session.close()
        with world.times.exempt():
            there = turns_in(kept.path)
            # A turn that was cancelled after its end may be in the file as well.
            missing = [text for text in kept.finished if text not in there]
            if missing or set(there) - kept.asked or len(set(there)) != len(there):
                world.problems.append(f"{kept.path.name} has the turns {there} and lacks {missing}")
        kept.path.unlink()


async def round_of(world: World, server: ServerProcess, seconds: float, workers: int, kills: bool = True) -> None:
    """Operations for so many seconds, then the checks that need the running loop."""
    stop = asyncio.Event()
    async with sessions_of(world, 3):
        tasks = [asyncio.create_task(worker(world, stop)) for _ in range(workers)]
        ender = asyncio.create_task(killer(server, world.dice, stop)) if kills else None
        await asyncio.sleep(seconds)
        closes = world.dice.random() < 0.3
        if closes:
            stop.set()
            await world.client.aclose()  # with calls under way
        stop.set()
        await asyncio.gather(*tasks, *([ender] if ender is not None else []))
    with world.times.exempt():
        world.problems += at_rest(world.client)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        world.problems += [f"a task is left: {task!r:.500}" for task in others]
        if len(world.ended) != world.begun or any(times != 1 for times in world.ended.values()):
            world.problems.append(f"{world.begun} operations began, {sum(world.ended.values())} ends were counted")
    await world.client.aclose()


def checks_after(world: World, descriptors: set[str]) -> None:
    """What must hold once the loop has ended."""
    for error in world.errors:
        world.problems += [f"{type(error).__name__}: {fault}" for fault in error_faults(error, OpenAIError, KEY)]
    world.errors.clear()
    gc.collect()
    end = time.monotonic() + 5
    while True:
        threads = [one.name for one in threading.enumerate() if "openaiasync" in one.name or "asyncio_" in one.name]
        opened = open_descriptors() - descriptors
        if not (threads or opened) or time.monotonic() > end:
            break
        time.sleep(0.05)
    world.problems += [f"a thread is left: {name}" for name in threads]
    world.problems += [f"a descriptor is left: {name}" for name in opened]
    for path in world.folder.iterdir():
        if path.name.startswith(".openaiasync-"):
            world.problems.append(f"a temporary file is left: {path.name}")
        elif path.is_file() and KEY.encode() in path.read_bytes():
            world.problems.append(f"the key is in {path.name}")


def answer_faults(world: World, log: Path, values: dict[str, set[str] | None]) -> list[str]:
    """Texts that neither were right nor are those that the scenarios which answered have."""
    played: dict[str, list[str]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        number, _, name = line.partition("\t")
        played.setdefault(number, []).append(name)
    problems: list[str] = []
    for number, text in world.answers.items():
        names = played.get(str(number), [])
        allowed = [values.get(name, set()) for name in names]
        if not any(one is None or text in one for one in allowed):
            problems.append(f"call {number} gave {text!r:.200} as a success; the server played {names}")
    return problems


def open_descriptors() -> set[str]:
    found: set[str] = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
    return {one for one in found if not one.endswith("/fd")}


async def warm_up(world: World) -> None:
    """Every operation once, so that no callback of the rounds is the one that imports a module."""
    async with sessions_of(world, 1):
        for name, (_, function) in OPERATIONS.items():
            if name != "forked_process":
                with contextlib.suppress(OpenAIError):
                    await function(world, world.next())
    await world.client.aclose()
