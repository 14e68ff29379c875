"""The base of all resource models, and the marks that say what is honoured.

A model is one message of Istio's protos or Kubernetes' API: attributes are its fields in snake_case,
lists are tuples, absent is None. Every field exists here, honoured or not, so that an unknown field is
a mistake and an unsupported one can be told apart from it. A mark in a field's metadata says that
setting it is not possible, and why; no mark means honoured:

    mirror: Annotated[Destination | None, NotYet("requests are not mirrored")] = None
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

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
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What the user wrote, and none of the many fields that are absent."""
        return ((name, value) for name, value in super().__repr_args__() if name in self.model_fields_set)


class Ruled(Model):
    """A message with rules that span its fields: `broken_rules` yields what breaks them, and where."""

    def broken_rules(self) -> Iterator[Wrong]:
        """Yield the path below this message, and the message, of everything that is wrong."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _hold_rules(self) -> Self:
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


def never(_value: object) -> bool:
    """The predicate of a mark that holds for every value."""
    return False


@dataclass(frozen=True, slots=True)
class Mark:
    """A field that users cannot set, for `reason`, unless its value as written satisfies `unless`.

    The reason names the feature, and then, where only some values are marked, what to use instead.
    """

    support: ClassVar[str] = ""
    reason: str
    unless: Callable[[Any], bool] = never

    def message(self) -> str:
        """What the user reads."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class NotYet(Mark):
    """Istio honours the field; meshproxy will, and does not so far."""

    support: ClassVar[str] = "not-yet"

    def message(self) -> str:
        """What the user reads."""
        cure = "; remove it until then" if self.unless is never else ""
        return f"not supported yet: {self.reason}{cure}"


@dataclass(frozen=True, slots=True)
class Refused(Mark):
    """The field has no effect in Istio either, so that setting it is a misunderstanding."""

    support: ClassVar[str] = "refused"

    def message(self) -> str:
        """What the user reads."""
        return f"refused: {self.reason}; remove it"


def one_of(*values: object) -> Callable[[Any], bool]:
    """A predicate for marks: the value is one of these, whatever the case of its letters."""
    folded = [_fold(value) for value in values]
    return lambda value: _fold(value) in folded


def none_of(*values: object) -> Callable[[Any], bool]:
    """A predicate for marks of enumerations: the value is none of these. A value that the enumeration
    does not have satisfies it too; it is wrong for another reason than its mark."""
    folded = [_fold(value) for value in values]
    return lambda value: _fold(value) not in folded


def _fold(value: object) -> object:
    return value.upper() if isinstance(value, str) else value
