"""YAML text to plain Python values, with the place of every key and value.

Rules of this module:

1. Nothing raises on bad text. What is wrong with a document is a `Flaw` beside its value, and the
   documents before and after it are read all the same.
2. Work and memory are bounded: nesting by `MAX_DEPTH`, the nodes of a document, every alias counted
   at its expanded size, by `MAX_NODES`.
3. Scalars mean what they mean to Kubernetes: YAML 1.1 booleans, but no sexagesimal numbers, and
   timestamps stay text. JSON is read as the YAML it is.

The builder walks parser events instead of composed nodes: one pass gives values, places and
duplicate keys at once, in about half the time.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from .problems import Path

MAX_DEPTH = 64
MAX_NODES = 200_000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TRUE = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"))
_FALSE = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_KEYWORDS: dict[str, bool | None] = {
    **dict.fromkeys(_TRUE, True),
    **dict.fromkeys(_FALSE, False),
    **dict.fromkeys(_NULL, None),
}
# Nothing in these can be matched in two ways, so that `re`, a tenth of RE2's cost on short texts, cannot be made slow.
_INTEGER = re.compile(r"[-+]?+(?:0b[01_]++|0o?+[0-7_]++|0x[0-9a-fA-F_]++|[1-9][0-9_]*+|0)")
_FLOAT = re.compile(
    r"[-+]?+(?:\.[0-9]++|[0-9][0-9_]*+\.?+[0-9_]*+)(?:[eE][-+]?+[0-9]++)?+"
    r"|[-+]?+\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_NUMBER_START = frozenset("+-.0123456789")

Scalar = str | int | float | bool | None


class Place:
    """Where a value stands, and the places of the values inside it, by key or index.

    `key_line` and `key_column` are where the key of this value stands, or the value itself when it
    has none. All count from 1.
    """

    __slots__ = ("children", "column", "key_column", "key_line", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = self.key_line = line
        self.column = self.key_column = column
        self.children: dict[str | int, Place] = _CHILDLESS

    def __repr__(self) -> str:
        return f"<Place {self.line}:{self.column} of {list(self.children)}>"

    def find(self, path: Path) -> tuple[Place, bool]:
        """The place of the value at `path` or of the nearest one above, and whether it is the very one."""
        place = self
        for step in path:
            child = place.children.get(step)
            if child is None:
                return place, False
            place = child
        return place, True


# Shared by all scalars, and never changed: a dict of its own for each would keep the collector busy.
_CHILDLESS: dict[str | int, Place] = {}


@dataclass(slots=True)
class Flaw:
    """Something wrong with the YAML itself; `line` and `column` count from 1."""

    line: int
    column: int
    path: Path
    message: str


@dataclass(slots=True)
class Document:
    """One YAML document. `value` means nothing when `broken`; `nulls` are the paths of its null values."""

    value: Any
    place: Place
    flaws: list[Flaw] = field(default_factory=list)
    nulls: list[Path] = field(default_factory=list)
    broken: bool = False


def read_documents(raw: bytes) -> Iterator[Document]:
    """Read every document of a file; empty ones are left out."""
    try:
        text = decoded(raw)
    except UnicodeDecodeError as error:
        yield _undecodable(raw, error)
        return
    first_line = 1
    while True:
        resume = yield from _read_until_error(text, first_line)
        if resume is None:
            return
        # A syntax error ends the parser, not the file: it starts anew at the next document marker.
        lines = text.splitlines(keepends=True)
        skip = next((n for n in range(resume, len(lines)) if lines[n].startswith("---")), None)
        if skip is None:
            return
        text = "".join(lines[skip:])
        first_line += skip


def decoded(raw: bytes) -> str:
    """A file's text. Raises `UnicodeDecodeError`."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16")
    return raw.decode("utf-8-sig")


def _undecodable(raw: bytes, error: UnicodeDecodeError) -> Document:
    before = raw[: error.start]
    line = before.count(b"\n") + 1
    column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
    message = f"not UTF-8 text ({error.reason}); save the file as UTF-8"
    return Document(None, Place(line, column), [Flaw(line, column, (), message)], broken=True)


