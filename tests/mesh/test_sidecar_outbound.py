"""Which hosts a sidecar's app may call, and where its requests go."""

from __future__ import annotations

import pytest

from meshproxy.snapshot import (
    DirectResponseAction,
    Prefix,
    RouteMatch,
    Snapshot,
    SocketAddress,
    VirtualHost,
)

from .support import OUTBOUND, Request, cluster_names, meets, service_entry, sidecar_of, virtual_hosts


def service(
    name: str = "a", *, namespace: str = "default", ports: str = "{name: http, port: 80}", more: str = ""
) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  ports: [{ports}]
  {more}
"""


def entry(host: str, *, name: str = "e", namespace: str = "default", port: int = 80, more: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: ['{host}']
  ports: [{{number: {port}, name: http, protocol: HTTP}}]
  resolution: STATIC
  endpoints: [{{address: 10.1.0.1}}]
  {more}
"""


def rule(hosts: str, http: str, *, name: str = "vs", namespace: str = "default", spec: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{hosts}]
  http: [{http}]
  {spec}
"""


def to(host: str, *, match: str = "", more: str = "") -> str:
    return f"{{match: [{match}], route: [{{destination: {{host: {host}{more}}}}}]}}"


def virtual_host(snapshot: Snapshot, authority: str) -> VirtualHost:
    """The virtual host of a request's authority, by Envoy's rules."""
    hosts = virtual_hosts(snapshot)
    wildcards = sorted((d for d in hosts if d.startswith("*")), key=len, reverse=True)
    return hosts.get(authority) or next(hosts[d] for d in wildcards if authority.endswith(d[1:]))


def destinations(snapshot: Snapshot, authority: str, request: Request | None = None) -> list[str]:
    """The clusters of the first route that a request for an authority meets."""
    routes = virtual_host(snapshot, authority).routes
    return cluster_names(next(route for route in routes if meets(request or Request(), route.match)))


def test_the_outbound_listener_is_an_http_proxy_inside_the_mesh() -> None:
    (listener,) = sidecar_of(max_headers_count=7).listeners
    assert (listener.name, listener.address) == ("127.0.0.1_15001", OUTBOUND)
    http = listener.filter_chains[0].http
    assert (http.use_remote_address, http.max_headers_count) == (False, 7)
    assert http.route_config.name == "http_proxy"
    assert http.route_config.ignore_port_in_host_matching is False


def test_a_service_without_rules_has_a_default_route_to_its_cluster() -> None:
    snapshot = sidecar_of(service_entry("a"))
    host = virtual_hosts(snapshot)["a"]
    (route,) = host.routes
    assert (host.name, route.name, route.match) == ("a.default.svc.cluster.local:80", "default", RouteMatch())
    assert cluster_names(route) == ["outbound|80||a.default.svc.cluster.local"]
    assert snapshot.clusters[0].endpoints[0].address == SocketAddress("127.0.0.1", 9000)
    assert route.origin is not None and route.origin.resource == "ServiceEntry/a.default"


@pytest.mark.parametrize(
    ("document", "domains"),
    [
        (
            service(),
            "a.default.svc.cluster.local a.default.svc.cluster.local:80 "
            "a.default.svc.cluster.local. a.default.svc.cluster.local.:80 "
            "a a:80 a.default a.default:80 a.default.svc a.default.svc:80",
        ),
        (
            service(ports="{name: http, port: 9080}"),
            "a.default.svc.cluster.local:9080 a.default.svc.cluster.local.:9080 "
            "a:9080 a.default:9080 a.default.svc:9080",
        ),
        (
            service(namespace="prod", ports="{port: 81}"),
            "a.prod.svc.cluster.local:81 a.prod.svc.cluster.local.:81 a.prod:81 a.prod.svc:81",
        ),
        (
            service(ports="{port: 81}", more="clusterIPs: [10.2.0.1, 'fd00::1']"),
            "a.default.svc.cluster.local:81 a.default.svc.cluster.local.:81 "
            "a:81 a.default:81 a.default.svc:81 10.2.0.1:81 [fd00::1]:81",
        ),
        (
            service(ports="{port: 81}", more="clusterIP: None"),
            "a.default.svc.cluster.local:81 a.default.svc.cluster.local.:81 a:81 a.default:81 a.default.svc:81",
        ),
        (entry("api.example.com", port=81), "api.example.com:81 api.example.com.:81"),
        (
            entry("api.example.com", more="addresses: [10.3.0.1, 10.4.0.1/32, 10.5.0.0/16]"),
            "api.example.com api.example.com:80 api.example.com. api.example.com.:80 "
            "10.3.0.1 10.3.0.1:80 10.4.0.1 10.4.0.1:80",
        ),
        (entry("*.example.com", port=81), "*.example.com:81 *.example.com.:81"),
    ],
)
def test_a_service_is_known_by_its_names_and_addresses_and_port_80_needs_no_saying(document: str, domains: str) -> None:
    hosts = virtual_hosts(sidecar_of(document))
    assert " ".join(domain for domain in hosts if domain != "*") == domains


def test_each_port_of_a_service_has_its_own_virtual_host() -> None:
    snapshot = sidecar_of(service(ports="{name: http, port: 80}, {name: http-admin, port: 9000}"))
    assert destinations(snapshot, "a") == ["outbound|80||a.default.svc.cluster.local"]
    assert destinations(snapshot, "a:9000") == ["outbound|9000||a.default.svc.cluster.local"]
    assert destinations(snapshot, "a:9001") == ["PassthroughCluster"]


@pytest.mark.parametrize(
    ("port", "http"),
    [
        ("{name: web, port: 81}", True),
        ("{name: grpc-api, port: 81}", True),
        ("{name: tcp-db, port: 81}", False),
        ("{name: https, port: 81}", False),
        ("{name: db, port: 3306}", False),
        ("{name: http, port: 3306}", True),
        ("{name: tcp, appProtocol: http, port: 81}", True),
        ("{name: http, appProtocol: kubernetes.io/wss, port: 81}", False),
        ("{name: dns, protocol: UDP, port: 81}", False),
    ],
)
def test_requests_are_routed_to_ports_that_speak_http_or_do_not_say_what(port: str, http: bool) -> None:
    assert (len(virtual_hosts(sidecar_of(service(ports=port)))) > 1) is http


def test_a_canary_by_header_goes_to_the_subset_of_its_version() -> None:
    workloads = [
        f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: a-v{n}}}
spec: {{address: 10.0.0.{n}, labels: {{app: a, version: v{n}}}}}
"""
        for n in (1, 2)
    ]
    subsets = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""
    rules = rule(
        "a",
        to("a", match="{headers: {end-user: {exact: t}}}", more=", subset: v2") + ", " + to("a", more=", subset: v1"),
    )
    snapshot = sidecar_of(service(more="selector: {app: a}"), *workloads, subsets, rules)
    tester = Request(headers={"end-user": "t"})
    for authority in ("a", "a:80", "a.default.svc.cluster.local"):
        assert destinations(snapshot, authority, tester) == ["outbound|80|v2|a.default.svc.cluster.local"]
        assert destinations(snapshot, authority) == ["outbound|80|v1|a.default.svc.cluster.local"]
    addresses = {cluster.name: [str(e.address) for e in cluster.endpoints] for cluster in snapshot.clusters}
    assert addresses["outbound|80|v2|a.default.svc.cluster.local"] == ["10.0.0.2:80"]
    assert "outbound|80||a.default.svc.cluster.local" not in addresses


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("sourceLabels: {app: caller}", True),
        ("sourceLabels: {app: other}", False),
        ("sourceNamespace: default", True),
        ("sourceNamespace: prod", False),
        ("gateways: [mesh]", True),
        ("gateways: [mesh], sourceLabels: {app: other}", True),
        ("gateways: [gw]", False),
        ("port: 80", True),
        ("port: 81", False),
    ],
)
def test_conditions_on_the_caller_decide_whether_a_rule_exists(condition: str, holds: bool) -> None:
    rules = rule("a", to("b", match=f"{{{condition}}}"), spec="gateways: [mesh, gw]")
    found = destinations(sidecar_of(service("a"), service("b"), rules), "a")
    assert found == [f"outbound|80||{'b' if holds else 'a'}.default.svc.cluster.local"]


