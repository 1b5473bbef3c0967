"""Record what a front passes on, or answer from such a recording."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from typing import Final

from ...errors import ConfigurationError
from ...transport.base import Transport
from ...transport.cassette import Cassette, CassetteError
from ...transport.recording import RecordingTransport, sender_fields

__all__ = ["REPLAYED", "FrontRecording"]

REPLAYED: Final = "http://recorded/v1"  # the upstream of a front that only replays


class FrontRecording:
    """Makes the transports of a front that records or replays. They share one cassette."""

    def __init__(
        self,
        record: str | os.PathLike[str] | None,
        replay: str | os.PathLike[str] | None,
        transport: Callable[[], Transport] | None,
    ) -> None:
        """Raises `ConfigurationError` for both files at once, and for a file that is not a recording."""
        if record is not None and replay is not None:
            raise ConfigurationError("a front records or replays, not both at once")
        self.base_urls: list[str] = []
        """The base URLs of the upstreams, below which paths are recorded."""
        self._record = record
        self._replay = replay
        self._transport = transport
        self._cassette: Cassette | None = self._open()

    def _open(self) -> Cassette:
        try:
            if self._replay is None:
                cassette = Cassette(self._record or "", "all")
                cassette.check_writable()
                return cassette
            cassette = Cassette(self._replay, "none", repeat=True)
        except CassetteError as error:
            raise ConfigurationError(str(error)) from None
        except OSError as error:
            path = os.fspath(self._record or self._replay or "")
            raise ConfigurationError(f"the recording {path!r} cannot be opened: {error.strerror or error}") from None
        if not cassette.existed:
            raise ConfigurationError(f"the recording {os.fspath(self._replay)!r} does not exist or is empty")
        return cassette

    def __call__(self) -> Transport:
        """Return a transport for one event loop."""
        if self._cassette is None:
            self._cassette = self._open()
        inner = None if self._transport is None else self._transport()
        return RecordingTransport(self._cassette, inner, base_urls=self.base_urls)

    def hide(self, headers: Mapping[bytes, bytes], dropped: Collection[bytes]) -> None:
        """Keep the secrets of fields that are not passed on out of the recording of the current task's request.

        A request may repeat them in its body.
        """
        found = ((name, headers[name]) for name in dropped if name in headers)
        sender_fields.set([(name.decode(), value.decode("latin-1")) for name, value in found])

    def close(self) -> None:
        """Write the last answers and close the file. Raises `CassetteError` if that fails."""
        cassette, self._cassette = self._cassette, None
        if cassette is not None:
            cassette.close()
