"""The base of every answer: a msgspec Struct that keeps unknown fields.

Unknown fields are in the instance's `__dict__`, so that they are attributes at run time. msgspec ignores `__dict__`
when it copies, compares, pickles or encodes; here all of these include the unknown fields.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, cast

import msgspec

from ...lazy import LazyModule, resolve_annotations
from .dump import CALLS, PRIVATE, How, dump_model, extras_of, plan_of, select, shape_of, to_text, unset_of
from .elsewhere import Elsewhere, shown_names
from .plain import parse_json, shortened

if TYPE_CHECKING:
    from .meta import Meta

__all__ = ["BaseModel", "LazyUnion", "OpenModel", "keep", "keep_raw", "new_model", "one_of", "put_extra"]


M = TypeVar("M", bound="BaseModel")

# The builder makes objects of the class below, and the class needs the builder, so it is loaded at first use.
_lenient: Any = LazyModule(".lenient", __package__)
_PLAIN = frozenset({dict, list, type(None)})  # values that a class cannot take unchanged


class ModelMeta(msgspec.StructMeta):
    """Makes a class of answers callable like the official one: with plain values for its parts, and unknown fields."""

    if not TYPE_CHECKING:  # the signature that type checkers know is that of the fields

        def __call__(cls, /, *args, **values):
            if not args and _PLAIN.isdisjoint(map(type, values.values())):
                try:
                    return super().__call__(**values)
                except TypeError:
                    pass  # an undeclared field, or a required one is missing
            if args or not isinstance(getattr(cls, "__struct_fields__", None), tuple):
                return super().__call__(*args, **values)
            return _called(cls, values)


new_model: Callable[..., Any] = msgspec.StructMeta.__call__
"""Makes an object of a class (the first argument) from finished values, unchecked."""


class BaseModel(
    msgspec.Struct, metaclass=ModelMeta, kw_only=True, dict=True, forbid_unknown_fields=True, omit_defaults=True
):
    """An answer, or an object in one. Declared fields are attributes; unknown ones are, too, and typed as `.extra`.

    A class may be called with an object's saved fields, plain parts included: ``ChatCompletion(**answer.to_dict())``.
    """

    _added: ClassVar[tuple[str, ...]] = ()  # declared fields of other servers, which count as extra

    @property
    def extra(self) -> dict[str, Any]:
        """The received fields that OpenAI's description lacks, as a new dict."""
        plan = plan_of(type(self))
        if not plan.added:
            return extras_of(self)
        unset = unset_of(self, shape_of(self))
        return {name: getattr(self, name) for name in plan.added if name not in unset} | extras_of(self)

    @property
    def model_extra(self) -> dict[str, Any]:
        """The same as `extra`, under pydantic's name."""
        return self.extra

    @property
    def model_fields_set(self) -> set[str]:
        """The declared fields that were set; in parts of an answer, optional ones count if they are not `None`."""
        plan, shape = plan_of(type(self)), shape_of(self)
        unset = unset_of(self, shape)
        names = {python_name for name, python_name, _, _ in plan.fields if name not in unset}
        if plan.tag_field is not None and (shape is None or plan.tag_field in shape):
            names.add(plan.tag_field)
        return names

    @property
    def meta(self) -> Meta:
        """Facts about the call: status, headers, request id, times. Only the answer of a call has them.

        Raises `AttributeError` on parts of an answer, on unpickled objects and on those made by hand.
        """
        meta: Meta | None = vars(self).get("_meta")
        if meta is None:
            raise AttributeError(f"this {type(self).__name__} has no 'meta': it is not the answer of a call")
        return meta

    @property
    def _request_id(self) -> str | None:
        """The server's id of the request, under the official client's name; `None` without one."""
        meta: Meta | None = vars(self).get("_meta")
        return None if meta is None else meta.request_id

    def to_dict(
        self,
        *,
        mode: Literal["json", "python"] = "python",
        use_api_names: bool = True,
        exclude_unset: bool = True,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        warnings: bool = True,
    ) -> dict[str, Any]:
        """Return plain dicts and lists. Of a top-level answer: exactly the received fields, with their current values.

        Of parts of an answer: required fields, and optional ones that are not `None`. `exclude_unset=False` includes
        every declared field. `warnings` exists for compatibility and has no effect.
        """
        how = How(use_api_names, exclude_unset, exclude_defaults, exclude_none, mode == "json")
        return dump_model(self, shape_of(self), how)

    def to_json(
        self,
        *,
        indent: int | None = 2,
        use_api_names: bool = True,
        exclude_unset: bool = True,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        warnings: bool = True,
    ) -> str:
        """Return `to_dict` as JSON text; `indent=None` gives one line without spaces."""
        how = How(use_api_names, exclude_unset, exclude_defaults, exclude_none, True)
        return to_text(dump_model(self, shape_of(self), how), indent)

    def model_dump(
        self,
        *,
        mode: str = "python",
        include: Any = None,
        exclude: Any = None,
        context: Any = None,
        by_alias: bool | None = None,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        round_trip: bool = False,
        warnings: bool | Literal["none", "warn", "error"] = True,
        serialize_as_any: bool = False,
    ) -> dict[str, Any]:
        """Return every declared field as pydantic does: unset ones as `None`, Python's names unless `by_alias`.

        `include` and `exclude` name fields under the names of the result: a set, or a dict with selections within parts
        (``exclude={"choices": {"__all__": {"logprobs"}}}``). `context`, `round_trip`, `warnings` and
        `serialize_as_any` exist for compatibility and have no effect.
        """
        how = How(bool(by_alias), exclude_unset, exclude_defaults, exclude_none, mode == "json")
        values: dict[str, Any] = select(dump_model(self, shape_of(self), how), include, exclude)
        return values

    def model_dump_json(
        self,
        *,
        indent: int | None = None,
        include: Any = None,
        exclude: Any = None,
        context: Any = None,
        by_alias: bool | None = None,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        round_trip: bool = False,
        warnings: bool | Literal["none", "warn", "error"] = True,
        serialize_as_any: bool = False,
    ) -> str:
        """Return `model_dump` as JSON text."""
        values = self.model_dump(
            mode="json",
            include=include,
            exclude=exclude,
            by_alias=by_alias,
            exclude_unset=exclude_unset,
            exclude_defaults=exclude_defaults,
            exclude_none=exclude_none,
        )
        return to_text(values, indent)

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """Return an object of these values: plain parts are built, missing fields are `None`, unknown ones `extra`."""
        return _built(cls, values)

    @classmethod
    def construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """The same as `model_construct`."""
        return _built(cls, values)

    @classmethod
    def model_validate(
        cls,
        obj: Any,
        *,
        strict: bool | None = None,
        from_attributes: bool | None = None,
        context: Any = None,
        by_alias: bool | None = None,
        by_name: bool | None = None,
    ) -> Self:
        """Return an object made from a dict of `to_dict` or `model_dump`; an object of this class is returned itself.

        As lenient as decoding an answer: unknown fields are kept, missing ones are `None`, values of a wrong type stay
        as they are. The options exist for compatibility. Raises `ValueError` for any other value.
        """
        if isinstance(obj, cls):
            return obj
        if not isinstance(obj, Mapping):
            raise ValueError(f"{cls.__name__} is made from a dict, not from {type(obj).__name__}")
        return _built(cls, dict(cast("Mapping[str, Any]", obj)))

    @classmethod
    def model_validate_json(
        cls,
        json_data: str | bytes | bytearray,
        *,
        strict: bool | None = None,
        context: Any = None,
        by_alias: bool | None = None,
        by_name: bool | None = None,
    ) -> Self:
        """Return `model_validate` of JSON text. Raises `ValueError` for text that is not a JSON object."""
        raw = json_data.encode("utf-8", "surrogatepass") if isinstance(json_data, str) else bytes(json_data)
        return cls.model_validate(parse_json(raw))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy, shallow or `deep`, with the fields of `update` changed; undeclared names become `extra`."""
        model = copying.deepcopy(self) if deep else copying.copy(self)
        attributes = _attributes(type(self))
        for name, value in (update or {}).items():
            if name in attributes:
                setattr(model, attributes[name], value)
            else:
                put_extra(model, name, value)
        return model

    def copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """The same as `model_copy`."""
        return self.model_copy(update=update, deep=deep)

    def replace(self, **changes: Any) -> Self:
        """Return a shallow copy with these fields changed. Raises `TypeError` for a name that is not a field."""
        for name in changes:
            if name not in _attributes(type(self)) and name not in extras_of(self):
                raise TypeError(f"{type(self).__name__} has no field {name!r}")
        return self.model_copy(update=changes)

    def __replace__(self, /, **changes: Any) -> Self:
        return self.replace(**changes)

    def __copy__(self) -> Self:
        model: Self = _restore(type(self), _values(self), _state(self))
        return model

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        state = _state(self)
        shared = {name: state.pop(name) for name in CALLS if name in state}
        model: Self = _restore(type(self), copying.deepcopy(_values(self), memo), copying.deepcopy(state, memo))
        vars(model).update(shared)
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        state = _state(self)
        for name in CALLS:  # header fields, addresses and clients do not belong in a file
            state.pop(name, None)
        return _restore, (type(self), _values(self), state)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BaseModel) or type(self) is not type(other):
            return NotImplemented
        if _values(self) != _values(other):
            return False
        tag_field = plan_of(type(self)).tag_field
        if tag_field is not None and getattr(self, tag_field) != getattr(other, tag_field):
            return False
        return extras_of(self) == extras_of(other)

    def __dir__(self) -> list[str]:
        return shown_names(type(self), super().__dir__())

    if not TYPE_CHECKING:  # checkers report these
        dict = Elsewhere("to_dict() or model_dump() return a dict")
        json = Elsewhere("to_json() or model_dump_json() return JSON")

        def __getitem__(self, key):
            name = key if isinstance(key, str) else "data[...]"
            raise TypeError(f"a {type(self).__name__} is not subscriptable: write .{name}; to_dict() returns dicts")

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        plan = plan_of(type(self))
        pairs: list[tuple[str, Any]] = []
        if plan.tag_field is not None:
            pairs.append((plan.tag_field, getattr(self, plan.tag_field)))
        for name, python_name, _, required in plan.fields:
            value = getattr(self, name)
            if value is not None or required:
                # For a vector sent as base64, the property with its public name returns the numbers.
                pairs.append((python_name, getattr(self, python_name) if isinstance(value, bytes) else value))
        return [(name, shortened(value)) for name, value in pairs + list(extras_of(self).items())]

    def __repr__(self) -> str:
        parts = (f"{name}={value!r}" for name, value in BaseModel.__rich_repr__(self))
        return f"{type(self).__name__}({', '.join(parts)})"

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Iterate over the fields as pairs of name and value, so that ``dict(answer)`` works as with pydantic.

        Parts of the answer stay objects; `to_dict` makes dicts of them, too.
        """
        plan = plan_of(type(self))
        if plan.tag_field is not None:
            yield plan.tag_field, getattr(self, plan.tag_field)
        for name, python_name, _, _ in plan.fields:
            value = getattr(self, name)
            # For a vector sent as base64, the property with its public name returns the numbers.
            yield python_name, getattr(self, python_name) if isinstance(value, bytes) else value
        yield from extras_of(self).items()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Let pydantic take the class as the type of a field: validated by `model_validate`, dumped by `model_dump`."""
        schema = import_module("pydantic_core").core_schema
        return schema.no_info_plain_validator_function(
            cls.model_validate,
            serialization=schema.plain_serializer_function_ser_schema(_dumped, info_arg=True),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {"type": "object", "title": cls.__name__}


class OpenModel(BaseModel, kw_only=True):
    """An object of an unknown kind: every field is an attribute, and typed as `.extra`."""

    type: ClassVar[str | None] = None  # for code that reads the `type` of any object


def _dumped(model: BaseModel, info: Any) -> dict[str, Any]:
    return model.to_dict(mode=info.mode, exclude_unset=True, exclude_none=info.exclude_none)


def _attributes(cls: type[BaseModel]) -> dict[str, str]:
    """Return attributes by their name in Python, and by their own name."""
    rows = plan_of(cls).fields
    return {name: name for name, *_ in rows} | {python_name: name for name, python_name, *_ in rows}


def _values(model: BaseModel) -> tuple[Any, ...]:
    return tuple(getattr(model, name) for name in model.__struct_fields__)


def _state(model: BaseModel) -> dict[str, Any]:
    """Return a copy of an instance's `__dict__` that shares no internal container with it."""
    state = dict(vars(model))
    if "_more" in state:
        state["_more"] = dict(state["_more"])
    return state


