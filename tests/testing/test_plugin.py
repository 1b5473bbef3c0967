"""The pytest plugin: the mark `llm_cassette`, the modes, the names of files, what is left over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openaiasync.testing import FakeServer
from openaiasync.testing.plugin import cassette_path, file_name_of, mode_of_file

pytest_plugins = ["pytester"]

TESTS = """
import http.client, json, os, urllib.parse
import pytest

def ask(question="Why?", **more):
    body = {"model": "m", "messages": [{"role": "user", "content": question}], **more}
    head = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc)
    try:
        connection.request("POST", urllib.parse.urlsplit(url).path, json.dumps(body), head)
        response = connection.getresponse()
        assert response.status == 200, response.read().decode()
        return json.load(response)["choices"][0]["message"]["content"]
    finally:
        connection.close()

@pytest.mark.llm_cassette
def test_sky():
    assert ask() == "answer to Why?"

@pytest.mark.llm_cassette("named.jsonl", ignore=["seed"])
class TestNamed:
    def test_ignored(self):
        assert ask(seed=id(self)) == "answer to Why?"

@pytest.mark.parametrize("word", ["a", "b/c"])
@pytest.mark.llm_cassette(path="folder/")
def test_each(word, llm_cassette):
    assert ask(word) == "answer to " + word
    assert llm_cassette.cassette.path.endswith(".jsonl")
    assert len(llm_cassette.requests) == 1

def test_unmarked():
    assert "OPENAI_BASE_URL" not in os.environ or os.environ["OPENAI_BASE_URL"] == os.environ["UPSTREAM"]
