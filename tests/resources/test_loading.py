"""Files and folders become resources; every problem of all of them comes in one run, at its place."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.resources import KINDS, DestinationRule, Gateway, Loaded, Unreadable, VirtualService, WorkloadEntry, load
from meshproxy.resources.fields import shapes

Reader = Callable[[str], Loaded]

GROUP = "networking.istio.io"
WORKLOAD = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: {name}
spec:
  address: 127.0.0.1
"""


def workload(name: str) -> str:
    return WORKLOAD.format(name=name)


def names(folder: Path) -> list[str]:
    return [resource.name for resource in load([folder]).resources]


def test_a_folder_is_read_recursively_in_order_and_by_suffix(tmp_path: Path) -> None:
    for path in ("b.yaml", "a/c.yml", "a/d.json", "e.txt", ".hidden.yaml", ".git/f.yaml", "g.meshtest.yaml"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(workload(path.split("/")[-1][0]))
    (tmp_path / "a/d.json").write_text(
        json.dumps(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadEntry",
                "metadata": {"name": "d"},
                "spec": {"address": "::1"},
            }
        )
    )
    assert names(tmp_path) == ["b", "c", "d"]


def test_a_file_that_is_named_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mesh.txt"
    path.write_text(workload("a"))
    assert names(path) == ["a"]


def test_a_file_reached_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(workload("a"))
    assert load([tmp_path, tmp_path / "a.yaml"]).problems == ()


def test_a_folder_without_yaml_earns_a_note(tmp_path: Path) -> None:
    [note] = load([tmp_path]).notes
    assert note.message == "no .yaml, .yml, .json files in this folder"


def test_a_pipe_in_a_folder_is_skipped_with_a_note(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "a.yaml").write_text(workload("a"))
    loaded = load([tmp_path])
    assert [resource.name for resource in loaded.resources] == ["a"]
    assert [str(note) for note in loaded.notes] == [
        f"{tmp_path / 'pipe.yaml'}:1:1: note: skipped; it is not a regular file, name it to read it"
    ]


def test_stdin_is_named_in_positions() -> None:
    loaded = load(["-"], stdin=io.BytesIO(workload("a").encode()))
    assert str(loaded.resources[0].position("spec", "address")) == "<stdin>:6:12"


def test_paths_that_cannot_be_read_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(workload("a"))
    with pytest.raises(Unreadable) as error:
        load([tmp_path / "one", tmp_path / "good.yaml", tmp_path / "two"])
    assert [Path(path).name for path, _ in error.value.failures] == ["one", "two"]
    assert f"cannot read {tmp_path / 'one'}: No such file or directory" in str(error.value)


def test_a_resource_has_its_metadata(read: Reader) -> None:
    [resource] = read("""\
        apiVersion: networking.istio.io/v1beta1
        kind: WorkloadEntry
        metadata:
          name: a
          namespace: n
          labels: {app: web}
          annotations: {note: "any text"}
          creationTimestamp: 2024-01-01T00:00:00Z
          uid: 1234
          managedFields: [{manager: kubectl}]
        spec: {address: 127.0.0.1}
        status: {}
        """).resources
    assert (resource.id, resource.api_version) == ("WorkloadEntry/a.n", "networking.istio.io/v1beta1")
    assert (resource.labels, resource.annotations) == ({"app": "web"}, {"note": "any text"})
    assert resource.created == "2024-01-01T00:00:00Z"
    assert isinstance(resource.spec, WorkloadEntry)


def test_the_namespace_is_default_unless_given(read: Reader) -> None:
    assert read(workload("a")).resources[0].namespace == "default"


def test_resources_are_found_by_their_model(read: Reader) -> None:
    loaded = read(workload("a") + "---\n" + workload("b"))
    assert [resource.spec.address for resource in loaded.of(WorkloadEntry)] == ["127.0.0.1"] * 2
    assert loaded.of(Gateway) == ()