def test_a_rule_for_a_port_holds_there_alone() -> None:
    rules = rule("a", to("b", match="{port: 9000}", more=", port: {number: 80}"))
    snapshot = sidecar_of(service("a", ports="{name: x, port: 80}, {name: y, port: 9000}"), service("b"), rules)
    assert destinations(snapshot, "a:9000") == ["outbound|80||b.default.svc.cluster.local"]
    assert destinations(snapshot, "a:80") == ["outbound|80||a.default.svc.cluster.local"]


@pytest.mark.parametrize(
    ("gateways", "holds"),
    [("", True), ("gateways: [mesh]", True), ("gateways: [mesh, gw]", True), ("gateways: [gw]", False)],
)
def test_a_virtual_service_is_for_sidecars_by_default_or_by_name(gateways: str, holds: bool) -> None:
    found = destinations(sidecar_of(service("a"), service("b"), rule("a", to("b"), spec=gateways)), "a")
    assert found == [f"outbound|80||{'b' if holds else 'a'}.default.svc.cluster.local"]


@pytest.mark.parametrize(
    ("export_to", "seen"), [("'*'", True), (".", False), ("default", True), ("prod, default", True)]
)
def test_what_is_not_exported_to_the_callers_namespace_does_not_exist_for_it(export_to: str, seen: bool) -> None:
    exported = f"exportTo: [{export_to}]"
    foreign = entry("api.example.com", namespace="prod", more=exported)
    assert ("api.example.com" in virtual_hosts(sidecar_of(foreign))) is seen
    rules = rule("a.default.svc.cluster.local", to("b.default.svc.cluster.local"), namespace="prod", spec=exported)
    found = destinations(sidecar_of(service("a"), service("b"), rules), "a")
    assert found == [f"outbound|80||{'b' if seen else 'a'}.default.svc.cluster.local"]


