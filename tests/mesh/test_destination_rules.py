"""Subsets and traffic policies: which rule holds, and which of its levels."""

from __future__ import annotations

import pytest

from meshproxy.snapshot import Cluster, RetryBudget

from .support import GATEWAY, only_cluster, problems_of, snapshot_of, virtual_service

WORLD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: prod}
spec:
  hosts: [a.prod.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: admin, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}}
  - {address: 10.0.0.2, labels: {version: v2}}
"""
ROUND_ROBIN = "{loadBalancer: {simple: ROUND_ROBIN}}"
RANDOM = "{loadBalancer: {simple: RANDOM}}"
FAST = "{connectionPool: {tcp: {connectTimeout: 1s}}}"


def rule(spec: str, *, name: str = "r", namespace: str = "prod", host: str = "a.prod.svc.cluster.local") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{host: '{host}', {spec}}}
"""


def cluster(*rules: str, subset: str = "", port: int = 80, namespace: str = "istio-system") -> Cluster:
    """The cluster of one port and subset of `a.prod`, under some DestinationRules."""
    subset = f", subset: {subset}" if subset else ""
    destination = f"{{host: a.prod.svc.cluster.local, port: {{number: {port}}}{subset}}}"
    service = virtual_service(f"- route: [{{destination: {destination}}}]")
    return only_cluster(snapshot_of(GATEWAY, WORLD, service, *rules, namespace=namespace))


def test_a_subset_has_the_endpoints_with_its_labels() -> None:
    chosen = cluster(rule("subsets: [{name: v2, labels: {version: v2}}]"), subset="v2")
    assert chosen.name == "outbound|80|v2|a.prod.svc.cluster.local"
    assert [str(endpoint.address) for endpoint in chosen.endpoints] == ["10.0.0.2:80"]


@pytest.mark.parametrize(
    ("simple", "policy"),
    [
        ("LEAST_REQUEST", "LEAST_REQUEST"),
        ("LEAST_CONN", "LEAST_REQUEST"),
        ("UNSPECIFIED", "LEAST_REQUEST"),
        ("ROUND_ROBIN", "ROUND_ROBIN"),
        ("RANDOM", "RANDOM"),
    ],
)
def test_load_balancers_by_their_names(simple: str, policy: str) -> None:
    assert cluster(rule(f"trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}")).lb_policy == policy


def test_a_subsets_policy_overrides_the_top_level_field_by_field() -> None:
    top = "{loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {connectTimeout: 1s}}}"
    document = rule(f"trafficPolicy: {top}, subsets: [{{name: v1, trafficPolicy: {ROUND_ROBIN}}}]")
    chosen = cluster(document, subset="v1")
    assert (chosen.lb_policy, chosen.connect_timeout_s) == ("ROUND_ROBIN", 1.0)
    assert cluster(document).lb_policy == "RANDOM"


def test_a_ports_settings_stand_in_for_their_level_as_a_whole() -> None:
    port_81 = "portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}]"
    document = rule(f"trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: 1s}}}}, {port_81}}}")
    assert (cluster(document, port=81).lb_policy, cluster(document, port=81).connect_timeout_s) == (
        "ROUND_ROBIN",
        10,
    )
    assert (cluster(document).lb_policy, cluster(document).connect_timeout_s) == ("LEAST_REQUEST", 1)


def test_a_subsets_settings_for_the_port_leave_nothing_of_the_top_level() -> None:
    own = "{portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}"
    document = rule(f"trafficPolicy: {FAST}, subsets: [{{name: v1, trafficPolicy: {own}}}]")
    chosen = cluster(document, subset="v1")
    assert (chosen.lb_policy, chosen.connect_timeout_s) == ("ROUND_ROBIN", 10.0)


def test_the_retry_budget_which_ports_cannot_have_is_the_top_levels_beside_a_subsets_settings_for_the_port() -> None:
    own = "{retryBudget: {percent: 2}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}"
    document = rule(f"trafficPolicy: {{retryBudget: {{percent: 1}}}}, subsets: [{{name: v1, trafficPolicy: {own}}}]")
    assert cluster(document, subset="v1").circuit_breakers.retry_budget == RetryBudget(1)


