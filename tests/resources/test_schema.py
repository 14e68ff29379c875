"""The JSON Schemas: they agree with `load` and with the list of fields, and serve editors."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from meshproxy.resources import KINDS, field_paths, kind_schema, load, mesh_schema, parse_duration
from meshproxy.resources.documents import read_documents

from .test_other_kinds import ACCEPTED as OTHERS_ACCEPTED
from .test_virtual_service import ACCEPTED as RULES_ACCEPTED

Node = dict[str, Any]

POLICIES = Path(__file__).parents[2] / "policies"
RESOURCE_FILES = sorted(set(POLICIES.glob("*/*.yaml")) - set(POLICIES.glob("*/*.meshtest.yaml")))
MESH = mesh_schema()
_MESH_VALIDATOR = Draft202012Validator(MESH)


def value_of(text: str) -> Any:
    """YAML as plain values, in the reading that `load` has of it."""
    [document] = read_documents(text.encode())
    return document.value


def resource(kind: str, spec: Any) -> dict[str, Any]:
    """A resource of the kind, in the first of its API versions."""
    return {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": {"name": "x"}, "spec": spec}


def is_valid(value: Any) -> bool:
    return _MESH_VALIDATOR.is_valid(value)


def is_loaded(value: Any) -> bool:
    return not load(["-"], stdin=io.StringIO(json.dumps(value))).problems


@cache
def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(kind_schema(KINDS[kind]))


ACCEPTED = [
    *((kind, value_of(spec)) for kind, spec in OTHERS_ACCEPTED),
    *(("VirtualService", value_of(spec)) for spec in RULES_ACCEPTED),
]


@pytest.mark.parametrize("schema", [MESH, *(kind_schema(kind) for kind in KINDS.values())])
def test_a_schema_is_one_of_the_2020_dialect(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", RESOURCE_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_example_meshes_are_valid(path: Path) -> None:
    for document in read_documents(path.read_bytes()):
        assert [error.message for error in _MESH_VALIDATOR.iter_errors(document.value)] == []


@pytest.mark.parametrize(("kind", "spec"), ACCEPTED)
def test_what_is_loaded_is_valid(kind: str, spec: Any) -> None:
    assert is_loaded(resource(kind, spec))
    assert [error.message for error in validator(kind).iter_errors(resource(kind, spec))] == []
    assert is_valid(resource(kind, spec))


@pytest.mark.parametrize(("kind", "spec"), ACCEPTED)
def test_an_unknown_field_is_refused_wherever_it_is_not_loaded(kind: str, spec: Any) -> None:
    for path in _places(spec):
        if isinstance(_at(spec, path), dict):
            changed = resource(kind, _with(spec, (*path, "unheardOf"), "text"))
            assert validator(kind).is_valid(changed) == is_loaded(changed), path
    assert not validator(kind).is_valid(resource(kind, spec) | {"unheardOf": 1})


@pytest.mark.parametrize(("kind", "spec"), ACCEPTED)
def test_a_change_that_is_still_loaded_is_still_valid(kind: str, spec: Any) -> None:
    for path in _places(spec):
        for value in ("text", "", "1.5s", 0, 80, 1.5, True, None, [], {}, ["text"], {"exact": "text"}):
            changed = resource(kind, _with(spec, path, value))
            assert validator(kind).is_valid(changed) or not is_loaded(changed), (path, value)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values inside, its own included."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in inside:
        yield from _places(item, (*path, step))


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def _with(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of the value with a new one at the path."""
    if not path:
        return new
    changed = copy.deepcopy(value)
    _at(changed, path[:-1])[path[-1]] = new
    return changed


