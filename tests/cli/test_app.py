"""The command line as a whole: help, usage errors, exit codes, colour, pipes, what it imports."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from openaiasync import __version__
from openaiasync.cli.command_line import run
from openaiasync.demo import demo_app
from openaiasync.installation import install_command
from openaiasync.server import ServerThread, serve, start_in_thread

from .command import COMMAND, call, environment, inside, one_line, refused, spied

COMMANDS = (
    *("aliases", "chat", "check", "demo", "embed", "export", "image", "keys", "limits", "logs", "models"),
    *("responses", "retry", "run", "serve", "speak", "status", "templates", "transcribe"),
)
KEY = "sk-do-not-show-this"


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


def test_help_names_every_command_and_exit_code() -> None:
    """`--help`, or no command, lists every command."""
    helped, bare = call("--help"), call()
    assert helped.returncode == bare.returncode == 0
    assert helped.stdout == bare.stdout
    for word in (*COMMANDS, "--version", "130", "stderr"):
        assert word in helped.stdout
    assert helped.stderr == ""
    assert "\x1b" not in helped.stdout


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("chat", {"--system", "-s", "--json", "--model", "-m", "--base-url", "--api-key", "--timeout", "--debug"}),
        ("demo", {"--calls", "--in-flight", "--seed"}),
        ("embed", {"--dimensions", "--batch", "--in-flight", "--model", "-m", "--base-url", "--api-key", "--timeout"}),
        ("models", {"--json", "--base-url", "--api-key", "--timeout", "--debug"}),
        (
            "run",
            {"--out", "-o", "--model", "-m", "--base-url", "--rpm", "--tpm", "--max-in-flight", "--max-cost", "--new"},
        ),
        ("retry", {"--base-url", "--rpm", "--tpm", "--max-in-flight"}),
        ("serve", {"--host", "--port", "--api-key", "--token-delay"}),
    ],
)
def test_help_of_a_command(command: str, options: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The help of a command describes each of its options."""
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert options <= flags(text)
    if "--api-key" in options:
        assert "other users of this machine can read" in " ".join(text.replace("│", " ").split())


def test_version() -> None:
    """`--version` prints the name and the version of the program."""
    assert call("--version").stdout == f"openaiasync {__version__}\n"


