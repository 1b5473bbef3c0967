"""A griffe extension that shows the run-time signature of constructors that take their keywords by ``Unpack``.

The constructors of the clients take ``**options: Unpack[…]`` and carry a ``__signature__`` for `help()`. griffe reads
the source alone, so it would find none of the parameters that their docstrings describe. `zensical.toml` loads this
file for the API reference.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import griffe


class RuntimeSignatures(griffe.Extension):
    """Replaces the parameters of every function with the decorator `options.shows`."""

    def on_function(self, *, func: griffe.Function, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Replace the parameters of `func` by those of its ``__signature__``."""
        if not any(str(decorator.value).startswith("shows(") for decorator in func.decorators):
            return
        found: Any = import_module(func.module.path)
        for name in func.path.removeprefix(f"{func.module.path}.").split("."):
            found = getattr(found, name, None)
        shown = inspect.signature(found).parameters.values()
        func.parameters = griffe.Parameters(*map(_parameter, shown))


def _parameter(shown: inspect.Parameter) -> griffe.Parameter:
    return griffe.Parameter(
        shown.name,
        annotation=None if shown.annotation is shown.empty else str(shown.annotation),
        kind=griffe.ParameterKind(shown.kind.description),
        default=None if shown.default is shown.empty else repr(shown.default),
    )