# Seven characters cannot write more than the 290 years that `load` puts up with.
@given(st.text("0123456789.+-smhnuµ ", max_size=7))
def test_what_is_read_as_a_duration_is_one_for_the_schema(text: str) -> None:
    pattern = MESH["$defs"]["HTTPRetry"]["properties"]["perTryTimeout"]["pattern"]
    try:
        parse_duration(text)
    except ValueError:
        assert not re.search(pattern, text)
    else:
        assert re.search(pattern, text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_has_the_fields_and_values_of_the_list_and_marks_what_is_not_honoured(kind: str) -> None:
    schema = kind_schema(KINDS[kind])
    top = schema["properties"]["spec"] if KINDS[kind].has_spec else schema
    unsupported_kind = "deprecated" in schema["properties"]["kind"]
    for field in field_paths(kind):
        met = list(_along(schema, top, field.path))
        marked = unsupported_kind or any("deprecated" in node or "deprecated" in node.get("then", {}) for node in met)
        assert marked == (field.support != "honoured"), field.path
        if field.values:
            assert [value for value in met[-1]["enum"] if value is not None] == list(field.values), field.path


def _along(schema: Node, node: Node, path: str) -> Iterator[Node]:
    """The schemas that a path of the list of fields leads through, as they stand and behind references."""
    for step in re.findall(r"\w+|\[]|{}", path):
        node = yield from _resolved(schema, node)
        node = {"[]": node.get("items"), "{}": node.get("additionalProperties")}.get(step) or node["properties"][step]
    yield from _resolved(schema, node)


def _resolved(schema: Node, node: Node) -> Generator[Node, None, Node]:
    """The node itself and what it refers to, one after the other; returns the last."""
    yield node
    while "$ref" in node or "allOf" in node or "$ref" in node.get("anyOf", [{}])[0]:
        reference = node.get("$ref") or (node.get("allOf") or node["anyOf"])[0]["$ref"]
        node = schema["$defs"][reference.removeprefix("#/$defs/")]
        yield node
    return node


@pytest.mark.parametrize(
    "text",
    [
        "{apiVersion: v1, kind: ConfigMap, data: {a: b}}",
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: s}, spec: {template: {}}}",
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {listeners: []}}",
        "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: e}, spec: {}}",
        "{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {name: a}}",
        "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap}]}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntryList, items: []}",
        "{apiVersion: v1, kind: Service, metadata: {name: s, labels: null, zone: z}, spec: {ports: [{port: 1}]}}",
        "{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subsets: [{ports: [{port: 1}], addresses: null}]}",
    ],
)
def test_other_documents_pass_both(text: str) -> None:
    assert is_loaded(value_of(text))
    assert is_valid(value_of(text))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{kind: WorkloadEntry, metadata: {name: a}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v1, metadata: {name: a}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntri, metadata: {name: a}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v9, kind: WorkloadEntry, metadata: {name: a}, spec: {address: a}}",
        "{apiVersion: security.istio.io/v1, kind: WorkloadEntry, metadata: {name: a}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a}}",
        "{apiVersion: v1, kind: WorkloadEntry, metadata: {name: a}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: a}}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: 1}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: A}, spec: {address: a}}",
        "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: a}, spec: {address: null}}",
        "{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Service, metadata: {name: s}}]}",
        "{apiVersion: v1, kind: Endpoints, metadata: {name: s}, subset: []}",
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: null}]}}",
    ],
)
def test_a_wrong_document_passes_neither(text: str) -> None:
    assert not is_loaded(value_of(text))
    assert not is_valid(value_of(text))


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("AuthorizationPolicy", "{rules: [{form: []}]}"),
        ("PeerAuthentication", "{mtls: {mode: STRIKT}}"),
        ("RequestAuthentication", "{jwtRules: [{issuer: a, jwksURI: 'https://a'}]}"),
        ("Sidecar", "{egress: [{host: [a]}]}"),
        ("Telemetry", "{tracing: [{randomSamplingPercentage: 101}]}"),
        ("WorkloadGroup", "{probe: {}}"),
        ("ProxyConfig", "{concurrency: '2'}"),
    ],
)
def test_kinds_that_are_only_skipped_are_checked_all_the_same(kind: str, spec: str) -> None:
    assert not is_valid(resource(kind, value_of(spec)))


def test_a_field_is_marked_for_the_values_that_are_not_supported() -> None:
    entry = MESH["$defs"]["ServiceEntry"]["properties"]
    assert entry["resolution"]["if"] == {"enum": ["NONE", "DYNAMIC_DNS"]}
    assert entry["resolution"]["then"]["deprecationMessage"].startswith("not supported yet: NONE")
    policy = MESH["$defs"]["TrafficPolicy"]["properties"]
    assert policy["tunnel"]["deprecated"] is True
    assert policy["tunnel"]["description"].startswith("Not supported yet: tunnels")


def test_descriptions_name_fields_as_yaml_does() -> None:
    assert "`directResponse`" in MESH["$defs"]["HTTPRoute"]["description"]
    assert not re.search("`[a-z]+_[a-z_]+`", json.dumps(MESH))
