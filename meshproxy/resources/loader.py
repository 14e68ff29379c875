"""Files to resources, with every problem of every file in one run.

A file is read into documents, a document is unfolded into the objects it lists, and each object is
validated on its own. Whatever is wrong becomes a `Problem` and reading goes on; the one exception is
a path that cannot be read, which raises once all the others were tried.

A resource whose fields are all well-formed is returned even if some of them are not supported yet, so
that those who refer to it can be checked; `Loaded.problems` says that nothing may be started. What is left of
one with broken fields is kept apart, so that what it refers to can be checked in the same run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from .documents import Document, Place, read_documents
from .errors import describe
from .installations import mesh_config_of
from .model import Model
from .objects import ObjectReader
from .problems import Note, Position, Problem, Unreadable, format_path
from .problems import Path as Steps
from .resource import Resource

STDIN = "-"
STDIN_NAME = "<stdin>"
SUFFIXES = (".yaml", ".yml", ".json")
TEST_SUFFIX = ".meshtest.yaml"

M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was read. `invalid` are the ids of the resources that are too broken to be among `resources`; of these,
    `partial` are the well-formed parts, fit to be checked and not to be run."""

    resources: tuple[Resource[Model], ...]
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    invalid: frozenset[str] = frozenset()
    partial: tuple[Resource[Model], ...] = ()

    def of(self, model: type[M]) -> tuple[Resource[M], ...]:
        """The resources of one kind, by its model: `loaded.of(VirtualService)`."""
        return tuple(resource for resource in self.resources if isinstance(resource.spec, model))  # type: ignore[misc]


def load(paths: Iterable[str | os.PathLike[str]], stdin: IO[bytes] | IO[str] | None = None) -> Loaded:
    """Read files, folders (recursively) and `-` for `stdin`, by default the process's own.

    Raises:
        Unreadable: some paths could not be read; all of them were tried.
    """
    sink = _Sink()
    failures: list[tuple[str, str]] = []
    seen: set[str] = set()
    for path in paths:
        for file in _files(os.fspath(path), sink.notes, failures):
            real = os.path.realpath(file)
            if real in seen:
                continue
            seen.add(real)
            try:
                raw = _read(file, stdin)
            except OSError as error:
                failures.append((file, error.strerror or str(error)))
                continue
            for document in read_documents(raw):
                sink.add_document(STDIN_NAME if file == STDIN else file, document, raw)
    if failures:
        raise Unreadable(failures)
    return sink.loaded()


def _files(path: str, notes: list[Note], failures: list[tuple[str, str]]) -> Iterator[str]:
    """The files that a path stands for. A file that is named is read whatever its name and sort.

    In a folder, a pipe is left alone: to read one that nobody writes to would take forever.
    """
    if not os.path.isdir(path):
        yield path
        return

    def fail(error: OSError) -> None:
        failures.append((str(error.filename), error.strerror or str(error)))

    found = False
    for folder, folders, names in os.walk(path, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.endswith(SUFFIXES) and not name.startswith(".") and not name.endswith(TEST_SUFFIX):
                found = True
                file = os.path.join(folder, name)
                if os.path.exists(file) and not os.path.isfile(file):
                    notes.append(Note(Position(file, 1, 1), "skipped; it is not a regular file, name it to read it"))
                else:
                    yield file
    if not found:
        notes.append(Note(Position(path, 1, 1), f"no {', '.join(SUFFIXES)} files in this folder"))


def _read(path: str, stdin: IO[bytes] | IO[str] | None) -> bytes:
    if path != STDIN:
        return Path(path).read_bytes()
    content = (stdin or sys.stdin.buffer).read()
    return content.encode() if isinstance(content, str) else content


@dataclass(slots=True)
class _Sink:
    """Where everything that is found collects."""

    resources: list[Resource[Model]] = field(default_factory=list)
    partial: list[Resource[Model]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    # Where each resource, valid or not, was first met.
    met: dict[str, Position] = field(default_factory=dict)

    def loaded(self) -> Loaded:
        valid = {resource.id for resource in self.resources}
        invalid = frozenset(self.met.keys() - valid)
        return Loaded(
            tuple(self.resources), tuple(self.problems), tuple(self.notes), invalid, partial=tuple(self.partial)
        )

    def add_document(self, file: str, document: Document, raw: bytes) -> None:
        if document.broken:
            self._add_flaws(file, document)
            return
        for value, place, prefix in _objects(document.value, document.place):
            if not isinstance(value, dict):
                message = f"expected a resource with apiVersion, kind, metadata and spec, got {describe(value)}"
                position = Position(file, place.line, place.column)
                self.problems.append(Problem(position, "", format_path(prefix), message))
                continue
            flaws = [
                replace(flaw, path=below) for flaw in document.flaws if (below := _below(flaw.path, prefix)) is not None
            ]
            nulls = [below for path in document.nulls if (below := _below(path, prefix))]
            if (found := mesh_config_of(value, place, raw)) is not None:
                value, place, flaws, nulls = found.value, found.place, [*flaws, *found.flaws], found.nulls
                if found.note:
                    self.notes.append(Note(Position(file, place.line, place.column), found.note))
            reader = ObjectReader(file, value, place)
            self._add_object(reader, reader.read(flaws, nulls))

    def _add_flaws(self, file: str, document: Document) -> None:
        for flaw in document.flaws:
            position = Position(file, flaw.line, flaw.column)
            self.problems.append(Problem(position, "", format_path(flaw.path), flaw.message))

    def _add_object(self, reader: ObjectReader, resource: Resource[Model] | None) -> None:
        if reader.is_read and reader.id:
            position = reader.position("metadata", "name")
            first = self.met.setdefault(reader.id, position)
            if first is not position:
                reader.problem(
                    ("metadata", "name"),
                    f"a second {reader.id}; the first is at {first}; rename or remove one",
                )
                resource = None
        if resource is not None:
            (self.resources if resource.is_whole() else self.partial).append(resource)
        self.problems += sorted(reader.problems, key=lambda problem: problem.position)
        self.notes += reader.notes


def _objects(value: Any, place: Place, prefix: Steps = ()) -> Iterator[tuple[Any, Place, Steps]]:
    """Unfold a list of resources: a `List`, or a typed one such as `VirtualServiceList`, whose items may
    leave their kind and apiVersion to it."""
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(value.get("items"), list):
        yield value, place, prefix
        return
    defaults = {} if kind == "List" else {"apiVersion": value.get("apiVersion"), "kind": kind[: -len("List")]}
    inside = place.children["items"]
    for index, item in enumerate(value["items"]):
        item = {**defaults, **item} if isinstance(item, dict) else item
        yield from _objects(item, inside.children[index], (*prefix, "items", index))


def _below(path: Steps, prefix: Steps) -> Steps | None:
    return path[len(prefix) :] if path[: len(prefix)] == prefix else None
