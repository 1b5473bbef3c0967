"""The keys that the command line keeps for servers: in the system's keyring if there is one, otherwise in a file.

``keys.json`` in the settings folder names every key. It holds those that are not in a keyring, and is readable by its
owner only. A key belongs to the address of a server, or has a name for ``--key``.
"""

from __future__ import annotations

import importlib
import os
import stat
from typing import Any
from urllib.parse import urlsplit

from ..core.model.credentials import without_credentials
from ..core.model.plain import is_dict
from .console import CommandError, note
from .folders import SettingsFile, check_name

__all__ = ["KEYS_FILE", "find_key", "key_names", "named_key", "remove_key", "same_server", "set_key", "stored_name"]

KEYS_FILE = SettingsFile("keys.json")
_SERVICE = "openaiasync"  # in the keyring
_KNOWN = {"openai": "https://api.openai.com/v1"}
_PORTS = {"https": 443, "http": 80}
_LONGEST = 16_384  # characters of a key


def stored_name(given: str) -> str:
    """Return the name under which a key is kept: a normalised address, or the name. Raises `CommandError`."""
    given = _KNOWN.get(given, given)
    if "://" not in given:
        check_name(given, "key", hint="; a server's address begins with http:// or https://")
        return given
    address = _address(given)
    if address is None:
        raise CommandError(f"{given} is not the address of a server, such as https://api.openai.com/v1")
    return address


def same_server(one: str, other: str) -> bool:
    """Return whether two base URLs are the same address."""
    return _address(one) == _address(other) is not None


def _address(url: str) -> str | None:
    """Return a URL without user, query and default port, its host in lower case; `None` if it is not an http URL."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        return None
    if scheme not in _PORTS or not host:
        return None
    shown = f"[{host}]" if ":" in host else host
    at = "" if port in (None, _PORTS[scheme]) else f":{port}"
    return f"{scheme}://{shown}{at}{parts.path.rstrip('/')}"


def set_key(name: str, key: str) -> str:
    """Keep a key and return where: "the keyring" or the file. Raises `CommandError` for a text that cannot be a key."""
    if not key:
        raise CommandError("the key is empty")
    if not key.isascii() or not key.isprintable() or " " in key or len(key) > _LONGEST:
        raise CommandError("this cannot be a key: a key has printable ASCII characters and no spaces")
    ring = _keyring()
    if ring is not None:
        try:
            ring.set_password(_SERVICE, name, key)
        except Exception as error:  # a backend may raise anything
            note(f"The keyring does not take the key ({type(error).__name__}); it is kept in a file.")
            ring = None
    entry = {"key": key} if ring is None else {"keyring": True}
    KEYS_FILE.change(lambda keys: keys.update({name: entry}))
    return str(KEYS_FILE.path) if ring is None else "the keyring"


def remove_key(name: str) -> None:
    """Remove a key. Raises `CommandError` if there is no key of this name."""
    entry = KEYS_FILE.read().get(name)
    if entry is None:
        raise CommandError(f"there is no key for {name!r}; openaiasync keys list shows the names")
    if is_dict(entry) and "keyring" in entry and (ring := _keyring()) is not None:
        try:
            ring.delete_password(_SERVICE, name)
        except Exception as error:
            note(f"The keyring did not remove the key ({type(error).__name__}).")
    KEYS_FILE.change(lambda keys: keys.pop(name, None) and None)


def key_names() -> dict[str, str]:
    """Return where each key is kept, by name."""
    return {
        name: "keyring" if is_dict(entry) and "keyring" in entry else "file"
        for name, entry in sorted(KEYS_FILE.read().items())
    }


def named_key(name: str) -> str:
    """Return the key with this name. Raises `CommandError` for an unknown name, without showing what may be a key."""
    if without_credentials(name) != name:
        raise CommandError("--key is the name of a kept key; the key itself is OPENAI_API_KEY or --api-key")
    stored = stored_name(name)
    key = _key(stored, KEYS_FILE.read())
    if key is None:
        raise CommandError(f"there is no key {name!r}; keep one with: openaiasync keys set {name}")
    return key


def find_key(base_url: str) -> str | None:
    """Return the key for a server: that of its base URL, or else of the nearest address above it on the same host."""
    address = _address(base_url)
    if address is None:
        return None
    keys = KEYS_FILE.read() if KEYS_FILE.exists() else {}
    if not keys:
        return None
    origin = address.split("/", 3)[:3]
    while True:
        if address in keys:
            return _key(address, keys)
        if len(address.split("/", 3)) == len(origin):
            return None
        address = address.rpartition("/")[0]


def _key(name: str, keys: dict[str, Any]) -> str | None:
    entry = keys.get(name)
    if entry is None:
        return None
    if not is_dict(entry) or not ("keyring" in entry or isinstance(entry.get("key"), str)):
        raise CommandError(f"{KEYS_FILE.path} has no usable entry for {name!r}; set the key again")
    if "keyring" not in entry:
        _warn_of_readers()
        return str(entry["key"])
    ring = _keyring()
    try:
        found = None if ring is None else ring.get_password(_SERVICE, name)
    except Exception as error:
        raise CommandError(f"the keyring does not give the key for {name!r}: {error}") from error
    if not found:
        raise CommandError(f"the keyring has no key for {name!r} any more; set it again with openaiasync keys set")
    return str(found)


def _warn_of_readers() -> None:
    path = KEYS_FILE.path
    if os.name != "nt" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        note(f"Other users of this machine can read the keys in {path}; forbid it with: chmod 600 {path}")


def _keyring() -> Any:
    """Return the module `keyring`, or `None` if it is not installed or has no backend that protects keys."""
    try:
        ring = importlib.import_module("keyring")
        # The backends that keep nothing, or plain text, have lower priorities.
        return ring if ring.get_keyring().priority >= 1 else None
    except Exception:  # a backend that cannot start
        return None
