"""Writes the model as a GGUF file (version 3), as llama.cpp reads it."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from .script import TEMPLATE
from .weights import CONTEXT, END, HEADS, INNER, KV_HEADS, MERGES, START, WIDTH, Tensor, Vocabulary, tensors

ALIGNMENT = 32
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: object) -> bytes:
    """A metadata value with its type: what GGUF calls uint32, float32, bool, string, or an array of these."""
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", UINT32, value)
        case float():
            return struct.pack("<If", FLOAT32, value)
        case str():
            return struct.pack("<I", STRING) + _text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(_text(str(one)) for one in value)
        case [int(), *_]:
            return struct.pack(f"<IIQ{len(value)}i", ARRAY, INT32, len(value), *value)
        case _:
            raise TypeError(f"no GGUF type for {value!r}")


def _metadata(vocabulary: Vocabulary) -> dict[str, object]:
    return {
        "general.architecture": "llama",
        "general.name": "scripted",
        "general.alignment": ALIGNMENT,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.rope.dimension_count": WIDTH // HEADS,
        "llama.vocab_size": len(vocabulary.tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.token_type": vocabulary.kinds,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in MERGES],
        "tokenizer.ggml.bos_token_id": vocabulary.ids[START],
        "tokenizer.ggml.eos_token_id": vocabulary.ids[END],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def raw(tensor: Tensor) -> bytes:
    values = tensor.values
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def write_gguf(path: Path) -> None:
    """Write the scripted model; the file is the same every time."""
    vocabulary = Vocabulary()
    metadata, content = _metadata(vocabulary), tensors(vocabulary)
    head = [b"GGUF", struct.pack("<IQQ", 3, len(content), len(metadata))]
    head += [_text(key) + _value(value) for key, value in metadata.items()]
    data = bytearray()
    for name, tensor in content.items():
        sizes = tensor.shape[::-1]  # GGUF names the fastest dimension first
        head.append(_text(f"{name}.weight") + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        head.append(struct.pack("<IQ", 0, len(data)))  # type 0: float32
        data += raw(tensor)
        data += bytes(-len(data) % ALIGNMENT)
    front = b"".join(head)
    path.write_bytes(front + bytes(-len(front) % ALIGNMENT) + data)