def test_a_position_is_that_of_the_nearest_value_there_is(read: Reader) -> None:
    [resource] = read("""\
        apiVersion: networking.istio.io/v1
        kind: VirtualService
        metadata: {name: v}
        spec:
          hosts: [a]
          http:
          - route:
            - destination:
                host: b
        """).resources
    destination = ("spec", "http", 0, "route", 0, "destination")
    assert resource.position(*destination, "host")[1:] == (9, 15)
    assert resource.position(*destination, "port", "number")[1:] == (9, 9)
    assert resource.position("spec", "gateways")[1:] == (5, 3)
    assert resource.position()[1:] == (1, 1)
    problem = resource.problem((*destination, "host"), "no such service")
    assert str(problem) == (
        "<stdin>:9:15: VirtualService/v.default: spec.http[0].route[0].destination.host: no such service"
    )


@pytest.mark.parametrize("kind", ["List", "WorkloadEntryList"])
def test_a_list_is_unfolded_with_positions_of_its_items(read: Reader, kind: str) -> None:
    loaded = read(f"""\
        apiVersion: networking.istio.io/v1
        kind: {kind}
        metadata: {{resourceVersion: ""}}
        items:
        - apiVersion: networking.istio.io/v1
          kind: WorkloadEntry
          metadata: {{name: a}}
          spec: {{address: 127.0.0.1}}
        - apiVersion: networking.istio.io/v1
          kind: WorkloadEntry
          metadata: {{name: b}}
          spec: {{address: a b, weight: 1, weight: 2}}
        """)
    assert [resource.name for resource in loaded.resources] == ["a"]
    assert [(str(p.position), p.resource, p.path) for p in loaded.problems] == [
        ("<stdin>:12:19", "WorkloadEntry/b.default", "spec.address"),
        ("<stdin>:12:35", "WorkloadEntry/b.default", "spec.weight"),
    ]


def test_items_of_a_typed_list_take_their_kind_from_it(read: Reader) -> None:
    [resource] = read("""\
        apiVersion: networking.istio.io/v1
        kind: WorkloadEntryList
        items: [{metadata: {name: a}, spec: {address: "::1"}}]
        """).resources
    assert resource.kind == "WorkloadEntry"


def test_other_kinds_are_skipped_with_a_note(read: Reader) -> None:
    loaded = read("""\
        {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}
        ---
        {apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}}
        ---
        {apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: s}}
        ---
        {apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: e}}
        """)
    assert (loaded.resources, loaded.problems) == ((), ())
    assert [str(note).split(" is ")[0] for note in loaded.notes] == [
        "<stdin>:1:1: note: Deployment of apps/v1",
        "<stdin>:3:1: note: Gateway of gateway.networking.k8s.io/v1",
        "<stdin>:5:1: note: Service of serving.knative.dev/v1",
        "<stdin>:7:1: note: EnvoyFilter of networking.istio.io/v1alpha3",
    ]


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.not_yet])
def test_a_kind_that_is_not_supported_yet_is_skipped_with_a_note_that_names_it(read: Reader, kind: str) -> None:
    loaded = read(f"{{apiVersion: {KINDS[kind].api_versions[0]}, kind: {kind}, metadata: {{name: a, namespace: n}}}}")
    assert (loaded.resources, loaded.problems) == ((), ())
    [note] = loaded.notes
    assert note.message.startswith(f"{kind}/a.n is skipped; not supported yet: ")


