"""`demo-complete`: continues a text by a Markov chain over a small text of our own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import log
from random import Random

from .base import (
    CompletionModel,
    CompletionRequest,
    Continuation,
    TokenChance,
)
from .tokens import split_tokens

__all__ = ["DemoComplete"]

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


class DemoComplete(CompletionModel):
    """A completion model of order two: the last two tokens decide, else the last one, else a new sentence begins.

    The same prompt, seed and variant always go on in the same way. Log probabilities are the chain's own.
    """

    def __init__(self, id: str = "demo-complete", *, token_delay: float = 0.0) -> None:
        super().__init__(id, token_delay=token_delay)

    @cached_property
    def _chain(self) -> dict[tuple[str, ...], dict[str, int]]:
        """How often each token follows one or two others; after ``(_END,)`` come the beginnings of sentences."""
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

    @cached_property
    def _vocabulary(self) -> list[str]:
        return sorted({token for context in self._chain for token in context if token})

    def tokens_to_text(self, ids: Sequence[int]) -> str:
        """Token ids count through the chain's vocabulary, over and over."""
        words = self._vocabulary
        return "".join(words[number % len(words)] for number in ids)

    def continue_text(self, ask: CompletionRequest) -> Continuation:
        """Go on from the end of the prompt; the end of a paragraph of the learnt text is an end."""
        random = Random(f"{ask.seed}:{ask.variant}:{ask.prompt}")
        context = [" " + token.strip() if token.strip().isalnum() else token for token in split_tokens(ask.prompt)[-2:]]
        tokens: list[TokenChance] = []
        while len(tokens) < ask.max_tokens:
            after = self._after(context)
            total = sum(after.values())
            token = random.choices(list(after), weights=list(after.values()))[0]
            if token == _END:
                if tokens:
                    return Continuation(tokens, ended=True)
                context = []
                continue
            likeliest = sorted(after.items(), key=lambda item: (-item[1], item[0]))[: ask.top]
            top = tuple((other or "\n", log(count / total)) for other, count in likeliest)
            tokens.append(TokenChance(token, log(after[token] / total), top))
            context = [*context[-1:], token]
        return Continuation(tokens)

    def _after(self, context: list[str]) -> dict[str, int]:
        chain = self._chain
        for length in (2, 1):
            after = chain.get(tuple(context[-length:])) if len(context) >= length else None
            if after:
                return after
        return chain[(_END,)]
