"""`demo-complete`: continues a text with a Markov chain trained on a small text."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import log
from random import Random

from ..server import ContentDelta
from ..server.tokens import split_tokens

__all__ = ["continue_text"]

_TEXT = """
The harbour wakes before the town does. A lamp moves along the pier, and the old keeper counts the boats as he has
counted them every morning for forty years. The sea is grey and quiet, the gulls are not. When the sun comes over the
hill, the first boat leaves the harbour and the bell in the tower rings six times. The baker opens her door, and the
smell of warm bread runs down the street to the water.

In the old tower by the sea lives a clockmaker who repairs the hours. People bring her the hours they have lost: an
hour spent waiting for a boat, an hour of sleep, an hour that was too short. She opens each of them with a small key,
looks at the wheels inside, and listens. Most of them are not broken, she says, they are only out of breath. She gives
them a drop of oil and a name, and in the evening she carries them back through the town.

One winter the wind took the bell. It rolled down the hill, across the street and into the sea, and for three days the
town did not know what time it was. The boats left too early and came back too late. The baker made bread in the middle
of the night. Then the keeper of the harbour and the clockmaker went out in a small boat with a long rope. They let the
rope down into the grey water and waited. When the sun went down, the rope began to move, and far below them the bell
rang once.

Now the bell hangs in the tower again. It is a little green from the water, and it rings a little deeper than before.
The children say that it learned a song from the sea. Every morning it rings six times, and every evening it rings
once more than it should, for the hours that nobody has asked for.
"""
_END = ""


@cache
def _chain() -> dict[tuple[str, ...], dict[str, int]]:
    """Return how often each token follows one or two others; the tokens after ``(_END,)`` begin sentences."""
    chain: dict[tuple[str, ...], dict[str, int]] = {}

    def count(context: tuple[str, ...], token: str) -> None:
        after = chain.setdefault(context, {})
        after[token] = after.get(token, 0) + 1

    for paragraph in _TEXT.strip().split("\n\n"):
        tokens = [*split_tokens(" " + paragraph.replace("\n", " ")), _END]
        count((_END,), tokens[0])
        for place in range(1, len(tokens)):
            if tokens[place - 1] == "." and tokens[place] != _END:
                count((_END,), tokens[place])
            count((tokens[place - 1],), tokens[place])
            if place > 1:
                count((tokens[place - 2], tokens[place - 1]), tokens[place])
    return chain


def _text_of(ids: list[int]) -> str:
    """Return a text for token ids: each is an index into the chain's vocabulary, modulo its size."""
    words = sorted({token for context in _chain() for token in context if token})
    return "".join(words[number % len(words)] for number in ids)


def continue_text(prompt: str | list[int], seed: int, variant: int, top: int) -> Iterator[ContentDelta]:
    """Yield the tokens that continue the prompt up to the end of a paragraph, with the chain's log probabilities.

    The next token depends on the last two, or on the last one if those are unknown; otherwise a new sentence begins.
    The same values give the same text.
    """
    text = prompt if isinstance(prompt, str) else _text_of(prompt)
    random = Random(f"{seed}:{variant}:{text}")
    context = [" " + token.strip() if token.strip().isalnum() else token for token in split_tokens(text)[-2:]]
    started = False
    while True:
        after = _after(context)
        total = sum(after.values())
        token = random.choices(list(after), weights=list(after.values()))[0]
        if token == _END:
            if started:
                return
            context = []
            continue
        likeliest = sorted(after.items(), key=lambda item: (-item[1], item[0]))[:top]
        started = True
        yield ContentDelta(
            token, log(after[token] / total), tuple((other or "\n", log(count / total)) for other, count in likeliest)
        )
        context = [*context[-1:], token]


def _after(context: list[str]) -> dict[str, int]:
    chain = _chain()
    for length in (2, 1):
        after = chain.get(tuple(context[-length:])) if len(context) >= length else None
        if after:
            return after
    return chain[(_END,)]
