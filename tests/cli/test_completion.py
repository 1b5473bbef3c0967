"""Shell completion: in a real bash, also with the Tab key on a terminal; in zsh and fish where they are installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openaiasync.server import ServerThread

from .command import environment, inside, spied

BASH = shutil.which("bash")
pytestmark = [
    pytest.mark.commands,
    pytest.mark.skipif(BASH is None or sys.platform == "win32", reason="needs bash"),
]

# What bash sets before it calls a completion function: words end at blanks, ":" and "=".
ASK = """
source {script}
COMP_LINE={line}; COMP_POINT=${{#COMP_LINE}}
COMP_WORDS=({words}); COMP_CWORD={at}
_openaiasync openaiasync "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}" 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, and with the program."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "fish"):
        done = inside("completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        (folder / shell).write_text(done.stdout)
    program = folder / "openaiasync"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m openaiasync "$@"\n')
    program.chmod(0o755)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openaiasync"


def completed(folder: Path, line: str, **env: str) -> list[str]:
    """Return what bash offers at the end of this line."""
    words = re.findall(r"[:=]+|[^\s:=]+", line) + ([""] if line.endswith((" ", "=", ":")) else [])
    script = ASK.format(
        script=folder / "bash", line=shlex.quote(line), words=" ".join(map(shlex.quote, words)), at=len(words) - 1
    )
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [BASH or "bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(PATH=path, **env),
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_commands_and_options(folder: Path) -> None:
    """The first word completes to commands, a hyphen to options; values have rules of their kind."""
    assert completed(folder, "openaiasync ch") == ["chat", "check"]
    assert {"bench", "chat", "embed", "limits", "run", "serve"} <= set(completed(folder, "openaiasync "))
    assert completed(folder, "openaiasync --v") == ["--version"]
    assert completed(folder, "openaiasync limits ") == ["set"]
    assert completed(folder, "openaiasync limits set --rp") == ["--rpm"]
    assert completed(folder, "openaiasync bench --con") == ["--concurrency"]
    assert completed(folder, "openaiasync bench http://localhost:1/v1 --no-str") == ["--no-stream"]
    assert completed(folder, "openaiasync chat run --sess") == ["--session"], "a question is not a command"


def test_values(folder: Path) -> None:
    """Choices complete, also after "="; for numbers nothing is offered."""
    assert completed(folder, "openaiasync bench --loop ") == ["auto", "uvloop", "asyncio"]
    assert completed(folder, "openaiasync bench --loop=uv") == ["uvloop"]
    assert completed(folder, "openaiasync completion z") == ["zsh"]
    assert completed(folder, "openaiasync bench --duration ") == []


def test_every_option_of_every_command_is_known(folder: Path) -> None:
    """The scripts of all shells name each option that the help does, for its command."""
    texts = {shell: (folder / shell).read_text() for shell in ("bash", "zsh", "fish")}
    offered = dict(re.findall(r'^ +"([\w ]+)"\) found=\((--.*)\) ;;$', texts["bash"], re.MULTILINE))
    commands = re.findall(r'^ +""\) found=\((\w.*)\) ;;$', texts["bash"], re.MULTILINE)[0].split()
    assert {"bench", "chat", "embed", "limits", "run"} <= set(commands)
    assert set(commands) == {name.split()[0] for name in offered if name}
    total = 0
    for command, names in offered.items():
        shown = re.findall(r"^│ +\*? *((?:-[\w-]+ )+)", inside(*command.split(), "--help").stdout, re.MULTILINE)
        listed = {name for row in shown for name in row.split()}
        total += len(listed)
        assert listed <= set(names.split()), command
        for name in listed:
            assert f"'{name}:" in texts["zsh"] or f"{name}:" in texts["zsh"]
            assert (f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}") in texts["fish"]
    assert total > 150, "the options were found in the help"


def test_names_of_models(server: ServerThread, folder: Path, cache: Path) -> None:
    """They come from the server that the line or the environment names, and are kept in a file."""
    line = f"openaiasync chat --base-url {server.base_url} -m demo-c"
    assert completed(folder, line) == ["demo-chat", "demo-complete"]
    (kept,) = cache.iterdir()
    kept.write_text(json.dumps(["demo-cached", "demo-colon:7b", "other"]))
    assert completed(folder, line + "olon:") == ["7b"], "bash replaces only what follows the colon"
    assert completed(folder, "openaiasync chat --model=demo-ca", OPENAI_BASE_URL=server.base_url) == ["demo-cached"]
    os.utime(kept, (0, 0))
    listed = inside("completion", "models", "--base-url", server.base_url).stdout.split()
    assert "demo-chat" in listed, "an old list is fetched again"
    assert "demo-cached" not in listed


def test_hostile_names_are_quoted(folder: Path, cache: Path) -> None:
    """A name that a shell would run stays text; a name with control characters is left out."""
    names = ("$(pwned)", "a\x1b[2J", "ok")
    listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
    with spied(lambda path, body: (200, json.dumps(listed).encode())) as (server, _):
        found = completed(folder, f"openaiasync chat --base-url {server.base_url} -m ")
    assert found == [r"\$\(pwned\)", "ok"]


@pytest.mark.parametrize("base", ["http://127.0.0.1:9/v1", "nonsense", "ftp://x"])
def test_a_server_that_does_not_answer(base: str, cache: Path) -> None:
    """Nothing is printed into the line that the user types, and nothing is cached."""
    done = inside("completion", "models", "--base-url", base)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not cache.exists()


def test_the_tab_key(folder: Path) -> None:
    """In an interactive bash, Tab completes the command, and then a file for a value that may be one."""
    pexpect = pytest.importorskip("pexpect")
    (folder / "requests-of-today.jsonl").write_text("")
    env = environment(PS1="> ", PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", INPUTRC="/dev/null")
    child = pexpect.spawn(BASH, ["--norc", "--noprofile", "-i"], env=env, cwd=str(folder), timeout=20, encoding="utf-8")
    try:
        child.expect("> ")
        child.sendline(f"source {folder / 'bash'}; PS1='ready''> '")
        child.expect("ready> ")
        child.send("openaiasync ben\t")
        child.expect("ben.*ch ")
        child.send("--inp\t")
        child.expect("--inp.*ut")
        child.send(" requests-of\t")
        child.expect("requests-of.*-today.jsonl")
    finally:
        child.close(force=True)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_syntax_of_other_shells(shell: str, folder: Path) -> None:
    """The script is valid where the shell is installed."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([program, "-n", str(folder / shell)], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


FISH = shutil.which("fish")


@pytest.mark.skipif(FISH is None, reason="needs fish")
def test_a_real_fish(server: ServerThread, folder: Path, cache: Path, tmp_path: Path) -> None:
    """`complete -C` gives what Tab would offer: commands, options, choices, models; nothing goes to stderr."""
    lines = (
        "openaiasync ch", "openaiasync chat --mo", "openaiasync speak --format m", "openaiasync keys l",
        f"openaiasync chat -s x --base-url {server.base_url} -m demo-c",
    )  # fmt: skip
    script = "\n".join([f"source {folder / 'fish'}", *(f"complete -C '{line}'; echo" for line in lines)])
    env = environment(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", HOME=str(tmp_path))
    done = subprocess.run([FISH or "", "-c", script], capture_output=True, text=True, timeout=60, env=env, check=True)
    assert done.stderr == ""
    offered = [[line.split("\t")[0] for line in part.splitlines()] for part in done.stdout.split("\n\n")]
    assert offered[:5] == [["chat", "check"], ["--model"], ["mp3"], ["list"], ["demo-chat", "demo-complete"]]


ZSH = shutil.which("zsh")


@pytest.mark.skipif(ZSH is None, reason="needs zsh")
def test_a_real_zsh(server: ServerThread, folder: Path, cache: Path, tmp_path: Path) -> None:
    """Tab completes a command, an option, a subcommand and the name of a model in an interactive zsh."""
    pexpect = pytest.importorskip("pexpect")
    env = environment(PATH=f"{folder}{os.pathsep}{os.environ['PATH']}", OPENAI_BASE_URL=server.base_url)
    child = pexpect.spawn(ZSH, ["-f", "-i"], env=env, cwd=str(tmp_path), encoding="utf-8", dimensions=(30, 120))
    try:
        child.sendline(f"autoload -Uz compinit; compinit -D; source {folder / 'zsh'}; PS1='ready%# '")
        child.expect("ready[%#] ", timeout=30)
        # Completed lines are printed instead of run.
        child.sendline('openaiasync() { [[ $1 = completion ]] && command openaiasync "$@" || print -r -- "<$*>" }')
        for typed, completed in (
            ("cha", "<chat>"),
            ("chat --mod", "<chat --model>"),
            ("keys se", "<keys set>"),
            ("chat -m demo-com", "<chat -m demo-complete>"),
        ):
            child.expect("ready[%#] ", timeout=30)
            child.send(f"openaiasync {typed}\t\r")
            child.expect_exact(completed, timeout=30)
    finally:
        child.close(force=True)


def test_an_unknown_shell() -> None:
    """The error lists those that are known."""
    done = inside("completion", "tcsh")
    assert done.returncode == 2
    assert "zsh" in done.stderr


def test_templates_and_aliases(folder: Path, cache: Path, tmp_path: Path) -> None:
    """`--template` offers the saved ones, and `--model` the aliases, too, although the server does not answer."""
    config = tmp_path / "config" / "openaiasync"
    (config / "templates").mkdir(parents=True)
    (config / "templates" / "summary.toml").write_text('prompt = "Sum up: $input"\n')
    (config / "templates" / "translate.toml").write_text('prompt = "Translate: $input"\n')
    (config / "aliases.json").write_text(json.dumps({"fast": "small-model", "deep": {"model": "large-model"}}))
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    assert completed(folder, "openaiasync chat -t ", **env) == ["summary", "translate"]
    assert completed(folder, "openaiasync chat --template=tr", **env) == ["translate"]
    assert completed(folder, "openaiasync chat -m ", **env) == ["deep", "fast"]
    assert "completion templates" in (folder / "zsh").read_text()
    assert "-s t -l template -r -a '(__openaiasync_templates)'" in (folder / "fish").read_text() or (
        "-l template -s t -r -a '(__openaiasync_templates)'" in (folder / "fish").read_text()
    )
