"""A snapshot as Envoy's configuration: the shape of each message, and what the real Envoy says of the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from meshproxy.envoy import Inexpressible, bootstrap
from meshproxy.envoy.clusters import cluster
from meshproxy.envoy.filters import http_filters
from meshproxy.envoy.listeners import http_connection_manager, route_configuration
from meshproxy.envoy.routes import direct_response_action, header_matcher, redirect_action, route, route_match
from meshproxy.snapshot import (
    Action,
    Buffer,
    CircuitBreakers,
    Cluster,
    CorsPolicy,
    DirectResponseAction,
    Endpoint,
    Exact,
    FaultInjection,
    FilterChain,
    HashCookie,
    HashHeader,
    HashQueryParameter,
    HashSourceIp,
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    HttpConnectionManager,
    Listener,
    Locality,
    LocalityWeight,
    LocalRateLimit,
    Maglev,
    Pipe,
    Prefix,
    QueryParameterMatcher,
    RedirectAction,
    Regex,
    RegexRewrite,
    RequestMirrorPolicy,
    RingHash,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    SlowStart,
    Snapshot,
    SocketAddress,
    TcpKeepalive,
    TokenBucket,
    VirtualHost,
    WeightedCluster,
)

from ..cli.support import meshproxy
from ..test_policies import mounted
from .binary import complaints, complaints_about, needs_envoy
from .snapshots import snapshots

POLICIES = Path(__file__).parents[2] / "policies"
HERE = SocketAddress("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (RouteMatch(), {"prefix": "/"}),
        (RouteMatch(Exact("/a"), case_sensitive=False), {"path": "/a", "case_sensitive": False}),
        (RouteMatch(Regex("/a+")), {"safe_regex": {"regex": "/a+"}}),
        (RouteMatch(Regex("")), {"safe_regex": {"regex": "(?:)"}}),
        (
            RouteMatch(query_parameters=(QueryParameterMatcher("q"), QueryParameterMatcher("p", Exact("")))),
            {
                "prefix": "/",
                "query_parameters": [
                    {"name": "q", "present_match": True},
                    {"name": "p", "string_match": {"exact": ""}},
                ],
            },
        ),
    ],
)
def test_conditions(match: RouteMatch, message: dict[str, Any]) -> None:
    assert route_match(match) == message


@pytest.mark.parametrize(
    ("match", "message"),
    [
        (HeaderMatcher("x"), {"name": "x", "present_match": True}),
        (HeaderMatcher("x", invert=True), {"name": "x", "present_match": True, "invert_match": True}),
        (HeaderMatcher("x", treat_missing_header_as_empty=True), {"name": "x", "present_match": True}),
        (HeaderMatcher(":method", Exact("GET")), {"name": ":method", "string_match": {"exact": "GET"}}),
        (HeaderMatcher("x", Prefix("")), {"name": "x", "string_match": {"safe_regex": {"regex": r"\C*"}}}),
        (
            HeaderMatcher("x", Prefix("a"), invert=True, treat_missing_header_as_empty=True),
            {
                "name": "x",
                "string_match": {"prefix": "a"},
                "invert_match": True,
                "treat_missing_header_as_empty": True,
            },
        ),
    ],
)
def test_header_conditions(match: HeaderMatcher, message: dict[str, Any]) -> None:
    assert header_matcher(match) == message


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (RouteAction((WeightedCluster("a", 7),)), {"route": {"cluster": "a", "timeout": "0s"}}),
        (
            RouteAction((WeightedCluster("a", 1, host_rewrite="h"),), prefix_rewrite="/n", host_rewrite="r"),
            {
                "route": {
                    "weighted_clusters": {"clusters": [{"name": "a", "weight": 1, "host_rewrite_literal": "h"}]},
                    "prefix_rewrite": "/n",
                    "host_rewrite_literal": "r",
                    "timeout": "0s",
                }
            },
        ),
        (
            RouteAction((WeightedCluster("a", 0), WeightedCluster("b", 9)), regex_rewrite=RegexRewrite("x", r"\1")),
            {
                "route": {
                    "weighted_clusters": {"clusters": [{"name": "a", "weight": 0}, {"name": "b", "weight": 9}]},
                    "regex_rewrite": {"pattern": {"regex": "x"}, "substitution": r"\1"},
                    "timeout": "0s",
                }
            },
        ),
        (
            RedirectAction(308, "https", "h", 8443, "/n"),
            {
                "redirect": {
                    "response_code": "PERMANENT_REDIRECT",
                    "scheme_redirect": "https",
                    "host_redirect": "h",
                    "port_redirect": 8443,
                    "path_redirect": "/n",
                }
            },
        ),
        (
            RedirectAction(prefix_rewrite="/n", path="/lost"),
            {"redirect": {"response_code": "MOVED_PERMANENTLY", "prefix_rewrite": "/n"}},
        ),
        (DirectResponseAction(204), {"direct_response": {"status": 204}}),
        (
            DirectResponseAction(200, "é".encode()),
            {"direct_response": {"status": 200, "body": {"inline_string": "é"}}},
        ),
        (
            DirectResponseAction(200, b"\xff"),
            {"direct_response": {"status": 200, "body": {"inline_bytes": "/w=="}}},
        ),
    ],
)
def test_actions(action: Action, message: dict[str, Any]) -> None:
    assert route(Route("r", RouteMatch(), action)) == {"name": "r", "match": {"prefix": "/"}, **message}


def test_header_changes_of_a_route_and_of_a_destination() -> None:
    changes = HeaderMutations(("x-gone",), (HeaderValue("x-set", "1"), HeaderValue("x-more", "%%", append=True)))
    destination = WeightedCluster("a", request_headers=changes)
    message = route(Route("", RouteMatch(), RouteAction((destination,)), response_headers=changes))

    added = [
        {"header": {"key": "x-set", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        {"header": {"key": "x-more", "value": "%%"}, "append_action": "APPEND_IF_EXISTS_OR_ADD"},
    ]
    assert message["response_headers_to_remove"] == ["x-gone"]
    assert message["response_headers_to_add"] == added
    assert message["route"]["weighted_clusters"]["clusters"] == [
        {"name": "a", "weight": 1, "request_headers_to_remove": ["x-gone"], "request_headers_to_add": added}
    ]


def test_virtual_hosts() -> None:
    hosts = (
        VirtualHost("v", ("a.test", "*.test"), (Route("", RouteMatch(), DirectResponseAction(200, b"x" * 5000)),)),
    )
    message = route_configuration(RouteConfiguration("r", hosts, ignore_port_in_host_matching=False))
    [host] = message["virtual_hosts"]
    assert (host["name"], host["domains"], len(host["routes"])) == ("v", ["a.test", "*.test"], 1)
    assert message["ignore_port_in_host_matching"] is False
    assert message["validate_clusters"] is False
    assert message["max_direct_response_body_size_bytes"] == 5000


def test_how_a_listener_speaks_http() -> None:
    config = HttpConnectionManager(RouteConfiguration("r", ()), "me", False, 8, 50, 1.5, 90)
    message = http_connection_manager(Listener("l", HERE, ()), config, None)
    assert message["server_name"] == "me"
    assert message["use_remote_address"] is False
    assert message["max_request_headers_kb"] == 8
    assert message["common_http_protocol_options"] == {"idle_timeout": "90s", "max_headers_count": 50}
    assert message["request_headers_timeout"] == "1.5s"
    assert message["http_protocol_options"] == {"accept_http_10": True, "enable_trailers": True}
    assert message["upgrade_configs"] == [{"upgrade_type": "websocket"}]
    assert message["proxy_100_continue"] is True
    assert message["normalize_path"] is True
    assert [one["name"] for one in message["http_filters"]] == ["envoy.filters.http.router"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            Cluster("c", (Endpoint(HERE, 3), Endpoint(Pipe("/s"))), lb_policy="RANDOM", connect_timeout_s=0.25),
            {"type": "STATIC", "lb_policy": "RANDOM", "connect_timeout": "0.25s"},
        ),
        (
            Cluster("c", (Endpoint(SocketAddress("a.test", 80)),), "STRICT_DNS"),
            {"type": "STRICT_DNS", "lb_policy": "LEAST_REQUEST", "dns_lookup_family": "V4_PREFERRED"},
        ),
        (Cluster("c", (), "DYNAMIC_FORWARD_PROXY"), {"lb_policy": "CLUSTER_PROVIDED"}),
        (
            Cluster("c", (Endpoint(SocketAddress("a.test", 80)),), "LOGICAL_DNS"),
            {"type": "LOGICAL_DNS", "dns_lookup_family": "V4_PREFERRED"},
        ),
        (
            Cluster("c", (), circuit_breakers=CircuitBreakers(1, 0, 2), tcp_keepalive=TcpKeepalive(time_s=5)),
            {
                "circuit_breakers": {
                    "thresholds": [
                        {
                            "max_connections": 1,
                            "max_pending_requests": 0,
                            "max_requests": 2,
                            "max_retries": 2**32 - 1,
                        }
                    ]
                },
                "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 5}},
            },
        ),
        (
            Cluster("c", (), lb_policy=RingHash(7)),
            {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 7}},
        ),
        (
            Cluster("c", (), lb_policy=Maglev(251)),
            {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}},
        ),
        (
            Cluster("c", (), lb_policy="ROUND_ROBIN", slow_start=SlowStart(30, 2, 5)),
            {
                "lb_policy": "ROUND_ROBIN",
                "round_robin_lb_config": {
                    "slow_start_config": {
                        "slow_start_window": "30s",
                        "aggression": {"default_value": 2, "runtime_key": "meshproxy.slow_start.aggression"},
                        "min_weight_percent": {"value": 5},
                    }
                },
            },
        ),
        (
            Cluster("c", (), healthy_panic_threshold=30, locality_weights=(LocalityWeight(Locality(), 0, 1),)),
            {"common_lb_config": {"healthy_panic_threshold": {"value": 30}, "locality_weighted_lb_config": {}}},
        ),
    ],
)
def test_clusters(config: Cluster, expected: dict[str, Any]) -> None:
    message = cluster(config, None)
    assert {name: message[name] for name in expected} == expected
    groups = message.get("load_assignment", {}).get("endpoints", [])
    endpoints = [one for group in groups for one in group["lb_endpoints"]]
    assert [one["load_balancing_weight"] for one in endpoints] == [one.weight for one in config.endpoints]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Cluster("c", ()), {"idle_timeout": "3600s"}),
        (
            Cluster("c", (), idle_timeout_s=0, max_connection_duration_s=1.5, max_requests_per_connection=5),
            {"idle_timeout": "0s", "max_connection_duration": "1.5s", "max_requests_per_connection": 5},
        ),
    ],
)
def test_bounds_of_connections(config: Cluster, expected: dict[str, Any]) -> None:
    [options] = cluster(config, None)["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"] == expected


def test_endpoints_stand_together_by_locality_and_priority() -> None:
    east, west = Locality("east", "a", "1"), Locality("west")
    addresses = [SocketAddress("10.0.0.1", port) for port in range(4)]
    config = Cluster(
        "c",
        (
            Endpoint(addresses[0], locality=east),
            Endpoint(addresses[1], locality=west),
            Endpoint(addresses[2], locality=east),
            Endpoint(addresses[3], locality=east, priority=1),
        ),
        locality_weights=(LocalityWeight(east, 0, 3), LocalityWeight(east, 1, 5)),
    )
    first, second, third = cluster(config, None)["load_assignment"]["endpoints"]
    assert first["locality"] == {"region": "east", "zone": "a", "sub_zone": "1"}
    assert (first["load_balancing_weight"], len(first["lb_endpoints"])) == (3, 2)
    assert second["locality"] == {"region": "west"}
    assert "load_balancing_weight" not in second  # it is 0, which Envoy has no other way to say
    assert (third["priority"], third["load_balancing_weight"]) == (1, 5)


def test_what_a_route_hashes() -> None:
    policies = (HashHeader("x"), HashCookie("c", 5, "/p", (("A", ""),)), HashSourceIp(), HashQueryParameter("q"))
    message = route(Route("", RouteMatch(), RouteAction((WeightedCluster("c"),), hash_policies=policies)))
    assert message["route"]["hash_policy"] == [
        {"header": {"header_name": "x"}},
        {"cookie": {"name": "c", "ttl": "5s", "path": "/p", "attributes": [{"name": "A", "value": ""}]}},
        {"connection_properties": {"source_ip": True}},
        {"query_parameter": {"name": "q"}},
    ]


def test_a_forward_proxy_has_a_filter_before_the_router_and_shares_its_names_with_it() -> None:
    snapshot = Snapshot(
        (Listener("l", HERE, (FilterChain(HttpConnectionManager(RouteConfiguration("r", ()))),)),),
        (Cluster("anywhere", (), "DYNAMIC_FORWARD_PROXY"),),
    )
    resources = bootstrap(snapshot)["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    first, last = manager["http_filters"]
    cache = first["typed_config"]["dns_cache_config"]
    assert last["name"] == "envoy.filters.http.router"
    assert resources["clusters"][0]["cluster_type"]["typed_config"]["dns_cache_config"] == cache


def _filters(manager: HttpConnectionManager) -> list[str]:
    """The names of a listener's filters, those that are disabled in parentheses."""
    messages = http_filters(manager, None)
    names = [one["name"].removeprefix("envoy.filters.http.") for one in messages]
    return [f"({name})" if one.get("disabled") else name for name, one in zip(names, messages, strict=True)]


