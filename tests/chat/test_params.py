"""The keywords of a turn are those of the API, but for what a turn decides itself."""

from __future__ import annotations

import typing
from typing import Any

import openaiasync.chat.turn_options as module
from openaiasync.chat.format_fallback import Rung
from openaiasync.chat.tools import OnToolError, Permit
from openaiasync.chat.turn_options import TurnOptions
from openaiasync.core.policy.options import RequestOptions
from openaiasync.params import chat, shared_params
from openaiasync.params.chat import completion_create_params

DECIDED = {"n", "tools", "functions", "function_call"}


def names_of(*modules: Any) -> dict[str, Any]:
    """What annotations may name: of lazy modules all that they list."""
    found = {"Rung": Rung, "Permit": Permit, "OnToolError": OnToolError}
    for one in modules:
        found |= {name: getattr(one, name) for name in one.__all__}
    return found


def test_the_keywords_are_those_of_the_api() -> None:
    """None is missing, none is made up, each has the type that the generated ones have."""
    names = {**vars(typing), **names_of(chat, shared_params, completion_create_params)}
    generated = typing.get_type_hints(completion_create_params.ChatRest, localns=names)
    ours = typing.get_type_hints(module.TurnParams, localns=names)
    own = set(TurnOptions.__struct_fields__) - {"tools", "into"}
    assert ours.keys() - generated.keys() == own
    assert generated.keys() - ours.keys() == DECIDED
    assert {name: ours[name] for name in ours.keys() - own} == {
        name: kind for name, kind in generated.items() if name not in DECIDED
    }
    assert RequestOptions.__annotations__.keys() <= ours.keys()