def _read_until_error(text: str, first_line: int) -> Generator[Document, None, int | None]:
    """Yield documents; return from which line, counted from 0, to go on after a syntax error, or None."""
    events = yaml.parse(text, Loader=_Loader)
    try:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                document = _Builder(events, first_line).document(event)
                if document is not None:
                    yield document
    except yaml.YAMLError as error:
        line, column, reason = _explain(error, text)
        flaw = Flaw(first_line + line, column + 1, (), f"malformed YAML: {reason}")
        yield Document(None, Place(flaw.line, flaw.column), [flaw], broken=True)
        # The marker itself is where an unfinished document before it is noticed.
        return line if line and not column else line + 1
    return None


def _explain(error: yaml.YAMLError, text: str) -> tuple[int, int, str]:
    """Line and column, from 0, and the reason of a syntax error."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        # A character that YAML forbids: PyYAML tells the offset alone, libyaml's in bytes.
        at = next((n for n, char in enumerate(text) if _forbidden(char)), 0)
        line = text.count("\n", 0, at)
        return (
            line,
            at - (text.rfind("\n", 0, at) + 1),
            "this control character is not allowed in YAML; remove it",
        )
    reason = str(getattr(error, "problem", None) or error)
    context = getattr(error, "context", None)
    lines = text.splitlines()
    indent = lines[mark.line][: mark.column + 1] if mark.line < len(lines) else ""
    if "\t" in indent and not indent.strip():
        return mark.line, indent.index("\t"), "a tab cannot indent YAML; use spaces"
    return mark.line, mark.column, f"{reason} {context}" if context else reason


def _forbidden(char: str) -> bool:
    """Whether YAML 1.1 bars the character (its production `c-printable`)."""
    code = ord(char)
    return (code < 0x20 and char not in "\t\n\r") or (0x7F <= code < 0xA0 and code != 0x85) or code in (0xFFFE, 0xFFFF)


class _Abandoned(Exception):
    """The document went past a bound; it is not read on."""


class _Builder:
    """Builds one document out of the events that follow its start."""

    def __init__(self, events: Iterator[Any], first_line: int) -> None:
        self._events = events
        self._first_line = first_line
        self._path: list[str | int] = []
        self._flaws: list[Flaw] = []
        self._nulls: list[Path] = []
        self._nodes = 0
        # An anchor's value, its place and its expanded size; None while it is still being built.
        self._anchors: dict[str, tuple[Any, Place, int] | None] = {}

    def document(self, start: yaml.DocumentStartEvent) -> Document | None:
        """Build the document, up to and with its end event; None when it is empty."""
        event = next(self._events)
        if isinstance(event, yaml.ScalarEvent) and event.implicit[0] and event.value == "":
            self._skip_to_end()
            return None
        place = self._place(event)
        try:
            value, place = self._node(event)
        except _Abandoned:
            self._skip_to_end()
            return Document(None, place, self._flaws, broken=True)
        self._skip_to_end()
        return Document(value, place, self._flaws, self._nulls)

    def _skip_to_end(self) -> None:
        for event in self._events:
            if isinstance(event, yaml.DocumentEndEvent):
                return

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(mark.line + self._first_line, mark.column + 1)

    def _flaw(self, event: Any, message: str) -> None:
        place = self._place(event)
        self._flaws.append(Flaw(place.line, place.column, tuple(self._path), message))

    def _abandon(self, event: Any, message: str) -> _Abandoned:
        self._flaw(event, message)
        return _Abandoned()

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            message = f"the document has more than {MAX_NODES} values once its aliases are expanded; split it up"
            raise self._abandon(event, message)

    def _node(self, event: Any) -> tuple[Any, Place]:
        kind = event.__class__
        if kind is yaml.AliasEvent:
            return self._alias(event)
        self._count(event, 1)
        before = self._nodes
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if kind is yaml.ScalarEvent:
            value: Any = self._scalar(event)
            place = self._place(event)
        else:
            if len(self._path) >= MAX_DEPTH:
                raise self._abandon(event, f"nested deeper than {MAX_DEPTH} levels; no resource is that deep")
            value, place = self._mapping(event) if kind is yaml.MappingStartEvent else self._sequence(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, place, self._nodes - before + 1
        return value, place

    def _alias(self, event: Any) -> tuple[Any, Place]:
        known = self._anchors.get(event.anchor)
        if known is None:
            state = "stands inside its own anchor" if event.anchor in self._anchors else "has no anchor before it"
            raise self._abandon(event, f"alias *{event.anchor} {state}; write the value out")
        value, place, size = known
        self._count(event, size)
        # The key that leads to the value differs at every use, so the place is a new one.
        own = self._place(event)
        own.children = place.children
        return value, own

    def _sequence(self, event: Any) -> tuple[list[Any], Place]:
        place = self._place(event)
        place.children = {}
        values: list[Any] = []
        for item in self._events:
            if item.__class__ is yaml.SequenceEndEvent:
                break
            index = len(values)
            self._path.append(index)
            value, place.children[index] = self._node(item)
            if value is None:
                self._nulls.append(tuple(self._path))
            self._path.pop()
            values.append(value)
        return values, place

    def _mapping(self, event: Any) -> tuple[dict[str, Any], Place]:
        place = self._place(event)
        children = place.children = {}
        values: dict[str, Any] = {}
        merges: list[tuple[Any, Place]] = []
        for key_event in self._events:
            if key_event.__class__ is yaml.MappingEndEvent:
                break
            key = self._key(key_event)
            self._path.append(key)
            value, child = self._node(next(self._events))
            mark = key_event.start_mark
            child.key_line, child.key_column = mark.line + self._first_line, mark.column + 1
            if key == "<<" and key_event.implicit[0]:
                merges.append((value, child))
            elif key in values:
                first = children[key].key_line
                self._flaw(key_event, f"key {key!r} appears twice in one mapping, first in line {first}; keep one")
            else:
                values[key], children[key] = value, child
                if value is None:
                    self._nulls.append(tuple(self._path))
            self._path.pop()
        for value, child in merges:
            self._merge(value, child, values, place)
        return values, place

    def _merge(self, source: Any, child: Place, values: dict[str, Any], place: Place) -> None:
        """Merge `<<`: keys already there win, and of several sources the first (YAML 1.1 merge key)."""
        if isinstance(source, list):
            for index, item in enumerate(source):
                self._merge(item, child.children[index], values, place)
        elif isinstance(source, dict):
            for key in source:
                if key not in values:
                    values[key], place.children[key] = source[key], child.children[key]
        else:
            message = "'<<' merges mappings: give an alias of a mapping, or a list of such aliases"
            self._flaws.append(Flaw(child.line, child.column, (*self._path, "<<"), message))

    def _key(self, event: Any) -> str:
        if event.__class__ is yaml.ScalarEvent:
            self._count(event, 1)
            if event.anchor is not None:
                self._anchors[event.anchor] = event.value, self._place(event), 1
            return str(event.value)
        raise self._abandon(event, "a key has to be plain text; a list, mapping or alias cannot be one")

    def _scalar(self, event: Any) -> Scalar:
        plain, text = event.implicit[0], event.value
        if event.tag is None:
            return resolve_scalar(text) if plain else str(text)
        if event.tag in ("!", "tag:yaml.org,2002:str"):
            return str(text)
        standard = {"bool": bool, "int": int, "float": float, "null": type(None)}
        wanted = standard.get(event.tag.removeprefix("tag:yaml.org,2002:"))
        value = resolve_scalar(text)
        if wanted is None or not isinstance(value, wanted):
            self._flaw(event, f"tag {event.tag} does not fit here; write the value without a tag")
        return value


def resolve_scalar(text: str) -> Scalar:
    """What an unquoted scalar means: null, a boolean, a number, or else the text itself."""
    if text in _KEYWORDS:
        return _KEYWORDS[text]
    if text[0] in _NUMBER_START:
        if _INTEGER.fullmatch(text):
            return _integer(text)
        if _FLOAT.fullmatch(text):
            return _float(text)
    return text


def _float(text: str) -> float:
    digits = text.replace("_", "").lower()
    return float(digits.replace(".", "") if digits.endswith(("inf", "nan")) else digits)


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    unsigned = digits.lstrip("+-")
    # A leading zero alone is octal in YAML 1.1; Python wants to see `0o`.
    if len(unsigned) > 1 and unsigned[0] == "0" and unsigned[1].isdigit():
        digits = digits.replace(unsigned, "0o" + unsigned[1:])
    try:
        return int(digits, 0)
    except ValueError:
        return text
