"""What the models say about themselves: every field with its path, type and support.

One description of a model, made once out of pydantic's own, serves three readers: `field_paths` lists
the fields of a kind, `unsupported` finds the marked ones that a user has set, and `nearest_field`
guesses what an unknown one was meant to be.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import AliasChoices, SecretStr, WithJsonSchema

from .model import Mark, Model
from .problems import Path

_LEAVES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    bytes: "string",
    SecretStr: "string",
}


class FieldPath(NamedTuple):
    """A field of a kind: its path below spec in the notation `http[].match[].headers{}.exact`, the type of
    its values, what meshproxy does with it (`honoured`, `refused` or `not-yet`) and why. `values` are those
    of an enumeration."""

    path: str
    type: str
    support: str
    reason: str
    values: tuple[str, ...] = ()


class FieldShape(NamedTuple):
    """A field in YAML's terms: `brackets` is `[]` for lists and `{}` for maps, `model` the message inside."""

    name: str
    brackets: str
    model: type[Model] | None
    type: str
    values: tuple[str, ...]
    mark: Mark | None
    has_marks: bool


@cache
def shapes(model: type[Model]) -> Mapping[str, FieldShape]:
    """The fields of a message by their names in YAML."""
    found = {}
    for attribute, info in model.model_fields.items():
        alias = info.validation_alias or attribute
        names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
        brackets, inner, leaf, values = _unfold(info.annotation, tuple(info.metadata))
        mark = next((item for item in info.metadata if isinstance(item, Mark)), None)
        has_marks = mark is not None or (inner is not None and any(s.has_marks for s in shapes(inner).values()))
        for name in names:
            found[name] = FieldShape(name, brackets, inner, leaf, values, mark, has_marks)
    return found


def _unfold(annotation: Any, metadata: tuple[Any, ...] = ()) -> tuple[str, type[Model] | None, str, tuple[str, ...]]:
    """Take a type apart: the brackets of its containers, then its message or its leaf's type and values."""
    schema = next((item.json_schema for item in metadata if isinstance(item, WithJsonSchema)), None)
    if schema is not None and get_origin(annotation) not in (Union, UnionType):
        return "", None, str(schema["type"]), ()
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _unfold(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        some = [argument for argument in arguments if argument is not type(None)]
        if len(some) == 1:
            return _unfold(some[0], metadata)
        return "", None, " or ".join(_unfold(argument)[2] for argument in some), ()
    if origin in (tuple, dict):
        brackets, model, leaf, values = _unfold(arguments[0] if origin is tuple else arguments[1])
        return ("[]" if origin is tuple else "{}") + brackets, model, leaf, values
    if origin is Literal:
        enum = tuple(str(value) for value in arguments if isinstance(value, str))
        return "", None, "string" if enum else "integer", enum
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return "", annotation, "object", ()
    return "", None, _LEAVES[annotation], ()


def leaf_paths(model: type[Model], prefix: str = "", above: Mark | None = None) -> Iterator[FieldPath]:
    """Every leaf below a message. What is below a marked field has the mark of that field."""
    for shape in shapes(model).values():
        mark = above or shape.mark
        path = f"{prefix}{shape.name}{shape.brackets}"
        if shape.model is not None:
            yield from leaf_paths(shape.model, f"{path}.", mark)
        elif mark is None:
            yield FieldPath(path, shape.type, "honoured", "", shape.values)
        else:
            yield FieldPath(path, shape.type, mark.support, mark.reason, shape.values)


def unsupported(model: type[Model], value: Any, path: Path = ()) -> Iterator[tuple[Path, Mark]]:
    """Find what the user has set and cannot: the paths and marks in `value`, a message as it was written.

    `value` need not be valid; whatever has the wrong shape is passed over. Of a marked field's subtree
    only the field itself is reported.
    """
    if not isinstance(value, dict):
        return
    known = shapes(model)
    for name, inside in value.items():
        shape = known.get(name)
        if shape is None or not shape.has_marks:
            continue
        if shape.mark is not None:
            if inside not in shape.mark.unless:
                yield (*path, name), shape.mark
        elif shape.model is not None:
            for below, item in _items(inside, shape.brackets):
                yield from unsupported(shape.model, item, (*path, name, *below))


def _items(value: Any, brackets: str) -> Iterator[tuple[Path, Any]]:
    if not brackets:
        yield (), value
    elif brackets == "[]" and isinstance(value, list):
        for index, item in enumerate(value):
            yield (index,), item
    elif brackets == "{}" and isinstance(value, dict):
        for key, item in value.items():
            yield (key,), item


def model_at(model: type[Model], path: Path) -> tuple[type[Model], type[Model] | None]:
    """The message that `path` leads into from `model`, and the message around that one."""
    parent: type[Model] | None = None
    for step in path:
        # Indices and the keys of maps lead no further into the types.
        shape = shapes(model).get(step) if isinstance(step, str) else None
        if shape is not None and shape.model is not None:
            model, parent = shape.model, model
    return model, parent


def nearest_field(model: type[Model], parent: type[Model] | None, name: str) -> str:
    """Advice for an unknown field: the field it was meant to be, or where one of that name belongs."""
    known = shapes(model)
    if (near := nearest(name, known)) is not None:
        return f"did you mean {near!r}?"
    if parent is not None and name in shapes(parent):
        return f"{name!r} belongs one level up"
    homes = [shape.name for shape in known.values() if shape.model is not None and name in shapes(shape.model)]
    if homes:
        return f"{name!r} belongs inside {' or '.join(homes)}"
    return f"the fields here are {', '.join(known)}" if known else "there are no fields here"


def nearest(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The candidate that `name` is most likely a slip for; case and underscores are no difference.

    `cutoff` is how alike they have to be, from 0 to 1. Advice may guess; a verdict should ask for 0.8.
    """
    folded = {_fold(candidate): candidate for candidate in candidates}
    close = difflib.get_close_matches(_fold(name), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def _fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
