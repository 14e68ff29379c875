"""A resource: what the user wrote, validated, with the way back to where it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Generic, TypeVar

from pydantic import ConfigDict, Field, WithJsonSchema

from .documents import Place
from .model import Model
from .problems import Path, Position, Problem, format_path
from .salvage import as_written
from .types import Labels, checked, fqdn_error, is_dns_label

Spec = TypeVar("Spec", bound=Model, covariant=True)

DEFAULT_NAMESPACE = "default"

# metav1.ObjectMeta, in full.
METADATA_FIELDS = (
    "name",
    "namespace",
    "labels",
    "annotations",
    "creationTimestamp",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "selfLink",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "clusterName",
)


def _name_error(name: str) -> str | None:
    if name == name.lower() and not name.endswith(".") and not fqdn_error(name + ".x"):
        return None
    return f"{name!r} is not a resource's name; use lower-case letters, digits, '-' and '.'"


def _namespace_error(namespace: str) -> str | None:
    if namespace == namespace.lower() and is_dns_label(namespace):
        return None
    return f"{namespace!r} is not a namespace; use up to 63 lower-case letters, digits and '-'"


_NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"})


class Metadata(Model):
    """The part of Kubernetes' metadata that has a meaning here."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, checked(_name_error), _NAME_SCHEMA]
    namespace: Annotated[str, checked(_namespace_error), _NAME_SCHEMA] = DEFAULT_NAMESPACE
    labels: Labels = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: str | None = None


def resource_id(kind: str, name: str, namespace: str) -> str:
    """How messages name a resource."""
    return f"{kind}/{name}.{namespace}"


@dataclass(frozen=True, slots=True, eq=False)
class Resource(Generic[Spec]):
    """One resource. `spec` is its kind's model; `created` is its creationTimestamp as written, or None.

    Of a resource with something wrong in it, `spec` is what is left without the parts at the `omitted` paths, and
    `broken` are the paths of all that is wrong; both are as in the file. Every path that a method takes or that a
    check finds is one of `spec`, whose lists may be shorter than in the file.
    """

    kind: str
    api_version: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    created: str | None
    spec: Spec
    file: str = field(repr=False)
    place: Place = field(repr=False)
    omitted: frozenset[Path] = frozenset()
    broken: frozenset[Path] = frozenset()

    @property
    def id(self) -> str:
        """`Kind/name.namespace`."""
        return resource_id(self.kind, self.name, self.namespace)

    def position(self, *path: str | int) -> Position:
        """Where the value at `path` stands, or else the nearest value around it.

        The path runs from the top of the resource in YAML's names:
        `position("spec", "http", 0, "route", 1, "destination", "host")`.
        """
        place, _ = self.place.find(as_written(path, self.omitted))
        return Position(self.file, place.line, place.column)

    def is_whole(self, *path: str | int) -> bool:
        """Whether all is well at `path` and below, and no broken field beside it could be this one misspelt."""
        if not (self.broken or self.omitted):
            return True
        written = as_written(path, self.omitted)
        beside = written[:-1] if written and isinstance(written[-1], str) else None
        return not any(
            broken[: len(written)] == written or (broken and broken[:-1] == beside and isinstance(broken[-1], str))
            for broken in self.broken | self.omitted
        )

    def problem(self, path: Iterable[str | int], message: str) -> Problem:
        """A problem of this resource at `path`."""
        steps: Path = tuple(path)
        return Problem(self.position(*steps), self.id, format_path(as_written(steps, self.omitted)), message)
