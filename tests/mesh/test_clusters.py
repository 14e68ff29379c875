"""Services to clusters: endpoints, ports, addresses, and what is missing."""

from __future__ import annotations

import pytest

from meshproxy.snapshot import Cluster, Endpoint, Pipe, Snapshot, SocketAddress

from .support import (
    GATEWAY,
    cluster_names,
    only_cluster,
    only_route,
    service_entry,
    snapshot_of,
    virtual_service,
)


def to(destination: str) -> str:
    """A VirtualService that sends everything to one destination."""
    return virtual_service(f"- route: [{{destination: {{{destination}}}}}]")


def reached(destination: str, *documents: str) -> Snapshot:
    """What a gateway runs that sends everything to one destination."""
    return snapshot_of(GATEWAY, to(destination), *documents)


def addresses(cluster: Cluster) -> list[str]:
    return [str(endpoint.address) for endpoint in cluster.endpoints]


def service(ports: str = "{name: http, port: 80}", *, name: str = "a", spec: str = "selector: {app: a}") -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports: [{ports}]
  {spec}
"""


def workload(name: str, spec: str, *, labels: str = "", namespace: str = "default") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec: {{{spec}}}
"""


def entry(spec: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a}}
spec:
  hosts: [a.default.svc.cluster.local]
  {spec}
"""


HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]"
APP_A = "labels: {app: a}"


def test_defaults_are_least_request_and_ten_seconds_to_connect() -> None:
    cluster = only_cluster(reached("host: a", service_entry("a", port=9000)))
    assert cluster == Cluster(
        "outbound|80||a.default.svc.cluster.local",
        (Endpoint(SocketAddress("127.0.0.1", 9000)),),
        type="STATIC",
        lb_policy="LEAST_REQUEST",
        connect_timeout_s=10.0,
    )


@pytest.mark.parametrize(
    ("target_port", "ports", "expected"),
    [
        ("", "{}", 80),
        ("targetPort: 8080", "{}", 8080),
        ("targetPort: 8080", "{http: 9001}", 9001),
        ("", "{other: 9001}", 80),
    ],
)
def test_where_a_workload_listens_for_an_entrys_port(target_port: str, ports: str, expected: int) -> None:
    document = entry(
        f"ports: [{{number: 80, name: http, protocol: HTTP, {target_port}}}]\n"
        "  resolution: STATIC\n  workloadSelector: {labels: {app: a}}"
    )
    snapshot = reached("host: a", document, workload("w", f"address: 10.0.0.1, ports: {ports}, {APP_A}"))
    assert addresses(only_cluster(snapshot)) == [f"10.0.0.1:{expected}"]


@pytest.mark.parametrize(
    ("port", "ports", "expected"),
    [
        ("{name: http, port: 80}", "{}", ["10.0.0.1:80"]),
        ("{name: http, port: 80, targetPort: 8080}", "{}", ["10.0.0.1:8080"]),
        ("{name: http, port: 80, targetPort: 8080}", "{http: 9001}", ["10.0.0.1:9001"]),
        ("{name: http, port: 80, targetPort: web}", "{web: 9002}", ["10.0.0.1:9002"]),
        ("{name: http, port: 80, targetPort: web}", "{http: 9001}", []),
    ],
)
def test_where_a_workload_listens_for_a_services_port(port: str, ports: str, expected: list[str]) -> None:
    snapshot = reached("host: a", service(port), workload("w", f"address: 10.0.0.1, ports: {ports}, {APP_A}"))
    assert addresses(only_cluster(snapshot)) == expected


def test_a_selector_picks_workloads_of_its_namespace_by_labels_of_spec_and_metadata() -> None:
    snapshot = reached(
        "host: a",
        service(spec="selector: {app: a, tier: web}"),
        workload("both", "address: 10.0.0.1, labels: {app: a}", labels="tier: web"),
        workload("one", "address: 10.0.0.2, labels: {app: a}"),
        workload("metadata-wins", "address: 10.0.0.3, labels: {app: b, tier: web}", labels="app: a"),
        workload("elsewhere", "address: 10.0.0.4, labels: {app: a, tier: web}", namespace="other"),
    )
    assert addresses(only_cluster(snapshot)) == ["10.0.0.1:80", "10.0.0.3:80"]


def test_a_service_without_a_selector_picks_nobody() -> None:
    snapshot = reached("host: a", service(spec=""), workload("w", f"address: 10.0.0.1, {APP_A}"))
    assert only_cluster(snapshot).endpoints == ()


def test_weights_are_kept() -> None:
    snapshot = reached("host: a", service(), workload("w", f"address: 10.0.0.1, weight: 7, {APP_A}"))
    assert only_cluster(snapshot).endpoints == (Endpoint(SocketAddress("10.0.0.1", 80), 7),)


def test_endpoints_of_one_address_count_once() -> None:
    twice = [workload(name, f"address: 10.0.0.1, weight: {n}, {APP_A}") for n, name in ((3, "v"), (5, "w"))]
    assert only_cluster(reached("host: a", service(), *twice)).endpoints == (
        Endpoint(SocketAddress("10.0.0.1", 80), 3),
    )


def test_a_unix_socket_is_an_address() -> None:
    document = entry(f"{HTTP}\n  resolution: STATIC\n  endpoints: [{{address: 'unix:///run/a.sock'}}]")
    cluster = only_cluster(reached("host: a", document))
    assert (cluster.type, cluster.endpoints) == ("STATIC", (Endpoint(Pipe("/run/a.sock")),))


def test_one_address_to_look_up_makes_the_cluster_strict_dns() -> None:
    endpoints = "[{address: 10.0.0.1}, {address: a.example.com}]"
    cluster = only_cluster(reached("host: a", entry(f"{HTTP}\n  resolution: DNS\n  endpoints: {endpoints}")))
    assert (cluster.type, addresses(cluster)) == ("STRICT_DNS", ["10.0.0.1:80", "a.example.com:80"])


def test_an_entry_resolved_by_dns_without_endpoints_is_its_own_host() -> None:
    document = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: DNS
"""
    cluster = only_cluster(reached("host: api.example.com", document))
    assert (cluster.name, cluster.type, addresses(cluster)) == (
        "outbound|80||api.example.com",
        "STRICT_DNS",
        ["api.example.com:8080"],
    )