"""


@pytest.fixture
def upstream(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server that is closed before anything is replayed, and the tests above."""
    server = FakeServer()
    server.start()
    server.reply(lambda request: "answer to " + request.text, times=None)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("UPSTREAM", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-this-test-0123456789")
    monkeypatch.delenv("CI", raising=False)
    pytester.makepyfile(test_them=TESTS)
    yield server
    server.close()


def run_tests(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # (A plugin that is perhaps installed leaves a thread behind.)
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:rerunfailures", *arguments)


def files(pytester: pytest.Pytester) -> list[str]:
    return sorted(path.relative_to(pytester.path).as_posix() for path in pytester.path.rglob("*.jsonl"))


def test_recorded_once_and_replayed(
    pytester: pytest.Pytester, upstream: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run records each test in its file; the second needs neither server nor key, in CI as well."""
    run_tests(pytester).assert_outcomes(passed=5)
    assert len(upstream.requests) == 4
    upstream.close()
    assert files(pytester) == [
        "cassettes/test_them/test_sky.jsonl",
        "folder/test_each-a.jsonl",
        f"folder/{file_name_of('test_each[b/c]')}",
        "named.jsonl",
    ]
    assert not [path for path in pytester.path.rglob("*.jsonl") if b"0123456789" in path.read_bytes()]
    monkeypatch.delenv("OPENAI_API_KEY")
    run_tests(pytester).assert_outcomes(passed=5)
    monkeypatch.setenv("CI", "true")
    run_tests(pytester).assert_outcomes(passed=5)
    (pytester.path / "named.jsonl").unlink()
    result = run_tests(pytester)
    result.assert_outcomes(passed=4, failed=1, errors=1)
    result.stdout.fnmatch_lines(["*no recorded answer: POST /chat/completions*", "*there is no cassette*named.jsonl*"])
    assert "named.jsonl" not in files(pytester)


def test_modes_of_the_command_line(
    pytester: pytest.Pytester, upstream: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """none sends nothing, new adds, all records anew, and a wrong one is refused."""
    run_tests(pytester, "--llm-record=none", "-k", "sky").assert_outcomes(failed=1, errors=1, deselected=4)
    assert upstream.requests == []
    monkeypatch.setenv("CI", "1")
    run_tests(pytester, "--llm-record=new", "-k", "sky").assert_outcomes(passed=1, deselected=4)
    path = pytester.path / "cassettes/test_them/test_sky.jsonl"
    before = path.read_bytes()
    pytester.makepyfile(test_them=TESTS.replace("assert ask() ==", 'ask("And?"); assert ask() =='))
    run_tests(pytester, "--llm-record=new", "-k", "sky").assert_outcomes(passed=1, deselected=4)
    assert len(upstream.requests) == 2
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().count(b"\n") == 3
    pytester.makepyfile(test_them=TESTS)
    run_tests(pytester, "--llm-record=all", "-k", "sky").assert_outcomes(passed=1, deselected=4)
    assert path.read_bytes().count(b"\n") == 2
    wrong = run_tests(pytester, "--llm-record=twice")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR


SHARED = """

@pytest.mark.llm_cassette("shared.jsonl")
@pytest.mark.parametrize("question", ["One?", "Two?", "One?"])
def test_shared(question):
    assert ask(question) == f"answer to {question}"
"""


def test_a_file_that_several_tests_share(pytester: pytest.Pytester, upstream: FakeServer) -> None:
    """The first run records the answers of all of them, equal requests once."""
    pytester.makepyfile(test_them=TESTS + SHARED)
    run_tests(pytester, "-k", "shared").assert_outcomes(passed=3, deselected=5)
    assert len(upstream.requests) == 2
    assert (pytester.path / "shared.jsonl").read_bytes().count(b"\n") == 3


def test_the_first_test_decides_about_a_shared_file(tmp_path: Path) -> None:
    """Later tests of the same run add to a file that it has recorded, and only replay one that was there before."""
    path, recorded = tmp_path / "shared.jsonl", set[Path]()
    assert [mode_of_file("once", path, recorded) for _ in range(2)] == ["once", "new"]
    path.write_text("x")
    assert mode_of_file("once", path, recorded) == "new"
    assert [mode_of_file("once", path, later := set[Path]()), mode_of_file("once", path, later)] == ["once", "once"]
    assert [mode_of_file("all", path, again := set[Path]()), mode_of_file("all", path, again)] == ["all", "new"]
    assert [mode_of_file(mode, path, set()) for mode in ("none", "new")] == ["none", "new"]


def test_what_is_left_over(pytester: pytest.Pytester, upstream: FakeServer) -> None:
    """Ignored, listed at the end, or a failure; a test that failed has its own reasons."""
    pytester.makepyfile(test_them=TESTS.replace("assert ask() ==", 'ask("And?"); assert ask() =='))
    run_tests(pytester, "-k", "sky").assert_outcomes(passed=1, deselected=4)
    pytester.makepyfile(test_them=TESTS)
    run_tests(pytester, "-k", "sky").assert_outcomes(passed=1, deselected=4)
    listed = run_tests(pytester, "-k", "sky", "--llm-unused=report")
    listed.assert_outcomes(passed=1, deselected=4)
    listed.stdout.fnmatch_lines(
        ["*recorded answers that no test asked for*", "*test_sky.jsonl: 1 unused: POST /chat/comp*"]
    )
    failed = run_tests(pytester, "-k", "sky", "--llm-unused=fail")
    failed.assert_outcomes(passed=1, errors=1, deselected=4)
    pytester.makepyfile(test_them=TESTS.replace("assert ask() ==", "assert 0, ask() =="))
    run_tests(pytester, "-k", "sky", "--llm-unused=fail").assert_outcomes(failed=1, deselected=4)


@pytest.mark.commands
def test_in_parallel_processes(pytester: pytest.Pytester, upstream: FakeServer) -> None:
    """With pytest-xdist each test has its file, which is replayed by any process."""
    pytest.importorskip("xdist")
    separate = TESTS + (
        '\n@pytest.mark.parametrize("number", range(20))\n@pytest.mark.llm_cassette\n'
        "def test_numbers(number):\n    assert ask(str(number)) == f'answer to {number}'\n"
    )
    pytester.makepyfile(test_them=separate)
    command = ("-p", "no:cacheprovider", "-n", "2")
    pytester.runpytest_subprocess(*command).assert_outcomes(passed=25)
    assert len(upstream.requests) == 24
    upstream.close()
    pytester.runpytest_subprocess(*command, "--llm-record=none").assert_outcomes(passed=25)
    assert len(files(pytester)) == 24


def test_a_misspelt_argument_of_the_mark(pytester: pytest.Pytester) -> None:
    """Is an error that shows the right ones."""
    pytester.makepyfile("import pytest\n@pytest.mark.llm_cassette(sped=1)\ndef test(): pass\n")
    result = run_tests(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no such argument: sped*", "*speed=0*"])


def test_names_of_files() -> None:
    """Readable where a file system allows it, never the same for two tests, never too long, never outside."""
    module = Path("/repo/tests/test_sky.py")
    assert cassette_path(module, "tests/test_sky.py::TestSky::test_blue[day]") == Path(
        "/repo/tests/cassettes/test_sky/TestSky.test_blue-day.jsonl"
    )
    assert cassette_path(module, "x::test_a", "mine.jsonl") == Path("/repo/tests/mine.jsonl")
    assert cassette_path(module, "x::test_a", "/tmp/mine/") == Path("/tmp/mine/test_a.jsonl")
    odd = [
        "test[../../etc]",
        "test[..-..-etc]",
        "test[a b]",
        "test[a-b]",
        "test[a:b]",
        "test[é]",
        "test[" + "x" * 300 + "]",
    ]
    names = [file_name_of(one) for one in odd]
    assert len(set(names)) == len(names)
    assert all(len(name) < 130 and "/" not in name and name.isascii() for name in names)
