"""The commands for settings: `keys`, `aliases` and `templates`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

from cyclopts import App, Parameter

from .console import CommandError, Exit, json_bytes, note, out, printable, write, write_bytes

__all__ = ["add_settings_commands"]

_LONGEST_KEY = 20_000  # bytes that are read; more are not a key
_Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print them as JSON.")]


def _print_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows: as a table on a terminal, otherwise with tabs between their columns."""
    if not sys.stdout.isatty():
        write("".join("\t".join(row).rstrip() + "\n" for row in rows))
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    out().print(table)


# ---------------------------------------------------------------- keys


def keys_set(name: str | None = None, /) -> int:
    """Keep a key, typed on the terminal or read from stdin. No command shows it.

    Parameters
    ----------
    name:
        The address of a server, "openai", or any name for --key. Default: the server that OPENAI_BASE_URL names.
    """
    from .arguments import base_url_of
    from .key_store import set_key, stored_name

    stored = stored_name(base_url_of(None) if name is None else name)
    if sys.stdin is not None and sys.stdin.isatty():
        from getpass import getpass

        try:
            key = getpass(f"Key for {stored}: ")
        except EOFError:
            raise CommandError("no key was typed") from None
    else:
        key = sys.stdin.buffer.read(_LONGEST_KEY).decode("utf-8", "replace") if sys.stdin is not None else ""
    where = set_key(stored, key.strip())
    note(f"The key for {stored} is kept in {where}.")
    return Exit.OK


def keys_list(*, json: _Json = False) -> int:
    """List the names of the keys and where they are kept. Keys are not shown."""
    from .key_store import key_names

    names = key_names()
    if json:
        write_bytes(json_bytes([{"name": name, "in": where} for name, where in names.items()]))
    elif names:
        _print_table(("name", "kept in"), list(names.items()))
    else:
        note("There are no keys; keep one with: openaiasync keys set")
    return Exit.OK


def keys_remove(name: str, /) -> int:
    """Remove a key.

    Parameters
    ----------
    name:
        Its name, as the list shows it.
    """
    from .key_store import remove_key, stored_name

    remove_key(stored_name(name))
    return Exit.OK


def keys_path() -> int:
    """Print the path of the file with the names of the keys, and with the keys that are not in a keyring."""
    from .key_store import KEYS_FILE

    write(f"{KEYS_FILE.path}\n")
    return Exit.OK


# ---------------------------------------------------------------- aliases


def aliases_set(name: str, model: str, /, *, base_url: str | None = None, key: str | None = None) -> int:
    """Give a model a short name, for --model of all commands.

    Parameters
    ----------
    name:
        The short name.
    model:
        The model.
    base_url:
        The server that has the model; --base-url of a command wins.
    key:
        The name of the key for it (openaiasync keys).
    """
    from .key_store import stored_name
    from .model_aliases import ALIASES_FILE, Alias

    if not name.strip() or name.startswith("-") or not name.isprintable():
        raise CommandError(f"{name!r} cannot be the name of a model")
    if base_url is not None:
        base_url = stored_name(base_url)
        if "://" not in base_url:
            raise CommandError("--base-url is a URL, such as http://localhost:8000/v1")
    alias = Alias(model, base_url, key)
    entry = {field: value for field, value in alias._asdict().items() if value is not None}
    ALIASES_FILE.change(lambda entries: entries.update({name: entry}))
    return Exit.OK


def aliases_list(*, json: _Json = False) -> int:
    """List the short names, their models and servers."""
    from .model_aliases import aliases

    found = aliases()
    if json:
        write_bytes(json_bytes({name: alias._asdict() for name, alias in found.items()}))
    elif found:
        rows = [(name, alias.model, alias.base_url or "", alias.key or "") for name, alias in found.items()]
        _print_table(("name", "model", "server", "key"), rows)
    else:
        note("There are no aliases; set one with: openaiasync aliases set NAME MODEL")
    return Exit.OK


def aliases_remove(name: str, /) -> int:
    """Remove a short name.

    Parameters
    ----------
    name:
        The short name.
    """
    from .model_aliases import ALIASES_FILE, aliases

    if name not in aliases():
        raise CommandError(f"there is no alias {name!r}; openaiasync aliases list shows them")
    ALIASES_FILE.change(lambda entries: entries.pop(name, None) and None)
    return Exit.OK


def aliases_path() -> int:
    """Print the path of the file with the short names."""
    from .model_aliases import ALIASES_FILE

    write(f"{ALIASES_FILE.path}\n")
    return Exit.OK


# ---------------------------------------------------------------- templates


def templates_list() -> int:
    """List the names of the templates (openaiasync chat --save NAME)."""
    from .templates import template_names

    names = template_names()
    write("".join(f"{name}\n" for name in names))
    if not names:
        note("There are no templates; save one with: openaiasync chat --save NAME")
    return Exit.OK


def templates_show(name: str, /) -> int:
    """Print a template.

    Parameters
    ----------
    name:
        Its name.
    """
    from .templates import read_template, template_path

    read_template(name)  # raises for an unknown name
    write(template_path(name).read_text(encoding="utf-8-sig"))
    return Exit.OK


def templates_remove(name: str, /) -> int:
    """Remove a template.

    Parameters
    ----------
    name:
        Its name.
    """
    from .templates import template_names, template_path

    path = template_path(name)
    if name not in template_names():
        raise CommandError(f"there is no template {name!r}; openaiasync templates list shows them")
    path.unlink(missing_ok=True)
    return Exit.OK


def templates_path() -> int:
    """Print the path of the folder with the templates."""
    from .folders import config_folder

    write(f"{config_folder('templates')}\n")
    return Exit.OK


_GROUPS: dict[str, tuple[str, dict[str, Callable[..., int]]]] = {
    "keys": (
        "Keep keys of servers, for commands that have neither --api-key nor OPENAI_API_KEY.",
        {"set": keys_set, "list": keys_list, "remove": keys_remove, "path": keys_path},
    ),
    "aliases": (
        "Give models short names.",
        {"set": aliases_set, "list": aliases_list, "remove": aliases_remove, "path": aliases_path},
    ),
    "templates": (
        "List, show and remove templates of prompts.",
        {"list": templates_list, "show": templates_show, "remove": templates_remove, "path": templates_path},
    ),
}


def add_settings_commands(app: App) -> None:
    """Add the commands for keys, aliases and templates; without a subcommand each lists."""
    for name, (described, commands) in _GROUPS.items():
        group = App(name=name, help=described, help_format="plaintext")
        group.default(commands["list"])
        for word, command in commands.items():
            group.command(command, name=word)
        app.command(group)
