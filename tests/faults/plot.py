"""Samples of a long run as figures and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Sample", "as_csv", "as_svg"]

WIDTH, HEIGHT, LEFT = 860, 90, 130


class Sample(NamedTuple):
    """What a process held at one moment."""

    seconds: float
    descriptors: int
    tasks: int
    resident: int  # KB
    connections: int
    places: int
    waiting: int
    calls: int  # that ended so far


def as_csv(samples: Sequence[Sample]) -> str:
    """A line a sample, under a line of names."""
    rows = [",".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in one) for one in samples]
    return "\n".join([",".join(Sample._fields), *rows]) + "\n"


def as_svg(samples: Sequence[Sample]) -> str:
    """A curve for each figure, one below the other over one axis of time."""
    names = [name for name in Sample._fields if name != "seconds"]
    end = max(one.seconds for one in samples)
    height = HEIGHT * len(names) + 40
    box = f'viewBox="0 0 {WIDTH + LEFT + 20} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for row, name in enumerate(names):
        parts.append(_curve(samples, name, end, 10 + row * HEIGHT))
    for step in range(7):
        x = LEFT + WIDTH * step / 6
        parts.append(f'<text x="{x:.0f}" y="{height - 12}" text-anchor="middle">{end * step / 6:.0f} s</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(samples: Sequence[Sample], name: str, end: float, top: float) -> str:
    values = [float(getattr(one, name)) for one in samples]
    most = max(*values, 1.0)
    bottom, room = top + HEIGHT - 14, HEIGHT - 24
    points = " ".join(
        f"{LEFT + WIDTH * one.seconds / end:.1f},{bottom - room * value / most:.1f}"
        for one, value in zip(samples, values, strict=True)
    )
    return (
        f'<text x="8" y="{top + 18}">{name}</text>'
        f'<text x="8" y="{top + 36}" fill="#666">{min(values):,.0f} – {max(values):,.0f}</text>'
        f'<line x1="{LEFT}" y1="{bottom}" x2="{LEFT + WIDTH}" y2="{bottom}" stroke="#bbb"/>'
        f'<polyline points="{points}" fill="none" stroke="#2563a8" stroke-width="1.4"/>'
    )