def test_a_subset_inherits_the_top_levels_settings_for_the_port() -> None:
    top = "{portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}"
    document = rule(f"trafficPolicy: {top}, subsets: [{{name: v1, trafficPolicy: {FAST}}}]")
    chosen = cluster(document, subset="v1")
    assert (chosen.lb_policy, chosen.connect_timeout_s) == ("RANDOM", 1.0)


@pytest.mark.parametrize(
    ("hosts", "policy"),
    [
        ({"*.prod.svc.cluster.local": RANDOM, "*.local": ROUND_ROBIN}, "RANDOM"),
        ({"a.prod.svc.cluster.local": ROUND_ROBIN, "*.prod.svc.cluster.local": RANDOM}, "ROUND_ROBIN"),
        ({"a": ROUND_ROBIN, "*.local": RANDOM}, "ROUND_ROBIN"),
        ({"b": ROUND_ROBIN}, "LEAST_REQUEST"),
    ],
)
def test_the_rule_with_the_longest_host_holds(hosts: dict[str, str], policy: str) -> None:
    rules = [rule(f"trafficPolicy: {p}", name=f"r{n}", host=host) for n, (host, p) in enumerate(hosts.items())]
    assert cluster(*rules).lb_policy == policy


@pytest.mark.parametrize(
    ("namespaces", "proxy", "policy"),
    [
        ({"client": RANDOM, "prod": ROUND_ROBIN, "istio-system": FAST}, "client", "RANDOM"),
        ({"client": RANDOM, "prod": ROUND_ROBIN}, "other", "ROUND_ROBIN"),
        ({"client": RANDOM, "istio-system": ROUND_ROBIN}, "other", "ROUND_ROBIN"),
        ({"client": RANDOM}, "other", "LEAST_REQUEST"),
        ({"istio-system": RANDOM, "prod": ROUND_ROBIN}, "istio-system", "ROUND_ROBIN"),
    ],
)
def test_rules_are_sought_beside_the_proxy_then_the_service_then_in_the_root_namespace(
    namespaces: dict[str, str], proxy: str, policy: str
) -> None:
    rules = [rule(f"trafficPolicy: {p}", namespace=namespace) for namespace, p in namespaces.items()]
    assert cluster(*rules, namespace=proxy).lb_policy == policy


@pytest.mark.parametrize(
    ("export_to", "proxy", "policy"),
    [
        ("'*'", "client", "RANDOM"),
        (".", "client", "LEAST_REQUEST"),
        (".", "prod", "RANDOM"),
        ("client", "client", "RANDOM"),
        ("client", "prod", "LEAST_REQUEST"),
    ],
)
def test_a_rule_holds_where_it_is_exported_to(export_to: str, proxy: str, policy: str) -> None:
    assert cluster(rule(f"trafficPolicy: {RANDOM}, exportTo: [{export_to}]"), namespace=proxy).lb_policy == policy


def test_a_root_rule_for_the_root_namespace_alone_is_meant_for_the_gateway() -> None:
    private = rule(f"trafficPolicy: {RANDOM}, exportTo: [.]", namespace="istio-system")
    assert cluster(private, rule(f"trafficPolicy: {ROUND_ROBIN}")).lb_policy == "RANDOM"


def test_rules_of_one_host_merge_the_oldest_policy_with_the_subsets_of_all() -> None:
    one = rule("subsets: [{name: v1, labels: {version: v1}}]", name="one")
    two = rule(f"trafficPolicy: {RANDOM}, subsets: [{{name: v2, labels: {{version: v2}}}}]", name="two")
    three = rule(f"trafficPolicy: {ROUND_ROBIN}, subsets: [{{name: v2}}]", name="three")
    chosen = cluster(one, two, three, subset="v1")
    assert (chosen.lb_policy, len(chosen.endpoints)) == ("ROUND_ROBIN", 1)
    assert len(cluster(one, two, subset="v2").endpoints) == 1


