"""The base of all resource models, and the marks that say what is honoured.

A model is one message of Istio's protos or Kubernetes' API: attributes are its fields in snake_case,
lists are tuples, absent is None. Every field exists here, honoured or not, so that an unknown field is
a mistake and an unsupported one can be told apart from it. A mark in a field's metadata says that
setting it is not possible, and why; no mark means honoured:

    mirror: Annotated[Destination | None, NotYet("requests are not mirrored")] = None
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError, ValidationInfo, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from .problems import Path

Wrong = tuple[Path, str]


def camel_case(name: str) -> str:
    """Istio's name of an attribute: `redirect_code` is `redirectCode`, `from_` is `from`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


class Model(BaseModel):
    """A message. Frozen, closed to unknown fields, named in YAML by camelCase."""

    model_config = ConfigDict(
        alias_generator=camel_case,
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        defer_build=True,
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What the user wrote, and none of the many fields that are absent."""
        return ((name, value) for name, value in super().__repr_args__() if name in self.model_fields_set)


LENIENT = "lenient"
"""A key of the context of validation: where it is true, rules that span fields are not held."""


class Ruled(Model):
    """A message with rules that span its fields: `broken_rules` yields what breaks them, and where."""

    def broken_rules(self) -> Iterator[Wrong]:
        """Yield the path below this message, and the message, of everything that is wrong."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _hold_rules(self, info: ValidationInfo) -> Self:
        if not (info.context or {}).get(LENIENT):
            raise_wrongs(type(self).__name__, self.broken_rules())
        return self


def raise_wrongs(title: str, wrongs: Iterable[Wrong]) -> None:
    """Raise all of `wrongs` as one validation error; pydantic puts the caller's path before theirs."""
    details = [
        InitErrorDetails(type=PydanticCustomError("rule", "{wrong}", {"wrong": message}), loc=path, input=None)
        for path, message in wrongs
    ]
    if details:
        raise ValidationError.from_exception_data(title, details)


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """Some values, as they are written in YAML: those that are `listed`, or else all but those.

    The case of letters makes no difference.
    """

    values: tuple[object, ...] = ()
    listed: bool = True

    def __contains__(self, value: object) -> bool:
        return (_fold(value) in map(_fold, self.values)) is self.listed

    def others(self) -> JsonSchemaValue:
        """The JSON Schema of all values but these. It minds the case of letters, which editors complete right."""
        enum = {"enum": list(self.values)}
        return {"not": enum} if self.listed else enum


NONE = Values()


def one_of(*values: object) -> Values:
    """For marks: these values can be set."""
    return Values(values)


def none_of(*values: object) -> Values:
    """For marks of enumerations: all but these values can be set. A value that the enumeration does not
    have is not one that the mark refuses; it is wrong for another reason."""
    return Values(values, listed=False)


def _fold(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Mark:
    """A field that users cannot set, for `reason`, but for the values of `unless`.

    The reason names the feature, and then, where only some values are marked, what to use instead.
    """

    support: ClassVar[str] = ""
    reason: str
    unless: Values = NONE

    def message(self) -> str:
        """What the user reads."""
        raise NotImplementedError

    def deprecation(self) -> JsonSchemaValue:
        """What an editor is told: `deprecated` is JSON Schema's word, `deprecationMessage` that of VS Code."""
        return {"deprecated": True, "deprecationMessage": self.message()}

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Pydantic's hook: the field's schema with what the mark says about it."""
        json_schema = handler(schema)
        if "$ref" in json_schema:
            # Editors prefer what stands behind a reference to what stands beside it.
            json_schema = {"allOf": [json_schema]}
        message = self.message()
        description = [json_schema.get("description"), message[:1].upper() + message[1:]]
        told = self.deprecation()
        if self.unless is not NONE:
            told = {"if": self.unless.others(), "then": told}
        return {**json_schema, "description": " ".join(filter(None, description)), **told}


@dataclass(frozen=True, slots=True)
class NotYet(Mark):
    """Istio honours the field; meshproxy will, and does not so far."""

    support: ClassVar[str] = "not-yet"

    def message(self) -> str:
        """What the user reads."""
        cure = "; remove it until then" if self.unless is NONE else ""
        return f"not supported yet: {self.reason}{cure}"


@dataclass(frozen=True, slots=True)
class Refused(Mark):
    """The field has no effect in Istio either, so that setting it is a misunderstanding."""

    support: ClassVar[str] = "refused"

    def message(self) -> str:
        """What the user reads."""
        return f"refused: {self.reason}; remove it"
