"""Writes the model as a Hugging Face directory, as `transformers` reads it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

from .gguf import raw
from .script import TEMPLATE
from .weights import CONTEXT, CONTROL, END, HEADS, INNER, KV_HEADS, MERGES, NORMAL, START, WIDTH, Vocabulary, tensors

NAMES = {
    "token_embd": "model.embed_tokens",
    "blk.0.attn_norm": "model.layers.0.input_layernorm",
    "blk.0.attn_q": "model.layers.0.self_attn.q_proj",
    "blk.0.attn_k": "model.layers.0.self_attn.k_proj",
    "blk.0.attn_v": "model.layers.0.self_attn.v_proj",
    "blk.0.attn_output": "model.layers.0.self_attn.o_proj",
    "blk.0.ffn_norm": "model.layers.0.post_attention_layernorm",
    "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj",
    "blk.0.ffn_up": "model.layers.0.mlp.up_proj",
    "blk.0.ffn_down": "model.layers.0.mlp.down_proj",
    "output_norm": "model.norm",
    "output": "lm_head",
}


def _write_safetensors(path: Path, vocabulary: Vocabulary) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, tensor in tensors(vocabulary).items():
        begin = len(data)
        data += raw(tensor)
        offsets = [begin, len(data)]
        header[f"{NAMES[name]}.weight"] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
    front = json.dumps(header).encode()
    front += b" " * (-len(front) % 8)
    path.write_bytes(struct.pack("<Q", len(front)) + front + data)


def _config(vocabulary: Vocabulary) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": len(vocabulary.tokens),
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "bos_token_id": vocabulary.ids[START],
        "eos_token_id": vocabulary.ids[END],
        "pad_token_id": vocabulary.ids[START],
    }


def _tokenizer(vocabulary: Vocabulary) -> dict[str, object]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": index, "content": token, "special": kind == CONTROL, **plain}
        for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind != NORMAL
    ]
    bytes_as_text = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": bytes_as_text,
        "post_processor": None,
        "decoder": bytes_as_text,
        "model": {"type": "BPE", "vocab": vocabulary.ids, "merges": [list(merge) for merge in MERGES]},
    }


def write_huggingface(folder: Path) -> None:
    """Write the scripted model as `config.json`, `model.safetensors`, the tokenizer's files and the chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = Vocabulary()
    _write_safetensors(folder / "model.safetensors", vocabulary)
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "pad_token": START,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    files = {
        "config.json": _config(vocabulary),
        "generation_config.json": {
            "bos_token_id": vocabulary.ids[START],
            "eos_token_id": vocabulary.ids[END],
            "pad_token_id": vocabulary.ids[START],
            "do_sample": True,
        },
        "tokenizer.json": _tokenizer(vocabulary),
        "tokenizer_config.json": tokenizer_config,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
