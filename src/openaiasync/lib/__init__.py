"""Modules under their paths in the official client, and the helpers at the top level of the official package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy_names, resolve_annotations

if TYPE_CHECKING:
    from ..official.parsing import pydantic_function_tool as pydantic_function_tool
    from ..official.parsing import pydantic_responses_function_tool as pydantic_responses_function_tool
    from ..official.parsing import type_to_response_format_param as type_to_response_format_param

__all__ = ["pydantic_function_tool", "pydantic_responses_function_tool", "type_to_response_format_param"]

if not TYPE_CHECKING:
    __getattr__ = lazy_names(
        __name__,
        {
            "pydantic_function_tool": "..official.parsing",
            "pydantic_responses_function_tool": "..official.parsing",
            "type_to_response_format_param": "..official.parsing",
        },
    )

resolve_annotations(__name__)
