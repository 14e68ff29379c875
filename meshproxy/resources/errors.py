"""Pydantic's validation errors in words for people: what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .fields import model_at, nearest, nearest_field
from .model import Model, Wrong


def explain(error: ValidationError, model: type[Model]) -> list[Wrong]:
    """Each error's path below the message, and its explanation."""
    errors = error.errors(include_url=False)
    locations = [details["loc"] for details in errors]
    return [_explain(details, model) for details in errors if not _follows(details, locations)]


def is_unknown_field(message: str) -> bool:
    """Whether an explanation is about a field's name, and not about its value."""
    return message.startswith(_UNKNOWN)


_UNKNOWN = "unknown field"


def _follows(details: ErrorDetails, locations: list[tuple[int | str, ...]]) -> bool:
    """Whether a list is too short only because pydantic does not count its broken items."""
    path = details["loc"]
    return details["type"] == "too_short" and any(
        len(other) > len(path) and other[: len(path)] == path for other in locations
    )


def _explain(details: ErrorDetails, model: type[Model]) -> Wrong:
    path = tuple(step for step in details["loc"] if step != "[key]")
    kind = details["type"]
    if kind == "extra_forbidden":
        inner, parent = model_at(model, path[:-1])
        return path, f"{_UNKNOWN}; {nearest_field(inner, parent, str(path[-1]))}"
    context: dict[str, Any] = details.get("ctx", {})
    explain_kind = _MESSAGES.get(kind)
    return path, explain_kind(details["input"], context) if explain_kind else details["msg"]


def describe(value: Any) -> str:
    """A YAML value in a few words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {value[:60]!r}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
    return f"a {type(value).__name__}"


def _text(value: Any, _context: dict[str, Any]) -> str:
    cure = "; put it in quotes" if isinstance(value, bool | int | float) else ""
    return f"expected text, got {describe(value)}{cure}"


def _expected(what: str) -> Callable[[Any, dict[str, Any]], str]:
    return lambda value, _context: f"expected {what}, got {describe(value)}"


def _integer(value: Any, _context: dict[str, Any]) -> str:
    cure = "; remove the quotes" if isinstance(value, str) and value.lstrip("-").isdigit() else ""
    return f"expected a whole number, got {describe(value)}{cure}"


def _boolean(value: Any, _context: dict[str, Any]) -> str:
    cure = "; remove the quotes" if value in ("true", "false") else ""
    return f"expected true or false, got {describe(value)}{cure}"


def _literal(value: Any, context: dict[str, Any]) -> str:
    allowed = str(context["expected"]).replace("'", "").replace(" or ", ", ")
    near = nearest(value, tuple(allowed.split(", "))) if isinstance(value, str) else None
    hint = f"; did you mean {near}?" if near else ""
    return f"expected one of {allowed}, got {describe(value)}{hint}"


_MESSAGES: dict[str, Callable[[Any, dict[str, Any]], str]] = {
    "missing": lambda _value, _context: "is required",
    "rule": lambda _value, context: str(context["wrong"]),
    "value_error": lambda _value, context: str(context["error"]),
    "string_type": _text,
    "string_too_short": lambda _value, _context: "cannot be empty",
    "int_type": _integer,
    "int_from_float": _integer,
    "float_type": _expected("a number"),
    "finite_number": _expected("a number with an end"),
    "bool_type": _boolean,
    "literal_error": _literal,
    "model_type": _expected("a mapping of fields"),
    "model_attributes_type": _expected("a mapping of fields"),
    "dict_type": _expected("a mapping"),
    "tuple_type": _expected("a list"),
    "too_short": lambda _value, context: f"needs at least {context['min_length']} item",
    "too_long": lambda _value, context: f"has {context['actual_length']} items; {context['max_length']} are the most",
    "greater_than": lambda value, context: f"{value} is out of range; it has to be more than {context['gt']}",
    "greater_than_equal": lambda value, context: f"{value} is out of range; the least is {context['ge']}",
    "less_than_equal": lambda value, context: f"{value} is out of range; the most is {context['le']}",
}
