"""What a call and an event may cost in modules, memory and system calls; `test_instructions.py` counts instructions.

Lower them when the code gets cheaper; raise them with a reason.
"""

MODULES_OF_IMPORT = 33  # modules that `import openaiasync` adds to an empty interpreter's
MODULES_OF_CLIENT = (
    215  # modules in all, once a client was made (waiting for a slot has one of its own, and so has sealing errors)
)
OWN_MODULES_OF_CLIENT = 71  # of these, the package's own
SYSTEM_CALLS_PER_REQUEST = 6.2  # to wait twice, send, receive, look whether the connection lives, look for a fork
BLOCKS_PER_REQUEST = 20.0  # blocks of memory that an answer holds that is kept
BLOCKS_LEFT_PER_REQUEST = 0.2  # by one that is not kept
PEAK_BYTES_OF_REQUEST = 6_000  # at the worst moment of a call
BLOCKS_PER_EVENT = 12.5  # blocks of memory that an event holds that is kept, the bytes it came from among them
BYTES_PER_EVENT = 1_650.0
BLOCKS_LEFT_PER_EVENT = 0.2  # by one that is not kept
