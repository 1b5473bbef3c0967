"""Signatures for `inspect.signature`, `help` and completion in notebooks, in place of ``**params``.

Methods take their parameters as ``**params: Unpack[SomeParams]``, which type checkers read and run-time tools do not.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import Parameter, Signature
from typing import Any, Self

from .omitted import Omit, omit

__all__ = ["LazySignature", "ShownParameter", "common_first", "explicit_signatures"]


_SAME: Any = object()
# Compiled when a signature is shown: every import of the package would pay for it.
_MODULES = r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])"
_ANY_TEXT = r"Union\[str, Literal\[[^][]*\]\]"  # known names, and any other
_LITERALS = r"Literal\[([^][]*)\]"
_MOST_LITERALS = 8
_WIDTH = 100
# fmt: off
_COMMON = (
    "model", "temperature", "max_tokens", "max_completion_tokens", "max_output_tokens", "tools", "tool_choice",
    "response_format", "reasoning_effort", "reasoning", "instructions", "seed", "stop", "n", "size", "quality", "voice",
    "language", "dimensions", "encoding_format",
)
# fmt: on
"""Parameters that most calls name, which come first in `help` and in notebooks."""


class ShownParameter(Parameter):
    """A parameter whose text is short: names without their modules, no long lists of models, and no quotes around an
    annotation that is given as text."""

    __slots__ = ()

    def __str__(self) -> str:
        if self.annotation is Parameter.empty:
            return super().__str__()
        hint = self.annotation if isinstance(self.annotation, str) else inspect.formatannotation(self.annotation)
        default = "" if self.default is Parameter.empty else f" = {self.default!r}"
        return f"{self.name}: {_shortened(hint)}{default}"


def _shortened(hint: str) -> str:
    return re.sub(_LITERALS, _first_literals, re.sub(_ANY_TEXT, "str", re.sub(_MODULES, "", hint)))


def _first_literals(match: re.Match[str]) -> str:
    values = match[1].split(", ")
    return match[0] if len(values) <= _MOST_LITERALS else f"Literal[{', '.join(values[:_MOST_LITERALS])}, …]"


def common_first(names: Iterable[str], common: Sequence[str] = _COMMON) -> list[str]:
    """Return the names with the common ones before the others; neither changes its order otherwise."""
    given = list(names)
    return [*(name for name in common if name in given), *(name for name in given if name not in common)]


class LazySignature(Signature):
    """A signature that is made at first access."""

    __slots__ = ("_made", "_make")

    def __init__(
        self,
        parameters: Sequence[Parameter] | None = None,
        *,
        return_annotation: Any = Signature.empty,
        make: Callable[[], Signature] | None = None,
    ) -> None:
        # `replace` of the base class makes another one from parameters.
        self._make = make
        self._made = None if make is not None else Signature(parameters, return_annotation=return_annotation)

    def _signature(self) -> Signature:
        if self._made is None:
            assert self._make is not None
            self._made = self._make()
        return self._made

    @property
    def parameters(self) -> types.MappingProxyType[str, Parameter]:
        return self._signature().parameters

    @property
    def return_annotation(self) -> Any:
        return self._signature().return_annotation

    def replace(self, *, parameters: Any = _SAME, return_annotation: Any = _SAME) -> Self:
        return type(self)(
            list(self.parameters.values()) if parameters is _SAME else parameters,
            return_annotation=self.return_annotation if return_annotation is _SAME else return_annotation,
        )

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self._signature().__reduce__()

    def __str__(self) -> str:
        """Return the text on one line, or with a line for each parameter if it is long, as `help` prints it."""
        lines: list[str] = []
        for parameter in self.parameters.values():
            if parameter.kind is Parameter.KEYWORD_ONLY and "*" not in lines:
                lines.append("*")
            lines.append(str(parameter))
        returned = self.return_annotation
        arrow = "" if returned is Signature.empty else f" -> {_shortened(inspect.formatannotation(returned))}"
        text = f"({', '.join(lines)}){arrow}"
        return text if len(text) <= _WIDTH else f"({''.join(f'{chr(10)}    {line},' for line in lines)}\n){arrow}"


def explicit_signatures(kind: type) -> None:
    """Give the public methods of a class, including its bases, signatures with every keyword by name.

    This costs calls nothing: only ``__signature__`` is set, and its contents are made at first access.
    """
    for base in kind.__mro__:
        if not base.__module__.startswith("openaiasync."):
            continue
        for name, value in vars(base).items():
            shown = isinstance(value, types.FunctionType) and (not name.startswith("_") or name == "__call__")
            if shown and "__signature__" not in value.__dict__:
                setattr(value, "__signature__", LazySignature(make=functools.partial(_explicit, value)))  # noqa: B010  (functions declare no such attribute)


def _explicit(function: types.FunctionType) -> Signature:
    target = inspect.unwrap(function)
    assert isinstance(target, types.FunctionType)
    plain = _plain(target)
    try:
        hints = typing.get_type_hints(target)
    except Exception:  # an annotation that needs an optional dependency: the names are shown as written
        return plain
    parameters: list[Parameter] = []
    for parameter in plain.parameters.values():
        hint = hints.get(parameter.name, parameter.annotation)
        if parameter.kind is Parameter.VAR_KEYWORD and typing.get_origin(hint) is typing.Unpack:
            taken = {known.name for known in parameters}
            parameters.extend(_keywords(typing.get_args(hint)[0], taken))
        else:
            parameters.append(_shown(parameter, hint))
    return Signature(parameters, return_annotation=_returned(target, hints))


def _plain(function: types.FunctionType) -> Signature:
    """Return the signature in the source, from a copy without ``__signature__``."""
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = function.__annotations__
    return inspect.signature(copy)


def _keywords(params: Any, taken: set[str]) -> Iterator[Parameter]:
    # Of annotations that are texts, ``__required_keys__`` knows nothing.
    hints = {name: _without_omit(hint) for name, hint in typing.get_type_hints(params, include_extras=True).items()}
    required = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.Required}
    for name in sorted(common_first(hints), key=lambda name: name not in required):
        if name not in taken and name.isidentifier():
            default, hint = (
                (Parameter.empty, typing.get_args(hints[name])[0]) if name in required else (omit, hints[name])
            )
            yield ShownParameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint)


def _without_omit(hint: Any) -> Any:
    """Return a union without `Omit`, which the default shows."""
    members = typing.get_args(hint)
    if typing.get_origin(hint) not in (typing.Union, types.UnionType) or Omit not in members:
        return hint
    first, *others = [member for member in members if member is not Omit]
    made: Any = first
    for member in others:
        made = made | member
    return made


def _shown(parameter: Parameter, hint: Any) -> Parameter:
    """Return a parameter with this annotation; one for ``*args`` or ``**kwargs`` has its usual text."""
    if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        return parameter.replace(annotation=hint)
    return ShownParameter(parameter.name, parameter.kind, default=parameter.default, annotation=hint)


def _returned(function: types.FunctionType, hints: dict[str, Any]) -> Any:
    """Return the return annotation; for an overloaded method, the union of its overloads' annotations."""
    returned: list[Any] = []
    for overload in typing.get_overloads(function):
        try:
            kind = typing.get_type_hints(overload).get("return", Any)
        except Exception:
            continue
        if kind not in returned:
            returned.append(kind)
    if not returned:
        return hints.get("return", Signature.empty)
    return typing.Union[tuple(returned)]  # noqa: UP007  (the number of members is known at run time only)