def test_a_rule_for_single_workloads_holds_for_them_alone() -> None:
    selected = rule(f"workloadSelector: {{matchLabels: {{app: web}}}}, trafficPolicy: {RANDOM}", namespace=HOME)
    for_all = rule(f"trafficPolicy: {ROUND_ROBIN}", name="all", namespace=HOME)
    assert of_gateway({"app": "web", "tier": "1"}, selected, for_all).lb_policy == "RANDOM"
    assert of_gateway({"app": "other"}, selected, for_all).lb_policy == "ROUND_ROBIN"


def test_workloads_that_no_rule_of_their_namespace_selects_have_none() -> None:
    selected = rule(f"workloadSelector: {{matchLabels: {{app: web}}}}, trafficPolicy: {RANDOM}", namespace=HOME)
    of_service = rule(f"trafficPolicy: {ROUND_ROBIN}", name="all")
    assert of_gateway({"app": "other"}, selected, of_service).lb_policy == "LEAST_REQUEST"


def test_a_rule_for_single_workloads_means_nothing_in_other_namespaces() -> None:
    selected = rule(f"workloadSelector: {{matchLabels: {{app: web}}}}, trafficPolicy: {RANDOM}")
    assert of_gateway({"app": "web"}, selected).lb_policy == "LEAST_REQUEST"


def test_beside_a_rule_for_single_workloads_others_hold_if_they_are_as_private() -> None:
    selected = rule("workloadSelector: {matchLabels: {app: web}}, subsets: [{name: v1}]", namespace=HOME)
    private = rule(f"exportTo: ['.'], trafficPolicy: {RANDOM}", name="private", namespace=HOME)
    shared = rule(f"trafficPolicy: {RANDOM}", name="shared", namespace=HOME)
    wider = rule(f"exportTo: ['.', prod], trafficPolicy: {RANDOM}", name="wider", namespace=HOME)
    assert of_gateway({"app": "web"}, selected, private).lb_policy == "RANDOM"
    assert of_gateway({"app": "web"}, selected, wider).lb_policy == "RANDOM"
    assert of_gateway({"app": "web"}, selected, shared).lb_policy == "LEAST_REQUEST"
    assert of_gateway({"app": "other"}, selected, private).lb_policy == "RANDOM"


@pytest.mark.parametrize(
    ("elder", "younger", "policy"),
    [
        ("'*'", "'*'", "RANDOM"),
        ("'*'", ".", "ROUND_ROBIN"),
        ("., client", ".", "ROUND_ROBIN"),
        (".", "., client", "RANDOM"),
        ("client", "., client", "ROUND_ROBIN"),
        ("., client", "'*'", "ROUND_ROBIN"),
    ],
)
def test_a_younger_rule_adds_to_an_older_one_that_is_exported_alike_and_else_stands_in_for_it(
    elder: str, younger: str, policy: str
) -> None:
    rules = (
        rule(f"exportTo: [{elder}], trafficPolicy: {RANDOM}", name="elder"),
        rule(f"exportTo: [{younger}], trafficPolicy: {ROUND_ROBIN}", name="younger"),
    )
    assert cluster(*rules, namespace="prod").lb_policy == policy


def test_the_subsets_of_a_rule_for_single_workloads_are_found_by_check() -> None:
    subsets = "subsets: [{name: v1, labels: {version: v1}}]"
    rules = [
        rule(f"workloadSelector: {{matchLabels: {{app: {app}}}}}, {subsets}", name=app, namespace=HOME)
        for app in ("web", "batch")
    ]
    destination = "{host: a.prod.svc.cluster.local, subset: v1, port: {number: 80}}"
    service = virtual_service(f"- route: [{{destination: {destination}}}]", spec="gateways: [mesh]")
    assert not problems_of(WORLD, service.replace("{name: vs}", f"{{name: vs, namespace: {HOME}}}"), *rules)


HOME = "edge"


def of_gateway(labels: dict[str, str], *rules: str) -> Cluster:
    """The cluster of `a.prod` at a gateway of the namespace `HOME` with these labels."""
    service = virtual_service("- route: [{destination: {host: a.prod.svc.cluster.local, port: {number: 80}}}]")
    selector = {"istio": "ingressgateway", **labels}
    return only_cluster(snapshot_of(GATEWAY, WORLD, service, *rules, namespace=HOME, selector=selector))