def test_help_imports_neither_server_nor_transport() -> None:
    """The help imports neither the server nor the client."""
    program = (
        "import sys; from openaiasync.cli.command_line import run; run(['--help']); run(['chat', '--help'])\n"
        "print([name for name in sys.modules if name.startswith('openaiasync.') and name.split('.')[1] in "
        "('server', 'transport', 'calls', 'types', 'client')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_a_command_imports_the_options_of_no_other() -> None:
    """`chat` builds neither the options of `bench`, jobs, pictures and settings, nor a progress line."""
    program = (
        "import sys; from openaiasync.cli.command_line import application, run\n"
        "run(['chat', '--help'])\n"
        "print([name for name in sys.modules if name.endswith(('_commands', '.bench_command', 'rich.progress'))])\n"
        "print(sorted({'bench', 'run', 'image', 'keys', 'logs'} - set(application())))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "[]"]


@pytest.mark.parametrize("name", ["cyclopts", "rich"])
def test_without_the_extra(name: str) -> None:
    """A plain installation says which extra the command line needs, in one line."""
    program = f"import sys; sys.modules[{name!r}] = None; from openaiasync.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert name in done.stderr
    assert f"install the extra with {install_command('cli')}, or run uvx --from" in done.stderr
    assert done.stdout == ""


def test_a_broken_installation_is_not_taken_for_a_missing_extra() -> None:
    """A module that is missing for another reason is not reported as a missing extra."""
    program = "import sys; sys.modules['openaiasync.errors'] = None; from openaiasync.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "openaiasync.errors" in done.stderr
    assert "[cli]" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["chatt"], "chatt"),
        (["models", "--bas-url", "x"], "--bas-url"),
        (["chat", "two", "words"], "put several words in quotes, such as openaiasync chat 'two words'"),
        (["chat", "-m", "x", "what", "is", "this", "-u"], "openaiasync chat 'what is this'"),
        (["image", "a", "fox"], "openaiasync image 'a fox'"),
        (["chat", "hi", "--temperature", "0.5"], "-o temperature 0.5"),
        (["chat", "hi", "--max-tokens=5"], "-o max_tokens 5"),
        (["speak", "hi", "--stream-format", "sse"], "--option stream_format sse"),
        (["models", "--timeout", "soon"], "--timeout"),
        (["models", "--timeout", "0"], "--timeout"),
        (["models", "--timeout", "inf"], "finite"),
        (["demo", "--calls", "0"], "--calls"),
        (["embed", "--batch", "-1"], "--batch"),
        (["serve", "--port", "65536"], "--port"),
        (["models", "--base-url", "ftp://somewhere"], "http or https"),
        (["models", "--base-url", ""], "URL"),
        (["models"], "OPENAI_API_KEY"),
        (["models", "--api-key", "two\nlines"], "--api-key"),
        (["models", "--base-url", "localhost:8000/v1"], "--base-url"),
        (["models", "extra"], "does not take extra"),
    ],
)
def test_wrong_usage(arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage ends with exit code 2 and one line that names the mistake, before anything is sent."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert one_line(captured.err)
    assert word in captured.err
    assert captured.out == ""


def test_usage_errors_point_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """An error about an option points to the help of its command."""
    run(["chat", "--nope"])
    assert "openaiasync chat --help" in capsys.readouterr().err


def test_no_server() -> None:
    """A refused connection ends with exit code 1 and one line that has the URL."""
    url = f"http://127.0.0.1:{closed_port()}/v1"
    done = call("models", "--base-url", url)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert url in done.stderr
    assert done.stdout == ""


def test_debug_shows_where_an_error_came_from() -> None:
    """`--debug` adds the traceback."""
    done = inside("models", "--debug", "--base-url", f"http://127.0.0.1:{closed_port()}/v1", "--api-key", KEY)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "APIConnectionError" in done.stderr
    assert KEY not in done.stderr


def test_a_wrong_key_is_not_repeated() -> None:
    """A refused key ends with exit code 1 and is never printed, not even in a traceback."""
    with start_in_thread(serve(demo_app(api_key="the right one"))) as server:
        done = inside("models", "--base-url", server.base_url, "--api-key", KEY, "--debug")
        assert done.returncode == 1
        assert "401" in done.stderr
        assert KEY not in done.stdout + done.stderr
        assert call("models", OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="the right one").returncode == 0


def test_a_server_that_quotes_the_key_is_not_repeated_either() -> None:
    """The key is removed from an error message in which the server quotes it."""
    with spied(lambda path, body: refused(f"bad key {KEY}", 401)) as (server, _):
        done = inside("models", "--base-url", server.base_url, "--api-key", KEY)
    assert done.returncode == 1
    assert KEY not in done.stderr
    assert "bad key" in done.stderr


def test_a_slow_server_is_left_after_the_timeout() -> None:
    """`--timeout` is the time until an answer starts."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        done = inside("chat", "hello", "-m", "any", "--base-url", url, "--timeout", "0.3")
    assert done.returncode == 1
    assert "0.3 s" in done.stderr
    assert one_line(done.stderr)


def test_no_colour_into_a_pipe_unless_forced() -> None:
    """Only FORCE_COLOR colours output in a pipe; the text is the same."""
    plain, forced = call("nothing"), call("nothing", FORCE_COLOR="1")
    assert "\x1b" not in plain.stderr
    assert "\x1b[" in forced.stderr
    assert re.sub(r"\x1b\[[0-9;]*m", "", forced.stderr) == plain.stderr


@pytest.mark.parametrize("arguments", [["models"], ["embed", "--batch", "1"]])
def test_a_reader_that_leaves_ends_the_command_quietly(server: ServerThread, arguments: list[str]) -> None:
    """`| head` is not an error."""
    child = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(OPENAI_BASE_URL=server.base_url),
    )
    assert child.stdout is not None
    child.stdout.close()
    with child:
        _, complaint = child.communicate(b"one line\n" * 500 if arguments[0] == "embed" else None, timeout=30)
    assert b"Traceback" not in complaint
    assert b"roken pipe" not in complaint
    assert child.returncode == 0


CLOSED = [
    ["models"],
    ["chat", "say one", "-m", "demo-chat"],
    ["speak", "one", "-m", "demo-tts"],
    ["doctor", "--no-calls"],
    ["--help"],
]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("arguments", CLOSED, ids=" ".join)
def test_a_stdout_that_is_closed_or_full(server: ServerThread, arguments: list[str], tmp_path: Path) -> None:
    """Output that cannot be written ends with exit code 1 and one line, without a traceback."""
    for target, words in ((">&-", "stdout is closed"), (">/dev/full", "No space left on device")):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {target}', "sh", *COMMAND, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            env=environment(OPENAI_BASE_URL=server.base_url),
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.splitlines()[-1].startswith("openaiasync: ")
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_stderr_that_is_full(server: ServerThread) -> None:
    """A note that cannot be written does not end the command: the answer is on stdout, and the exit code is 0."""
    command = ["/bin/sh", "-c", 'exec "$@" 2>/dev/full', "sh", *COMMAND, "chat", "say one"]
    env = environment(OPENAI_BASE_URL=server.base_url)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=30, check=False, env=env)
    assert (done.returncode, done.stdout) == (0, b"one\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_all_standard_files_closed(server: ServerThread) -> None:
    """Without stdin, stdout and stderr a command ends with its usual exit code, and no output reaches a socket."""
    program = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND]
    env = environment(OPENAI_BASE_URL=server.base_url)
    assert subprocess.run([*program, "models"], check=False, timeout=30, env=env).returncode == 1
    assert subprocess.run([*program, "nothing"], check=False, timeout=30, env=env).returncode == 2
