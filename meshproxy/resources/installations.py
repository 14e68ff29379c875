"""The MeshConfig in what Istio's users have: the ConfigMap that istiod reads, an IstioOperator, or the bare message.

All three become an object of the kind MeshConfig, whose values stand where they were written: in a ConfigMap, inside a
text of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from .documents import Document, Flaw, Place, decoded, read_documents
from .fields import shapes
from .mesh_config import MeshConfig
from .problems import Path

_HEAD = {"apiVersion": "mesh.istio.io/v1alpha1", "kind": "MeshConfig"}
_KEY = "mesh"
_NETWORKS = "meshNetworks"


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """An object of the kind MeshConfig, and what is wrong with its text; paths are those of the object."""

    value: dict[str, Any]
    place: Place
    flaws: list[Flaw] = field(default_factory=list)
    nulls: list[Path] = field(default_factory=list)
    note: str = ""
    """What a person should know: that the rest is not read."""


def mesh_config_of(value: dict[str, Any], place: Place, raw: bytes) -> Unwrapped | None:
    """The MeshConfig that an object brings, if it is one that does; `raw` is its file."""
    kind, api_version = value.get("kind"), value.get("apiVersion")
    if kind is None and api_version is None:
        bare = bool(value) and value.keys() <= shapes(MeshConfig).keys()
        return _wrapped(value, place, {"name": "mesh"}, Place(place.line, place.column)) if bare else None
    if kind == "ConfigMap" and api_version == "v1" and _is_istios(value):
        return _of_config_map(value, place, decoded(raw))
    if kind == "IstioOperator" and str(api_version).startswith("install.istio.io/"):
        spec = value.get("spec")
        if isinstance(spec, dict) and isinstance(spec.get("meshConfig"), dict):
            inside = place.children["spec"].children["meshConfig"]
            found = _wrapped(spec["meshConfig"], inside, *_metadata(value, place))
            rest = ", ".join(f"spec.{name}" for name in spec if name != "meshConfig")
            note = f"of this IstioOperator, spec.meshConfig alone is read, not {rest}, which install Istio"
            return replace(found, note=note if rest else "")
    return None


def _is_istios(value: dict[str, Any]) -> bool:
    """Whether this is the ConfigMap that istiod reads: `istio`, or `istio-REVISION`."""
    metadata, data = value.get("metadata"), value.get("data")
    name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
    return (name == "istio" or name.startswith("istio-")) and isinstance(data, dict) and _KEY in data


def _of_config_map(value: dict[str, Any], place: Place, text: str) -> Unwrapped:
    metadata, metadata_place = _metadata(value, place)
    data, data_place = value["data"], place.children["data"]
    found = Unwrapped({**_HEAD, "metadata": metadata, "spec": {}}, place)
    for key, inside in data.items():
        where = data_place.children[key]
        documents = list(read_documents(str(inside).encode())) or [Document({}, Place(1, 1))]
        document = documents[0]
        shift = _shift(where, text)
        _move(document.place, shift, set())
        flaws = [Flaw(*_moved(one.line, one.column, shift), one.path, one.message) for one in document.flaws]
        if document.broken or len(documents) > 1:
            told = flaws or [Flaw(where.line, where.column, (), "is to be one YAML document")]
            found = replace(found, flaws=[*found.flaws, *told])
        elif key == _KEY:
            wrapped = _wrapped(document.value, document.place, metadata, metadata_place, flaws, document.nulls)
            found = replace(wrapped, flaws=[*found.flaws, *wrapped.flaws])
        elif key != _NETWORKS or document.value not in ({}, {"networks": {}}):
            message = f"not supported yet: {key}, beside the mesh's own configuration; remove it until then"
            found = replace(found, flaws=[*found.flaws, Flaw(where.key_line, where.key_column, (), message)])
    return found


def _metadata(value: dict[str, Any], place: Place) -> tuple[Any, Place]:
    return value.get("metadata", {}), place.children.get("metadata", place)


def _wrapped(
    spec: Any,
    place: Place,
    metadata: Any,
    metadata_place: Place,
    flaws: list[Flaw] | None = None,
    nulls: list[Path] | None = None,
) -> Unwrapped:
    whole = Place(place.line, place.column)
    whole.children = {"spec": place, "metadata": metadata_place}
    return Unwrapped(
        {**_HEAD, "metadata": metadata, "spec": spec},
        whole,
        [replace(one, path=("spec", *one.path)) for one in flaws or ()],
        [("spec", *path) for path in nulls or ()],
    )


@dataclass(frozen=True, slots=True)
class _Shift:
    """From a place in a text to the place in the file. Where the text is no block, all of it stands at one place."""

    line: int
    column: int
    block: bool


def _shift(where: Place, text: str) -> _Shift:
    lines = text.splitlines()
    written = lines[where.line - 1][where.column - 1 :] if where.line <= len(lines) else ""
    if not written.startswith("|"):
        return _Shift(where.line, where.column, False)
    first = next((line for line in lines[where.line :] if line.strip()), "")
    return _Shift(where.line, len(first) - len(first.lstrip(" ")), True)


def _moved(line: int, column: int, shift: _Shift) -> tuple[int, int]:
    return (line + shift.line, column + shift.column) if shift.block else (shift.line, shift.column)


def _move(place: Place, shift: _Shift, seen: set[int]) -> None:
    """Move a place and those in it, each once: an alias shares those of its anchor."""
    if id(place) in seen:
        return
    seen.add(id(place))
    place.line, place.column = _moved(place.line, place.column, shift)
    place.key_line, place.key_column = _moved(place.key_line, place.key_column, shift)
    for child in place.children.values():
        _move(child, shift, seen)
