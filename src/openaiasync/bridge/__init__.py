"""For code that insists on the official client: a transport that carries its requests over this library's engine.

Extra ``[openai]``. `transport` is all that is public here.
"""

from .bridge import BridgeOptions, transport

__all__ = ["BridgeOptions", "transport"]
