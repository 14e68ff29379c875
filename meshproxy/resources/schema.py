"""JSON Schema (2020-12) of the kinds, for editors and for whoever checks YAML without meshproxy.

The schemas come out of the models. Rules of this module:

1. Whatever `load` accepts, the schema accepts. The reverse does not hold: rules that span fields, names that refer
   to other resources and the syntax of hosts are for `load` and `check`.
2. Unknown fields are refused below `spec`, as `load` does it. Metadata is open, for Kubernetes may add to it.
3. A marked field is `deprecated`: editors strike it through instead of calling it an error, for it is correct Istio.
   `deprecationMessage` and `patternErrorMessage` are what VS Code shows; others ignore keywords that they do not know.
4. Kinds are told apart by if and then, not by oneOf: an editor then blames the field that is wrong, not the whole
   document for being none of all these kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import re2
from pydantic import AliasChoices
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from .kinds import ISTIO_GROUPS, KINDS, OTHER_ISTIO_KINDS, Kind
from .model import Model, NotYet, camel_case
from .resource import Metadata

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DESCRIPTIONS = {
    "apiVersion": "The API's group and version.",
    "kind": "The sort of resource.",
    "metadata": "The resource's name, namespace, labels and annotations.",
    "status": "What Kubernetes writes; it has no meaning here.",
}


def kind_schema(kind: Kind) -> JsonSchemaValue:
    """The schema of the resources of one kind."""
    references, definitions = _definitions([kind])
    return {"$schema": _DIALECT, **_resource(kind, references[kind.model], definitions), "$defs": definitions}


def mesh_schema() -> JsonSchemaValue:
    """One schema for the documents of all kinds, told apart by apiVersion and kind. What `load` skips passes."""
    references, definitions = _definitions(KINDS.values())
    kinds = [
        {"if": _is_meant(kind), "then": _resource(kind, references[kind.model], definitions)} for kind in KINDS.values()
    ]
    api_versions = sorted({version for kind in KINDS.values() for version in kind.api_versions})
    return {
        "$schema": _DIALECT,
        "title": "Resources of a mesh",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {
            "apiVersion": _text("apiVersion", anyOf=[{"enum": api_versions}, {}]),
            "kind": _text("kind", anyOf=[{"enum": list(KINDS)}, {}]),
        },
        "allOf": [*kinds, _KNOWN_TO_ISTIO, _LIST],
        "$defs": definitions,
    }


def _is_meant(kind: Kind) -> JsonSchemaValue:
    """Whether a document is meant to be of the kind: its name and, where there is one, the API's group say so.

    Other groups have kinds of the same name: Knative's Service, the Gateway of Kubernetes' Gateway API.
    """
    groups = ISTIO_GROUPS if kind.is_istio else (kind.group,) if kind.group else ()
    # An apiVersion without a group is that of Kubernetes' core, or the group was forgotten.
    pattern = "|".join([*map(_of_group, groups), "^[^/]*$"])
    return {
        "required": ["kind"],
        "properties": {"kind": {"const": kind.name}, "apiVersion": {"type": "string", "pattern": pattern}},
    }


def _of_group(group: str) -> str:
    """The pattern of an apiVersion of the group."""
    return f"^{re2.escape(group)}/"


# In a group of Istio's, a kind that is none of Istio's is misspelt.
_KNOWN_TO_ISTIO: JsonSchemaValue = {
    "if": {
        "required": ["apiVersion"],
        "properties": {
            "apiVersion": {"type": "string", "pattern": "|".join(map(_of_group, ISTIO_GROUPS))},
            "kind": {"not": {"type": "string", "pattern": "List$"}},
        },
    },
    "then": {
        "properties": {
            "kind": {"enum": [*(kind.name for kind in KINDS.values() if kind.is_istio), *OTHER_ISTIO_KINDS]},
        }
    },
}

# A `List` of resources, as `kubectl get -o yaml` writes it.
_LIST: JsonSchemaValue = {
    "if": {"required": ["kind"], "properties": {"kind": {"const": "List"}}},
    "then": {"properties": {"items": {"type": "array", "items": {"$ref": "#"}}}},
}


def _resource(kind: Kind, spec: JsonSchemaValue, definitions: dict[str, Any]) -> JsonSchemaValue:
    """The schema of a whole resource, whose kind's model is defined at `spec`."""
    mark = NotYet(kind.not_yet) if kind.not_yet else None
    head = {
        "apiVersion": _text("apiVersion", enum=list(kind.api_versions)),
        "kind": _text("kind", const=kind.name) | (mark.deprecation() | {"description": mark.message()} if mark else {}),
        "metadata": {"$ref": "#/$defs/Metadata", "description": _DESCRIPTIONS["metadata"]},
    }
    required = ["apiVersion", "kind", "metadata"]
    if kind.has_spec:
        body = {"spec": spec, "status": {"description": _DESCRIPTIONS["status"]}}
        # Istio takes a policy without a spec; those that are skipped are no worse for it.
        required += [] if kind.not_yet else ["spec"]
    else:
        model = definitions[kind.name]
        body = model["properties"]
        required += model.get("required", [])
    return {
        "title": kind.name,
        "description": definitions[kind.name]["description"],
        "type": "object",
        "required": required,
        "properties": head | body,
        "additionalProperties": False,
    }


