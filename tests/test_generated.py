"""What is generated, as it stands in the package: complete, named as users know it, and usable as it is."""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import openaiasync.params
import openaiasync.types
from generate.tables import read_surface
from generate.write import main
from openaiasync.api.root import Api
from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.core.model.base import BaseModel
from openaiasync.endpoints import ENDPOINTS
from openaiasync.engine import pagination as pages

REPOSITORY = Path(__file__).resolve().parents[1]
SPEC = Path(os.environ.get("OPENAIASYNC_SPEC", REPOSITORY.parent / "shared/spec/openapi.json"))
SURFACE = {name: row for name, row in read_surface(REPOSITORY / "spec/surface.tsv").items() if row.method != "-"}

# Names of `type_names.tsv` that we do not have, by pattern, with the reason.
MISSING = {
    "*:annotations": "no type: an import that the official packages happen to show",
    "types.live*:*": "the description has no live sessions",
    "types.beta.agents*:*": "the description has no agents",
    "types.beta:*Agent*": "the description has no agents",
    "types.beta:*Steer*": "the description has no steering",
    "types.beta:Hosted*": "agents",
    "types.beta:Environment*": "agents",
    "types.beta:InlineCapability*": "agents",
    "types.beta:Input*": "agents",
    "types.beta:*McpTransport*": "agents",
    "types.beta:OutputText": "agents",
    "types.beta:Session*": "agents",
    "types.beta:SetupCommand*": "agents",
    "types.beta:Subagent": "agents",
    "types.beta:SummaryText": "agents",
    "types.beta:TextFormat*": "agents",
    "types.beta:TokenUsage": "agents",
    "types.beta:WebSearchAction": "agents",
    "types.responses:*Steer*": "the description has no steering",
    "types*:*ConfigurationUpdateItem*": "not in the description",
    "types*:*CompactionCompactingEvent": "not in the description",
    "types*:*FunctionCallOutputItem*": "a union of contents, which the description has no name for",
    "types*:*WithReferencesParam": "not in the description",
    "types.realtime:ResponseItemReference*": "not in the description",
    "types.safety:*": "the description has no safety cases",
    "types*:Decision*": "the description has no decisions",
    "types.webhooks:*Agent*": "not in the description",
    "types.webhooks:*Webhook*": "not in the description, or a helper",
    "types.admin.organization*:*ExternalKey*": "not in the description",
    "types.admin.organization:*ExternalStorage*": "not in the description",
    "types.admin.organization*:WorkloadIdentity*": "not in the description",
    "types.admin.organization*:FederationRule*": "not in the description",
    "types.admin.organization:UsageDecisions*": "not in the description",
    "types.admin.organization.projects:*ServiceTier*": "not in the description",
    "types.admin.organization.projects:APIKeyUpdateParams": "not in the description",
    "types.audio:VoiceDeleted": "not in the description",
    "types.beta.realtime:Realtime*Event*": "a union that the description lacks",
    "types.beta.realtime:Conversation*": "not in the description under this name",
    "types*:RealtimeConnectParams": "of a connection, not of a request",
    "types*:*Reconnecting*": "of a connection",
    "types*:*WebSocketConnectionOptions": "of a connection",
    "types:WebsocketConnectionOptions": "of a connection",
    "types*:OAuthErrorCode": "of an error",
    "types:FileContent": "a plain text",
}


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        yield importlib.import_module(found.name)


def own_names(package: ModuleType) -> Iterator[tuple[str, Any]]:
    """(module and name, value) of all that the modules of a package define."""
    for module in modules(package):
        if not hasattr(module, "lazy_names") and not hasattr(module, "__path__"):  # not a door to another module
            for name in module.__all__:
                yield f"{module.__name__}:{name}", getattr(module, name)


