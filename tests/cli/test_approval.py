"""Tools in a file, and the user's approval of each call: on a terminal, with stdin in use, and without a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import COMMAND, Answer, call, environment, inside, one_line, spied
from .seat import PATIENCE, pexpect, seat
from .test_repl import calls

pytestmark = pytest.mark.commands

TOOLS = '''
from __future__ import annotations

LIMIT: int = 3


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def forget(a: int) -> str:
    """Forget a number."""
    return "forgotten"


def _helper() -> None: ...
'''


@pytest.fixture
def tools(tmp_path: Path) -> str:
    (tmp_path / "tools.py").write_text(TOOLS, encoding="utf-8")
    return str(tmp_path / "tools.py")


def test_functions_of_a_file(tools: str) -> None:
    """`--functions FILE` offers each public function of the file, and runs the one that the model calls."""
    with spied(calls("add", '{"a": 2, "b": 40}')) as (server, spy):
        done = inside("chat", "add", "--functions", tools, "-m", "demo-chat", "--base-url", server.base_url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "It told me 42\n"
    offered = [tool["function"]["name"] for tool in spy.bodies("/chat/completions")[0]["tools"]]
    assert offered == ["add", "forget"]


def test_functions_as_code(tmp_path: Path) -> None:
    """`--functions` takes the code itself, too; a template keeps it as it is."""
    with spied(calls("add", '{"a": 2, "b": 40}')) as (server, spy):
        where = ("-m", "demo-chat", "--base-url", server.base_url)
        assert inside("chat", "add", "--functions", TOOLS, *where).stdout == "It told me 42\n"
        inside("chat", "--functions", "def f(a: int) -> int: return a", "--save", "coded")
        inside("chat", "hi", "-t", "coded", *where)
        offered = [tool["function"]["name"] for tool in spy.bodies("/chat/completions")[-1]["tools"]]
    assert offered == ["f"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot read the functions"),
        ("def f(:", "tools.py: line 1: invalid syntax"),
        ("raise KeyError('x')", "KeyError('x')"),
        ("import os.path\nfrom json import dumps\n", "defines no function"),
        ("def f(x: 'unknown'): ...", "the function f in"),
    ],
)
def test_wrong_functions(text: str | None, words: str, tmp_path: Path) -> None:
    """One line names the file and what is wrong with it."""
    file = tmp_path / "tools.py"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    done = inside("chat", "x", "--functions", str(file), "-m", "demo-chat", "--base-url", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert words in done.stderr


def test_approval_on_a_terminal(tools: str) -> None:
    """Each call waits for an answer: no is passed on to the model, yes runs it, always stops asking for this tool."""
    with seat("--functions", tools, "--approve", answer=calls("add", '{"a": 2, "b": 40}')) as me:
        me.type("one\r")
        me.see(r"Call add\(\{\"a\": 2, \"b\": 40\}\)\? \[y\]es, \[n\]o, \[a\]lways")
        me.type("maybe\r")
        me.until(lambda: me.glass.text.count("Call add") == 2, "the question again")
        me.type("n\r")
        me.prompted(2)
        assert "the user did not approve this call" in me.glass.text
        me.type("two\r")
        me.until(lambda: me.glass.text.count("Call add") == 3, "the question")
        me.type("y\r")
        me.prompted(3)
        assert "It told me 42" in me.glass.text
        me.type("three\r")
        me.until(lambda: me.glass.text.count("Call add") == 4, "the question")
        me.type("a\r")
        me.prompted(4)
        assert "Call add" not in me.say("four")
        assert me.leave() == 0


def test_ctrl_c_instead_of_an_approval(tools: str) -> None:
    """Ctrl-C ends the turn but not the conversation, and the tool does not run."""
    with seat("--functions", tools, "--approve", answer=calls("add", '{"a": 2, "b": 40}')) as me:
        me.type("one\r")
        me.see("Call add")
        me.type("\x03")
        me.see("Stopped")
        me.prompted(2)
        assert "add: 42" not in me.glass.text
        assert any(line.startswith("Stopped") for line in me.glass.lines), "on a line of its own"
        assert me.leave() == 0


def test_the_end_of_the_input_denies_a_call(tools: str) -> None:
    """Ctrl-D denies the call, and the output continues on the next line."""
    with seat("--functions", tools, "--approve", answer=calls("add", '{"a": 2, "b": 40}')) as me:
        me.type("one\r")
        me.see("Call add")
        me.type("\x04")
        me.prompted(2)
        assert any(line.startswith("add: ") for line in me.glass.lines)
        assert "not approve" in me.glass.text
        assert me.leave() == 0


def test_approval_while_stdin_is_the_question(tools: str) -> None:
    """The terminal is asked although the question came through a pipe."""
    with spied(calls("add", '{"a": 2, "b": 40}')) as (server, _):
        options = ["--approve", "-m", "demo-chat", "--functions", tools, "--base-url", server.base_url]
        command = " ".join(["echo 'what is it?' |", *COMMAND, "chat", *options])
        child = pexpect.spawn("/bin/sh", ["-c", command], env=environment(), encoding="utf-8", timeout=PATIENCE)
        child.expect("lways this tool: ")
        child.send("y\r")
        child.expect("It told me 42")
        child.expect(pexpect.EOF)
        child.close()
    assert child.exitstatus == 0


def test_no_terminal_to_ask_on(tools: str) -> None:
    """Every call is denied, with a note on stderr and a reason for the model."""

    def answer(path: str, body: object) -> Answer:
        return calls("add", '{"a": 2, "b": 40}')(path, body)

    with spied(answer) as (server, spy):
        where = ("-m", "demo-chat", "--base-url", server.base_url)
        done = call("chat", "add", "--functions", tools, "--approve", *where)
    assert done.returncode == 0, done.stderr
    assert "add was not called: --approve asks on a terminal" in done.stderr
    assert "not permitted" in spy.bodies("/chat/completions")[1]["messages"][-1]["content"]