def test_an_external_name_is_looked_up_by_dns() -> None:
    document = service("{port: 8080}", spec="{type: ExternalName, externalName: x.example.com}").replace(
        "ports: [{port: 8080}]\n  {type: ExternalName, externalName: x.example.com}",
        "type: ExternalName\n  externalName: x.example.com",
    )
    snapshot = reached("host: a, port: {number: 8080}", document)
    cluster = only_cluster(snapshot)
    assert (cluster.name, cluster.type, addresses(cluster)) == (
        "outbound|8080||a.default.svc.cluster.local",
        "STRICT_DNS",
        ["x.example.com:8080"],
    )


def test_an_external_name_of_a_service_of_the_mesh_leads_to_that_service() -> None:
    alias = "apiVersion: v1\nkind: Service\nmetadata: {name: alias}\nspec: {type: ExternalName, externalName: %s}"
    snapshot = reached("host: alias", alias % "a.default.svc.cluster.local", service_entry("a", port=9000))
    assert only_cluster(snapshot).name == "outbound|80||a.default.svc.cluster.local"


def test_endpoints_and_endpoint_slices_give_a_service_its_addresses() -> None:
    endpoints = """
apiVersion: v1
kind: Endpoints
metadata: {name: a}
subsets:
- addresses: [{ip: 10.0.0.1}]
  notReadyAddresses: [{ip: 10.0.0.9}]
  ports: [{name: http, port: 8080}, {name: admin, port: 9}]
"""
    endpoint_slice = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-x1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints:
