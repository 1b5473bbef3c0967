"""Which types of answers cannot hold an error, so that what was strictly decoded needs no second look."""

from typing import Any, Literal

import pytest

from openaiasync.core.model.base import BaseModel
from openaiasync.engine.failures import is_no_error
from openaiasync.types import CreateEmbeddingResponse
from openaiasync.types.chat import ChatCompletion


class Said(BaseModel, kw_only=True):
    object: Literal["thing"]


class AnyText(BaseModel, kw_only=True):
    object: str


class AnyKind(BaseModel, kw_only=True):
    type: str


class Either(BaseModel, kw_only=True):
    type: Literal["thing", "error"]


class Tagged(BaseModel, kw_only=True, tag_field="type", tag="error"):
    message: str


class Untold(BaseModel, kw_only=True):
    id: str


Tagged.type = "error"  # type: ignore[attr-defined]  # as generated classes have it


@pytest.mark.parametrize(
    ("kind", "safe"),
    [
        (ChatCompletion, True),
        (CreateEmbeddingResponse, True),
        (Said, True),
        (Untold, True),
        (AnyText, False),
        (AnyKind, False),
        (Either, False),
        (Tagged, False),
        (ChatCompletion | Said, False),
        (dict[str, Any], False),
    ],
)
def test_what_cannot_be_an_error(kind: Any, safe: bool) -> None:
    """Only a literal of the type shows that an answer is not an error object."""
    assert is_no_error(kind) is safe
