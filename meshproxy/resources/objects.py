"""One object of a file to one resource: its kind, its metadata, its spec, and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from .documents import Flaw, Place
from .errors import describe, explain, is_unknown_field
from .fields import nearest, shapes, unsupported
from .kinds import ISTIO_GROUPS, KINDS, OTHER_ISTIO_KINDS, Kind
from .model import Model, Wrong
from .problems import Note, Path, Position, Problem, format_path
from .resource import DEFAULT_NAMESPACE, METADATA_FIELDS, Metadata, Resource, resource_id
from .salvage import salvage

M = TypeVar("M", bound=Model)

_HEAD = ("apiVersion", "kind", "metadata")


class ObjectReader:
    """Reads one object, once. Problems and notes collect as it goes.

    `id` is empty where it cannot be told; `is_read` says whether the object is of a kind that is read.
    """

    def __init__(self, file: str, value: dict[str, Any], place: Place) -> None:
        self.id = _guess_id(value)
        self.problems: list[Problem] = []
        self.notes: list[Note] = []
        self.is_read = False
        self._file = file
        self._value = value
        self._place = place
        self._broken: set[Path] = set()

    def read(self, flaws: list[Flaw], nulls: list[Path]) -> Resource[Model] | None:
        """Validate the object. `flaws` and `nulls` are those inside it, by paths from its top.

        What is broken is left out of the resource, as `salvage` has it. Returns None when the object is of no kind
        that is read, or when nothing of it is left.
        """
        kind = self._find_kind()
        if kind is None or kind.not_yet:
            if kind is not None:
                who = self.id or kind.name
                self.notes.append(Note(self.position(), f"{who} is skipped; not supported yet: {kind.not_yet}"))
            if self.problems:
                self._report_flaws(flaws)
            return None
        self.is_read = True
        self._report_flaws(flaws)
        if nulls:
            self._take_out_nulls(kind, nulls)
        metadata = self._read_metadata(kind)
        spec, omitted = self._read_spec(kind, metadata)
        if metadata is None or spec is None:
            return None
        return Resource(
            kind=kind.name,
            api_version=str(self._value.get("apiVersion")),
            name=metadata.name,
            namespace=metadata.namespace,
            labels=metadata.labels,
            annotations=metadata.annotations,
            created=metadata.creation_timestamp,
            spec=spec,
            file=self._file,
            place=self._place,
            omitted=omitted,
            broken=frozenset(self._broken),
        )

    def problem(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Add a problem at the value of `path`, at the nearest one around it, or at its key."""
        place, exact = self._place.find(path)
        line, column = (place.key_line, place.key_column) if at_key and exact else (place.line, place.column)
        self.problems.append(Problem(Position(self._file, line, column), self.id, format_path(path), message))

    def _report_flaws(self, flaws: list[Flaw]) -> None:
        for flaw in flaws:
            position = Position(self._file, flaw.line, flaw.column)
            self.problems.append(Problem(position, self.id, format_path(flaw.path), flaw.message))

    def _find_kind(self) -> Kind | None:
        name, api_version = self._value.get("kind"), self._value.get("apiVersion")
        if not isinstance(name, str) or not name:
            self._required("kind", f"one of {', '.join(kind.name for kind in KINDS.values() if not kind.not_yet)}")
            return None
        kind = KINDS.get(name)
        if not isinstance(api_version, str) or not api_version:
            self._required("apiVersion", kind.api_versions[0] if kind else "the API group and version of the kind")
            return kind
        if kind is not None and api_version in kind.api_versions:
            return kind
        group = api_version.rpartition("/")[0]
        if kind is not None and _means(group, kind):
            self.problem(
                ("apiVersion",),
                f"{api_version!r} does not serve {name}; use {' or '.join(kind.api_versions)}",
            )
            return kind
        near = _misspelt(name, group)
        if near is None:
            self.notes.append(Note(self.position(), f"{name} of {api_version} is skipped; meshproxy does not read it"))
        else:
            self.problem(("kind",), f"{name!r} is not a kind of {api_version}; did you mean {near}?")
        return None

    def position(self, *path: str | int) -> Position:
        """Where the value at `path` stands, or else the nearest value around it."""
        place, _ = self._place.find(path)
        return Position(self._file, place.line, place.column)

    def _required(self, field: str, example: str) -> None:
        found = self._value.get(field)
        problem = "is required" if not found else f"expected text, got {describe(found)}"
        self.problem((field,), f"{problem}; give {example}")

    def _take_out_nulls(self, kind: Kind, nulls: list[Path]) -> None:
        """Kubernetes' own kinds and metadata take null for absent; the schemas of Istio's kinds refuse it."""
        for path in nulls:
            if kind.is_istio and path[0] == "spec" and len(path) > 1 and isinstance(path[-1], str):
                self.problem(path, "has no value; give one, or remove the key")
        self._value = _without_nulls(self._value)

    def _read_metadata(self, kind: Kind) -> Metadata | None:
        value = self._value.get("metadata", {})
        if isinstance(value, dict):
            for name in value.keys() - METADATA_FIELDS:
                near = nearest(name, METADATA_FIELDS, cutoff=0.8)
                if near is not None:
                    self.problem(("metadata", name), f"unknown field; did you mean {near!r}?", at_key=True)
        metadata, wrongs = _validate(Metadata, value, {"namespace": DEFAULT_NAMESPACE})
        self._report(("metadata",), wrongs)
        if metadata is not None and not kind.dotted_names and "." in metadata.name:
            self.problem(("metadata", "name"), f"the name of a {kind.name} has no dots; use '-' instead")
        return metadata

    def _read_spec(self, kind: Kind, metadata: Metadata | None) -> tuple[Model | None, frozenset[Path]]:
        """The spec, and what of it is left out."""
        namespace = metadata.namespace if metadata else DEFAULT_NAMESPACE
        if not kind.has_spec:
            body = {name: value for name, value in self._value.items() if name not in _HEAD}
            return self._check_fields(kind.model, body, (), namespace)
        for name in self._value.keys() - {*_HEAD, "spec", "status"}:
            inside = name in shapes(kind.model)
            advice = f"{name!r} belongs inside spec" if inside else _top_level_advice(name)
            self.problem((name,), f"unknown field; {advice}", at_key=True)
        if "spec" not in self._value:
            self.problem(("spec",), "is required")
            return None, frozenset()
        return self._check_fields(kind.model, self._value["spec"], ("spec",), namespace)

    def _check_fields(
        self, model: type[Model], value: Any, path: Path, namespace: str
    ) -> tuple[Model | None, frozenset[Path]]:
        context = {"namespace": namespace}
        spec, wrongs = _validate(model, value, context)
        marks = list(unsupported(model, value))
        for below, mark in marks:
            scalar = not self._place.find((*path, *below))[0].children
            # One place, one problem: a value may be unsupported and no value at all.
            messages = [mark.message(), *(message for wrong, message in wrongs if wrong == below)]
            self.problem((*path, *below), "; besides, ".join(messages), at_key=not scalar)
        marked = {below for below, _ in marks}
        self._report(path, [wrong for wrong in wrongs if wrong[0] not in marked])
        if not wrongs:
            return spec, frozenset()
        self._broken |= {(*path, *below) for below, _ in wrongs}
        spec, omitted = salvage(model, value, context) or (None, frozenset())
        return spec, frozenset((*path, *below) for below in omitted)

    def _report(self, path: Path, wrongs: Iterable[Wrong]) -> None:
        for below, message in wrongs:
            self.problem((*path, *below), message, at_key=is_unknown_field(message))


