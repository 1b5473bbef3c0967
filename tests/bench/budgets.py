"""What a call and an event may cost, counted and not timed. Lower them when the code gets cheaper; raise with a reason.

Calls are those of Python functions of this package (of every version of Python the same), without comprehensions.
"""

MODULES_OF_IMPORT = 36  # modules that `import openaiasync` adds to an empty interpreter's
MODULES_OF_CLIENT = 260  # modules in all, once a client was made
OWN_MODULES_OF_CLIENT = 68  # of these, the package's own
CALLS_PER_REQUEST = 86  # `client.chat(messages)`, connection and decoder warm
CALLS_PER_EVENT = 4.0  # `chat.completions.create(stream=True)`, when many events come at once
CALLS_PER_LIVE_EVENT = 6.0  # the same through `chat.stream`
BLOCKS_PER_EVENT = 11.0  # blocks of memory that an event holds that is kept
BYTES_PER_EVENT = 1_200.0
BLOCKS_LEFT_PER_EVENT = 0.2  # by one that is not kept