def test_a_listener_has_the_filters_that_its_routes_ask_for_in_their_order() -> None:
    limit = LocalRateLimit("l", TokenBucket(1))
    policies = {"fault": FaultInjection(), "cors": CorsPolicy(), "mirrors": (RequestMirrorPolicy("b"),)}
    asking = Route("", RouteMatch(), RouteAction((WeightedCluster("a"),), **policies), buffer=Buffer(1))  # type: ignore[arg-type]
    hosts = (VirtualHost("v", ("*",), (asking,), rate_limit=limit),)

    assert _filters(HttpConnectionManager(RouteConfiguration("r", hosts))) == [
        *("local_ratelimit", "fault", "cors", "(buffer)", "router"),
    ]
    bounded = HttpConnectionManager(RouteConfiguration("r", ()), rate_limit=limit, buffer=Buffer(1))
    assert _filters(bounded) == ["local_ratelimit", "buffer", "router"]
    assert _filters(HttpConnectionManager(RouteConfiguration("r", ()))) == ["router"]


def _with(action: Action, match: RouteMatch = RouteMatch(), **route: Any) -> Snapshot:  # noqa: B008
    host = VirtualHost("v", ("*",), (Route("r", match, action, **route),))
    return Snapshot((Listener("l", HERE, (FilterChain(HttpConnectionManager(RouteConfiguration("rs", (host,)))),)),))