def _validate(model: type[M], value: Any, context: dict[str, Any]) -> tuple[M | None, list[Wrong]]:
    """The message, or all that keeps it from being one."""
    try:
        return model.model_validate(value, context=context), []
    except ValidationError as error:
        return None, explain(error, model)


def _guess_id(value: Mapping[str, Any]) -> str:
    metadata = value.get("metadata")
    kind = value.get("kind")
    if not isinstance(metadata, dict) or not isinstance(kind, str) or not isinstance(metadata.get("name"), str):
        return ""
    namespace = metadata.get("namespace")
    return resource_id(kind, metadata["name"], namespace if isinstance(namespace, str) else DEFAULT_NAMESPACE)


def _means(group: str, kind: Kind) -> bool:
    """Whether an apiVersion's group is meant to be the kind's; others may have a kind of that name too."""
    if group == kind.group or (kind.is_istio and group in ISTIO_GROUPS):
        return True
    return bool(kind.group) and (not group or nearest(group, (kind.group,), cutoff=0.8) is not None)


def _misspelt(name: str, group: str) -> str | None:
    """The kind that an unknown one is a slip for, if its group is one where there can be no other."""
    if group in ISTIO_GROUPS:
        if name in OTHER_ISTIO_KINDS:
            return None
        istio = tuple(kind.name for kind in KINDS.values() if kind.is_istio)
        return nearest(name, istio + OTHER_ISTIO_KINDS) or f"one of {', '.join(istio)}"
    same_group = [kind.name for kind in KINDS.values() if kind.group == group]
    return next((known for known in same_group if known.lower() == name.lower() and known != name), None)


def _top_level_advice(name: str) -> str:
    near = nearest(name, (*_HEAD, "spec", "status"))
    return f"did you mean {near!r}?" if near else "a resource has apiVersion, kind, metadata and spec"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
