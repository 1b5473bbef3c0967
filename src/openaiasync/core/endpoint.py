"""An endpoint turns the parameters of one operation into a `Request` value, without I/O.

Sending the value is somebody else's business, so that the client, the bulk engine, the server and tests share it.
The rows themselves are generated (`endpoints.py`).
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from ..omit import is_omitted
from .encode import encode_json, encode_query
from .decode import Decoder, decoder_for

__all__ = ["AnswerKind", "BodyKind", "CallOptions", "Endpoint", "Request"]

AnswerKind = Literal["object", "page", "text", "binary", "none", "object-or-text"]
BodyKind = Literal["none", "json", "multipart"]

_OPTION_NAMES = frozenset({"timeout", "deadline", "max_retries", "extra_headers", "extra_query", "extra_body"})
_UNSAFE_SEGMENTS = frozenset({"", ".", ".."})
