"""`embed_many` against llama.cpp: its own limits found, its own refusals named."""

from __future__ import annotations

import pytest

from conftest import run
from openaiasync import APIStatusError, EmbedManyError

from .processes import Running
from .test_llamacpp import client_of


def test_many_texts(llama_embeddings: Running) -> None:
    """The vectors of single calls, in order; a text too long for the server, which says 500 to it, is named."""

    async def main() -> None:
        async with client_of(llama_embeddings) as client:
            texts = [f"text {number}" for number in range(30)]
            many = await client.embed_many(texts, batch_size=7)
            assert len(many.vectors) == 30
            for number in (0, 8, 29):
                single = await client.embedding(texts[number])
                assert many.vectors[number].tolist() == pytest.approx(single.vectors[0].tolist(), abs=1e-6)
            with pytest.raises(EmbedManyError, match=r"texts\[12\] was refused") as caught:
                await client.embed_many([*texts[:12], "word " * 4000, *texts[12:]], batch_size=7, max_retries=0)
            assert len(caught.value.vectors) == 30
            refusal = caught.value.refused[12]
            assert isinstance(refusal, APIStatusError)
            assert refusal.status_code == 500

    run(main(), 60.0)
