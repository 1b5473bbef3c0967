"""The generator on a small description of its own: what it writes, and what it refuses."""

from __future__ import annotations

import ast
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from generate.build import Tables
from generate.ir import GeneratorError
from generate.write import main

SECRET = "A sentence of the description."


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def operation(id_: str, answer: dict[str, Any] | None = None, body: dict[str, Any] | None = None) -> dict[str, Any]:
    op: dict[str, Any] = {"operationId": id_, "description": SECRET, "responses": {"200": {}}}
    if answer:
        op["responses"]["200"] = {"content": {"application/json": {"schema": answer}}}
    if body:
        op["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return op


def constant(value: str) -> dict[str, Any]:
    return {"type": "string", "enum": [value]}


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "description": SECRET, "properties": properties, "required": list(properties)[:1]}


SCHEMAS: dict[str, Any] = {
    "Widget": {
        "type": "object",
        "required": ["id", "size", "parts"],
        "properties": {
            "id": {"type": "string", "description": SECRET},
            "size": {"type": "number", "nullable": True},
            "from": {"type": "integer"},
            "parts": {"type": "array", "items": ref("Part")},
            "owner": thing(name={"type": "string"}, kinds={"type": "array", "items": {"type": "string"}}),
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "choice": ref("Choice"),
            "anything": {},
        },
    },
    "Part": {"oneOf": [ref("Wheel"), ref("Axle")], "discriminator": {"propertyName": "type"}},
    "Wheel": thing(type=constant("wheel"), children={"type": "array", "items": ref("Part")}),
    "Axle": {"allOf": [thing(type=constant("axle"), length={"type": "integer"}), thing(note={"type": "string"})]},
    "Choice": {"anyOf": [ref("Red"), ref("Blue")]},
    "Red": thing(shade={"type": "string", "enum": ["a", "b"]}),
    "Blue": thing(depth={"type": "integer"}),
    "MakeWidget": {
        "type": "object",
        "required": ["name", "parts"],
        "properties": {
            "name": {"type": "string", "description": SECRET},
            "parts": {"type": "array", "items": ref("Part")},
            "model": {"anyOf": [{"type": "string"}, {"type": "string", "enum": ["small"]}]},
            "stream": {"type": "boolean"},
        },
    },
    "WidgetEvent": thing(type=constant("widget.delta"), delta={"type": "string"}),
    "WidgetList": thing(data={"type": "array", "items": ref("Widget")}),
    "Upload": {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}},
}

SPEC: dict[str, Any] = {
    "paths": {
        "/widgets": {
            "post": operation("makeWidget", ref("Widget"), ref("MakeWidget")),
            "get": operation("listWidgets", ref("WidgetList"))
            | {
                "parameters": [
                    {"name": "include[]", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}}
                ]
            },
        },
        "/widgets/{widget_id}": {
            "get": operation("getWidget", ref("Widget"))
            | {"parameters": [{"name": "widget_id", "in": "path", "required": True, "schema": {"type": "string"}}]},
        },
        "/uploads": {
            "post": operation("upload", ref("Widget"))
            | {"requestBody": {"content": {"multipart/form-data": {"schema": ref("Upload")}}}},
        },
    },
    "components": {"schemas": SCHEMAS},
}

ENDPOINTS = """
[widgets]
"create" = "makeWidget"
"list" = "listWidgets"
"retrieve" = "getWidget"
"upload" = "upload"
"""
OVERRIDES = """
[python]
"from" = "from_"
"include[]" = "include"
[add.Widget]
dialect = "str | None"
[optional]
Widget = ["size"]
[events]
"widgets.create" = "WidgetEvent"
[missions."widgets.create"]
group = "widget"
types = "Widget"
main = ["name"]
[headers]
"widgets" = ["Beta=one"]
[api]
widgets = "methods.widgets:WidgetMethods"
[mixins]
WidgetEvent = "answers:ChunkText"
"""
RENAMES = """
[types]
WidgetEvent = "WidgetDelta"
[params]
"""
UNTYPED = """
[widgets]
"paint" = "POST /widgets/{widget_id}/paint json object"
"""
SURFACE = """name	http	path	request	response	sse_event
widgets.create	POST	/widgets	json	object:Widget	WidgetEvent
widgets.list	GET	/widgets	query	page:AsyncCursorPage[Widget]
widgets.retrieve	GET	/widgets/{widget_id}	none	object:Widget
widgets.upload	POST	/uploads	multipart	object:Widget
"""
EXPORTS = "module\tname\tkind\ntypes\tWidget\tanswer\ntypes\tWidgetCreateParams\tanswer\n"