def test_a_neighbours_declaration_of_a_host_goes_before_all_others() -> None:
    own = entry("a.prod.svc.cluster.local", more="location: MESH_INTERNAL")
    snapshot = sidecar_of(service("a", namespace="prod"), own)
    assert [str(e.address) for e in snapshot.clusters[0].endpoints] == ["10.1.0.1:80"]


def test_of_several_virtual_services_of_a_host_the_oldest_holds_alone() -> None:
    old, new = rule("a", to("b", match="{uri: {prefix: /b}}"), name="z"), rule("a", to("c"), name="y")
    new = new.replace("name: y", "name: y, creationTimestamp: '2021-01-01T00:00:00Z'")
    old = old.replace("name: z", "name: z, creationTimestamp: '2020-01-01T00:00:00Z'")
    (route,) = virtual_hosts(sidecar_of(*map(service, "abc"), new, old))["a"].routes
    assert (route.match.path, cluster_names(route)) == (Prefix("/b"), ["outbound|80||b.default.svc.cluster.local"])


WIDE = rule("'*.svc.cluster.local'", "{redirect: {uri: /wide}}", name="a-wide")
NARROW = rule("'*.default.svc.cluster.local'", "{redirect: {uri: /narrow}}", name="b-narrow")
EXACT = rule("a", "{redirect: {uri: /exact}}", name="c-exact")
NEVER = rule("a", to("b", match="{sourceLabels: {app: nobody}}"), name="d-never")


@pytest.mark.parametrize(
    ("rules", "path"),
    [
        ([WIDE], "/wide"),
        ([WIDE, NARROW], "/narrow"),
        ([WIDE, NARROW, EXACT], "/exact"),
        ([WIDE, NARROW, EXACT, NEVER], "/exact"),
        ([WIDE, NARROW, NEVER], None),
    ],
)
def test_the_most_specific_host_holds_for_a_service(rules: list[str], path: str | None) -> None:
    action = virtual_hosts(sidecar_of(service("a"), *rules))["a"].routes[0].action
    assert getattr(action, "path", None) == path


def test_a_wildcard_over_services_holds_for_these_alone() -> None:
    snapshot = sidecar_of(service("a"), service("b", namespace="prod"), NARROW)
    assert "*.default.svc.cluster.local" not in virtual_hosts(snapshot)
    assert destinations(snapshot, "x.default.svc.cluster.local") == ["PassthroughCluster"]
    assert destinations(snapshot, "b.prod") == ["outbound|80||b.prod.svc.cluster.local"]


@pytest.mark.parametrize("host", ["example.com", "'*.example.com'", "10.7.7.7", "unknown"])
def test_a_host_that_is_no_service_has_its_rules_on_port_80(host: str) -> None:
    snapshot = sidecar_of(service("a", ports="{port: 81}"), rule(host, to("a")))
    full = "unknown.default.svc.cluster.local" if host == "unknown" else host.strip("'")
    (found,) = [h for d, h in virtual_hosts(snapshot).items() if d == full]
    assert found.domains == (full, f"{full}:80")
    assert cluster_names(found.routes[0]) == ["outbound|81||a.default.svc.cluster.local"]