@pytest.mark.parametrize(
    ("head", "path", "message"),
    [
        ("kind: WorkloadEntry", "apiVersion", "is required; give networking.istio.io/v1"),
        ("apiVersion: networking.istio.io/v1", "kind", "is required; give one of Gateway,"),
        (
            f"apiVersion: {GROUP}/v9\nkind: WorkloadEntry",
            "apiVersion",
            f"use {GROUP}/v1 or",
        ),
        ("apiVersion: v1\nkind: WorkloadEntry", "apiVersion", f"use {GROUP}/v1 or"),
        (
            "apiVersion: networking.istio.oi/v1\nkind: WorkloadEntry",
            "apiVersion",
            f"use {GROUP}/v1 or",
        ),
        ("apiVersion: networking.istio.io/v1\nkind: workloadentry", "kind", "did you mean WorkloadEntry?"),
        ("apiVersion: networking.istio.io/v1\nkind: WorkloadEntri", "kind", "did you mean WorkloadEntry?"),
        ("apiVersion: security.istio.io/v1\nkind: WorkloadEntry", "apiVersion", f"use {GROUP}/v1 or"),
        (f"apiVersion: {GROUP}/v1\nkind: Telemetry", "apiVersion", "use telemetry.istio.io/v1 or"),
        ("apiVersion: v1\nkind: service", "kind", "did you mean Service?"),
        ("apiVersion: v1\nkind: [Service]", "kind", "expected text, got a list"),
    ],
)
def test_a_head_that_names_no_kind_is_a_problem(read: Reader, head: str, path: str, message: str) -> None:
    problem = read(f"{head}\nmetadata: {{name: a}}\nspec: {{address: 127.0.0.1}}\n").problems[0]
    assert problem.path == path
    assert message in problem.message


@pytest.mark.parametrize(
    ("metadata", "path", "message"),
    [
        ("{}", "metadata.name", "is required"),
        ("{name: A}", "metadata.name", "lower-case"),
        ("{name: 1}", "metadata.name", "put it in quotes"),
        ("{name: a, namespace: a.b}", "metadata.namespace", "is not a namespace"),
        ("{name: a, labels: {v: 1.0}}", "metadata.labels.v", "put it in quotes"),
        ("{name: a, labels: {v: a/b}}", "metadata.labels.v", "is not a label value"),
        ("{name: a, lables: {}}", "metadata.lables", "did you mean 'labels'?"),
        ("[]", "metadata", "expected a mapping"),
    ],
)
def test_wrong_metadata_is_a_problem(read: Reader, metadata: str, path: str, message: str) -> None:
    [problem] = read(
        f"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {metadata}\nspec: {{address: a}}\n"
    ).problems
    assert problem.path == path
    assert message in problem.message


def test_metadata_that_kubernetes_may_grow_is_accepted(read: Reader) -> None:
    head = "apiVersion: v1\nkind: Service\nmetadata: {name: a, zone: b, labels: null}\n"
    assert read(f"{head}spec: {{ports: [{{port: 1}}]}}\n").problems == ()


def test_a_resource_given_twice_is_a_problem_that_names_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(workload("a"))
    (tmp_path / "b.yaml").write_text(workload("b") + "---\n" + workload("a"))
    loaded = load([tmp_path])
    assert [resource.name for resource in loaded.resources] == ["a", "b"]
    [problem] = loaded.problems
    assert (problem.position.line, problem.path) == (11, "metadata.name")
    assert f"the first is at {tmp_path / 'a.yaml'}:4:9" in problem.message


def test_every_problem_of_every_file_comes_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(workload("a").replace("127.0.0.1", "a b") + "  wait: 1\n")
    (tmp_path / "b.yaml").write_text("a: {\n---\n" + workload("b").replace("address", "adress"))
    loaded = load([tmp_path])
    assert [(Path(p.position.file).name, p.position.line, p.path) for p in loaded.problems] == [
        ("a.yaml", 6, "spec.address"),
        ("a.yaml", 7, "spec.wait"),
        ("b.yaml", 2, ""),
        ("b.yaml", 8, "spec.adress"),
    ]
    assert loaded.invalid == {"WorkloadEntry/a.default", "WorkloadEntry/b.default"}


BROKEN = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a, b c, d]
  http:
  - route: [{destination: {hots: b}}]
  - match: [{uri: {prefx: /a}}, {uri: {exact: /b}}]
    route:
    - {destination: {host: b}, weight: -1}
    - destination: {host: c}
  - route: [{destination: {host: d}}, {destination: {host: e}}]
