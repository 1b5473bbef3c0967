"""Test tools for code that calls models: a socket server and a socketless transport with scripted answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..lazy import lazy_names, resolve_annotations

if TYPE_CHECKING:
    from ..transport.cassette import Cassette as Cassette
    from ..transport.cassette import CassetteError as CassetteError
    from ..transport.fake import FakeAnswer as FakeAnswer
    from ..transport.fake import FakeRequest as FakeRequest
    from ..transport.fake import FakeTransport as FakeTransport
    from ..transport.recording import RecordingTransport as RecordingTransport
    from .recording_server import RecordingServer as RecordingServer
    from .recording_server import recording as recording
    from .script import Script as Script
    from .server import FakeServer as FakeServer
    from .server import ReceivedRequest as ReceivedRequest

_NAMES = {
    "Cassette": "openaiasync.transport.cassette",
    "CassetteError": "openaiasync.transport.cassette",
    "FakeAnswer": "openaiasync.transport.fake",
    "FakeRequest": "openaiasync.transport.fake",
    "FakeServer": "openaiasync.testing.server",
    "FakeTransport": "openaiasync.transport.fake",
    "ReceivedRequest": "openaiasync.testing.server",
    "RecordingServer": "openaiasync.testing.recording_server",
    "RecordingTransport": "openaiasync.transport.recording",
    "Script": "openaiasync.testing.script",
    "recording": "openaiasync.testing.recording_server",
}
__all__ = [
    "Cassette",
    "CassetteError",
    "FakeAnswer",
    "FakeRequest",
    "FakeServer",
    "FakeTransport",
    "ReceivedRequest",
    "RecordingServer",
    "RecordingTransport",
    "Script",
    "recording",
]
__getattr__: Callable[[str], Any] = lazy_names(__name__, _NAMES)

resolve_annotations(__name__)
