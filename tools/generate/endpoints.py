"""Write `endpoints.py`, one endpoint per operation: the client sends with it, the server routes with it."""

from __future__ import annotations

from dataclasses import dataclass

from .ir import ANY, STR, Field, Operation, Param
from .names import Place
from .source import HEADER
from .tables import Overrides, Untyped, python_name


@dataclass
class Endpoint:
    """An operation with everything that its endpoint and its method need."""

    operation: Operation
    answer: str  # object, page, text, binary, none, object-or-text
    type: Place | None  # of the answer; of the item, for a page
    page: str
    event: Place | None
    fields: dict[str, Field]  # parameters beside those of the path, by wire name
    params: Place | None  # the TypedDict its method unpacks
    files: tuple[str, ...] = ()  # the fields that upload, by wire name
    untyped: bool = False

    @property
    def constant(self) -> str:
        return self.operation.name.upper().replace(".", "_")

    @property
    def path_params(self) -> list[str]:
        return [part[1:-1] for part in self.operation.path.partition("?")[0].split("/") if part.startswith("{")]


OPEN = Place("", "OpenModel")


def untyped(row: Untyped) -> Endpoint:
    """Return the endpoint of a method without a schema."""
    body = row.request if row.request in ("json", "multipart") else "none"
    params = [Param("*", "query", ANY, False)] if row.request == "query" else []
    params += [Param(name, "header", STR, False) for name in row.headers]
    operation = Operation(row.name, "", row.method, row.path, params, None, body, None)
    kind, _, page = row.answer.partition(":")
    event = OPEN if kind.endswith("events") else None
    kind = kind.removesuffix("+events")
    return Endpoint(operation, kind, None, page, event, {}, None, untyped=True)


def where(place: Place) -> str:
    return "core.model.base:OpenModel" if place == OPEN else f"types.{place.module}:{place.name}"


def row(endpoint: Endpoint, overrides: Overrides) -> str:
    """Return the endpoint as source."""
    op = endpoint.operation
    names = {name: python_name(name, overrides) for name in endpoint.fields}
    query = [names.get(p.name, p.name) for p in op.params if p.place == "query"]
    heads = {python_name(p.name, overrides): p.name for p in op.params if p.place == "header"}
    mission = overrides.mission(op.name)
    words: dict[str, str] = {
        "required": " ".join([*endpoint.path_params, *(names[n] for n, f in endpoint.fields.items() if f.required)]),
        "optional": " ".join(names[name] for name, field in endpoint.fields.items() if not field.required),
        "query": " ".join(query),
        "wire": " ".join(
            f"{python}={wire}" for wire, python in names.items() if python != wire and python not in heads
        ),
        "body": op.body_kind if op.body_kind != "none" else "",
        "files": " ".join(endpoint.files),
        "codec": _codec(endpoint.answer, mission.group if mission else ""),
        "type": where(endpoint.type) if endpoint.type else "",
        "page": endpoint.page,
        "event": where(endpoint.event) if endpoint.event else "",
        "headers": "\\n".join(overrides.headers(op.name)),
        "header": " ".join(f"{python}={wire}" for python, wire in heads.items()),
        "parts": " ".join(f"{name}={media}" for name, media in op.parts),
        "alone": op.alone,
        "group": mission.group if mission else "",
        "default_of": overrides.default_of(op.name),
        "names_model": overrides.names_model(op.name),
    }
    if endpoint.answer in ("object", "page", "events") and endpoint.type is None:
        words["type"] = where(OPEN)
    if endpoint.untyped and (op.body_kind != "none" or query):
        words["optional"] = "*"
    lines = [f"\n{endpoint.constant} = Endpoint(", f'    "{op.name}",', f'    "{op.method}",', f'    "{op.path}",']
    for word, value in words.items():
        if value:
            lines += _word(word, value)
    return "\n".join([*lines, ")"])


def _word(word: str, value: str) -> list[str]:
    """Return a keyword argument; long lists of names take several lines."""
    if len(value) < 95:
        return [f'    {word}="{value}",']
    lines, line = [f"    {word}=("], ""
    for part in value.split(" "):
        if line and len(line) + len(part) > 105:
            lines.append(f'        "{line} "')
            line = part
        else:
            line = f"{line} {part}".strip()
    return [*lines, f'        "{line}"', "    ),"]


def module(endpoints: list[Endpoint], overrides: Overrides) -> str:
    """Return the text of `endpoints.py`."""
    rows = [row(endpoint, overrides) for endpoint in endpoints]
    table = [f'    "{endpoint.operation.name}": {endpoint.constant},' for endpoint in endpoints]
    return "\n".join(
        [
            HEADER + '"""The endpoint of every operation of the API."""\n',
            "from __future__ import annotations\n",
            "from .core.codec.endpoint import Endpoint\n",
            '__all__ = ["ENDPOINTS"]',
            *rows,
            "",
            "ENDPOINTS: dict[str, Endpoint] = {",
            *table,
            "}",
            "",
        ]
    )


_CODECS = {"object": "", "events": "", "binary": "bytes", "object-or-text": "json_or_text"}
_CODECS_OF_GROUPS = {"embedding": "embeddings", "text_to_speech": "audio"}


def _codec(answer: str, group: str) -> str:
    """Return the name of the codec of an operation's answers; ``""`` for the default one."""
    return _CODECS_OF_GROUPS.get(group) or _CODECS.get(answer, answer)