- {addresses: [10.0.0.1]}
- {addresses: [10.0.0.2], conditions: {ready: true}}
- {addresses: [10.0.0.8], conditions: {ready: false}}
ports: [{name: http, port: 8080}]
"""
    snapshot = reached("host: a", service(spec=""), endpoints, endpoint_slice)
    assert addresses(only_cluster(snapshot)) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    unready = reached("host: a", service(spec="publishNotReadyAddresses: true"), endpoints, endpoint_slice)
    assert addresses(only_cluster(unready)) == [f"10.0.0.{n}:8080" for n in (1, 9, 2, 8)]


def test_a_service_without_endpoints_has_a_cluster_without_any() -> None:
    assert only_cluster(reached("host: a", service())).endpoints == ()


def test_a_subset_of_dns_names_with_none_left_has_no_cluster() -> None:
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}]}
"""
    document = entry(f"{HTTP}\n  resolution: DNS\n  endpoints: [{{address: a.example.com}}]")
    assert reached("host: a, subset: v1", document, rule).clusters == ()


@pytest.mark.parametrize("destination", ["host: b", "host: a, port: {number: 81}", "host: a, subset: v1"])
def test_what_does_not_exist_is_named_by_the_route_and_has_no_cluster(destination: str) -> None:
    snapshot = reached(destination, service_entry("a"))
    assert snapshot.clusters == ()
    assert len(cluster_names(only_route(snapshot))) == 1


@pytest.mark.parametrize(
    ("ports", "expected"),
    [("{name: web, port: 8080}", 8080), ("{name: x, port: 80}, {name: y, port: 81}", 80)],
)
def test_without_a_port_the_services_only_one_is_meant_else_the_listeners(ports: str, expected: int) -> None:
    assert only_cluster(reached("host: a", service(ports))).name == f"outbound|{expected}||a.default.svc.cluster.local"


def test_a_short_name_is_a_neighbour_of_its_rule() -> None:
    assert only_cluster(reached("host: a", service_entry("a"), service_entry("a", namespace="prod"))).name == (
        "outbound|80||a.default.svc.cluster.local"
    )


def test_a_service_that_is_not_exported_to_the_gateway_has_no_cluster() -> None:
    hidden = service_entry("a", extra="  exportTo: [.]")
    assert reached("host: a", hidden).clusters == ()
    assert snapshot_of(GATEWAY, to("host: a"), hidden, namespace="default").clusters != ()


def test_a_kubernetes_service_is_exported_by_its_annotation() -> None:
    annotation = "{name: a, annotations: {networking.istio.io/exportTo: '., other'}}"
    document = service().replace("{name: a}", annotation)
    assert reached("host: a", document).clusters == ()
    assert snapshot_of(GATEWAY, to("host: a"), document, namespace="other").clusters != ()


def test_entries_of_one_host_and_namespace_are_one_service() -> None:
    one, two = service_entry("a", port=9001), service_entry("a", port=9002).replace("name: a,", "name: a2,")
    assert addresses(only_cluster(reached("host: a", one, two))) == ["127.0.0.1:9001", "127.0.0.1:9002"]


def test_a_kubernetes_service_goes_before_an_older_entry_of_another_namespace() -> None:
    squatter = entry(f"{HTTP}\n  resolution: STATIC\n  endpoints: [{{address: 10.9.9.9}}]").replace(
        "metadata: {name: a}",
        "metadata: {name: a, namespace: evil, creationTimestamp: '2000-01-01T00:00:00Z'}",
    )
    own = workload("w", f"address: 10.0.0.1, {APP_A}")
    assert addresses(only_cluster(reached("host: a", squatter, service(), own))) == ["10.0.0.1:80"]


def test_a_kubernetes_service_goes_before_an_entry_that_is_exported_to_the_gateway_by_name() -> None:
    squatter = entry(f"{HTTP}\n  resolution: STATIC\n  exportTo: [istio-system]\n  endpoints: [{{address: 10.9.9.9}}]")
    elsewhere = squatter.replace("metadata: {name: a}", "metadata: {name: a, namespace: evil}")
    own = workload("w", f"address: 10.0.0.1, {APP_A}")
    assert addresses(only_cluster(reached("host: a.default.svc.cluster.local", elsewhere, service(), own))) == [
        "10.0.0.1:80"
    ]
