"""Listeners, virtual hosts and which routes are in them: what a gateway runs."""

from __future__ import annotations

import random

import pytest

from meshproxy.mesh import build_mesh, gateway_snapshot
from meshproxy.snapshot import SocketAddress

from .support import (
    GATEWAY,
    cluster_names,
    mesh_of,
    service_entry,
    snapshot_of,
    virtual_hosts,
    virtual_service,
)

TO_A = """
- route: [{destination: {host: a}}]
"""
TO_B = """
- route: [{destination: {host: b}}]
"""


def gateway(name: str = "gw", *, hosts: str = "'*'", namespace: str = "default", port: int = 80, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: [{hosts}]
    {more}
"""


def test_listener_route_configuration_and_virtual_host_have_istios_names() -> None:
    snapshot = snapshot_of(GATEWAY, virtual_service(TO_A), service_entry("a"))
    (listener,) = snapshot.listeners
    (host,) = listener.filter_chains[0].http.route_config.virtual_hosts
    assert (listener.name, listener.address) == ("0.0.0.0_80", SocketAddress("0.0.0.0", 80))
    assert (listener.filter_chains[0].http.route_config.name, host.name) == ("http.80", "example.com:80")
    assert cluster_names(host.routes[0]) == ["outbound|80||a.default.svc.cluster.local"]


def test_bind_is_honoured_and_named() -> None:
    (listener,) = snapshot_of(gateway(more="bind: 127.0.0.2")).listeners
    assert (listener.name, listener.address) == ("127.0.0.2_80", SocketAddress("127.0.0.2", 80))
    assert listener.filter_chains[0].http.route_config.name == "http.80.127.0.0.2"


def test_publish_moves_a_port_and_changes_no_name() -> None:
    (listener,) = snapshot_of(GATEWAY, publish={80: SocketAddress("127.0.0.1", 8080)}).listeners
    assert (listener.name, listener.address) == ("0.0.0.0_80", SocketAddress("127.0.0.1", 8080))


def test_http_options_reach_the_connection_manager() -> None:
    (listener,) = snapshot_of(GATEWAY, max_request_headers_kb=8, request_headers_timeout_s=1.5).listeners
    http = listener.filter_chains[0].http
    assert (http.max_request_headers_kb, http.request_headers_timeout_s) == (8, 1.5)


@pytest.mark.parametrize(
    ("labels", "selected"),
    [
        (None, ["0.0.0.0_80"]),
        ({"istio": "ingressgateway"}, ["0.0.0.0_80"]),
        ({"istio": "ingressgateway", "app": "x"}, ["0.0.0.0_80"]),
        ({"istio": "egressgateway"}, []),
        ({}, []),
    ],
)
def test_a_gateway_belongs_to_workloads_with_all_labels_of_its_selector(
    labels: dict[str, str] | None, selected: list[str]
) -> None:
    assert [listener.name for listener in snapshot_of(GATEWAY, selector=labels).listeners] == selected


def test_a_port_without_routes_answers_404_for_every_host() -> None:
    (host,) = snapshot_of(GATEWAY).listeners[0].filter_chains[0].http.route_config.virtual_hosts
    assert (host.name, host.domains, host.routes) == ("blackhole:80", ("*",), ())


def test_gateways_that_share_a_port_are_one_listener() -> None:
    snapshot = snapshot_of(
        gateway("one", hosts="a.com"),
        gateway("two", hosts="b.com"),
        virtual_service(TO_A, name="a", hosts="a.com", spec="gateways: [one]"),
        virtual_service(TO_B, name="b", hosts="b.com", spec="gateways: [two]"),
    )
    assert len(snapshot.listeners) == 1
    assert set(virtual_hosts(snapshot)) == {"a.com", "b.com"}


@pytest.mark.parametrize(
    ("server", "hosts", "domains"),
    [
        ("'*'", "a.com, '*.b.com'", {"a.com", "*.b.com"}),
        ("'*.com'", "a.com, a.net", {"a.com"}),
        ("a.com, b.com", "'*.com'", {"a.com", "b.com"}),
        ("'*.a.com'", "'*'", {"*.a.com"}),
        ("default/a.com", "a.com", {"a.com"}),
        ("other/a.com", "a.com", set()),
        ("./a.com", "a.com", {"a.com"}),
        ("'*/a.com'", "a.com", {"a.com"}),
        ("'*/*'", "a.com", {"a.com"}),
        ("'default/*'", "a.com", {"a.com"}),
        ("A.com", "a.COM", {"a.com"}),
    ],
)
def test_a_virtual_service_gets_what_its_hosts_and_the_servers_have_in_common(
    server: str, hosts: str, domains: set[str]
) -> None:
    snapshot = snapshot_of(gateway(hosts=server), virtual_service(TO_A, hosts=hosts))
    assert set(virtual_hosts(snapshot)) - {"*"} == domains - {"*"}


def test_a_dot_in_a_servers_host_means_the_gateways_namespace_not_the_virtual_services() -> None:
    service = virtual_service(TO_A, spec="gateways: [edge/gw]")
    assert "example.com" not in virtual_hosts(snapshot_of(gateway(hosts="./example.com", namespace="edge"), service))


def test_hosts_with_the_same_routes_share_a_virtual_host_named_for_the_most_specific() -> None:
    snapshot = snapshot_of(GATEWAY, virtual_service(TO_A, hosts="b.com, '*.org', longer.com"))
    (host,) = snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts
    assert (host.name, host.domains) == ("longer.com:80", ("longer.com", "b.com", "*.org"))


def test_virtual_services_of_one_host_merge_by_age_with_routes_for_the_rest_last() -> None:
    old = virtual_service(
        "- match: [{uri: {prefix: /old}}]\n  route: [{destination: {host: old}}]" + TO_A, name="z-old"
    ).replace("name: z-old", "name: z-old, creationTimestamp: '2020-01-01T00:00:00Z'")
    new = virtual_service(
        "- match: [{uri: {prefix: /new}}]\n  route: [{destination: {host: new}}]", name="a-new"
    ).replace("name: a-new", "name: a-new, creationTimestamp: '2021-01-01T00:00:00Z'")
    routes = virtual_hosts(snapshot_of(GATEWAY, new, old))["example.com"].routes
    assert [cluster_names(route)[0].split("|")[3].split(".")[0] for route in routes] == ["old", "new", "a"]


def test_without_creation_times_the_name_and_then_the_namespace_decide() -> None:
    rule = "- match: [{uri: {prefix: /%s}}]\n  redirect: {uri: /%s}"
    documents = [virtual_service(rule % (n, n), name=n) for n in ("b", "a", "c")]
    routes = virtual_hosts(snapshot_of(GATEWAY, *documents))["example.com"].routes
    assert [route.match.path.value for route in routes] == ["/a", "/b", "/c"]


def test_virtual_services_for_the_gateway_alone_merge_before_those_for_all() -> None:
    rule = "- match: [{uri: {prefix: /%s}}]\n  redirect: {uri: /%s}"
    exports = {"a": "'*'", "b": "istio-system", "c": "., edge"}
    documents = [virtual_service(rule % (n, n), name=n, spec=f"exportTo: [{e}]") for n, e in exports.items()]
    for proxy, order in (("istio-system", ["/b", "/a"]), ("default", ["/c", "/a"]), ("edge", ["/c", "/a"])):
        routes = virtual_hosts(snapshot_of(GATEWAY, *documents, namespace=proxy))["example.com"].routes
        assert [route.match.path.value for route in routes] == order


def test_the_order_of_the_resources_changes_nothing() -> None:
    mesh = mesh_of(
        GATEWAY,
        gateway("gw2", hosts="'*.com'"),
        *(virtual_service(TO_A, name=f"vs{n}", hosts=f"h{n}.com", spec="gateways: [gw, gw2]") for n in range(5)),
        service_entry("a"),
        service_entry("b"),
    )
    shuffled = list(mesh.resources)
    random.Random(7).shuffle(shuffled)
    assert gateway_snapshot(build_mesh(shuffled)) == gateway_snapshot(mesh)


def test_a_rule_with_several_matches_is_a_route_for_each() -> None:
    rule = "- match: [{uri: {prefix: /a}}, {uri: {exact: /b}}]\n  route: [{destination: {host: a}}]"
    routes = virtual_hosts(snapshot_of(GATEWAY, virtual_service(rule)))["example.com"].routes
    assert [route.match.path.value for route in routes] == ["/a", "/b"]


def test_nothing_follows_a_route_that_takes_every_request() -> None:
    routes = virtual_hosts(snapshot_of(GATEWAY, virtual_service(TO_A + TO_B.strip("\n"))))["example.com"].routes
    assert len(routes) == 1


@pytest.mark.parametrize(
    ("condition", "present"),
    [
        ("gateways: [gw]", True),
        ("gateways: [default/gw]", True),
        ("gateways: [mesh]", False),
        ("port: 80", True),
        ("port: 81", False),
        ("sourceLabels: {istio: ingressgateway}", True),
        ("sourceLabels: {app: x}", False),
        ("sourceNamespace: istio-system", True),
        ("sourceNamespace: default", False),
        ("gateways: [gw], sourceLabels: {app: x}", True),
    ],
)
def test_conditions_on_the_proxy_decide_whether_a_route_exists(condition: str, present: bool) -> None:
    rule = f"- match: [{{uri: {{prefix: /a}}, {condition}}}]\n  route: [{{destination: {{host: a}}}}]"
    service = virtual_service(rule, spec="gateways: [gw, mesh]")
    assert ("example.com" in virtual_hosts(snapshot_of(GATEWAY, service))) is present


def test_source_labels_are_compared_with_the_labels_the_gateway_has() -> None:
    rule = "- match: [{sourceLabels: {app: x}}]\n  route: [{destination: {host: a}}]"
    labels = {"istio": "ingressgateway", "app": "x"}
    assert "example.com" in virtual_hosts(snapshot_of(GATEWAY, virtual_service(rule), selector=labels))


def test_a_virtual_service_without_gateways_is_for_sidecars_only() -> None:
    service = virtual_service(TO_A, spec="gateways: []")
    assert "example.com" not in virtual_hosts(snapshot_of(GATEWAY, service))


@pytest.mark.parametrize(
    ("export_to", "namespace", "seen"),
    [
        ("'*'", "istio-system", True),
        (".", "istio-system", False),
        (".", "default", True),
        ("edge", "edge", True),
    ],
)
def test_a_virtual_service_is_seen_where_it_is_exported_to(export_to: str, namespace: str, seen: bool) -> None:
    service = virtual_service(TO_A, spec=f"exportTo: [{export_to}]")
    assert ("example.com" in virtual_hosts(snapshot_of(GATEWAY, service, namespace=namespace))) is seen


def test_every_route_says_where_its_match_or_its_rule_is_written() -> None:
    document = virtual_service(
        "- match:\n  - uri: {prefix: /a}\n  - uri: {prefix: /b}\n  route: [{destination: {host: a}}]" + TO_B
    )
    lines = ("\n" + GATEWAY + "\n---\n" + document).splitlines()
    routes = virtual_hosts(snapshot_of(GATEWAY, document))["example.com"].routes
    origins = [route.origin for route in routes]
    assert all(origin and origin.resource == "VirtualService/vs.default" for origin in origins)
    text = [lines[origin.line].strip() for origin in origins if origin]
    assert text[0].endswith("uri: {prefix: /a}") and text[1].endswith("uri: {prefix: /b}")
    assert text[2].startswith("- route:")


def test_only_clusters_that_routes_reach_are_there() -> None:
    snapshot = snapshot_of(GATEWAY, virtual_service(TO_A), service_entry("a"), service_entry("b"))
    assert [cluster.name for cluster in snapshot.clusters] == ["outbound|80||a.default.svc.cluster.local"]


def test_servers_of_one_port_that_differ_in_bind_stay_apart_when_it_is_published() -> None:
    snapshot = snapshot_of(
        gateway("one", more="bind: 127.0.0.1"),
        gateway("two", more="bind: 127.0.0.2"),
        publish={80: SocketAddress("0.0.0.0", 8080)},
    )
    assert [str(listener.address) for listener in snapshot.listeners] == ["127.0.0.1:8080", "127.0.0.2:8080"]