SERVED = """
operations = ["widgets.create"]
"""


class Project:
    """A folder with a description and its tables; the attributes may be changed before `build`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec = copy.deepcopy(SPEC)
        self.files = {
            "endpoints.toml": ENDPOINTS,
            "overrides.toml": OVERRIDES,
            "renames.toml": RENAMES,
            "served.toml": SERVED,
            "untyped.toml": UNTYPED,
            "surface.tsv": SURFACE,
            "type_names.tsv": EXPORTS,
        }

    def write(self) -> None:
        (self.folder / "spec.json").write_text(json.dumps(self.spec), encoding="utf-8")
        for name, text in self.files.items():
            (self.folder / name).write_text(text.lstrip("\n"), encoding="utf-8")

    def build(self) -> dict[str, str]:
        self.write()
        return Tables(self.folder).build(self.folder / "spec.json")

    def run(self, *arguments: str) -> int:
        self.write()
        package = self.folder / "package"
        package.mkdir(exist_ok=True)
        paths = ["--spec", str(self.folder / "spec.json"), "--tables", str(self.folder), "--package", str(package)]
        paths += ["--docs", str(self.folder)]
        return main([*paths, *arguments])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class TestAnswers:
    """Structs as the description says."""

    def test_fields_are_required_nullable_or_optional_as_described(self, project: Project) -> None:
        """Required ones have no default, optional ones `None`; numbers are floats; corrections win."""
        text = project.build()["types/widget.py"]
        assert "class Widget(BaseModel, kw_only=True):" in text
        assert "    id: str\n" in text
        assert "    size: float | None = None\n" in text
        assert '    from_: int | None = field(name="from", default=None)\n' in text
        assert "    labels: dict[str, str] | None = None\n" in text
        assert "    anything: Any = None\n" in text
        assert "    dialect: str | None = None\n" in text

    def test_a_required_nullable_field_has_no_default(self, project: Project) -> None:
        """The left-over `nullable` of OpenAPI 3.0 adds `None` and nothing else."""
        project.files["overrides.toml"] = OVERRIDES.replace('Widget = ["size"]', "")
        assert "    size: float | None\n" in project.build()["types/widget.py"]

    def test_inline_objects_are_named_by_their_field(self, project: Project) -> None:
        """An inline object stands in the module of the object that holds it."""
        text = project.build()["types/widget.py"]
        assert "class Owner(BaseModel, kw_only=True):\n    name: str\n    kinds: list[str] | None = None" in text
        assert "    owner: Owner | None = None\n" in text

    def test_union_members_told_apart_by_a_constant_are_tagged(self, project: Project) -> None:
        """Also one that is put together by `allOf`; recursion through the union is fine."""
        texts = project.build()
        assert 'class Wheel(BaseModel, kw_only=True, tag_field="type", tag="wheel"):' in texts["types/wheel.py"]
        assert '    type: ClassVar[Literal["wheel"]] = "wheel"\n' in texts["types/wheel.py"]
        assert "    length: int | None = None\n    note: str\n" in texts["types/axle.py"]
        assert "Part: TypeAlias = Wheel | Axle" in texts["types/part.py"]

    def test_modules_that_need_each_other_wait_for_the_decoder(self, project: Project) -> None:
        """`Wheel` holds `Part`s and is one: the way back is looked up late."""
        texts = project.build()
        assert '_part = LazyModule(".part", __package__)' in texts["types/wheel.py"]
        assert "list[_part.Part] | None" in texts["types/wheel.py"]
        assert "from .wheel import Wheel" in texts["types/part.py"]

    def test_annotations_are_evaluated_at_import_where_that_is_possible(self, project: Project) -> None:
        """What is needed stands above; a class that needs itself, or hides a name by a field, keeps texts."""
        texts = "from __future__ import annotations"
        widget = project.build()["types/widget.py"]
        assert texts not in widget
        assert widget.index("class Owner(") < widget.index("class Widget(")
        schemas = project.spec["components"]["schemas"]
        schemas["Red"]["properties"]["next"] = ref("Red")
        schemas["Blue"]["properties"]["list"] = {"type": "array", "items": {"type": "string"}}
        built = project.build()
        assert texts in built["types/red.py"]
        assert texts in built["types/blue.py"]
        assert texts in built["types/wheel.py"]
        assert texts not in built["types/axle.py"]

    def test_unions_that_nothing_tells_apart_are_true_unions_for_type_checkers(self, project: Project) -> None:
        """At run time they are resolved by `one_of`."""
        text = project.build()["types/choice.py"]
        assert "if TYPE_CHECKING:\n    Choice: TypeAlias = Red | Blue\n" in text
        assert 'Choice = one_of("Choice", lambda: (Red, Blue))' in text

    def test_such_a_union_needs_a_name(self, project: Project) -> None:
        """An inline one cannot be written down."""
        schemas = project.spec["components"]["schemas"]
        schemas["Widget"]["properties"]["choice"] = schemas["Choice"]
        with pytest.raises(GeneratorError, match=r"Widget\.choice: .* needs a name"):
            project.build()
        project.files["renames.toml"] = RENAMES.replace("[params]", '"Widget.choice" = "widget:Colour"\n[params]')
        assert 'Colour = one_of("Colour"' in project.build()["types/widget.py"]

    def test_a_name_of_the_table_and_a_mixin_are_used(self, project: Project) -> None:
        """`renames.toml` says the module and the name, `overrides.toml` the hand-written base."""
        text = project.build()["types/widget_delta.py"]
        assert "class WidgetDelta(ChunkText, BaseModel, kw_only=True):" in text
        assert "from ..answers import ChunkText" in text


class TestRequests:
    """TypedDicts, rows and methods."""

    def test_parameters_of_a_method_over_an_operation(self, project: Project) -> None:
        """Options without the main parameter and the model, then the three ways to add them."""
        text = project.build()["params/widget_create_params.py"]
        assert "class WidgetOptions(TypedDict, total=False):\n    parts: Required[Iterable[PartParam]]\n" in text
        assert (
            'class WidgetRest(WidgetOptions, RequestOptions, total=False):\n    model: str | Literal["small"]' in text
        )
        assert "class WidgetParams(WidgetRest, total=False):\n    name: Required[str]\n" in text
        assert "class WidgetCreateParamsBase(WidgetOptions, RequestOptions, total=False):" in text
        assert "stream: bool" not in text
        assert "    stream: Required[Literal[True]]" in text

    def test_a_row_says_where_each_parameter_goes(self, project: Project) -> None:
        """Bracketed names get the Python name of the table; uploads are named; headers are fixed."""
        text = project.build()["endpoints.py"]
        assert '    optional="include",\n    query="include",\n    wire="include=include[]",\n' in text
        assert '    required="file",\n    body="multipart",\n    files="file",\n' in text
        assert '    event="types.widget_delta:WidgetDelta",\n    headers="Beta=one",\n    group="widget",\n' in text
        assert '    page="CursorPage",\n' in text

    def test_methods_are_typed(self, project: Project) -> None:
        """`stream` has overloads, path parameters come first, the mixin is a base."""
        text = project.build()["api/widgets.py"]
        assert "class AsyncWidgets(WidgetMethods, Namespace):" in text
        assert "async def retrieve(self, widget_id: str, **params: Unpack[RequestOptions]) -> Widget:" in text
        assert "stream: Literal[True]" in text
        assert "AsyncStream[WidgetDelta]" in text
        assert (
            "def list(self, **params: Unpack[WidgetListParams]) -> Paginator[Widget, AsyncCursorPage[Widget]]:" in text
        )

    def test_a_method_without_a_schema_takes_anything(self, project: Project) -> None:
        """It answers an open object."""
        texts = project.build()
        assert "async def paint(self, widget_id: str, **params: Any) -> OpenModel:" in texts["api/widgets.py"]
        assert '    optional="*",\n    body="json",\n    type="core.model.base:OpenModel",\n' in texts["endpoints.py"]


MORE = """
[parameters."widgets.create"]
colour = { enum = ["red", "blue"], nullable = true }
lid = { properties = { open = { type = "boolean" } } }
[parameters."widgets.list"]
kinds = { type = "array", items = { type = "string" } }
[not_required]
"widgets.create" = ["parts"]
[fields]
size = "size_"
"Widget.owner.name" = "owner_name"
[unions]
Paint = "[RB]*[de]"
"""


class TestCorrections:
    """What the description lacks, or has otherwise than servers."""

    def test_parameters_are_added_and_set_free(self, project: Project) -> None:
        """In the body, or in the query of an operation without one; typed as by a schema of the description."""
        project.files["overrides.toml"] = OVERRIDES.replace("[mixins]", MORE + "[mixins]")
        texts = project.build()
        params = texts["params/widget_create_params.py"]
        assert "    parts: Iterable[PartParam] | Omit\n" in params
        assert '    colour: Literal["red", "blue"] | None | Omit\n    lid: Lid | Omit\n' in params
        assert "class Lid(TypedDict, total=False):\n    open: bool\n" in params
        rows = texts["endpoints.py"]
        assert '    required="name",\n    optional="parts model colour lid",\n' in rows
        assert '    optional="include kinds",\n    query="include kinds",\n' in rows

    def test_attributes_get_the_names_of_the_table(self, project: Project) -> None:
        """One field, or all of a name; the name on the wire stays."""
        project.files["overrides.toml"] = OVERRIDES.replace("[mixins]", MORE + "[mixins]")
        text = project.build()["types/widget.py"]
        assert '    size_: float | None = field(name="size", default=None)\n' in text
        assert '    owner_name: str = field(name="name")\n' in text

    def test_a_union_is_made_of_the_schemas_that_fit(self, project: Project) -> None:
        """It is a type like those of the description."""
        project.files["overrides.toml"] = OVERRIDES.replace("[mixins]", MORE + "[mixins]")
        project.files["renames.toml"] = RENAMES.replace("[params]", 'Paint = "paints.Paint"\n[params]')
        assert "    Paint: TypeAlias = Red | Blue\n" in project.build()["types/paints/paint.py"]

    def test_a_method_without_a_schema_may_have_header_parameters(self, project: Project) -> None:
        """Named behind its answer, with a Python name of the table or made of the wire's."""
        project.files["untyped.toml"] = UNTYPED.replace("json object", "json object X-Key openai-beta")
        project.files["overrides.toml"] = OVERRIDES.replace("[python]", '[python]\n"openai-beta" = "betas"')
        assert '    header="X_Key=X-Key betas=openai-beta",\n' in project.build()["endpoints.py"]

    def test_fields_of_a_form_have_the_media_types_of_the_description(self, project: Project) -> None:
        """And the field whose type is a body of its own may stand alone."""
        content = project.spec["paths"]["/uploads"]["post"]["requestBody"]["content"]
        content["multipart/form-data"]["encoding"] = {"file": {"contentType": "a/b"}, "n": {"contentType": "c/d"}}
        assert '    parts="file=a/b n=c/d",\n)' in project.build()["endpoints.py"]
        content["c/d"] = {"schema": {"type": "string"}}
        assert '    parts="file=a/b n=c/d",\n    alone="n",\n)' in project.build()["endpoints.py"]


