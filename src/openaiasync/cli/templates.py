"""Templates of prompts: files in the settings folder that hold a prompt, and the options it is asked with.

A template is a TOML file, so that it can be written by hand:

    system = "You translate into $language."
    prompt = "Translate: $input"
    model = "gpt-4o-mini"
    [options]
    temperature = 0
    [defaults]
    language = "Italian"

``$input`` is the question (without it, the question follows the prompt), ``$name`` a parameter, ``$$`` a dollar sign.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ..lazy import resolve_annotations
from ..storage.disk import read_file
from .console import CommandError
from .folders import check_name, config_folder

if TYPE_CHECKING:
    from .chat_options import ChatOptions

__all__ = ["Template", "apply_template", "read_template", "save_template", "template_names", "template_path"]

_ENDING = ".toml"
_LARGEST = 16 << 20  # bytes of a template
_VARIABLE = re.compile(r"\$(?:\$|([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_INPUT = "input"
_TEXTS = ("prompt", "system", "model", "schema", "functions")
_LISTS = ("fragments", "tools")
_FLAGS = ("extract", "approve")
_TABLES = ("options", "defaults")
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE = re.compile(r"-?(?:0|[1-9]\d{0,17})(?:\.\d+)?|true|false")  # values that TOML and the command line write alike


class Template(NamedTuple):
    """A prompt and its options. Values in `options` are as after ``-o NAME``; `schema` is the schema itself as JSON."""

    prompt: str = ""
    system: str | None = None
    model: str | None = None
    schema: str | None = None
    functions: str | None = None
    fragments: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    extract: bool = False
    approve: bool = False
    options: Mapping[str, str] = {}
    defaults: Mapping[str, str] = {}

    @property
    def variables(self) -> set[str]:
        """The parameters in the prompt and the system prompt, without ``$input``."""
        return {*_variables(self.prompt), *_variables(self.system or "")} - {_INPUT}

    @property
    def takes_input(self) -> bool:
        """Whether ``$input`` is in the prompt or the system prompt."""
        return _INPUT in {*_variables(self.prompt), *_variables(self.system or "")}


def _variables(text: str) -> Iterable[str]:
    return (name for match in _VARIABLE.finditer(text) if (name := match[1] or match[2]))


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values[name] if (name := match[1] or match[2]) else "$", text)


# ---------------------------------------------------------------- files


def template_path(name: str) -> Path:
    """Return the file of a template: a path that ends in ``.toml``, or a name in the folder of templates."""
    if name.endswith(_ENDING):
        return Path(name).expanduser()
    check_name(name, "template", hint="; a path ends in .toml")
    return config_folder("templates") / f"{name}{_ENDING}"


def template_names() -> list[str]:
    """Return the names of the templates in the folder, sorted."""
    return sorted(path.name.removesuffix(_ENDING) for path in config_folder("templates").glob(f"*{_ENDING}"))


def read_template(name: str) -> Template:
    """Return the template with this name. Raises `CommandError` for an unknown name, or a file that cannot be used."""
    path = template_path(name)
    try:
        value = tomllib.loads(read_file(path, _LARGEST).decode("utf-8-sig"))
    except FileNotFoundError:
        raise CommandError(f"there is no template {name!r}{_known(name)}") from None
    except OSError as error:
        raise CommandError(f"cannot read the template {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"the template {path} is not TOML: {error}") from None
    return _checked(value, path)


def _known(name: str) -> str:
    import difflib

    names = template_names()
    near = difflib.get_close_matches(name, names, 1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; the templates are {', '.join(names)}" if names else "; --save NAME saves one"


def _checked(value: dict[str, Any], path: Path) -> Template:
    fields: dict[str, Any] = {}
    for name, given in value.items():
        if (name in _TEXTS and isinstance(given, str)) or (name in _FLAGS and isinstance(given, bool)):
            fields[name] = given
        elif name in _LISTS and isinstance(given, list) and all(isinstance(one, str) for one in cast("Any", given)):
            fields[name] = tuple(cast("list[str]", given))
        elif name in _TABLES and isinstance(given, dict):
            fields[name] = {key: _argument(one) for key, one in cast("dict[str, object]", given).items()}
        elif name in (*_TEXTS, *_LISTS, *_FLAGS, *_TABLES):
            raise CommandError(f"the template {path}: {name} has a value of the wrong type")
        else:
            known = ", ".join((*_TEXTS, *_LISTS, *_FLAGS, *_TABLES))
            raise CommandError(f"the template {path} has an unknown entry {name!r}; known are {known}")
    return Template(**fields)


def _argument(value: object) -> str:
    """Return a value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def save_template(name: str, template: Template) -> Path:
    """Write a template and return its file; an earlier one of this name is replaced. Raises `CommandError`."""
    from ..storage.atomic import AtomicFile

    path = template_path(name)
    try:
        file = AtomicFile.open(path, mode=0o600)
        try:
            file.write(_toml(template).encode("utf-8", "replace"))
            file.commit()
        finally:
            file.discard()
    except OSError as error:
        raise CommandError(f"cannot write the template {path}: {error.strerror}") from None
    return path


