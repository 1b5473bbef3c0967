"""A language model of half a megabyte that says what a script tells it to, for servers that others wrote.

The server runs a real llama graph, but attention and MLP add nothing, so the next token depends on the last one alone:
a token lies on an axis of the embedding, and the output matrix says which tokens follow from that axis. The chat
template, a part of the model, ends the prompt with a cue token that the last message names (``#hello``, ``#call``).
"""

from .gguf import write_gguf
from .huggingface import write_huggingface
from .script import CUES, TEXTS

__all__ = ["CUES", "TEXTS", "write_gguf", "write_huggingface"]