class TestAll:
    def test_what_is_written_is_python_and_says_so(self, project: Project) -> None:
        """Every file begins with the mark, parses, and holds no sentence of the description."""
        texts = project.build()
        for path, text in texts.items():
            assert SECRET not in text, path
            if path == "methods.md":
                assert text.startswith("<!-- Generated by tools/generate. Do not edit. -->\n")
            else:
                assert text.startswith("# Generated by tools/generate. Do not edit.\n"), path
                ast.parse(text, path)

    def test_a_page_lists_every_method(self, project: Project) -> None:
        """With its request, its answer, whether it streams, and what is known of it."""
        project.spec["paths"]["/uploads"]["post"]["deprecated"] = True
        text = project.build()["methods.md"]
        assert "5 methods: 4 with types, and 1 marked *untyped*" in text
        assert [line for line in text.splitlines() if line.startswith("| `")] == [
            "| `widgets.create` | `POST /widgets` | `Widget` | `WidgetDelta` |",
            "| `widgets.list` | `GET /widgets` | pages of `Widget` |  |",
            "| `widgets.paint` *untyped* | `POST /widgets/{widget_id}/paint` | an open object |  |",
            "| `widgets.retrieve` | `GET /widgets/{widget_id}` | `Widget` |  |",
            "| `widgets.upload` *deprecated* | `POST /uploads` | `Widget` |  |",
        ]

    def test_packages_offer_their_names_lazily(self, project: Project) -> None:
        """Names of `type_names.tsv` that exist; a misspelt one stays an error for type checkers."""
        text = project.build()["types/__init__.py"]
        assert '"Widget": ".widget"' in text
        assert '"WidgetCreateParams": "..params.widget_create_params"' in text
        assert "if not TYPE_CHECKING:\n    __getattr__ = lazy_names(" in text

    def test_the_same_input_gives_the_same_files(self, project: Project) -> None:
        """Twice the same, in the same order."""
        assert list(project.build().items()) == list(project.build().items())