def _toml(template: Template) -> str:
    lines = [f"{name} = {_text(value)}" for name in _TEXTS if (value := getattr(template, name))]
    lines += [f"{name} = true" for name in _FLAGS if getattr(template, name)]
    lines += [f"{name} = [{', '.join(map(_text, value))}]" for name in _LISTS if (value := getattr(template, name))]
    for name in _TABLES:
        table: Mapping[str, str] = getattr(template, name)
        if table:
            lines.append(f"\n[{name}]")
        for key, one in table.items():
            named = key if _KEY.fullmatch(key) else _text(key)
            lines.append(f"{named} = {one if name == 'options' and _BARE.fullmatch(one) else _text(one)}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Return a string of TOML: like JSON's, and over several lines if the text has some."""
    escaped = json.dumps(value, ensure_ascii=False)[1:-1].replace("\x7f", "\\u007f")
    if "\n" not in value.strip("\n"):
        return f'"{escaped}"'
    return '"""\n' + re.sub(r"(\\\\)|\\n", lambda match: match[1] or "\n", escaped) + '"""'


# ---------------------------------------------------------------- use


def apply_template(name: str, options: ChatOptions, question: str | None) -> tuple[ChatOptions, str | None]:
    """Return the options and the question that the template makes of these. What is given wins over the template.

    Raises `CommandError` for a missing or unknown parameter, and for a missing question that the template needs.
    """
    template = read_template(name)
    values = {**template.defaults, **dict(options.param)}
    _check_parameters(name, template, values, options.param)
    if template.takes_input:
        if question is None:
            raise CommandError(f"the template {name!r} needs a question, as an argument or through a pipe")
        values[_INPUT] = question
    prompt = _filled(template.prompt, values).strip()
    if not template.takes_input and question is not None:
        prompt = "\n\n".join(filter(None, (prompt, question)))
    system = (
        options.system if options.system is not None or template.system is None else _filled(template.system, values)
    )
    changed = replace(
        options,
        system=system,
        model=options.model or template.model,
        schema=options.schema or template.schema,
        functions=options.functions or template.functions,
        fragments=(*template.fragments, *options.fragments),
        tools=(*template.tools, *options.tools),
        extract=options.extract or template.extract,
        approve=options.approve or template.approve,
        option=(*template.options.items(), *options.option),
    )
    return changed, prompt or None


def _check_parameters(
    name: str, template: Template, values: Mapping[str, str], given: Iterable[tuple[str, str]]
) -> None:
    for one, _ in given:
        if one not in template.variables:
            takes = ", ".join(sorted(template.variables)) or "none"
            raise CommandError(f"the template {name!r} has no parameter {one!r}; its parameters are: {takes}")
    missing = sorted(template.variables - values.keys())
    if missing:
        wanted = " ".join(f"-p {one} VALUE" for one in missing)
        raise CommandError(f"the template {name!r} needs {wanted}")


resolve_annotations(__name__)
