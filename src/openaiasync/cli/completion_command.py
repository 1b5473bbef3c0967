"""`openaiasync completion SHELL`: a script with which bash, zsh or fish complete commands, options and their values.

The scripts are made from the declared commands and need no start of Python, except for the names of models, which come
from the server's list by way of a file that is kept for ten minutes. (cyclopts makes such scripts, too, but they
complete neither files for values that are plain texts nor names of models.)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from cyclopts import App

from ..errors import OpenAIError
from ..storage.atomic import write_file
from .arguments import ServerOptions
from .console import CommandError, Exit, write
from .model_aliases import aliases
from .templates import template_names

__all__ = ["completion_script", "list_model_names", "list_template_names"]

_FRESH = 600.0  # seconds that a list of models is used
_PATIENCE = 2.0  # seconds that the server gets: a shell waits for it
_MODELS = frozenset({"--model", "-m", "--embedding-model"})
_TEMPLATES = frozenset({"--template", "-t"})
_PLAIN = (int, float)  # values that nothing can be proposed for


class _ShellOption(NamedTuple):
    """An option, or an argument (without names), as shells see it."""

    names: tuple[str, ...]
    help: str
    kind: Literal["flag", "file", "model", "template", "none", "choice"]
    choices: tuple[str, ...] = ()


class _ShellCommand(NamedTuple):
    """A command: its words, such as ``("limits", "set")``, and its options."""

    words: tuple[str, ...]
    help: str
    options: tuple[_ShellOption, ...]
    argument: _ShellOption | None
    group: str = ""
    """What the command of the first word does, if it has others below it."""

    @property
    def name(self) -> str:
        return " ".join(self.words)

    @property
    def flags(self) -> list[str]:
        """The names of all options."""
        return [*(name for option in self.options for name in option.names), "--help"]


def completion_script(app: App, shell: str) -> str:
    """Return the script for ``bash``, ``zsh`` or ``fish``."""
    commands = list(_commands(app))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands)


def print_script(app: App, shell: str) -> int:
    """Print the script; return the exit code."""
    write(completion_script(app, shell))
    return Exit.OK


# -------------------------------------------------------------------------------------------------- names of models


def list_model_names(server: ServerOptions) -> int:
    """Print the aliases and the names of the server's models, from a recent list if there is one.

    A server that does not answer adds nothing.
    """
    with contextlib.suppress(CommandError, OSError):
        _print_names(aliases())
    try:
        client = server.client(http_timeout=_PATIENCE, http_connect_timeout=_PATIENCE, max_retries=0)
        file = _cache_file(str(client.base_url))
        names = _cached(file)
        if names is None:
            names = asyncio.run(_names(client))
            file.parent.mkdir(parents=True, exist_ok=True)
            write_file(file, json.dumps(names).encode())
    except (OpenAIError, OSError, TimeoutError):
        return Exit.OK  # a message would end up in the middle of the command line
    _print_names(names)
    return Exit.OK


def list_template_names() -> int:
    """Print the names of the saved templates."""
    with contextlib.suppress(OSError):
        _print_names(template_names())
    return Exit.OK


def _print_names(names: Iterable[str]) -> None:
    write("".join(f"{name}\n" for name in names if name.isprintable()))


async def _names(client: Any) -> list[str]:
    async with client, asyncio.timeout(_PATIENCE):
        return [str(model.id) async for model in client.models()]


def _cache_file(base: str) -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(folder, "openaiasync", f"models-{hashlib.sha256(base.encode()).hexdigest()[:16]}.json")


def _cached(file: Path) -> list[str] | None:
    try:
        if not 0 <= time.time() - file.stat().st_mtime < _FRESH:
            return None
        names: Any = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return [str(name) for name in names] if isinstance(names, list) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


# -------------------------------------------------------------------------------------------------- the commands


def _commands(app: App, words: tuple[str, ...] = ()) -> Iterator[_ShellCommand]:
    for name in app:
        if name.startswith("-"):
            continue
        sub = app[name]
        inner = list(_commands(sub, (*words, name)))
        yield from (command._replace(group=_first_sentence(sub.help)) for command in inner)
        if sub.show and (not inner or sub.default_command is not None):
            yield _command(sub, (*words, name))


def _command(app: App, words: tuple[str, ...]) -> _ShellCommand:
    options: list[_ShellOption] = []
    argument: _ShellOption | None = None
    for one in app.assemble_argument_collection(parse_docstring=True):
        if not one.show or not one.names:
            continue
        made = _option(one)
        if made.names:
            options.append(made)
        else:
            argument = argument or made
    return _ShellCommand(words, _first_sentence(app.help), tuple(options), argument)


def _option(argument: Any) -> _ShellOption:
    names = tuple(name for name in argument.names if name.startswith("-"))
    text = _first_sentence(argument.parameter.help)
    choices = tuple(
        str(choice) for kind in _kinds(argument.hint) if get_origin(kind) is Literal for choice in get_args(kind)
    )
    if argument.hint is bool or argument.token_count()[0] == 0:
        return _ShellOption(names, text, "flag")
    if choices:
        return _ShellOption(names, text, "choice", choices)
    if _MODELS.intersection(names):
        return _ShellOption(names, text, "model")
    if _TEMPLATES.intersection(names):
        return _ShellOption(names, text, "template")
    plain = all(kind in _PLAIN or kind is type(None) for kind in _kinds(argument.hint))
    return _ShellOption(names, text, "none" if plain else "file")


def _kinds(hint: Any) -> list[Any]:
    """Return the alternatives of a type."""
    if get_origin(hint) is Literal or not get_args(hint):
        return [hint]
    return [kind for part in get_args(hint) for kind in _kinds(part)]


def _first_sentence(text: str | None) -> str:
    line = " ".join((text or "").split("\n\n")[0].split())
    return line.split(". ")[0].rstrip(".")


# -------------------------------------------------------------------------------------------------- scripts

_BASH = """\
# Completion of openaiasync in bash. To load it: source <(openaiasync completion bash)
_openaiasync() {{
    local program=$1 cur prev line word command= base= i
    line=${{COMP_LINE:0:COMP_POINT}}
    cur=${{line##*[[:space:]]}}  # whole, although bash ends words at ":" and "="
    local -a words
    read -ra words <<< "${{line% *}}"
    prev=${{words[${{#words[@]}}-1]}}
    if [[ $cur == --*=* ]]; then
        prev=${{cur%%=*}} cur=${{cur#*=}}
    fi
    for ((i = 1; i < ${{#words[@]}}; i++)); do
        word=${{words[i]}}
        [[ $word == --base-url ]] && base=${{words[i+1]}}
        [[ $word == --base-url=* ]] && base=${{word#*=}}
        case "${{command:+$command }}$word" in
            {words}) command="${{command:+$command }}$word" ;;
        esac
    done
    COMPREPLY=()
    local -a found=()
    case "$command|$prev" in
{values}
    *)
        if [[ $cur == -* ]]; then
            case "$command" in
{options}
            esac
        elif [[ -z $command || $command == limits ]]; then
            case "$command" in
            "") found=({first}) ;;
{second}
            esac
        else
            compopt -o default 2>/dev/null
            return
        fi ;;
    esac
    local candidate
    for candidate in "${{found[@]}}"; do
        # Quoted: a server may call a model anything, and the shell would run $(...) when the line is entered.
        [[ $candidate == "$cur"* ]] && COMPREPLY+=("$(printf %q "$candidate")")
    done
    if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${{COMPREPLY[@]#"${{cur%"${{cur##*:}}"}}"}}")  # bash replaces only what follows the last colon
    fi
}}
complete -F _openaiasync openaiasync
"""


def _first_words(commands: list[_ShellCommand]) -> dict[str, str]:
    """Return the words that may come first, with their help."""
    found: dict[str, str] = {}
    for command in commands:
        found.setdefault(command.words[0], command.group or command.help)
    return found


def _groups(commands: list[_ShellCommand]) -> dict[str, list[_ShellCommand]]:
    """Return the commands of two words by the first one."""
    found: dict[str, list[_ShellCommand]] = {}
    for command in commands:
        if len(command.words) > 1:
            found.setdefault(command.words[0], []).append(command)
    return found


def _paths(commands: list[_ShellCommand]) -> list[str]:
    return sorted({" ".join(command.words[: at + 1]) for command in commands for at in range(len(command.words))})


_LIST_MODELS = '"$program" completion models ${base:+--base-url "$base"} 2>/dev/null'
_LIST_TEMPLATES = '"$program" completion templates 2>/dev/null'


def _bash(commands: list[_ShellCommand]) -> str:
    values: list[str] = []
    for command in commands:
        for option in command.options:
            patterns = "|".join(f'"{command.name}|{name}"' for name in option.names)
            if option.kind == "choice":
                values.append(f"    {patterns}) found=({' '.join(map(shlex.quote, option.choices))}) ;;")
            elif option.kind == "model":
                values.append(
                    f'    {patterns}) while IFS= read -r word; do found+=("$word"); done < <({_LIST_MODELS}) ;;'
                )
            elif option.kind == "template":  # or a file, if no name fits
                values.append(
                    f"    {patterns}) compopt -o default 2>/dev/null\n"
                    f'        while IFS= read -r word; do found+=("$word"); done < <({_LIST_TEMPLATES}) ;;'
                )
            elif option.kind == "none":
                values.append(f"    {patterns}) return ;;")
            elif option.kind == "file":
                values.append(f"    {patterns}) compopt -o default 2>/dev/null; return ;;")
        if command.argument is not None and command.argument.kind == "choice":
            choices = " ".join(map(shlex.quote, command.argument.choices))
            values.append(f'    "{command.name}|{command.words[-1]}") found=({choices}) ;;')
    options = [f'            "{command.name}") found=({" ".join(command.flags)}) ;;' for command in commands]
    second = [
        f'            "{first}") found=({" ".join(one.words[1] for one in inner)}) ;;'
        for first, inner in _groups(commands).items()
    ]
    script = _BASH.format(
        words="|".join(f'"{path}"' for path in _paths(commands)),
        values="\n".join(values),
        options="\n".join([*options, '            "") found=(--help --version) ;;']),
        first=" ".join(_first_words(commands)),
        second="\n".join(second),
    )
    groups = " || ".join(["-z $command", *(f"$command == {first}" for first in _groups(commands))])
    return script.replace("-z $command || $command == limits", groups)


_ZSH = """\
#compdef openaiasync
# Completion of openaiasync in zsh. To load it: source <(openaiasync completion zsh)
_openaiasync() {{
    local program=$words[1] cur=$words[CURRENT] prev=$words[CURRENT-1] command= base= word
    local -i i
    local -a found
    for ((i = 2; i < CURRENT; i++)); do
        word=$words[i]
        [[ $word == --base-url ]] && base=$words[i+1]
        [[ $word == --base-url=* ]] && base=${{word#*=}}
        case "${{command:+$command }}$word" in
            {words}) command="${{command:+$command }}$word" ;;
        esac
    done
    if [[ $cur == --*=* ]]; then
        prev=${{cur%%=*}}
        compset -P '*='
    fi
    case "$command|$prev" in
{values}
    esac
    if [[ $cur == -* ]]; then
        case "$command" in
{options}
        esac
        _describe -o option found
        return
    fi
    case "$command" in
{subcommands}
    *) _files; return ;;
    esac
    _describe command found
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _openaiasync "$@"
else
    compdef _openaiasync openaiasync
fi
"""


def _described(pairs: list[tuple[str, str]]) -> str:
    """Return names with their help, as `_describe` of zsh reads them."""
    return " ".join(shlex.quote(f"{name.replace(':', chr(92) + ':')}:{text}") for name, text in pairs)


def _zsh(commands: list[_ShellCommand]) -> str:
    values: list[str] = []
    options: list[str] = []
    for command in commands:
        flags = [(name, option.help) for option in command.options for name in option.names]
        options.append(f'        "{command.name}") found=({_described([*flags, ("--help", "Show the help")])}) ;;')
        for option in command.options:
            patterns = "|".join(f'"{command.name}|{name}"' for name in option.names)
            if option.kind == "choice":
                values.append(f"    {patterns}) compadd -- {' '.join(map(shlex.quote, option.choices))}; return ;;")
            elif option.kind == "model":
                values.append(f'    {patterns}) compadd -- ${{(f)"$({_LIST_MODELS})"}}; return ;;')
            elif option.kind == "template":
                values.append(f'    {patterns}) compadd -- ${{(f)"$({_LIST_TEMPLATES})"}}; _files; return ;;')
            elif option.kind == "none":
                values.append(f"    {patterns}) return ;;")
            elif option.kind == "file":
                values.append(f"    {patterns}) _files; return ;;")
        if command.argument is not None and command.argument.kind == "choice":
            choices = " ".join(map(shlex.quote, command.argument.choices))
            values.append(f'    "{command.name}|{command.words[-1]}") compadd -- {choices}; return ;;')
    options.append(
        f'        "") found=({_described([("--help", "Show the help"), ("--version", "Show the version")])}) ;;'
    )
    subcommands = [f'    "") found=({_described(list(_first_words(commands).items()))}) ;;']
    for first, inner in _groups(commands).items():
        subcommands.append(f'    "{first}") found=({_described([(one.words[1], one.help) for one in inner])}) ;;')
    return _ZSH.format(
        words="|".join(f'"{path}"' for path in _paths(commands)),
        values="\n".join(values),
        options="\n".join(options),
        subcommands="\n".join(subcommands),
    )


def _fish(commands: list[_ShellCommand]) -> str:
    lines = [
        "# Completion of openaiasync in fish. To load it: openaiasync completion fish | source",
        "function __openaiasync_models",
        "    set -l words (commandline -opc)",
        "    set -l base (string match -r -g -- '--base-url[= ](\\S+)' (string join -- ' ' $words))",
        '    if test -n "$base"',
        "        $words[1] completion models --base-url $base 2>/dev/null",
        "    else",
        "        $words[1] completion models 2>/dev/null",
        "    end",
        "end",
        "function __openaiasync_templates",
        "    set -l words (commandline -opc)",
        "    $words[1] completion templates 2>/dev/null",
        "end",
        "complete -c openaiasync -n __fish_use_subcommand -f",
        "complete -c openaiasync -n __fish_use_subcommand -l help -d 'Show the help'",
        "complete -c openaiasync -n __fish_use_subcommand -l version -d 'Show the version'",
    ]
    for name, text in _first_words(commands).items():
        lines.append(f"complete -c openaiasync -n __fish_use_subcommand -a {name} -d {_fish_quoted(text)}")
    groups = _groups(commands)
    for first, inner in groups.items():
        names = " ".join(one.words[1] for one in inner)
        for one in inner:
            condition = f"'__fish_seen_subcommand_from {first}; and not __fish_seen_subcommand_from {names}'"
            lines.append(f"complete -c openaiasync -n {condition} -f -a {one.words[1]} -d {_fish_quoted(one.help)}")
    for command in commands:
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in command.words)
        options = (*command.options, _ShellOption(("--help",), "Show the help", "flag"))
        lines += [f"complete -c openaiasync -n '{seen}' {_fish_option(option)}" for option in options]
        if command.argument is not None and command.argument.kind == "choice":
            choices = _fish_quoted(" ".join(command.argument.choices))
            lines.append(f"complete -c openaiasync -n '{seen}' -f -a {choices}")
    return "\n".join(lines) + "\n"


def _fish_option(option: _ShellOption) -> str:
    names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    value = {
        "flag": "", "file": "-r", "none": "-x", "model": "-x -a '(__openaiasync_models)'",
        "template": "-r -a '(__openaiasync_templates)'",
        "choice": f"-x -a {_fish_quoted(' '.join(option.choices))}",
    }[option.kind]  # fmt: skip
    return " ".join(part for part in (*names, value, f"-d {_fish_quoted(option.help)}") if part)


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
