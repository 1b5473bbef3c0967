"""Short names for models, which may carry the server that has the model and the name of its key."""

from __future__ import annotations

import inspect
from dataclasses import is_dataclass, replace
from typing import Any, NamedTuple, cast

from .arguments import ANYWHERE, ServerOptions
from .console import CommandError
from .folders import SettingsFile
from .key_store import same_server

__all__ = ["ALIASES_FILE", "Alias", "aliases", "resolve_alias", "resolve_arguments"]

ALIASES_FILE = SettingsFile("aliases.json")


class Alias(NamedTuple):
    """A model, and perhaps the base URL of its server and the name of the key for it."""

    model: str
    base_url: str | None = None
    key: str | None = None


def aliases() -> dict[str, Alias]:
    """Return all aliases by name. Raises `CommandError` for a file that cannot be used."""
    if not ALIASES_FILE.exists():
        return {}
    found: dict[str, Alias] = {}
    for name, entry in sorted(ALIASES_FILE.read().items()):
        fields: dict[str, Any] = cast("Any", entry) if isinstance(entry, dict) else {"model": entry}
        texts = {field: fields.get(field) for field in Alias._fields}
        if not isinstance(texts["model"], str) or not all(isinstance(text, str | None) for text in texts.values()):
            raise CommandError(f"{ALIASES_FILE.path}: the alias {name!r} has no model; correct it or set it again")
        found[name] = Alias(**cast("Any", texts))
    return found


def resolve_alias(name: str) -> Alias:
    """Return the alias with this name, or the name as a model."""
    return aliases().get(name) or Alias(name)


def resolve_server(server: ServerOptions, alias: Alias) -> ServerOptions:
    """Return the options with the server of an alias; what the command line names wins.

    The key of an alias with a server is that server's: it is not sent to another one that the command line names.
    """
    named, its = server.base_url, alias.base_url
    elsewhere = named is not None and its is not None and not same_server(named, its)
    given = server.key is not None or server.api_key is not None
    return replace(
        server,
        base_url=server.base_url if server.base_url is not None else alias.base_url,
        key=server.key if given or elsewhere else alias.key,
    )


def resolve_arguments(bound: inspect.BoundArguments) -> None:
    """Replace the alias of a model in the arguments of a command, and add its server."""
    for name, value in bound.arguments.items():
        holder = is_dataclass(value) and not isinstance(value, type)
        model = getattr(value, "model", None) if holder else value if name == "model" else None
        if not isinstance(model, str):
            continue
        alias = aliases().get(model)
        if alias is None:
            return
        bound.arguments[name] = replace(cast("Any", value), model=alias.model) if holder else alias.model
        parameters = bound.signature.parameters
        if "server" in parameters:
            bound.arguments["server"] = resolve_server(bound.arguments.get("server", ANYWHERE), alias)
        elif "servers" in parameters and alias.base_url is not None:
            from .job_commands import ANY_SERVERS, JobServers

            servers: JobServers = bound.arguments.get("servers", ANY_SERVERS)
            bound.arguments["servers"] = replace(servers, base_url=servers.base_url or (alias.base_url,))
        return