def _restore(cls: type[Any], values: tuple[Any, ...], state: dict[str, Any]) -> Any:
    model: BaseModel = new_model(cls, **dict(zip(cls.__struct_fields__, values, strict=True)))
    vars(model).update(state)
    return model


def _built(cls: type[M], values: dict[str, Any]) -> M:
    """Return an object made from plain values, as lenient decoding does."""
    build: Callable[[Any], M] = _lenient.builder_for(cls)
    return build(values)


def _called(cls: type[M], values: dict[str, Any]) -> M:
    """Call a class with keywords: as lenient as `_built`, except that at least one required field has to be given."""
    model = _built(cls, values)
    required = [name for name, _, _, is_required in plan_of(cls).fields if is_required]
    if required and len(vars(model).get("_absent", ())) == len(required):
        raise TypeError(f"{cls.__name__}() lacks its required arguments: {', '.join(map(repr, required))}")
    return model


def put_extra(model: BaseModel, name: str, value: Any) -> None:
    """Add an unknown field to `model`: an attribute, unless the class or private state has that name."""
    if takes_attribute(type(model), name):
        vars(model)[name] = value
    else:
        vars(model).setdefault("_more", {})[name] = value


def takes_attribute(cls: type[BaseModel], name: str) -> bool:
    """Whether an unknown field of this name may be an attribute: a server's field never hides a method."""
    if name in PRIVATE:
        return False
    return not hasattr(cls, name) or name == plan_of(cls).tag_field or (name == "type" and cls is OpenModel)