class TestServedBodies:
    """The request bodies that the server kit checks, as schemas."""

    def test_the_bodies_of_the_table_are_written(self, project: Project) -> None:
        """Each operation of the table has its schema, with the definitions that it needs and no prose."""
        text = project.build()["server/request_schemas.py"]
        assert "widgets.create" in text
        assert '"required":["name"' in "".join(line.strip().strip("'") for line in text.splitlines())
        assert "description" not in text

    def test_an_operation_that_does_not_exist(self, project: Project) -> None:
        """A name that the description does not know is an error that says so."""
        project.files["served.toml"] = 'operations = ["widgets.explode"]\n'
        with pytest.raises(GeneratorError, match=r"widgets\.explode"):
            project.build()


class TestCommand:
    def test_check_finds_what_is_stale(self, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
        """An edited file, a missing one, one that should not be there: each is named, nothing is written."""
        package = project.folder / "package"
        assert project.run() == 0
        assert project.run("--check") == 0
        (package / "types/widget.py").write_text("# edited\n", encoding="utf-8")
        (project.folder / "methods.md").write_text("edited\n", encoding="utf-8")
        (package / "endpoints.py").unlink()
        (package / "api/old.py").write_text("", encoding="utf-8")
        capsys.readouterr()
        assert project.run("--check") == 1
        assert capsys.readouterr().out == (
            "stale: api/old.py\nstale: endpoints.py\nstale: methods.md\nstale: types/widget.py\n"
        )
        assert (package / "types/widget.py").read_text(encoding="utf-8") == "# edited\n"
        assert project.run() == 0
        assert project.run("--check") == 0
        assert not (package / "api/old.py").exists()

    def test_nothing_is_written_when_nothing_changed(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The second run touches no file."""
        project.run()
        capsys.readouterr()
        assert project.run() == 0
        assert capsys.readouterr().out == ""

    def test_a_disagreement_ends_with_2_and_says_where(
        self, project: Project, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """And writes nothing."""
        project.files["endpoints.toml"] = ENDPOINTS.replace('"list" = "listWidgets"\n', "")
        assert project.run() == 2
        assert "listWidgets (GET /widgets) has no name in endpoints.toml" in capsys.readouterr().err
        assert not list((project.folder / "package").iterdir())


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("endpoints.toml", '"upload" = "upload"', '"upload" = "upload"\n"x" = "gone"', "names widgets.x = 'gone'"),
        ("endpoints.toml", '"list" =', '"a" = "upload"\n"list" =', "names 'upload' twice"),
        ("surface.tsv", "widgets.upload\t", "widgets.other\t", "does not say what widgets.upload answers"),
        ("renames.toml", "WidgetEvent =", "Gone =", "names 'Gone'"),
        ("renames.toml", '"WidgetDelta"', '"Widget"', "both 'Widget' and 'WidgetEvent' would be"),
        ("renames.toml", '"WidgetDelta"', '"a:b-c"', "is not a place"),
        ("overrides.toml", '"include[]" = "include"\n', "", r"needs a Python name"),
        ("overrides.toml", "[add.Widget]\ndialect", "[add.Widget]\nsize", "has a field 'size' by now"),
        ("overrides.toml", "[add.Widget]", "[add.Gone]", "'Gone' is not an object"),
        ("overrides.toml", 'Widget = ["size"]', 'Widget = ["gone"]', "has no field 'gone'"),
        ("overrides.toml", '"widgets.create" = "WidgetEvent"', '"widgets.create" = "Gone"', "streams 'Gone'"),
        ("overrides.toml", '[missions."widgets.create"]', '[missions."widgets.gone"]', "there is no 'widgets.gone'"),
        ("overrides.toml", '"widgets" = ["Beta=one"]', '"gadgets" = ["Beta=one"]', "there is no 'gadgets'"),
        ("overrides.toml", 'WidgetEvent = "answers', 'Gone = "answers', "'Gone' is not an object"),
        ("overrides.toml", "[mixins]", '[parameters."widgets.list"]\n"include[]" = {}\n[mixins]', "'include[]' by now"),
        (
            "overrides.toml",
            "[mixins]",
            '[parameters."widgets.create"]\nname = {}\n[mixins]',
            "'name' is a parameter twice",
        ),
        (
            "overrides.toml",
            "[mixins]",
            '[parameters."widgets.gone"]\nname = {}\n[mixins]',
            "there is no 'widgets.gone'",
        ),
        ("overrides.toml", "[mixins]", '[not_required]\n"widgets.create" = ["model"]\n[mixins]', "not require 'model'"),
        ("overrides.toml", "[mixins]", '[fields]\ngone = "here"\n[mixins]', "there is no 'gone'"),
        ("overrides.toml", "[mixins]", '[fields]\n"Widget.gone" = "here"\n[mixins]', "there is no 'Widget.gone'"),
        ("overrides.toml", "[mixins]", '[unions]\nPaint = "Gone*"\n[mixins]', "Paint = 'Gone\\*' does not fit"),
        ("overrides.toml", "[mixins]", '[unions]\nPart = "*e"\n[mixins]', "Part = '\\*e' does not fit"),
        ("untyped.toml", '"paint"', '"list"', "widgets.list has a schema"),
        ("untyped.toml", " json object", " json", "is not 'METHOD path request answer "),
    ],
)
def test_what_matches_nothing_is_refused(project: Project, file: str, old: str, new: str, message: str) -> None:
    """Each table is held against the description, so that it cannot rot."""
    assert old in project.files[file]
    project.files[file] = project.files[file].replace(old, new, 1)
    with pytest.raises(GeneratorError, match=message.replace("[", r"\[")):
        project.build()


def test_a_field_must_not_hide_what_every_answer_has(project: Project) -> None:
    """`meta`, `copy`, … belong to the base of all answers."""
    project.spec["components"]["schemas"]["Widget"]["properties"]["meta"] = {"type": "string"}
    with pytest.raises(GeneratorError, match=r"Widget\.meta: no field of an answer may be called 'meta'"):
        project.build()


def test_a_parameter_must_not_hide_an_option_of_every_call(project: Project) -> None:
    """`timeout`, `extra_body`, … belong to the call."""
    project.spec["components"]["schemas"]["MakeWidget"]["properties"]["timeout"] = {"type": "integer"}
    with pytest.raises(GeneratorError, match="'timeout' hides an option of every call"):
        project.build()


def test_a_page_has_a_list_of_data(project: Project) -> None:
    """A declared page that does not have the form of a page is refused."""
    project.spec["components"]["schemas"]["WidgetList"]["properties"] = {"items": {"type": "string"}}
    with pytest.raises(GeneratorError, match=r"widgets\.list: a page has a list `data`"):
        project.build()


def test_a_dangling_reference_is_named(project: Project) -> None:
    """The description refers to what it does not have."""
    project.spec["components"]["schemas"]["Widget"]["properties"]["choice"] = ref("Nothing")
    with pytest.raises(GeneratorError, match="'Nothing', which it does not have"):
        project.build()