def test_a_host_that_is_no_service_shares_the_ports_of_a_service_of_the_same_rule() -> None:
    snapshot = sidecar_of(service("a", ports="{port: 81}"), rule("a, example.com", to("a")))
    hosts = virtual_hosts(snapshot)
    assert {"example.com", "example.com:80", "example.com:81", "a:81"} <= hosts.keys()
    assert "a" not in hosts  # on port 80 there is no such service, only its full name
    assert "a.default.svc.cluster.local" in hosts


def test_a_wildcard_within_a_services_wildcard_holds_for_its_own_hosts() -> None:
    snapshot = sidecar_of(entry("*.com"), service("a"), rule("'*.example.com'", to("a")))
    assert destinations(snapshot, "x.example.com") == ["outbound|80||a.default.svc.cluster.local"]
    assert destinations(snapshot, "x.org.com") == ["outbound|80||*.com"]


def test_a_written_name_goes_before_a_short_name_of_another() -> None:
    snapshot = sidecar_of(service("a"), entry("a.default"))
    assert destinations(snapshot, "a.default") == ["outbound|80||a.default"]
    assert destinations(snapshot, "a.default.svc") == ["outbound|80||a.default.svc.cluster.local"]


def test_another_name_of_a_service_is_that_service() -> None:
    alias = service("alias", more="type: ExternalName\n  externalName: a.default.svc.cluster.local").replace(
        "ports: [{name: http, port: 80}]", ""
    )
    snapshot = sidecar_of(service("a", ports="{port: 81}"), alias, rule("a", "{redirect: {uri: /a}}"))
    hosts = virtual_hosts(snapshot)
    assert hosts["alias:81"] is hosts["a:81"] is hosts["alias.default.svc.cluster.local:81"]
    own = rule("alias", "{redirect: {uri: /alias}}", name="alias")
    hosts = virtual_hosts(sidecar_of(service("a"), alias, own))
    assert getattr(hosts["alias"].routes[0].action, "path", None) == "/alias"
    assert cluster_names(hosts["a"].routes[0]) == ["outbound|80||a.default.svc.cluster.local"]


def test_another_name_for_an_outside_host_is_reached_by_dns_on_the_ports_it_lists() -> None:
    alias = service("alias", more="type: ExternalName\n  externalName: api.example.com")
    snapshot = sidecar_of(alias)
    assert destinations(snapshot, "alias") == ["outbound|80||alias.default.svc.cluster.local"]
    assert (snapshot.clusters[0].type, str(snapshot.clusters[0].endpoints[0].address)) == (
        "STRICT_DNS",
        "api.example.com:80",
    )


def test_unknown_hosts_are_passed_on_to_where_they_are_by_default() -> None:
    snapshot = sidecar_of()
    (host,) = snapshot.listeners[0].filter_chains[0].http.route_config.virtual_hosts
    (cluster,) = snapshot.clusters
    assert (host.name, host.domains, host.routes[0].name) == ("allow_any", ("*",), "allow_any")
    assert destinations(snapshot, "example.com:8080") == ["PassthroughCluster"]
    assert (cluster.name, cluster.type, cluster.endpoints) == ("PassthroughCluster", "DYNAMIC_FORWARD_PROXY", ())


def test_unknown_hosts_are_refused_where_only_the_registry_counts() -> None:
    snapshot = sidecar_of(service("a"), outbound_policy="REGISTRY_ONLY")
    host = virtual_hosts(snapshot)["*"]
    assert (host.name, host.routes[0].name, host.routes[0].action) == (
        "block_all",
        "block_all",
        DirectResponseAction(502),
    )
    assert [cluster.name for cluster in snapshot.clusters] == ["outbound|80||a.default.svc.cluster.local"]


def test_the_catch_all_comes_last() -> None:
    hosts = sidecar_of(service("a"), service("b")).listeners[0].filter_chains[0].http.route_config.virtual_hosts
    assert [host.name for host in hosts] == [
        "a.default.svc.cluster.local:80",
        "b.default.svc.cluster.local:80",
        "allow_any",
    ]


def test_destination_rules_are_those_that_the_callers_namespace_sees() -> None:
    policy = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: own}
spec: {host: a.prod.svc.cluster.local, exportTo: [.], trafficPolicy: {loadBalancer: {simple: RANDOM}}}
"""
    foreign = policy.replace("name: own", "name: own, namespace: other")
    assert sidecar_of(service("a", namespace="prod"), policy).clusters[0].lb_policy == "RANDOM"
    assert sidecar_of(service("a", namespace="prod"), foreign).clusters[0].lb_policy == "LEAST_REQUEST"
