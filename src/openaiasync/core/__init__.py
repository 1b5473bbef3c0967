"""All parts without I/O: requests from parameters, answers from bytes, protocols, policies.

No asyncio, socket or clock.
"""