"""


def test_of_a_broken_resource_the_well_formed_parts_are_kept_apart(read: Reader) -> None:
    loaded = read(BROKEN)
    [partial] = loaded.partial
    assert isinstance(partial.spec, VirtualService)
    assert not loaded.resources and loaded.invalid == {"VirtualService/v.default"}
    assert partial.spec.hosts == ("a", "d")
    assert [[route.destination.host for route in rule.route] for rule in partial.spec.http] == [
        [],
        ["b", "c"],
        ["d", "e"],
    ]


def test_the_places_in_what_is_left_are_those_in_the_file(read: Reader) -> None:
    [partial] = read(BROKEN).partial
    assert partial.position("spec", "hosts", 1)[1:] == (6, 19)
    assert partial.problem(("spec", "hosts", 1), "no").path == "spec.hosts[2]"
    assert partial.position("spec", "http", 1, "route", 1, "destination", "host")[1:] == (12, 27)


def test_what_is_left_knows_which_of_its_parts_are_whole(read: Reader) -> None:
    [partial] = read(BROKEN).partial
    assert partial.is_whole("spec", "http", 1, "match", 1)
    assert partial.is_whole("spec", "gateways")
    assert not partial.is_whole("spec", "http", 1, "match", 0)
    assert not partial.is_whole("spec", "http", 2)  # its weights
    assert not partial.is_whole("spec", "hosts")


def test_a_field_that_a_misspelt_one_beside_it_may_stand_for_is_not_whole(read: Reader) -> None:
    [partial] = read(BROKEN.replace("  http:", "  gatewys: [gw]\n  http:")).partial
    assert not partial.is_whole("spec", "gateways")


@pytest.mark.parametrize("spec", ["[]", "{hosts: 1, endpoints: 2}", "{resolution: STATIC}"])
def test_nothing_is_left_of_a_resource_that_lacks_what_it_needs(read: Reader, spec: str) -> None:
    loaded = read(f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {spec}\n")
    assert loaded.partial == ()
    assert loaded.invalid == {"ServiceEntry/a.default"}


def test_a_resource_with_an_unsupported_field_is_there_for_others_to_refer_to(read: Reader) -> None:
    loaded = read("""\
        apiVersion: networking.istio.io/v1
        kind: DestinationRule
        metadata: {name: r}
        spec:
          host: a
          trafficPolicy: {proxyProtocol: {version: V1}}
        """)
    assert [problem.path for problem in loaded.problems] == ["spec.trafficPolicy.proxyProtocol"]
    assert [resource.name for resource in loaded.of(DestinationRule)] == ["r"]


def test_a_document_that_is_no_mapping_is_a_problem(read: Reader) -> None:
    [problem] = read("- a\n- b\n").problems
    assert problem.message == "expected a resource with apiVersion, kind, metadata and spec, got a list"


def test_a_field_beside_spec_that_belongs_inside_is_told_so(read: Reader) -> None:
    text = workload("a") + "weight: 1\nspecs: {}\n"
    assert [(p.path, p.message) for p in read(text).problems] == [
        ("weight", "unknown field; 'weight' belongs inside spec"),
        ("specs", "unknown field; did you mean 'spec'?"),
    ]


def test_spec_is_required(read: Reader) -> None:
    text = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}\n"
    assert [(p.path, p.message) for p in read(text).problems] == [("spec", "is required")]
    assert [p.path for p in read(text + "spec:\n").problems] == ["spec"]


_NAMES = {name for kind in KINDS.values() for name in shapes(kind.model)} | {
    "prefix",
    "destination",
    "host",
    "number",
    "regex",
}
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "*", "a", "1s", "HTTP"])
_SPECS = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(_NAMES)), inner, max_size=5),
    max_leaves=25,
)


@given(kind=st.sampled_from(sorted(KINDS)), spec=_SPECS, metadata=_SPECS)
def test_whatever_is_written_becomes_problems_and_never_an_exception(kind: str, spec: Any, metadata: Any) -> None:
    value: dict[str, Any] = {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": metadata}
    value |= {"spec": spec} if KINDS[kind].has_spec else (spec if isinstance(spec, dict) else {"subsets": spec})
    loaded = load(["-"], stdin=io.StringIO(json.dumps(value)))
    assert bool(loaded.problems) or bool(loaded.resources) or bool(loaded.notes)
    assert all(problem.position.line == 1 and problem.message for problem in loaded.problems)
