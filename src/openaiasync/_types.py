"""Values and types of parameters under the official client's private path, which much code imports."""

from collections.abc import Mapping
from typing import TypeAlias

from .core.codec.file_types import FileTypes
from .core.model.omitted import NOT_GIVEN, NotGiven, Omit, not_given, omit
from .core.policy.request_options import RequestOptions, Timeout

__all__ = [
    "NOT_GIVEN",
    "Body",
    "FileTypes",
    "Headers",
    "NoneType",
    "NotGiven",
    "Omit",
    "Query",
    "RequestOptions",
    "Timeout",
    "not_given",
    "omit",
]

NoneType: type[None] = type(None)
Headers: TypeAlias = Mapping[str, str | Omit]
Query: TypeAlias = Mapping[str, object]
Body: TypeAlias = object
