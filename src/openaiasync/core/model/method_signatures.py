"""Signatures for `inspect.signature`, `help` and completion in notebooks, in place of ``**params``.

Methods take their parameters as ``**params: Unpack[SomeParams]``, which type checkers read and run-time tools do not.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from inspect import Parameter, Signature
from typing import Any, Self

from .omitted import omit

__all__ = ["LazySignature", "explicit_signatures"]


_SAME: Any = object()


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
            parameters.append(parameter.replace(annotation=hint))
    return Signature(parameters, return_annotation=_returned(target, hints))


def _plain(function: types.FunctionType) -> Signature:
    """Return the signature in the source, from a copy without ``__signature__``."""
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = function.__annotations__
    return inspect.signature(copy)


def _keywords(params: Any, taken: set[str]) -> Iterator[Parameter]:
    hints = typing.get_type_hints(params)
    for name in sorted(hints, key=lambda name: name not in params.__required_keys__):
        if name not in taken and name.isidentifier():
            default = Parameter.empty if name in params.__required_keys__ else omit
            yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])


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
