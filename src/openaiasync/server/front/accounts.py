"""The clients of a front: keys with their limits, usage by key and model, metrics."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...core.policy.estimate import Usage
from ...errors import ConfigurationError
from ..quota import RequestRateLimit
from .upstreams import UpstreamGroup

__all__ = ["ClientKey", "KeyRing", "UsageTable", "metric_lines", "parse_key", "read_keys", "read_secret"]

ANYONE: Final = "anyone"  # the name of callers where no keys are required
OTHER: Final = "other"
_MAX_ROWS: Final = 2_000  # of the table; names of models come from clients
_LONGEST_NAME: Final = 200


@dataclass(frozen=True)
class ClientKey:
    """A key that a client of the front may use.

    Args:
        name: the name of its owner in metrics and reports.
        secret: the key itself.
        rpm: requests a minute (`None`: no limit).
        tpm: tokens a minute, of prompts and answers together (`None`: no limit).
    """

    name: str
    secret: str = field(repr=False)
    rpm: int | None = None
    tpm: int | None = None

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for an empty name or key, or a limit that is not above 0."""
        if not self.name or not self.secret:
            raise ConfigurationError("a key of a front needs a name and a secret that are not empty")
        for name, limit in (("rpm", self.rpm), ("tpm", self.tpm)):
            if limit is not None and limit < 1:
                raise ConfigurationError(f"the key {self.name}: {name} must be at least 1")


def read_secret(source: str, what: str) -> str:
    """Return the secret that ``env:NAME`` or ``file:PATH`` refers to, or the text itself.

    Raises `ConfigurationError` for a variable that is not set or a file that cannot be read, without quoting secrets.
    """
    kind, colon, place = source.partition(":")
    if colon and kind == "env":
        value = os.environ.get(place, "").strip()
        if not value:
            raise ConfigurationError(f"{what}: the environment variable {place!r} is not set")
        return value
    if colon and kind == "file":
        try:
            value = Path(place).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigurationError(f"{what}: cannot read {place!r}: {reason}") from None
        if not value:
            raise ConfigurationError(f"{what}: the file {place!r} is empty")
        return value
    return source


def parse_key(text: str, what: str = "--key") -> ClientKey:
    """Return the key that ``NAME=SECRET[,rpm=N][,tpm=N]`` describes; the secret as for `read_secret`.

    Raises `ConfigurationError`.
    """
    name, equals, rest = text.partition("=")
    if not equals or not name.strip() or not rest:
        raise ConfigurationError(f"{what}: write NAME=KEY, NAME=env:VARIABLE or NAME=file:PATH")
    source, *options = rest.split(",")
    limits: dict[str, int] = {}
    for option in options:
        limit, _, number = option.partition("=")
        if limit.strip() not in ("rpm", "tpm") or not number.strip().isdecimal():
            raise ConfigurationError(f"{what}: only rpm=NUMBER and tpm=NUMBER may follow the key of {name.strip()!r}")
        limits[limit.strip()] = int(number)
    return ClientKey(name.strip(), read_secret(source.strip(), f"{what} {name.strip()}"), **limits)


def read_keys(path: str) -> list[ClientKey]:
    """Return the keys in a file, one a line as for `parse_key`; blank lines and those with ``#`` first are skipped.

    Raises `ConfigurationError`.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(f"cannot read the keys in {path!r}: {reason}") from None
    numbered = ((number, line.strip()) for number, line in enumerate(lines, 1))
    return [parse_key(line, f"{path}, line {number}") for number, line in numbered if line and line[0] != "#"]


class KeyRing:
    """The keys of a front's clients, and the limits of each."""

    def __init__(self, keys: Iterable[ClientKey | str]) -> None:
        """Raises `ConfigurationError` for two keys with the same name or secret."""
        self._keys: dict[bytes, ClientKey] = {}
        self._limits: dict[str, RequestRateLimit] = {}
        names: set[str] = set()
        for number, one in enumerate(keys):
            key = ClientKey(f"key-{number}", one) if isinstance(one, str) else one
            digest = _digest(key.secret)
            if key.name in names or digest in self._keys:
                raise ConfigurationError(f"two keys of the front have the name {key.name!r} or the same secret")
            names.add(key.name)
            self._keys[digest] = key
            if key.rpm is not None or key.tpm is not None:
                self._limits[key.name] = RequestRateLimit(key.rpm, key.tpm)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: str | None) -> str | None:
        """Return the name of the client with this key.

        Digests are compared, not keys, so that the duration reveals nothing about them.
        """
        key = None if secret is None else self._keys.get(_digest(secret))
        return None if key is None else key.name

    def admit(self, name: str) -> None:
        """Count a request of a client. Raises `HTTPError` (429) above its limits."""
        limit = self._limits.get(name)
        if limit is not None:
            limit.admit(name.encode())

    def counts_tokens(self, name: str) -> bool:
        """Return whether the tokens of a client are limited."""
        limit = self._limits.get(name)
        return limit is not None and limit.counts_tokens

    def spend(self, name: str, tokens: int) -> list[tuple[bytes, bytes]] | None:
        """Count tokens of a client; return the fields that tell what is left, `None` without limits."""
        limit = self._limits.get(name)
        return None if limit is None else limit.spend(name.encode(), tokens)


