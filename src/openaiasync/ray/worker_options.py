"""The options with which workers on other machines send requests. They contain no secrets.

Everything here passes through Ray's object store and may be logged. The key therefore is not a part of it: a worker
reads ``OPENAI_API_KEY`` from its environment, or runs a command that prints the key.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ..client import Client
from ..core.policy.limits import Limits
from ..errors import ConfigurationError

__all__ = ["KeyCommand", "WorkerOptions", "has_password"]

_FRESH = 300.0  # seconds for which a key that a command printed is used
_PATIENCE = 60.0  # seconds until a command must have printed a key


def has_password(url: str) -> bool:
    """Return whether a URL contains a user or password."""
    return "@" in urlsplit(url).netloc


class KeyCommand:
    """An async function for `api_key` that runs a command and returns what it prints; for five minutes from memory."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._key = ""
        self._until = 0.0
        self._running: asyncio.Task[str] | None = None

    async def __call__(self) -> str:
        """Return the key. Raises `ConfigurationError`, which does not contain what the command has printed."""
        if time.monotonic() < self._until:
            return self._key
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())
        return await asyncio.shield(self._running)

    async def _run(self) -> str:
        process = await asyncio.create_subprocess_shell(
            self._command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=None
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                printed, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            raise ConfigurationError(f"the key command {self._command!r} took more than {_PATIENCE:.0f} s") from None
        key = printed.decode(errors="replace").strip()
        if process.returncode or not key:
            what = f"ended with code {process.returncode}" if process.returncode else "printed nothing"
            raise ConfigurationError(f"the key command {self._command!r} {what}")
        self._key, self._until = key, time.monotonic() + _FRESH
        return key


class WorkerOptions(msgspec.Struct, kw_only=True):
    """How a worker reaches the servers."""

    base_url: list[str] = []
    """URLs of the API, without passwords; empty: ``OPENAI_BASE_URL`` of the worker's environment, or OpenAI's API."""
    timeout: float | None = None
    key_command: str | None = None
    rpm: float | None = None
    tpm: float | None = None
    shared: str | None = None
    """The URL of a shared allowance, without a password; `None`: ``OPENAIASYNC_SHARED`` of the worker's environment."""
    max_in_flight: int | str | None = None

    def check(self) -> None:
        """Raise `ConfigurationError` if a secret would be sent to other machines."""
        for name, url in (
            *(("base_url (--base-url)", url) for url in self.base_url),
            ("shared (--shared)", self.shared),
        ):
            if url and has_password(url):
                variable = "OPENAIASYNC_SHARED" if "shared" in name else "OPENAI_BASE_URL"
                raise ConfigurationError(
                    f"{name} contains a user or password, which would be visible to everybody with access to the "
                    f"cluster: set {variable} on the workers instead"
                )

    def clients(self) -> list[Client]:
        """Return a client for each server. Raises `ConfigurationError`, for example without a key."""
        options: dict[str, Any] = {} if self.timeout is None else {"http_timeout": self.timeout}
        key: Callable[[], Awaitable[str]] | None = None if self.key_command is None else KeyCommand(self.key_command)
        options["http_max_in_flight"] = None  # schedulers decide how many rows are in flight
        urls: list[str | None] = [*self.base_url] or [None]
        return [Client(api_base=url, api_key=key, **options) for url in urls]

    def limits(self) -> Limits | None:
        """Return the limits; `None` if there are none."""
        shared = self.shared or os.environ.get("OPENAIASYNC_SHARED") or None
        if self.rpm is None and self.tpm is None and shared is None:
            return None
        return Limits(rpm=self.rpm, tpm=self.tpm, shared=shared)
