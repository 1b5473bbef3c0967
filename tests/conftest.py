"""What every test relies on: a loop runner with a time limit, a clean environment, and a check that nothing leaks."""

from __future__ import annotations

import asyncio
import compileall
import functools
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from asyncio import runners
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

import clock

T = TypeVar("T")

TESTS = Path(__file__).resolve().parent
# Files that take longest. They begin first: one that runs last, alone, leaves the other cores idle.
LONG = (
    "typing/test_typing.py",
    "test_linear.py",
    "test_docs.py",
    "test_examples.py",
    "faults/test_secret_matrix.py",
    "cli/test_repl.py",
    "core/test_slices.py",
    "faults/test_leaving.py",
    "cli/test_chat.py",
)
GRACE = 2.0  # seconds that sockets, threads and tasks get to end by themselves after a test
SCRUBBED = ("OPENAI_", "OPENAIASYNC_DEMO_", "OPENAIASYNC_PORT")
SCRUBBED_NAMES = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "NO_COLOR", "FORCE_COLOR"}
)


def run(coro: Coroutine[Any, Any, T], timeout: float = 30.0, *, real_clock: bool = False) -> T:
    """Run a coroutine in an event loop of its own; `TimeoutError` after so many seconds.

    The loop's clock is a fake one, which jumps to the next timer when nothing else can happen (`clock.py`). A test that
    measures the machine, or waits for what the loop cannot know of, asks for the real clock.
    """

    async def limited() -> T:
        async with asyncio.timeout(timeout):
            return await coro

    if real_clock:
        return asyncio.run(limited())
    with asyncio.Runner(loop_factory=clock.FakeClockLoop) as runner:
        return runner.run(limited())


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # by number of tests, which is not by time
    share_bytecode(config)
    import_plainly(config)
    compile_share(config)
    rewrite_share(config)
    # Started in the background of a script, everything inherits that Ctrl-C is ignored, and no test of it could work.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        from hypothesis import settings
    except ImportError:
        pass  # the environment that measures against the official client has no property tests
    else:
        settings.register_profile("noisy machine", deadline=None)
        settings.load_profile("noisy machine")
        look_for_constants_where_they_matter()
    # Before any fixture, so that servers started once a session do not inherit a user's settings either.
    for name in [name for name in os.environ if is_scrubbed(name)]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {TESTS / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


def share_bytecode(config: pytest.Config) -> None:
    """Let all processes of a run compile each module once, also where no bytecode may be written beside the sources."""
    if not sys.dont_write_bytecode or hasattr(config, "workerinput"):
        return  # it is written; or this is a worker, whose environment is set already
    folder = tempfile.mkdtemp(prefix="openaiasync-bytecode-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = folder
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def import_plainly(config: pytest.Config) -> None:
    """Import the library and Hypothesis as programs do.

    pytest rewrites the assertions of every package with a plugin, and of all of its modules: that takes each worker
    more time than all other imports. pytest has no public function for it; without one of these names nothing is done.
    """
    try:
        from _pytest.assertion import rewrite

        hook: Any = config.stash[rewrite.assertstate_key].hook
        hook._must_rewrite -= {"hypothesis", "openaiasync"}
        hook._marked_for_rewrite_cache.clear()
    except (AttributeError, ImportError, KeyError, TypeError):
        return


def look_for_constants_where_they_matter() -> None:
    """Let Hypothesis take constants from the hand-written sources only.

    Each worker parses every module for them, and those of the generated types and of the tests are most of these.
    """
    try:
        from hypothesis.internal.conjecture import providers

        is_local = providers.is_local_module_file
        providers.is_local_module_file = lambda path: is_local(path) and path in hand_written()  # type: ignore[attr-defined]
    except (AttributeError, ImportError):
        return


@functools.cache
def hand_written() -> frozenset[str]:
    """The paths of the library's modules that are not generated."""
    paths = (TESTS.parent / "src" / "openaiasync").rglob("*.py")
    return frozenset(str(path) for path in paths if not {"api", "params", "types"} & set(path.parts))


def compile_share(config: pytest.Config) -> None:
    """In a worker, compile its share of the library, which otherwise all workers compile at the same time."""
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if worker and [Path(one).resolve() for one in config.args] == [TESTS]:
        for path in sorted(hand_written())[int(worker["workerid"][2:]) :: worker["workercount"]]:
            compileall.compile_file(path, quiet=2)


def rewrite_share(config: pytest.Config) -> None:
    """In a worker, rewrite the assertions of its share of the test modules before it collects all of them.

    Each worker collects everything, and all begin at the same module at the same time: without this each of them
    rewrites every module, which takes longer than importing them. pytest has no public function for it; without one of
    these names nothing is done.
    """
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if not worker or [Path(one).resolve() for one in config.args] != [TESTS]:
        return
    try:
        from _pytest.assertion import rewrite

        state = config.stash[rewrite.assertstate_key]
        own = sorted(TESTS.rglob("test_*.py"))[int(worker["workerid"][2:]) :: worker["workercount"]]
        for path in own:
            folder = rewrite.get_cache_dir(path)
            compiled = folder / (path.stem + rewrite.PYC_TAIL)
            if rewrite.try_makedirs(folder) and rewrite._read_pyc(path, compiled) is None:
                facts, code = rewrite._rewrite_test(path, config)
                rewrite._write_pyc(state, code, facts, compiled)
    except (AttributeError, ImportError, KeyError, TypeError):
        return


def pytest_collection_finish(session: pytest.Session) -> None:
    # Ten thousand tests are a million objects, which every full collection would walk: a third of a second each.
    gc.collect()
    gc.freeze()


def is_scrubbed(name: str) -> bool:
    upper = name.upper()
    return upper.startswith(SCRUBBED) or upper in SCRUBBED_NAMES


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    """No test sees the user's keys or proxies, and what a test sets is gone after it."""
    before = dict(os.environ)
    yield
    now = dict(os.environ)
    if now != before:
        os.environ.clear()
        os.environ.update(before)
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        changed = [name for name in changed if name != "PYTEST_CURRENT_TEST"]
        assert not changed, f"the test changed the environment for good: {changed}; use monkeypatch"


def open_sockets() -> set[str]:
    """The sockets of this process by inode; empty where /proc is not there."""
    found: set[str] = set()
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of the listing itself
        if target.startswith("socket:"):
            found.add(target)
    return found


def _settled(leaked: Callable[[], list[str]]) -> list[str]:
    """What is still leaked once ends that are under way had their time."""
    end = time.monotonic() + GRACE
    while (names := leaked()) and time.monotonic() < end:
        time.sleep(0.01)
    if names:
        gc.collect()
        names = leaked()
    return names


@contextmanager
def _left_tasks() -> Iterator[list[str]]:
    """Collects the tasks that `asyncio.run` would otherwise cancel in silence when the main task is done."""
    left: list[str] = []
    cancel_all = runners._cancel_all_tasks  # type: ignore[attr-defined]

    def watch(loop: asyncio.AbstractEventLoop) -> None:
        tasks = {task for task in asyncio.all_tasks(loop) if not task.done() and not _is_of_tests(task)}
        if tasks:
            _, tasks = loop.run_until_complete(asyncio.wait(tasks, timeout=GRACE))
        left.extend(repr(task) for task in tasks)
        cancel_all(loop)

    runners._cancel_all_tasks = watch  # type: ignore[attr-defined]
    try:
        yield left
    finally:
        runners._cancel_all_tasks = cancel_all  # type: ignore[attr-defined]


def _is_of_tests(task: asyncio.Task[Any]) -> bool:
    """A test's own server may be cut off in the middle; the library's tasks may not."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and str(TESTS) in os.path.realpath(code.co_filename)


class _LoopErrors(logging.Handler):
    """Collects what event loops report instead of raising, e.g. "Task exception was never retrieved".

    Left out is what a test's own server causes: its code, or asyncio's wrapper of its handlers.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not any(mark in message for mark in (str(TESTS), "client_connected_cb", "StreamReaderProtocol")):
            self.messages.append(message)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """No test leaves a task, a thread, a socket, or an error that only the event loop saw."""
    sockets, threads = open_sockets(), set(threading.enumerate())
    clock.a_test_begins()
    errors = _LoopErrors()
    logger = logging.getLogger("asyncio")
    logger.addHandler(errors)
    try:
        with _left_tasks() as tasks:
            yield
    finally:
        logger.removeHandler(errors)
    assert not tasks, f"tasks left running: {tasks}"
    assert not errors.messages, f"errors only the event loop saw: {errors.messages}"
    # A server of a wider scope runs in a thread of its own, and its event loop's workers end with that loop.
    server_runs = len(threads) > 1
    left = _settled(
        lambda: [
            repr(thread)
            for thread in threading.enumerate()
            if thread not in threads and not (server_runs and thread.name.startswith("asyncio_"))
        ]
    )
    assert not left, f"threads left running: {left}"
    left = _settled(lambda: sorted(open_sockets() - sockets))
    assert not left, f"sockets left open: {left}"
