"""What needs no I/O: parameters to requests, bytes to answers, protocols, policies. No asyncio, no socket, no clock."""
