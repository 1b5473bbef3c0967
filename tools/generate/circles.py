"""Find modules that need each other, which is allowed if names are only looked up when a decoder is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .ir import GeneratorError
from .source import Module

Circles = dict[str, frozenset[str]]


def in_circles(write: Callable[[Circles], dict[str, Module]]) -> dict[str, Module]:
    """Write modules once to see which need each other, and again with deferred imports."""
    modules = write({})
    found = circles({name: {other for other, _ in module.needs} for name, module in modules.items()})
    if found:
        modules = write(found)
    eager = circles({name: {other for other, late in m.needs if not late} for name, m in modules.items()})
    for name, others in eager.items():
        raise GeneratorError(f"the aliases of these modules need each other: {', '.join(sorted({name, *others}))}")
    return modules


def circles(graph: Mapping[str, Iterable[str]]) -> Circles:
    """Return each node of a cycle, with the others of its strongly connected component (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: Circles = {}

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other in graph and other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = frozenset(stack[stack.index(node) :])
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.update((one, component - {one}) for one in component)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found
