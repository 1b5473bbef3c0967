"""The commands, their options and their exit codes. The code of a command is imported when it runs."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from ..errors import OpenAIError
from ..version import __version__
from .arguments import ANYWHERE, Debug, InputFile, ModelName, ServerOptions
from .chat_options import ANY_PROMPT, NO_OPTIONS, ChatOptions, ImageFiles, PromptOptions
from .console import CommandError, Exit, complain, out, silence, take_any_text
from .front_command import NO_FRONT, FrontOptions
from .model_aliases import resolve_arguments
from .usage_errors import in_flags, split_pairs, usage_message

__all__ = ["application", "run"]

app: App = App(
    name="openaiasync",
    help="Talk to any OpenAI-compatible server.\n\n"
    "Data goes to stdout, everything else to stderr. Exit codes: 0 success, 1 the server or the network failed, "
    "2 wrong usage, 3 some rows failed, 130 interrupted.",
    help_format="plaintext",
    version=f"openaiasync {__version__}",
)

_Count = Annotated[int, Parameter(validator=Number(gte=1))]


@app.command
def demo(*, calls: _Count = 500, in_flight: _Count = 32, seed: int = 0, debug: Debug = False) -> int:
    """Show what this library does with its built-in server: no key, no network.

    Parameters
    ----------
    calls:
        Number of calls in the last part.
    in_flight:
        Number of calls that run at the same time.
    seed:
        Seed of the random choice of questions.
    """
    from .demo_command import run_demo

    return run_demo(calls, in_flight, seed)


@app.command
def models(
    *, json: Annotated[bool, Parameter(negative="", show_default=False)] = False, server: ServerOptions = ANYWHERE
) -> int:
    """List the server's models: one per line, on a terminal as a table.

    Parameters
    ----------
    json:
        Print everything that the server says about them, as a JSON array.
    """
    from .models_command import list_models

    return list_models(server, json)


@app.command
def chat(
    question: str | None = None,
    /,
    *,
    options: ChatOptions = NO_OPTIONS,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Ask one question; without one, start a conversation on a terminal.

    The question is the argument, or the piped text, or both, the argument first:
    cat report.txt | openaiasync chat "Summarise this."

    In a conversation Ctrl-C stops an answer, Ctrl-D or "exit" ends it, and /help lists its commands.
    It is saved in $XDG_STATE_HOME/openaiasync/sessions (default: ~/.local/state).

    Parameters
    ----------
    question:
        The question.
    """
    from .chat_command import run_chat

    return run_chat(server, question, options)


