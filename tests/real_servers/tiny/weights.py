"""The vocabulary and the two matrices that make a llama graph follow the script."""

from __future__ import annotations

import array
from typing import NamedTuple

from .script import CONTINUED, CUES, DICE, FOREVER, SCRIPTS, Piece

WIDTH, HEADS, KV_HEADS, INNER, CONTEXT = 128, 2, 1, 32, 32768
# A vector on one axis leaves the last norm with length sqrt(WIDTH) = 11.3: the scripted logit is 45, all others 0.
GAIN = 4.0
# Every byte also lies a little on one of these axes, which nothing follows: texts get embeddings that differ.
FLAVOURS = 32
FLAVOUR = 0.5

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
START, END, TURN = "<|start|>", "<|end|>", "<|turn|>"
USER_PIECES = ("<think>", "</think>", "<tool_call>", "</tool_call>")
MERGES = (("t", "h"), ("th", "e"), ("i", "n"))


def _printable_bytes() -> list[str]:
    """GPT-2's way to write bytes as characters: those that print stay, the others are counted from U+0100 on."""
    kept = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in kept else next(others)) for byte in range(256)]


PRINTABLE = _printable_bytes()


def spelled(piece: str) -> str:
    return "".join(PRINTABLE[byte] for byte in piece.encode())


class Vocabulary:
    """Tokens in order of their ids, each with its kind."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.kinds: list[int] = []
        self.ids: dict[str, int] = {}
        for token in (*PRINTABLE, *("".join(merge) for merge in MERGES)):
            self.add(token, NORMAL)
        for token in (START, END, TURN, *(f"<|cue-{cue}|>" for cue in CUES)):
            self.add(token, CONTROL)
        for token in USER_PIECES:
            self.add(token, USER_DEFINED)
        for script in (*SCRIPTS.values(), FOREVER, DICE, CONTINUED):
            for piece in script:
                if isinstance(piece, str) and piece not in USER_PIECES and spelled(piece) not in self.ids:
                    self.add(spelled(piece), NORMAL)

    def add(self, token: str, kind: int) -> None:
        self.ids[token] = len(self.tokens)
        self.tokens.append(token)
        self.kinds.append(kind)

    def of(self, piece: Piece) -> list[int]:
        if isinstance(piece, bytes):
            return [self.ids[PRINTABLE[byte]] for byte in piece]
        return [self.ids[piece if piece in USER_PIECES else spelled(piece)]]


class Tensor(NamedTuple):
    """A matrix in row order, or a vector."""

    shape: tuple[int, ...]
    values: array.array[float]


class Axes:
    """On which axis each token lies (0: on none of a script), and which tokens follow from each axis."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.of_token: dict[int, int] = {}
        self.followers: list[list[int]] = []
        end = vocabulary.ids[END]
        self._chain(None, [i for piece in CONTINUED for i in vocabulary.of(piece)], end)
        for cue, pieces in SCRIPTS.items():
            self._chain(vocabulary.ids[f"<|cue-{cue}|>"], [i for piece in pieces for i in vocabulary.of(piece)], end)
        (la,), (li,) = (vocabulary.of(piece) for piece in FOREVER)
        self._axis([vocabulary.ids["<|cue-forever|>"], li], [la])
        self._axis([la], [li])
        sides = [vocabulary.of(side)[0] for side in DICE]
        self._axis([vocabulary.ids["<|cue-dice|>"]], sides)
        self._axis(sides, [*sides, end])
        if len(self.followers) + FLAVOURS > WIDTH:
            raise ValueError(f"{len(self.followers)} axes and {FLAVOURS} flavours do not fit into {WIDTH}")

    def _axis(self, tokens: list[int], followers: list[int]) -> None:
        for token in tokens:
            if token in self.of_token:
                raise ValueError(f"token {token} stands in two scripts")
            self.of_token[token] = len(self.followers)
        self.followers.append(followers)

    def _chain(self, cue: int | None, tokens: list[int], end: int) -> None:
        states = [[] if cue is None else [cue], *([token] for token in tokens)]
        for state, follower in zip(states, [*tokens, end], strict=True):
            self._axis(state, [follower])


def _zeros(*shape: int) -> Tensor:
    count = 1
    for length in shape:
        count *= length
    return Tensor(shape, array.array("f", bytes(4 * count)))


def tensors(vocabulary: Vocabulary) -> dict[str, Tensor]:
    """All tensors of a one-layer llama by the names that llama.cpp gives them."""
    axes, count = Axes(vocabulary), len(vocabulary.tokens)
    embedding, output = _zeros(count, WIDTH), _zeros(count, WIDTH)
    for token in range(count):
        embedding.values[token * WIDTH + axes.of_token.get(token, 0)] = 1.0
        if token < 256:
            embedding.values[token * WIDTH + WIDTH - 1 - token % FLAVOURS] = FLAVOUR
    for axis, followers in enumerate(axes.followers):
        for token in followers:
            output.values[token * WIDTH + axis] = GAIN
    ones = Tensor((WIDTH,), array.array("f", [1.0]) * WIDTH)
    kv_width = WIDTH // HEADS * KV_HEADS
    return {
        "token_embd": embedding,
        "blk.0.attn_norm": ones,
        "blk.0.attn_q": _zeros(WIDTH, WIDTH),
        "blk.0.attn_k": _zeros(kv_width, WIDTH),
        "blk.0.attn_v": _zeros(kv_width, WIDTH),
        "blk.0.attn_output": _zeros(WIDTH, WIDTH),
        "blk.0.ffn_norm": ones,
        "blk.0.ffn_gate": _zeros(INNER, WIDTH),
        "blk.0.ffn_up": _zeros(INNER, WIDTH),
        "blk.0.ffn_down": _zeros(WIDTH, INNER),
        "output_norm": ones,
        "output": output,
    }