def _text(name: str, **keywords: object) -> JsonSchemaValue:
    return {"type": "string", "description": _DESCRIPTIONS[name], **keywords}


def _definitions(kinds: Iterable[Kind]) -> tuple[dict[type[Model], JsonSchemaValue], dict[str, Any]]:
    """The references to the models of kinds, and the definitions of these and of `Metadata`."""
    kinds = list(kinds)
    istio = [kind.model for kind in kinds if kind.is_istio]
    kubernetes: list[type[Model]] = [Metadata, *(kind.model for kind in kinds if not kind.is_istio)]
    references: dict[type[Model], JsonSchemaValue] = {}
    definitions: dict[str, Any] = {}
    for models, generator in ((istio, _Generator), (kubernetes, _NullableGenerator)):
        found, schema = models_json_schema([(model, "validation") for model in models], schema_generator=generator)
        references |= {model: found[model, "validation"] for model in models}
        definitions |= schema.get("$defs", {})
    return references, definitions


class _Generator(GenerateJsonSchema):
    """Pydantic's schema of a model, without what would mislead: null for an absent value, titles of fields."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        return {**inner, "default": default} if isinstance(default, str) else inner

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        json_schema = super().model_schema(schema)
        if "description" in json_schema:
            json_schema["description"] = _in_yaml_terms(json_schema["description"])
        # Pydantic knows a field by the first of its names only.
        for info in schema["cls"].model_fields.values():
            if isinstance(info.validation_alias, AliasChoices):
                first, *others = map(str, info.validation_alias.choices)
                json_schema["properties"] |= {name: json_schema["properties"][first] for name in others}
        return json_schema


class _NullableGenerator(_Generator):
    """For Kubernetes' own kinds and metadata, where null stands for absence."""

    def model_field_schema(self, schema: core_schema.ModelField) -> JsonSchemaValue:
        json_schema = super().model_field_schema(schema)
        if self.field_is_required(schema, bool(schema.get("serialization_exclude"))):
            return json_schema
        return _or_null(json_schema)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        json_schema = super().dict_schema(schema)
        return {**json_schema, "additionalProperties": _or_null(json_schema["additionalProperties"])}


def _in_yaml_terms(docstring: str) -> str:
    """A docstring as one paragraph, the attributes that it names being called as in YAML."""
    words = " ".join(docstring.split()).split("`")
    return "`".join(camel_case(word) if _ATTRIBUTE.fullmatch(word) else word for word in words)


_ATTRIBUTE = re2.compile(r"[a-z0-9_]+")


def _or_null(json_schema: JsonSchemaValue) -> JsonSchemaValue:
    if isinstance(json_schema.get("type"), str):
        enum = {"enum": [*json_schema["enum"], None]} if "enum" in json_schema else {}
        return {**json_schema, "type": [json_schema["type"], "null"], **enum}
    if "anyOf" in json_schema:
        return {**json_schema, "anyOf": [*json_schema["anyOf"], {"type": "null"}]}
    # A reference; a mark's wraps it.
    reference = json_schema.pop("allOf", None) or [{"$ref": json_schema.pop("$ref")}]
    return {**json_schema, "anyOf": [*reference, {"type": "null"}]}
