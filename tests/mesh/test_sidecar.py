"""A sidecar's inbound side, its workload, what keeps it from running, and what holds for all sidecars."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.mesh import (
    UnknownWorkload,
    build_mesh,
    find_workload,
    sidecar_notes,
    sidecar_problems,
    sidecar_snapshot,
)
from meshproxy.resources import Problem
from meshproxy.snapshot import Address, Endpoint, Listener, Pipe, RouteMatch, Snapshot, SocketAddress

from .support import APP, CALLER, OUTBOUND, cluster_names, mesh_of, service_entry, sidecar_of


def workload(spec: str = "address: 10.0.0.1, labels: {app: a}", *, name: str = "w", namespace: str = "default") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
"""


def service(
    ports: str = "{name: http, port: 80}", *, name: str = "a", namespace: str = "default", selector: str = "app: a"
) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{{selector}}}, ports: [{ports}]}}
"""


def selecting_entry(ports: str, *, name: str = "e") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec: {{hosts: [e.example.com], resolution: STATIC, workloadSelector: {{labels: {{app: a}}}}, ports: [{ports}]}}
"""


def inbound(snapshot: Snapshot) -> list[Listener]:
    return list(snapshot.listeners[1:])


def test_requests_to_a_port_of_the_workload_go_to_the_app() -> None:
    snapshot = sidecar_of(service("{name: http, port: 80, targetPort: 8081}"), workload(), workload="w")
    (listener,) = inbound(snapshot)
    routes = listener.filter_chains[0].http.route_config
    (host,) = routes.virtual_hosts
    (route,) = host.routes
    assert (listener.name, listener.address) == ("10.0.0.1_8081", SocketAddress("10.0.0.1", 8081))
    assert listener.filter_chains[0].http.use_remote_address is False
    assert (routes.name, host.name, host.domains) == ("inbound|8081||", "inbound|http|80", ("*",))
    assert (route.name, route.match, cluster_names(route)) == ("default", RouteMatch(), ["inbound|8081||"])
    assert route.origin is not None and route.origin.resource == "Service/a.default"
    (cluster,) = [cluster for cluster in snapshot.clusters if cluster.name == "inbound|8081||"]
    assert (cluster.type, cluster.endpoints) == ("STATIC", (Endpoint(APP),))


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        (SocketAddress("::1", 8080), "STATIC"),
        (SocketAddress("localhost", 8080), "STRICT_DNS"),
        (Pipe("/run/app.sock"), "STATIC"),
    ],
)
def test_the_app_may_be_anywhere(app: Address, kind: str) -> None:
    mesh = mesh_of(service(), workload())
    snapshot = sidecar_snapshot(mesh, workload=find_workload(mesh, "w"), app=app, outbound=OUTBOUND)
    (cluster,) = [cluster for cluster in snapshot.clusters if cluster.name == "inbound|80||"]
    assert (cluster.type, cluster.endpoints) == (kind, (Endpoint(app),))


@pytest.mark.parametrize(
    ("documents", "ports"),
    [
        ([service("{name: http, port: 80}")], [80]),
        ([service("{name: http, port: 80, targetPort: 8081}, {name: http-admin, port: 90}")], [90, 8081]),
        ([service("{name: x, port: 80, targetPort: web}")], [7000]),
        ([service("{name: x, port: 80, targetPort: unknown}")], []),
        ([service("{name: web, port: 80, targetPort: 8081}")], [7000]),
        ([service("{name: tcp-x, port: 80}")], []),
        ([service("{name: x, port: 80, protocol: UDP}")], []),
        ([service(selector="app: b")], []),
        ([service(namespace="prod")], []),
        ([service(), service("{port: 81, targetPort: 80}", name="b")], [80]),
        ([selecting_entry("{number: 80, name: http}")], [80]),
        ([selecting_entry("{number: 80, name: http, targetPort: 8081}")], [8081]),
        ([selecting_entry("{number: 80, name: web, targetPort: 8081}")], [7000]),
        ([service_entry("e")], []),
    ],
)
def test_a_sidecar_listens_where_services_lead_to_its_workload(documents: list[str], ports: list[int]) -> None:
    document = workload("address: 10.0.0.1, labels: {app: a}, ports: {web: 7000}")
    assert [listener.address.port for listener in inbound(sidecar_of(*documents, document, workload="w"))] == ports


def test_of_several_services_behind_one_port_the_oldest_names_it() -> None:
    young, old = service("{port: 81, targetPort: 80}", name="a"), service("{port: 82, targetPort: 80}", name="b")
    young = young.replace("name: a,", "name: a, creationTimestamp: '2021-01-01T00:00:00Z',")
    old = old.replace("name: b,", "name: b, creationTimestamp: '2020-01-01T00:00:00Z',")
    (listener,) = inbound(sidecar_of(young, old, workload(), workload="w"))
    assert listener.filter_chains[0].http.route_config.virtual_hosts[0].name == "inbound|http|82"