@app.command
def responses(
    question: str | None = None,
    /,
    *,
    previous: str | None = None,
    go_on: Annotated[bool, Parameter(name=("--continue", "-c"), negative="", show_default=False)] = False,
    image: ImageFiles = (),
    options: PromptOptions = ANY_PROMPT,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Ask one question through the Responses API; the server keeps the conversation.

    Parameters
    ----------
    question:
        The question: the argument, or the piped text, or both.
    previous:
        The id of the response to continue from, as a terminal or --json shows it.
    go_on:
        Continue from the last response in the log.
    """
    from .responses_command import run_responses

    return run_responses(server, question, previous, image, options, go_on=go_on)


@app.command
def embed(
    file: InputFile = "-",
    /,
    *,
    model: ModelName = None,
    dimensions: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    form: Annotated[Literal["text", "csv", "tsv", "json", "jsonl"] | None, Parameter(name="--format")] = None,
    column: str | None = None,
    out: Annotated[str | None, Parameter(name=("--out", "-o"))] = None,
    store: str | None = None,
    new: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    batch: _Count = 64,
    in_flight: _Count = 4,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Turn texts into vectors: printed as JSON Lines in the same order, or kept in a file.

    Each line of output has index, text and embedding.
    The index counts all lines or rows from 0; blank ones are skipped.
    A line that the server refuses has "error" instead, and the exit code is 3.

    With --out or --store, the same command continues where it was interrupted.

    Parameters
    ----------
    file:
        A file of lines of text, or .csv, .tsv, .json or .jsonl; "-" is stdin.
    dimensions:
        Length of the vectors, if the model supports several.
    form:
        The format of the input. Default: by the name of the file, else lines of text.
    column:
        The column of a table, or the key of JSON objects, that holds the texts. Default: text, content or input.
    out:
        Write JSON Lines to this file.
    store:
        Keep texts and vectors in this SQLite file, in which `similar` searches.
    new:
        Start over, discarding the contents of --out or --store.
    batch:
        Number of lines per call.
    in_flight:
        Number of calls that run at the same time.
    """
    from .embed_command import EmbedOptions, run_embed

    options = EmbedOptions(
        file=file,
        form=form,
        column=column,
        model=model,
        dimensions=dimensions,
        batch=batch,
        in_flight=in_flight,
        out=out,
        store=store,
        new=new,
    )
    return run_embed(server, options)


@app.command
def similar(
    store: str,
    text: str | None = None,
    /,
    *,
    model: Annotated[str | None, Parameter(name=("--model", "-m"))] = None,
    top: Annotated[int, Parameter(name=("--top", "-n"), validator=Number(gte=1))] = 5,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Find the texts of a store that are nearest to a text, by the cosine of their vectors.

    The output has cosine and text, separated by a tab; on a terminal it is a table.

    Parameters
    ----------
    store:
        The file that `embed --store` made.
    text:
        The text to compare with. Default: stdin.
    model:
        The model; it must be that of the store. Default: that of the store.
    top:
        Number of texts.
    json:
        Print score, row and text as a JSON array.
    """
    from .similar_command import find_similar

    return find_similar(server, store, text, model, top, json)


@app.command
def serve(
    application: str | None = None,
    /,
    *,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(env_var="OPENAIASYNC_PORT", validator=Number(gte=0, lte=65535))] = 8000,
    api_key: Annotated[str | None, Parameter(env_var="OPENAIASYNC_DEMO_KEY")] = None,
    token_delay: Annotated[float, Parameter(validator=Number(gte=0, lte=60))] = 0.0,
    strict: bool = False,
    grace: Annotated[float, Parameter(validator=Number(gte=0, lte=86_400))] = 10.0,
    ui: bool = False,
    reload: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    front: FrontOptions = NO_FRONT,
    debug: Debug = False,
) -> int:
    """Run the built-in server: with your application, its demo models, or as a front for other servers (--upstream).

    The first line on stdout is the base URL.

    Parameters
    ----------
    application:
        An ASGI application, such as an `openaiasync.server.Server`, as MODULE:NAME. Default: the demo models.
    host:
        The address to listen on.
    port:
        The port; 0 chooses a free one.
    api_key:
        The key that calls of the demo must have. Prefer the variable: other users of this machine can read arguments.
    token_delay:
        Seconds that the demo models take per token.
    strict:
        Make the demo refuse unknown models, and request fields that the API does not have.
    grace:
        Seconds that running calls have to finish after a signal; a second signal ends them immediately.
    ui:
        Serve a web page at / as well, to chat with the models and to watch the requests.
    reload:
        Import the application anew when one of its files changes; the socket stays open, and calls in progress end
        with the old code.
    """
    from .serve_command import run_application, run_front, run_serve

    if front.given:
        return run_front(front, application, api_key, host, port, grace, ui)
    if application is not None:
        return run_application(application, host, port, grace, ui, reload=reload)
    if reload:
        raise CommandError("--reload needs an application, named as MODULE:NAME", Exit.USAGE)
    return run_serve(host, port, api_key, token_delay, strict, grace, ui)


@app.command
def doctor(
    *,
    model: ModelName = None,
    embedding_model: str | None = None,
    calls: Annotated[bool, Parameter(show_default=False)] = True,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Check the connection to a server and its features: DNS, TLS, key, models, streams, tools, schemas, embeddings.

    Exit code 1 if a check failed. A feature that the server lacks is a warning. Secrets are not printed.

    Parameters
    ----------
    embedding_model:
        The model for the embeddings check. Default: the first listed with "embed" in its name.
    calls:
        Make the calls that the server may charge for. Without them only the models are listed.
    json:
        Print the findings as one JSON object.
    """
    from .doctor_command import run_doctor

    return run_doctor(server, model, embedding_model, calls, json)


@app.command
def completion(
    shell: Literal["bash", "zsh", "fish", "models", "templates"],
    /,
    *,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Print a script that completes commands, options and names of models and templates in your shell.

    bash: source <(openaiasync completion bash), in ~/.bashrc.
    zsh: source <(openaiasync completion zsh), in ~/.zshrc, after compinit.
    fish: openaiasync completion fish | source, in ~/.config/fish/config.fish.

    Parameters
    ----------
    shell:
        The shell. "models" prints the aliases and the names of the server's models, as the scripts need them: from a
        file that is kept for ten minutes, or within two seconds. "templates" prints the names of saved templates.
    """
    from .completion_command import list_model_names, list_template_names, print_script

    if shell == "models":
        return list_model_names(server)
    if shell == "templates":
        return list_template_names()
    return print_script(application(), shell)


# Commands that are defined in other modules: building their options would slow down every other command.
_ADDED: dict[tuple[str, str], tuple[str, ...]] = {
    ("bench_command", "add_bench_command"): ("bench",),
    ("job_commands", "add_job_commands"): ("run", "check", "status", "retry", "merge", "export", "limits"),
    ("logs_command", "add_logs_command"): ("logs",),
    ("media_commands", "add_media_commands"): ("image", "speak", "transcribe"),
    ("settings_commands", "add_settings_commands"): ("keys", "aliases", "templates"),
}


def application(command: str = "") -> App:
    """Return the program: with the module of this command alone, or complete if it is not the name of a command."""
    missing = [place for place, names in _ADDED.items() if names[0] not in app]
    named = [place for place in missing if command in _ADDED[place]]
    if command in app and command not in ("--help", "-h"):  # which list all commands
        return app
    for module, function in named or missing:
        getattr(import_module(f".{module}", __package__), function)(app)
    return app


def run(tokens: Sequence[str]) -> int:
    """Run a command line and return its exit code. Errors are one line on stderr; ``--debug`` adds a traceback."""
    debug = False
    tokens = split_pairs(tokens)
    take_any_text()
    try:
        program = application(tokens[0] if tokens else "")
        command, bound, _ = program.parse_args(list(tokens), console=out(), print_error=False, exit_on_error=False)
        given = bound.arguments
        debug = given.get("debug", False) or any(
            getattr(given.get(name), "debug", False) for name in ("server", "servers")
        )
        resolve_arguments(bound)
        code = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
        return int(code or Exit.OK)
    except CycloptsError as error:
        complain(usage_message(error, tokens))
        return Exit.USAGE
    except BrokenPipeError:
        silence()
        return Exit.OK
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except (OpenAIError, CommandError, OSError, ValueError) as error:
        if debug:
            traceback.print_exception(error)
        complain(_explained(error))
        return _code_of(error)


def _explained(error: Exception) -> str:
    """Return the text of an error, and discard what stdout still holds if it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        silence()  # or exiting would raise the error again
    if isinstance(error, OpenAIError):
        return in_flags(str(error))
    if isinstance(error, OSError) and error.filename is None and error.strerror:
        return "stdout is closed" if error.errno == errno.EBADF else f"cannot write the output: {error.strerror}"
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def _code_of(error: Exception) -> Exit:
    if isinstance(error, CommandError):
        return error.code
    # ConfigurationError, and those of files that cannot be used as they are
    return Exit.USAGE if isinstance(error, OpenAIError) and isinstance(error, ValueError) else Exit.FAILED
