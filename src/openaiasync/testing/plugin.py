"""The pytest plugin ``openaiasync``: scripted answers (`openai_server`) and recorded ones (the mark `llm_cassette`).

Nothing else is imported until a test asks for one of them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from ..transport.cassette import RecordMode
    from .recording_server import RecordingServer
    from .server import FakeServer

_MARK = "llm_cassette"
_MARK_HELP = (
    f"{_MARK}(path=None, *, speed=0, ignore=[...], repeat=False, upstream=None, normalize=None, secrets=[]): "
    "record the answers of the model's server in a file, and replay them from it (--llm-record)"
)
_MARK_OPTIONS = frozenset({"path", "speed", "ignore", "repeat", "upstream", "normalize", "secrets"})
_MODES = ("none", "once", "new", "all")
_LONGEST = 100  # characters of a file's name
_UNUSED = "llm_cassette: unused"
_SERVERS: pytest.StashKey[list[FakeServer]] = pytest.StashKey()
_RECORDED: pytest.StashKey[set[Path]] = pytest.StashKey()  # files that tests of this run record


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("openaiasync", "recorded answers of models (mark llm_cassette)")
    group.addoption(
        "--llm-record",
        choices=_MODES,
        default=None,
        help="none: replay only, no request leaves this machine; once: record where the file is missing; "
        "new: also record requests that are not in the file; all: record everything anew "
        "(default: once, or none where the variable CI is set)",
    )
    group.addoption(
        "--llm-unused",
        choices=("ignore", "report", "fail"),
        default="ignore",
        help="what to do about recorded answers that a passed test did not ask for (default: ignore)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK_HELP)


@pytest.fixture
def openai_server(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[FakeServer]:
    """A server with scripted answers; OPENAI_BASE_URL and OPENAI_API_KEY direct every client of this test to it.

    The test fails if the server received an unexpected request, even if the program under test ignored the refusal.
    """
    from .recording_server import variables_for
    from .server import FakeServer

    with FakeServer() as server:
        for name, value in variables_for(server.url, "sk-test").items():
            monkeypatch.setenv(name, value)
        request.node.stash.setdefault(_SERVERS, []).append(server)
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test for unexpected requests itself: at the end of its fixture it would be an error beside the test."""
    try:
        result = yield
    except BaseException:
        for server in item.stash.get(_SERVERS, ()):
            if server.unexpected:  # most likely the cause, or a consequence, of what the test raised
                item.add_report_section("call", "openai_server", server.explained())
        raise
    found = [server.explained() for server in item.stash.get(_SERVERS, ()) if server.unexpected]
    if found:
        pytest.fail("\n\n".join(found), pytrace=False)
    return result


@pytest.fixture
def llm_cassette(request: pytest.FixtureRequest) -> Iterator[RecordingServer]:
    """A server that records or replays this test; OPENAI_BASE_URL directs every client of this test to it.

    The mark of the same name requests it. The test fails if a request has no recorded answer and may not be sent.
    """
    from .recording_server import recording

    options = _options_of(request.node)
    path = cassette_path(request.node.path, request.node.nodeid, options.pop("path", None))
    mode = mode_of_file(record_mode(request.config), path, request.config.stash.setdefault(_RECORDED, set()))
    failed = request.session.testsfailed
    with recording(path, mode, **options) as server:
        yield server
    unused = server.cassette.unused
    if unused and request.session.testsfailed == failed:
        said = f"{server.cassette.path}: {len(unused)} unused: " + ", ".join(str(one.request) for one in unused)
        wanted = request.config.getoption("--llm-unused")
        if wanted == "fail":
            pytest.fail(f"recorded answers that the test did not ask for: {said}", pytrace=False)
        if wanted == "report":
            request.node.user_properties.append((_UNUSED, said))


@pytest.fixture(autouse=True)
def _marked_llm_cassette(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker(_MARK) is not None:
        request.getfixturevalue(_MARK)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List the unused recorded answers that ``--llm-unused=report`` found in all processes."""
    found = [
        value
        for report in terminalreporter.getreports("")
        for name, value in getattr(report, "user_properties", ())
        if name == _UNUSED
    ]
    if found:
        terminalreporter.section("recorded answers that no test asked for")
        for value in found:
            terminalreporter.line(value)


def record_mode(config: pytest.Config) -> RecordMode:
    """Return the mode given on the command line, or the default."""
    given: RecordMode | None = config.getoption("--llm-record")
    if given is not None:
        return given
    return "once" if os.environ.get("CI", "").lower() in ("", "0", "false", "no") else "none"


def mode_of_file(mode: RecordMode, path: Path, recorded: set[Path]) -> RecordMode:
    """Return the mode for the file of a test, which several tests may share. `recorded` holds the files of this run.

    "once" and "all" are about the file at the start of the run: the first test that uses it decides, and the later ones
    add their answers.
    """
    if path in recorded:
        return "new"
    if mode == "all" or (mode == "once" and not (path.exists() and path.stat().st_size)):
        recorded.add(path)
    return mode


def _options_of(node: pytest.Item) -> dict[str, Any]:
    """Return the arguments of the marks of a test, its class and its module; the closest mark takes precedence."""
    options: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers(_MARK))):
        unknown = [*map(repr, mark.args[1:]), *sorted(mark.kwargs.keys() - _MARK_OPTIONS)]
        if unknown:
            raise TypeError(f"@pytest.mark.{_MARK} has no such argument: {', '.join(unknown)}\n{_MARK_HELP}")
        options.update(mark.kwargs)
        if mark.args:
            options["path"] = mark.args[0]
    return options


def cassette_path(module: Path, nodeid: str, given: str | os.PathLike[str] | None = None) -> Path:
    """Return the file of a test: ``cassettes/MODULE/TEST.jsonl`` beside its module, or `given`, relative to it.

    A `given` path that ends with a slash is a folder with a separate file for each test.
    """
    own = file_name_of(nodeid.partition("::")[2] or module.stem)
    if given is None:
        return module.parent / "cassettes" / module.stem / own
    path = module.parent / given
    return path / own if os.fspath(given).endswith(("/", os.sep)) else path


def file_name_of(test: str) -> str:
    """Return a file name for a test: ``TestSky::test_blue[day]`` is ``TestSky.test_blue-day.jsonl``.

    Characters that a file system may refuse are replaced, and long names are cut; such names end with a hash.
    """
    name, bracket, parameters = test.partition("[")  # not a pattern: one that starts at every "[" takes quadratic time
    plain = f"{name}-{parameters[:-1]}" if bracket and test.endswith("]") else test
    plain = plain.replace("::", ".")
    safe = re.sub(r"[^A-Za-z0-9_.-]", "-", plain)[:_LONGEST]
    if safe != plain:
        safe += f"-{hashlib.sha256(test.encode()).hexdigest()[:8]}"
    return f"{safe}.jsonl"


resolve_annotations(__name__)