def keep(answer: M, raw: bytes | None, meta: Meta | None) -> M:
    """Make `answer` a top-level one: store the bytes it was decoded from and the facts about its call.

    `raw` is `None` for an answer accumulated from several events.
    """
    state = vars(answer)
    state["_raw"] = raw
    state["_meta"] = meta
    return answer


def keep_raw(value: Any, raw: bytes) -> Any:
    """Store the bytes that an event was decoded from, as for a whole answer; other values are left alone."""
    if isinstance(value, BaseModel):
        vars(value)["_raw"] = raw
    return value


class LazyUnion(type):
    """The class of a union's stand-in at run time; see `one_of`."""

    find_members: Callable[[], tuple[Any, ...]]

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _classes(cls.find_members()))


def _classes(members: tuple[Any, ...]) -> tuple[Any, ...]:
    import types
    import typing

    found: list[Any] = [OpenModel]  # an object that fits no member
    for member in members:
        origin = typing.get_origin(member)
        if origin is typing.Union or origin is types.UnionType:
            found += _classes(typing.get_args(member))
        elif origin is Literal:
            found += [type(value) for value in typing.get_args(member)]
        else:
            found.append(object if member is Any else origin or member)
    return tuple(found)


def one_of(name: str, members: Callable[[], tuple[Any, ...]]) -> Any:
    """Return a stand-in at run time for a union that msgspec cannot decode, because no tag tells its members apart.

    Type checkers see the real union: ``if TYPE_CHECKING: U = A | B``, ``else: U = one_of("U", lambda: (A, B))``.
    `members` is called at first use, so it may name later definitions. A field may be typed ``U`` or ``U | None``.
    """
    return LazyUnion(name, (), {"find_members": staticmethod(members)})


resolve_annotations(__name__)