def _listening(**http: Any) -> Snapshot:
    return Snapshot((Listener("l", HERE, (FilterChain(HttpConnectionManager(RouteConfiguration("rs", ()), **http)),)),))


@pytest.mark.parametrize(
    ("snapshot", "told"),
    [
        (
            _with(DirectResponseAction(200), match=RouteMatch(query_parameters=(QueryParameterMatcher(""),))),
            "query parameter without a name",
        ),
        (_with(RedirectAction(300)), "redirect with status 300 of route 'r'"),
        (_with(RedirectAction(path="")), "empty path of route 'r'"),
        (_with(RedirectAction(prefix_rewrite="")), "empty prefix rewrite of route 'r'"),
        (_with(DirectResponseAction(101)), "answer with status 101 of route 'r'"),
        (_with(DirectResponseAction(600)), "answer with status 600"),
        (_with(RouteAction((WeightedCluster("c", 0),))), "weights of route 'r'"),
        (_with(RouteAction((WeightedCluster("c", 2**31), WeightedCluster("d", 2**31)))), "weights of route 'r'"),
        (_with(RouteAction((WeightedCluster("c"),), prefix_rewrite="")), "empty prefix rewrite of route 'r'"),
        (_with(DirectResponseAction(200), response_headers=HeaderMutations(("host",))), "change of header 'host'"),
        (
            _with(DirectResponseAction(200), request_headers=HeaderMutations(add=(HeaderValue(":path", "/"),))),
            "change of header ':path'",
        ),
        (_listening(max_request_headers_kb=0), "heads of 0 KiB"),
        (_listening(max_headers_count=2**32), "heads of 4294967296 fields"),
        (_listening(request_headers_timeout_s=0.0), "request headers timeout of listener 'l' of 0 s"),
        (_listening(idle_timeout_s=0.0), "idle timeout of listener 'l' of 0 s"),
        (_listening(rate_limit=LocalRateLimit("l", TokenBucket(1, 1, 0.01))), "tokens every 0.01 s"),
        (Snapshot(clusters=(Cluster("c", (), connect_timeout_s=0),)), "connect timeout of cluster 'c'"),
        (
            Snapshot(clusters=(Cluster("c", (Endpoint(SocketAddress("a.test", 80)),)),)),
            "endpoint a.test:80 of cluster 'c'",
        ),
        (
            Snapshot(clusters=(Cluster("c", (Endpoint(Pipe("/s")),), "STRICT_DNS"),)),
            "endpoint unix:///s of cluster 'c'",
        ),
        (Snapshot(clusters=(Cluster("c", (), "LOGICAL_DNS"),)), "endpoints of cluster 'c'"),
        (Snapshot(clusters=(Cluster("c", (), lb_policy=RingHash(2**30)),)), "ring of cluster 'c'"),
        (
            Snapshot(clusters=(Cluster("c", (), lb_policy="RANDOM", slow_start=SlowStart(1)),)),
            "slow start of cluster 'c'",
        ),
        (
            Snapshot(clusters=(Cluster("c", (Endpoint(HERE),), "DYNAMIC_FORWARD_PROXY"),)),
            "endpoints of cluster 'c'",
        ),
    ],
)
def test_what_envoy_cannot_express_is_named(snapshot: Snapshot, told: str) -> None:
    with pytest.raises(Inexpressible) as error:
        bootstrap(snapshot)
    assert told in str(error.value)