def _digest(secret: str) -> bytes:
    return hashlib.blake2b(secret.encode("utf-8", "surrogateescape"), digest_size=32).digest()


@dataclass(slots=True)
class _UsageRow:
    requests: int = 0
    failed: int = 0
    cached: int = 0
    uncounted: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class UsageTable:
    """Requests and tokens by key and model since the front started."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], _UsageRow] = {}

    def _row(self, key: str, model: str | None, *, known: bool) -> _UsageRow:
        name = (model or "")[:_LONGEST_NAME]
        row = self._rows.get((key, name))
        if row is None:
            if len(self._rows) >= _MAX_ROWS or not known:
                name = OTHER
            row = self._rows.setdefault((key, name), _UsageRow())
        return row

    def count(self, key: str, model: str | None, usage: Usage | None, *, cached: bool = False) -> None:
        """Count an answered request; a cached one took no tokens."""
        row = self._row(key, model, known=True)
        row.requests += 1
        if cached:
            row.cached += 1
        elif usage is None:
            row.uncounted += 1
        else:
            row.input_tokens += usage.input
            row.output_tokens += usage.output

    def fail(self, key: str, model: str | None, usage: Usage | None = None) -> None:
        """Count a request without a complete answer. A model that never answered is not listed by name.

        `usage` is what an answer that broke off had reported.
        """
        row = self._row(key, model, known=usage is not None)
        row.requests += 1
        row.failed += 1
        if usage is not None:
            row.input_tokens += usage.input
            row.output_tokens += usage.output

    def rows(self, key: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the rows, of one key or of all."""
        for (name, model), row in sorted(self._rows.items()):
            if key is None or key == name:
                yield {
                    "key": name,
                    "model": model,
                    "requests": row.requests,
                    "failed": row.failed,
                    "cached": row.cached,
                    "without_usage": row.uncounted,
                    "input_tokens": row.input_tokens,
                    "output_tokens": row.output_tokens,
                    "total_tokens": row.input_tokens + row.output_tokens,
                }


def _exact(value: float) -> str:
    """Return a number with all its digits, without a fraction if it is whole."""
    return str(int(value)) if float(value).is_integer() else repr(value)


def metric_lines(group: UpstreamGroup, table: UsageTable, now: float) -> Iterator[str]:
    """Yield the metrics of servers, keys and models in Prometheus' text format. `now` is the event loop's time."""
    yield "# TYPE openaiasync_upstream_requests_total counter"
    for member in group.members:
        for status, count in sorted(member.statuses.items()):
            shown = str(status) if status else "none"
            yield f"openaiasync_upstream_requests_total{_labels(upstream=member.name, status=shown)} {count}"
    columns: dict[str, list[str]] = {}
    for member in group.members:
        labels = _labels(upstream=member.name)
        health = group.shared.upstream(member.config.base).health
        ready = health.breaker.ready_at()
        values: dict[str, float] = {
            "in_flight gauge": group.in_flight(member),
            "up gauge": 0 if health.breaker.is_open else 1,
            "breaker_wait_seconds gauge": max(0.0, ready - now) if now < ready < float("inf") else 0.0,
            "latency_seconds gauge": round(health.latency, 6),
            "expected_wait_seconds gauge": round(health.wait(now), 6),
            "input_tokens_total counter": member.input_tokens,
            "output_tokens_total counter": member.output_tokens,
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(
                f"openaiasync_upstream_{name.partition(' ')[0]}{labels} {_exact(value)}"
            )
    for name, lines in columns.items():
        yield f"# TYPE openaiasync_upstream_{name}"
        yield from lines
    slots = group.shared.limiter
    yield "# TYPE openaiasync_slots_used gauge"
    yield f"openaiasync_slots_used {slots.used}"
    yield "# TYPE openaiasync_slots_waiting gauge"
    yield f"openaiasync_slots_waiting {slots.waiting}"
    rows = list(table.rows())
    for column in ("requests", "failed", "cached", "input_tokens", "output_tokens"):
        yield f"# TYPE openaiasync_usage_{column}_total counter"
        for row in rows:
            labels = _labels(key=row["key"], model=row["model"])
            yield f"openaiasync_usage_{column}_total{labels} {row[column]}"


def _labels(**labels: str) -> str:
    escaped = (
        f'{name}="{value}"'
        for name, text in labels.items()
        for value in [text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")]
    )
    return f"{{{','.join(escaped)}}}"
