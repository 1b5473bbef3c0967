"""Write the namespaces and their methods under the official names: `api/`, one module per namespace."""

from __future__ import annotations

from .endpoints import OPEN, Endpoint
from .names import Place, camel
from .source import HEADER, Module, indent
from .tables import Overrides

_OPTIONS = ".core.policy.request_options"


class Api:
    """Writes `api/` from the endpoints: ``chat.completions.create`` is in ``api/chat/completions``."""

    def __init__(self, endpoints: list[Endpoint], overrides: Overrides) -> None:
        self.overrides = overrides
        self.spaces: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            space = endpoint.operation.name.rpartition(".")[0]
            self.spaces.setdefault(space, []).append(endpoint)
            while "." in space:
                space = space.rpartition(".")[0]
                self.spaces.setdefault(space, [])

    def write(self) -> dict[str, str]:
        """Return the text of each file by its path below the package."""
        texts = {self._path(space): self._space(space) for space in sorted(self.spaces)}
        texts["api/root.py"] = self._root()
        texts["api/__init__.py"] = (
            HEADER + '"""The methods of the API under their official names; namespaces are loaded at first use."""\n'
        )
        return texts

    def _path(self, space: str) -> str:
        inside = space.replace(".", "/")
        return f"api/{inside}/__init__.py" if self._children(space) else f"api/{inside}.py"

    def _children(self, space: str) -> list[str]:
        prefix = space + "." if space else ""
        return [s for s in sorted(self.spaces) if s.startswith(prefix) and "." not in s[len(prefix) :] and s != space]

    def _root(self) -> str:
        module = Module("api", "root")
        module.own.add("Api")
        module.body += [
            "",
            "",
            "class Api:",
            '    """The namespaces of a client, one attribute each, imported at first use."""',
            "",
        ]
        module.body += ["    _calls: Engine"]
        module.use("typing", "TYPE_CHECKING")
        module.checked.setdefault(".engine", set()).add("Engine")
        self._attributes(module, "", ".")
        return _resolving(module)

    def _attributes(self, module: Module, space: str, package: str) -> None:
        for child in self._children(space):
            leaf = child.rpartition(".")[2]
            name = class_name(leaf)
            module.use("functools", "cached_property")
            module.use("typing", "TYPE_CHECKING")
            module.checked.setdefault(".api." + child, set()).add(name)
            module.body += [
                "",
                "    @cached_property",
                f"    def {leaf}(self) -> {name}:",
                f'        """The methods under `{child}`."""',
                f"        from {package}{leaf} import {name}",
                "",
                f"        return {name}(self._calls)",
            ]

        for leaf, home in sorted(self.overrides.again_under(space).items() if package == "." else ()):
            name = class_name(leaf)
            module.checked.setdefault(".api." + home, set()).add(name)
            module.body += [
                "",
                "    @cached_property",
                f"    def {leaf}(self) -> {name}:",
                f'        """The methods under `{home}`, by an earlier name."""',
                f"        from {module.relative('api.' + home)} import {name}",
                "",
                f"        return {name}(self._calls)",
            ]

    def _space(self, space: str) -> str:
        leaf = space.rpartition(".")[2]
        children = self._children(space)
        module = Module("api", space + ".__init__" if children else space)
        name = class_name(leaf)
        module.own.add(name)
        bases = [module.use("." + mixin.module, mixin.name) for mixin in self.overrides.api_mixins(space)]
        bases.append(module.use(".engine", "Namespace"))
        module.body += ["", "", f"class {name}({', '.join(bases)}):", f'    """The methods under `{space}`."""']
        self._attributes(module, space, ".")
        for endpoint in self.spaces[space]:
            self._method(module, endpoint)
        return _resolving(module)

    # -- methods -------------------------------------------------------------------------------------------------------

    def _method(self, module: Module, endpoint: Endpoint) -> None:
        module.use(".", "endpoints")
        method = endpoint.operation.name.rpartition(".")[2]
        unpack = self._params(module, endpoint)
        *named, last = [f"{name}: str" for name in endpoint.path_params] or [""]
        # The object's id may be positional; ids of the objects that contain it are keywords, as officially.
        head = ["self", last] if last else ["self"]
        given = ", ".join([f'"{name}": {name}' for name in endpoint.path_params] + ["**params"])
        call = f"endpoints.{endpoint.constant}, {{{given}}}"
        if endpoint.event is not None and endpoint.answer != "events":
            self._streaming(module, endpoint, f"{method}({', '.join([*head, '*', *named])}", unpack, call)
            return
        answer = self._answer(module, endpoint)
        word = "def" if endpoint.answer == "page" else "async def"
        rest = ["*", *named, unpack] if named else [unpack]
        lines = [
            f"{word} {method}({', '.join([*head, *rest])}) -> {answer}:",
            f'    """{self._doc(endpoint)}"""',
        ]
        if endpoint.answer == "page":
            lines += [_call(f"    pages: {answer} = self._calls.pages(", call), "    return pages"]
        elif endpoint.answer == "events":
            lines += [
                _call(f"    stream: {answer} = await self._calls.run_or_stream(", call + ", True"),
                "    return stream",
            ]
        elif endpoint.answer == "none":
            lines += [_call("    nothing: None = await self._calls.run(", call)]
            lines += ["    return nothing  # a raw answer is something"]
        else:
            lines += [_call(f"    answer: {answer} = await self._calls.run(", call), "    return answer"]
        module.body += ["", indent("\n".join(_folded(lines)))]

    def _streaming(self, module: Module, endpoint: Endpoint, start: str, unpack: str, call: str) -> None:
        """Here `start` is the signature up to the keyword `stream`."""
        whole = self._answer(module, endpoint)
        assert endpoint.event is not None
        module.use("typing", "Literal")
        module.use("typing", "overload")
        module.checked.setdefault(".engine", set()).add("AsyncStream")
        stream = f"AsyncStream[{self._type(module, endpoint.event)}]"
        cases = [
            ("stream: Literal[False] | None = None", whole),
            ("stream: Literal[True]", stream),
            ("stream: bool", f"{whole} | {stream}"),
        ]
        lines: list[str] = []
        for word, answer in cases:
            lines += ["@overload"]
            lines += _folded([f"async def {start}, {word}, {unpack}) -> {answer}: ..."])
        word = "stream: bool | None = None"
        either = cases[-1][1]
        lines += _folded([f"async def {start}, {word}, {unpack}) -> {either}:"])
        lines += [f'    """{self._doc(endpoint)} With `stream=True`, a stream."""']
        lines += [
            _call(f"    answer: {either} = await self._calls.run_or_stream(", call + ", stream"),
            "    return answer",
        ]
        module.body += ["", indent("\n".join(lines))]

    def _params(self, module: Module, endpoint: Endpoint) -> str:
        if endpoint.untyped:
            return f"**params: {module.use('typing', 'Any')}"
        module.use("typing", "TYPE_CHECKING")
        name = endpoint.params.name if endpoint.params else "RequestOptions"
        where = ".params." + endpoint.params.module if endpoint.params else _OPTIONS
        module.checked.setdefault(where, set()).add(name)
        return f"**params: {module.use('typing', 'Unpack')}[{name}]"

    def _type(self, module: Module, place: Place) -> str:
        module.use("typing", "TYPE_CHECKING")
        if place == OPEN:
            module.checked.setdefault(".core.model.base", set()).add("OpenModel")
            return "OpenModel"
        where = ".types." + place.module
        taken = {n.rpartition(" as ")[2]: m for m, names in module.checked.items() for n in names}
        name = place.name
        if taken.get(name, where) != where:
            name = camel(place.module.rpartition(".")[2]) + name
            module.checked.setdefault(where, set()).add(f"{place.name} as {name}")
        else:
            module.checked.setdefault(where, set()).add(name)
        return name

    def _answer(self, module: Module, endpoint: Endpoint) -> str:
        if endpoint.answer in ("none", "text"):
            return {"none": "None", "text": "str"}[endpoint.answer]
        if endpoint.answer == "binary":
            module.checked.setdefault(".engine", set()).add("BinaryAnswer")
            return "BinaryAnswer"
        name = self._type(module, endpoint.type or OPEN)
        if endpoint.answer == "events":
            module.checked.setdefault(".engine", set()).add("AsyncStream")
            return f"AsyncStream[{name}]"
        if endpoint.answer == "page":
            page = "Async" + endpoint.page
            module.checked.setdefault(".engine", set()).update(("Paginator", page))
            return f"Paginator[{name}, {page}[{name}]]"
        return f"{name} | str" if endpoint.answer == "object-or-text" else name

    def _doc(self, endpoint: Endpoint) -> str:
        op = endpoint.operation
        what = {
            "none": "nothing",
            "text": "text",
            "binary": "bytes",
            "events": "a stream",
        }
        name = endpoint.type.name if endpoint.type else "OpenModel"
        answer = f"pages of `{name}`" if endpoint.answer == "page" else what.get(endpoint.answer, f"`{name}`")
        text = f"`{op.method} {op.path}` → {answer}."
        return text + (" Deprecated." if op.deprecated else "")


def class_name(leaf: str) -> str:
    return "Async" + camel(leaf)


def _call(head: str, arguments: str) -> str:
    line = f"{head}{arguments})"
    return line if len(line) <= 114 else f"{head}\n        {arguments}\n    )"


def _folded(lines: list[str]) -> list[str]:
    """Return the first line of a definition or call, with one parameter per line if it is too long."""
    head, *rest = lines
    if len(head) > 114:
        start, _, tail = head.partition("(")
        params, _, end = tail.rpartition(") -> ")
        head = f"{start}(\n" + "".join(f"    {param},\n" for param in _split(params)) + f") -> {end}"
    return [head, *rest]


def _split(params: str) -> list[str]:
    """Split parameters at the commas outside brackets."""
    found, depth, part = [""], 0, 0
    for char in params:
        depth += (char in "[(") - (char in "])")
        if char == "," and depth == 0:
            found.append("")
            part += 1
        else:
            found[part] += char
    return [one.strip() for one in found]


def _resolving(module: Module) -> str:
    """Return the text of a module whose annotations are imported when they are evaluated."""
    if module.checked:
        module.use(".lazy", "resolve_annotations")
        module.late += ["", "", "resolve_annotations(__name__)"]
    return module.text()
