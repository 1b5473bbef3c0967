"""What the model says after each cue, as pieces; every piece is one token."""

from __future__ import annotations

Piece = str | bytes  # bytes are said one byte a token

# No two scripts share a piece: a token is where in its script the model is. A piece of one ASCII character would be a
# place in a script for every text that ends in it, so there is none that prints.
SCRIPTS: dict[str, list[Piece]] = {
    "hello": ["Good", " day", " from", " a", " pocket", " model."],
    "reason": ["<think>", "Six", " times", " seven", "</think>", "\n\nForty", "-two."],
    "call": [
        "<tool_call>",
        '\n{"name": "',
        "weather",
        '", "arguments": {"',
        "town",
        '": "',
        "Ber",
        "gen",
        '"}}\n',
        "</tool_call>",
    ],
    "calls": [
        '<tool_call>\n{"name": "weather", "arguments": {"town": "Lima"}}\n</tool_call>',
        '\n<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>',
    ],
    "json": ['{"sum"', ": ", "12", " }"],
    "utf8": ["na", b"\xc3\xaf", "ve ", b"\xe2\x82\xac", "7 ", b"\xf0\x9f\xa6\x8a", " fox"],
    "broken": ["bytes:", b"\xfe\xff", " over"],
    "controls": ["ctl", "\x00", "\x1b", "\x0b|", "\x0c|", "\x1c|", "\u0085|", "\u2028|", "\u2029|", " ok"],
    "nothing": [],
}
FOREVER = [" la", " li"]
DICE = [" one", " two", " three", " four", " five", " six"]
CONTINUED = [" So", " it", " goes", ".\n"]  # after any text that ends in no cue: the plain completions endpoint

CUES = [*SCRIPTS, "forever", "dice"]


def _said(pieces: list[Piece]) -> str:
    joined = b"".join(piece if isinstance(piece, bytes) else piece.encode() for piece in pieces)
    return joined.decode("utf-8", "replace")


TEXTS = {cue: _said(pieces) for cue, pieces in SCRIPTS.items()} | {"continued": _said([*CONTINUED])}

TEMPLATE = """\
{%- if tools -%}
<|turn|>system
You can call these functions, each given as JSON within <tools></tools>:
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
Call one by answering with a JSON object of its name and arguments within <tool_call></tool_call>:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|end|>
{% endif -%}
{%- for message in messages -%}
{%- set said = message.content if message.content is string else '' -%}
{%- if message.role == 'tool' -%}
<|turn|>user
<tool_response>
{{ said }}
</tool_response><|end|>
{% else -%}
<|turn|>{{ message.role }}
{% if message.reasoning_content is defined and message.reasoning_content -%}
<think>
{{ message.reasoning_content }}
</think>

{% endif -%}
{{ said }}
{%- for call in message.tool_calls or [] %}
{%- set wanted = call.function or call %}
<tool_call>
{"name": "{{ wanted.name }}", "arguments": {% if wanted.arguments is string %}{{ wanted.arguments }}\
{% else %}{{ wanted.arguments | tojson }}{% endif %}}
</tool_call>
{%- endfor -%}
<|end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{%- set last = messages[-1] -%}
{%- set asked = last.content if last.content is string else '' -%}
{%- set found = namespace(cue='') -%}
{%- for cue in CUES -%}
{%- if '#' + cue + ' ' in asked + ' ' -%}{%- set found.cue = cue -%}{%- endif -%}
{%- endfor -%}
{%- if not found.cue and tools and last.role == 'user' -%}{%- set found.cue = 'call' -%}{%- endif -%}
{%- if not found.cue and enable_thinking is defined and enable_thinking -%}{%- set found.cue = 'reason' -%}{%- endif -%}
<|turn|>assistant
{{ '<|cue-' + (found.cue or 'hello') + '|>' }}
{%- endif -%}
""".replace("CUES", str(CUES))
