"""Which server to talk to: the options that `models`, `chat` and `embed` share, and the model when none is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from .output import CommandError, note

if TYPE_CHECKING:
    from ..client import Client

__all__ = ["ANYWHERE", "SERVER", "Connect", "Debug", "ModelName", "choose_model"]

SERVER = Group("Server", sort_key=10)

Debug = Annotated[bool, Parameter(negative="", show_default=False, help="Show where an error came from.")]
ModelName = Annotated[
    str | None,
    Parameter(name=("--model", "-m"), help="The model. Default: the first fitting one that the server lists."),
]


@Parameter(name="*", group=SERVER)
@dataclass(frozen=True, kw_only=True)
class Connect:
    """Options of every command that calls a server."""

    base_url: Annotated[
        str | None,
        Parameter(help="URL of the API, as http://localhost:8000/v1. Default: OPENAI_BASE_URL, else OpenAI's own."),
    ] = None
    api_key: Annotated[
        str | None,
        Parameter(
            help="The server's key. Better set OPENAI_API_KEY: other users of this machine can read arguments. "
            "A local server usually needs none."
        ),
    ] = None
    timeout: Annotated[
        float | None,
        Parameter(validator=Number(gt=0), help="Seconds until an answer starts. Default: 120."),
    ] = None
    debug: Debug = False

    def client(self, **options: Any) -> Client:
        """A client for this server; `ConfigurationError` if there cannot be one."""
        from ..client import Client

        if self.timeout is not None:
            options["http_timeout"] = self.timeout
        return Client(api_base=self.base_url, api_key=self.api_key, **options)


ANYWHERE = Connect()
"""No option given: the environment decides."""


async def choose_model(client: Client, named: str | None, kind: Literal["chat", "embedding"]) -> str:
    """The model named, or the first that the server lists and whose name fits; says so where there was a choice.

    Servers do not tell what a model is for, so its name must do: embedding models have "embed" in it.
    """
    if named:
        return named
    names = [model.id async for model in client.models()]
    if not names:
        raise CommandError("the server lists no model; name one with --model")
    fitting = [name for name in names if ("embed" in name.lower()) == (kind == "embedding")]
    chosen = (fitting or names)[0]
    if len(names) > 1:
        note(f"Using {chosen}, of {len(names)} models; --model names another.")
    return chosen