def test_every_redirect_and_every_answer_has_a_status_of_its_own() -> None:
    codes = {redirect_action(RedirectAction(code), "r")["response_code"] for code in (301, 302, 303, 307, 308)}
    assert len(codes) == 5
    assert direct_response_action(DirectResponseAction(599), "r") == {"status": 599}


@needs_envoy
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(snapshots())
def test_envoy_accepts_every_snapshot_that_can_be_expressed(tmp_path: Path, snapshot: Snapshot) -> None:
    assert complaints(bootstrap(snapshot, admin=SocketAddress("127.0.0.1", 0)), tmp_path) == ""


_MESHES = [
    ("canary", "--workload", "web", "--app", "127.0.0.1:9190", "--admin", "15000"),
    ("canary", "--workload", "reviews-v1", "--app", "localhost:9191", "--outbound-policy", "REGISTRY_ONLY"),
    ("istio-basics", "--publish", "80:8080"),
    ("quickstart", "--publish", "80:8080", "--max-request-headers-kb", "8"),
    ("secure", "--publish", "80:8080", "--publish", "443:8443", "--credentials", "EDGE"),
    ("sklearn-iris", "--selector", "istio=ingressgateway"),
]


@needs_envoy
@pytest.mark.parametrize("arguments", _MESHES, ids=" ".join)
def test_envoy_accepts_what_is_exported_of_the_example_meshes(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    mesh, *options = arguments
    mounted(tmp_path / "etc/istio/ingressgateway-certs", "example.com")  # for what expects it there
    if "EDGE" in options:
        edge = tmp_path / "certs/secure/edge"
        meshproxy("ca", "init", "--dir", tmp_path / "ca")
        meshproxy("ca", "issue", "edge.istio-system", "--dir", tmp_path / "ca", "--out", edge, "--name", "localhost")
        options[options.index("EDGE")] = str(edge)
    written = meshproxy("export", "envoy", "-f", POLICIES / mesh, "--files-root", tmp_path, *options)
    assert written.returncode == 0, written.stderr
    config = tmp_path / "bootstrap.yaml"
    config.write_text(written.stdout)
    assert complaints_about(config) == ""


def test_every_example_mesh_is_exported() -> None:
    assert {mesh for mesh, *_ in _MESHES} == {path.parent.name for path in POLICIES.glob("*/demo.toml")}


def test_the_export_is_yaml_and_if_asked_the_same_in_json() -> None:
    arguments = ("export", "envoy", "-f", POLICIES / "quickstart", "--publish", "80:8080", "--admin", "15000")
    as_yaml, as_json = meshproxy(*arguments), meshproxy(*arguments, "--json")
    assert yaml.safe_load(as_yaml.stdout) == json.loads(as_json.stdout)
    assert json.loads(as_json.stdout)["admin"]["address"]["socket_address"]["port_value"] == 15000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--app", "9000"), "--app is for --workload only"),
        (("--workload", "web"), "--workload needs --app"),
        (("--workload", "web", "--app", "9000", "--publish", "80:81"), "--publish is a gateway's option"),
    ],
)
def test_options_of_a_gateway_and_of_a_sidecar_do_not_mix(arguments: tuple[str, ...], told: str) -> None:
    written = meshproxy("export", "envoy", "-f", POLICIES / "canary", *arguments)
    assert (written.returncode, written.stdout) == (2, "")
    assert told in written.stderr


def test_what_envoy_cannot_express_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    mesh = (POLICIES / "quickstart" / "gateway.yaml").read_text()
    (tmp_path / "mesh.yaml").write_text(mesh)
    written = meshproxy("export", "envoy", "-f", tmp_path, "--request-headers-timeout", "0s")
    assert (written.returncode, written.stdout) == (1, "")
    assert "Envoy cannot express this: request headers timeout" in written.stderr
