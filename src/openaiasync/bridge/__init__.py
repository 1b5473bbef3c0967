"""A transport that carries the official client's requests over this library's engine.

Needs the extra ``[openai]``. `transport` is the only public name.
"""

from .bridge import BridgeOptions, transport

__all__ = ["BridgeOptions", "transport"]