class TestFiles:
    def test_all_is_up_to_date(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The generator would write what is there. (Needs the description, which is not in the repository.)"""
        if not SPEC.exists():
            pytest.skip(f"no description at {SPEC}; set OPENAIASYNC_SPEC")
        assert main(["--spec", str(SPEC), "--check"]) == 0, capsys.readouterr()

    def test_no_name_is_made_of_its_place_in_a_list(self) -> None:
        """No `…ChoicesItem`, no numbered variants."""
        names = [name.partition(":")[2] for name, _ in own_names(openaiasync.types)]
        assert not [name for name in names if re.search(r"[a-z]sItem$|Variant\d", name)]


class TestTypes:
    def test_every_answer_builds_a_decoder(self) -> None:
        """Each Struct, union and alias."""
        failed: list[str] = []
        count = 0
        for name, value in own_names(openaiasync.types):
            count += 1
            try:
                msgspec.json.Decoder(value)
            except TypeError as error:
                failed.append(f"{name}: {error}")
        assert not failed
        assert count > 1500

    def test_no_field_hides_what_answers_have(self) -> None:
        """`to_dict`, `extra`, … stay what they are."""
        for name, value in own_names(openaiasync.types):
            if isinstance(value, type) and issubclass(value, BaseModel):
                hidden = set(value.__struct_fields__) & set(dir(BaseModel))
                assert not hidden, f"{name}: {hidden}"

    def test_every_request_type_can_be_looked_into(self) -> None:
        """The names in its annotations exist at run time."""
        count = 0
        for _, value in own_names(openaiasync.params):
            if typing.is_typeddict(value):
                typing.get_type_hints(value)
                count += 1
        assert count > 700

    def test_names_are_where_users_expect_them(self) -> None:
        """All of `type_names.tsv`, but for what `MISSING` says; and no reason there is without use."""
        used: set[str] = set()
        wrong: list[str] = []
        for line in (REPOSITORY / "spec/type_names.tsv").read_text(encoding="utf-8").splitlines()[1:]:
            package, name, _ = line.split("\t")
            try:
                getattr(importlib.import_module(f"openaiasync.{package}"), name)
            except (ImportError, AttributeError):
                reasons = [one for one in MISSING if fnmatch.fnmatchcase(f"{package}:{name}", one)]
                used.update(reasons[:1])
                if not reasons:
                    wrong.append(f"{package}:{name}")
        assert not wrong
        assert not set(MISSING) - used

    @pytest.mark.parametrize(
        "where",
        [
            "types.chat.chat_completion:Choice",
            "types.chat.chat_completion:ChatCompletion",
            "types.chat.chat_completion_chunk:ChoiceDeltaToolCallFunction",
            "types.chat.chat_completion_chunk:Choice",
            "types.chat.chat_completion_message:Annotation",
            "types.chat.chat_completion_message_tool_call:ChatCompletionMessageToolCallUnion",
            "types.chat.chat_completion_token_logprob:TopLogprob",
            "types.chat.chat_completion_message_param:ChatCompletionMessageParam",
            "types.chat.completion_create_params:CompletionCreateParamsStreaming",
            "types.responses.response_create_params:ResponseCreateParamsNonStreaming",
            "types.completion_usage:CompletionTokensDetails",
            "types.create_embedding_response:Usage",
            "types.responses.response:IncompleteDetails",
            "types.responses.response_output_item:ResponseOutputItem",
            "types.shared_params:Metadata",
            "types.images_response:Usage",
        ],
    )
    def test_nested_names_are_in_their_modules(self, where: str) -> None:
        """As with the official client, one word of the import line changed."""
        module, _, name = where.partition(":")
        assert hasattr(importlib.import_module(f"openaiasync.{module}"), name)

    def test_a_chat_answer_does_not_pay_for_others(self) -> None:
        """Importing `ChatCompletion` and building its decoder loads chat and shared types alone, and no requests."""
        code = (
            "import sys, msgspec; from openaiasync.types.chat import ChatCompletion;"
            "msgspec.json.Decoder(ChatCompletion);"
            "print(*(name for name in sys.modules if name.startswith('openaiasync')))"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        loaded = run.stdout.split()
        allowed = ("types", "types.chat", "types.shared", "types.completion_usage")
        extra = [
            name
            for name in loaded
            if name.startswith(("openaiasync.types", "openaiasync.params"))
            and name.removeprefix("openaiasync.") not in allowed
            and not name.startswith(("openaiasync.types.chat.", "openaiasync.types.shared."))
        ]
        assert not extra
        assert len(loaded) < 30


class Nothing:
    """Stands for the calls of a client, of which the namespaces ask nothing before a method is called."""


def namespaces() -> Iterator[tuple[str, Any]]:
    class Client(Api):
        _calls: Any = Nothing()

    todo: list[tuple[str, Any]] = [("", Client())]
    while todo:
        path, space = todo.pop()
        for name in dir(type(space)):
            kind = inspect.getattr_static(type(space), name)
            if type(kind).__name__ == "cached_property":
                inside = f"{path}.{name}".lstrip(".")
                todo.append((inside, getattr(space, name)))
                yield inside, getattr(space, name)


SPACES = dict(namespaces())
CODECS = {
    "object": "json",
    "binary": "bytes",
    "object-or-text": "json_or_text",
    "embeddings.create": "embeddings",
    "audio.speech.create": "audio",
}
"""What decodes each kind of answer, and that of operations whose answers are held to more."""


class TestMethods:
    def test_every_method_of_the_official_client_is_there(self) -> None:
        """All that speak HTTP: same path, method, kind of body and of answer."""
        assert set(SURFACE) == set(ENDPOINTS)
        for name, row in SURFACE.items():
            endpoint = ENDPOINTS[name]
            kind = row.response.partition(":")[0].partition(" ")[0]
            kind = CODECS.get(name) or CODECS.get(kind, kind)
            body = row.request if row.request in ("json", "multipart") else "none"
            sent = endpoint.body.removesuffix("-or-json")
            have = (endpoint.method, endpoint.path, sent, endpoint.codec, bool(endpoint.event))
            assert have == (row.method, row.path, body, kind, bool(row.event)), name
            space, _, method = name.rpartition(".")
            assert callable(getattr(SPACES[space], method)), name

    def test_namespaces_are_made_once(self) -> None:
        """So that a patched method stays patched."""

        class Client(Api):
            _calls: Any = Nothing()

        client = Client()
        assert client.chat.completions is client.chat.completions
        assert type(client.chat.completions).__name__ == "AsyncCompletions"

    @pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
    def test_a_row_is_sound(self, endpoint: Endpoint) -> None:
        """What it names exists; path parameters are required and first; nothing goes two ways."""
        if endpoint.codec in ("json", "embeddings", "page", "json_or_text"):
            msgspec.json.Decoder(endpoint.load(endpoint.type))
        if endpoint.event:
            msgspec.json.Decoder(endpoint.load(endpoint.event))
        if endpoint.codec == "page":
            assert hasattr(pages, f"Async{endpoint.page}")
        assert endpoint.required[: len(endpoint.path_params)] == endpoint.path_params
        assert not set(endpoint.path_params) & endpoint.query
        assert endpoint.query <= endpoint.known | {"stream", "*"}
        assert set(endpoint.wire) <= endpoint.known
        assert bool(endpoint.files) <= endpoint.body.startswith("multipart")

    def test_signatures_say_what_rows_say(self) -> None:
        """The last path parameter may be given by position, everything else by name, as with the official client.

        The signature names every parameter that the endpoint knows, those of the call's options included.
        """
        for name, endpoint in ENDPOINTS.items():
            space, _, method = name.rpartition(".")
            parameters = list(inspect.signature(getattr(SPACES[space], method)).parameters.values())
            positional = [p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
            named = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
            ids = endpoint.path_params
            assert (*(p for p in named if p in ids), *positional) == ids, name
            if parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
                continue  # a method without a schema takes anything
            assert {"timeout", "extra_headers", "extra_query", "extra_body"} <= set(named), name
            assert all(p.default is inspect.Parameter.empty for p in parameters if p.name in ids), name