def test_a_destination_rule_limits_how_long_connecting_to_the_app_takes() -> None:
    policy = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 2s}}}}
"""
    snapshot = sidecar_of(service(), workload(), policy, workload="w")
    assert {cluster.name: cluster.connect_timeout_s for cluster in snapshot.clusters} == {
        "inbound|80||": 2.0,
        "outbound|80||a.default.svc.cluster.local": 2.0,
        "PassthroughCluster": 10.0,
    }


def test_a_workload_may_only_call_others() -> None:
    assert inbound(sidecar_of(service())) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [("w", "w.default"), ("w.default", "w.default"), ("w.prod", "w.prod"), ("a.b", "a.b.default"), ("x", "x.prod")],
)
def test_a_workload_is_found_by_name_and_namespace(name: str, found: str) -> None:
    entries = [workload(name="w"), workload(name="w", namespace="prod"), workload(name="a.b")]
    mesh = mesh_of(*entries, workload(name="x", namespace="prod"))
    if name == "x":
        with pytest.raises(UnknownWorkload, match=r"no WorkloadEntry 'x'; did you mean 'x\.prod'\?"):
            find_workload(mesh, name)
    else:
        assert find_workload(mesh, name).id == f"WorkloadEntry/{found}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("revews-v1", "no WorkloadEntry 'revews-v1'; did you mean 'reviews-v1.default'?"),
        ("reviews-v1.prod", "no WorkloadEntry 'reviews-v1.prod'; did you mean 'reviews-v1.default'?"),
        ("web", "no WorkloadEntry 'web'; known are ratings.prod, reviews-v1.default"),
    ],
)
def test_an_unknown_workload_is_told_with_those_there_are(name: str, message: str) -> None:
    mesh = mesh_of(workload(name="reviews-v1"), workload(name="ratings", namespace="prod"))
    with pytest.raises(UnknownWorkload) as error:
        find_workload(mesh, name)
    assert str(error.value) == message
    with pytest.raises(UnknownWorkload, match="there are none"):
        find_workload(mesh_of(), name)


def problems(*documents: str, app: Address | None = APP, outbound: SocketAddress | None = OUTBOUND) -> list[Problem]:
    mesh = mesh_of(*documents)
    return list(sidecar_problems(mesh, find_workload(mesh, "w"), app=app, outbound=outbound))


AT_8080 = "{name: http, port: 80, targetPort: 8080}"
LOCAL = workload("address: 127.0.0.1, labels: {app: a}")

WRONG = {
    "name for an address": (
        [service(), workload("address: a.example.com, labels: {app: a}")],
        {},
        "WorkloadEntry/w.default: spec.address: a sidecar cannot listen on 'a.example.com' for port 80 of "
        "Service/a.default; give an IP address of this machine",
    ),
    "Unix socket for an address": (
        [service(), workload("address: 'unix:///run/a.sock', labels: {app: a}")],
        {},
        "spec.address: a sidecar cannot listen on 'unix:///run/a.sock'",
    ),
    "no address": (
        [service(), workload("network: n, labels: {app: a}")],
        {},
        "spec.address: is required to listen for port 80 of Service/a.default; give the IP address",
    ),
    "app where the sidecar listens": (
        [service(AT_8080), LOCAL],
        {},
        "spec.address: the sidecar listens on 127.0.0.1:8080 for port 80 of Service/a.default, and cannot find the app",
    ),
    "app everywhere on that port": (
        [service(AT_8080), LOCAL],
        {"app": SocketAddress("0.0.0.0", 8080)},
        "cannot find the app there too",
    ),
    "outbound listener where the sidecar listens": (
        [service("{name: http, port: 80, targetPort: 15001}"), LOCAL],
        {},
        "the sidecar listens on 127.0.0.1:15001 for port 80 of Service/a.default; give the outbound listener another",
    ),
    "app at the outbound listener": ([LOCAL], {"app": OUTBOUND}, "cannot both have 127.0.0.1:15001"),
    "port of another protocol": (
        [service("{name: tcp-db, port: 80}"), LOCAL],
        {},
        "Service/a.default: spec.ports[0]: not supported yet: TCP at a sidecar, and WorkloadEntry/w.default is behind",
    ),
}


@pytest.mark.parametrize(("documents", "addresses", "message"), WRONG.values(), ids=WRONG.keys())
def test_what_keeps_a_sidecar_from_running_is_told(
    documents: list[str], addresses: dict[str, SocketAddress], message: str
) -> None:
    (problem,) = problems(*documents, **addresses)
    assert message in str(problem)


@pytest.mark.parametrize(
    "documents",
    [
        [service(), workload()],
        [service("{name: http, port: 80, targetPort: 9080}"), LOCAL],
        [service(AT_8080), workload("address: 127.0.0.2, labels: {app: a}")],
        [workload("address: a.example.com")],
        [service(AT_8080, selector="app: b"), LOCAL],
    ],
)
def test_what_can_run_is_left_alone(documents: list[str]) -> None:
    assert problems(*documents) == []
    assert problems(*documents, app=None, outbound=None) == []


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (service(), None),
        (service(selector="app: b"), "no service selects WorkloadEntry/w.default, so that its sidecar handles only"),
        (service(selector="app: b"), "; Service/a.default wants app=b"),
        (service(namespace="prod"), "; namespace 'default' has none with a selector"),
        (service("{port: 80, targetPort: web}"), "does not listen for port 80 of a.default.svc.cluster.local"),
    ],
)
def test_a_sidecar_with_less_to_do_than_it_seems_is_noted(document: str, message: str | None) -> None:
    mesh = mesh_of(document, workload())
    notes = [str(note) for note in sidecar_notes(mesh, find_workload(mesh, "w"))]
    assert len(notes) == (message is not None)
    assert message is None or message in notes[0]


NAMES = ["a", "b", "a.default", "a.default.svc", "*.default.svc.cluster.local", "*.example.com", "x.example.com"]
HOSTS = st.sampled_from([*NAMES, "fd00::1"])
NAMESPACES = st.sampled_from(["default", "prod"])
PORTS = st.sampled_from([80, 81])
DOCUMENTS = st.one_of(
    st.builds(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {}, namespace: {}}}\n"
        "spec: {{ports: [{{port: {}}}], clusterIP: {}}}".format,
        st.sampled_from(["a", "b"]),
        NAMESPACES,
        PORTS,
        st.sampled_from(["10.0.0.1", "'fd00::1'", "None"]),
    ),
    st.builds(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {}, namespace: {}}}\n"
        "spec: {{type: ExternalName, externalName: {}, ports: [{{port: {}}}]}}".format,
        st.sampled_from(["a", "b", "c"]),
        NAMESPACES,
        st.sampled_from(["a.default.svc.cluster.local", "b.prod.svc.cluster.local", "x.example.com"]),
        PORTS,
    ),
    st.builds(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e, namespace: {}}}\n"
        "spec: {{hosts: ['{}'], addresses: [10.0.0.1], resolution: STATIC, ports: [{{number: {}, name: p}}]}}".format,
        NAMESPACES,
        st.sampled_from([f"{name}.com" if "." not in name else name for name in NAMES]),
        PORTS,
    ),
    st.builds(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: {}}}\n"
        "spec: {{hosts: ['{}'], http: [{{match: [{{port: {}}}], redirect: {{uri: /}}}}]}}".format,
        NAMESPACES,
        HOSTS,
        PORTS,
    ),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(DOCUMENTS, max_size=8), st.randoms(use_true_random=False))
def test_no_domain_stands_in_two_virtual_hosts_whatever_the_mesh_and_its_order(
    documents: list[str], chance: random.Random
) -> None:
    numbered = (re.sub("name: ([ev]),", rf"name: \g<1>{n},", document) for n, document in enumerate(documents))
    unique = {tuple(document.splitlines()[1:3]): document for document in numbered}
    mesh = mesh_of(CALLER, *unique.values())
    caller = find_workload(mesh, "caller")
    snapshot = sidecar_snapshot(mesh, workload=caller, app=APP, outbound=OUTBOUND)
    hosts = snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts
    counted = Counter(domain for host in hosts for domain in host.domains)
    assert not [domain for domain, count in counted.items() if count > 1]
    assert len({host.name for host in hosts}) == len(hosts)
    assert all(host.domains and host.routes for host in hosts)
    shuffled = list(mesh.resources)
    chance.shuffle(shuffled)
    assert sidecar_snapshot(build_mesh(shuffled), workload=caller, app=APP, outbound=OUTBOUND) == snapshot


@pytest.mark.parametrize("port", ["80", "{n}"])
def test_a_thousand_services_and_virtual_services_build(port: str) -> None:
    rules = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v{n}}}
spec:
  hosts: [s{n}]
  http:
  - {{match: [{{uri: {{prefix: /a}}}}], route: [{{destination: {{host: s{n}}}}}]}}
  - {{route: [{{destination: {{host: s{n}}}}}]}}
"""
    ports = [port.format(n=1000 + n) for n in range(1000)]
    services = [service(f"{{name: http, port: {ports[n]}}}", name=f"s{n}") for n in range(1000)]
    mesh = mesh_of(CALLER, *services, *(rules.format(n=n) for n in range(1000)))
    snapshot = sidecar_snapshot(mesh, workload=find_workload(mesh, "caller"), app=APP, outbound=OUTBOUND)
    hosts = snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts
    assert len({host.name.partition(":")[0] for host in hosts}) == 1001
