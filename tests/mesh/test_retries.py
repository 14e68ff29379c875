"""Timeouts and retries of rules and clusters: what is written, and Istio's defaults."""

from __future__ import annotations

import pytest

from meshproxy.mesh.retries import DEFAULT_RETRIES, INBOUND_RETRIES
from meshproxy.snapshot import CircuitBreakers, RetryBudget, RetryPolicy, RouteAction, Snapshot

from .support import GATEWAY, only_cluster, only_route, service_entry, sidecar_of, snapshot_of, virtual_service


def action(fields: str, *more: str) -> RouteAction:
    """What a rule to service `a` with these fields does."""
    route = "" if fields.startswith("route:") else "route: [{destination: {host: a}}], "
    rule = f"- {{{route}{fields}}}"
    found = only_route(snapshot_of(GATEWAY, virtual_service(rule), service_entry("a"), *more)).action
    assert isinstance(found, RouteAction)
    return found


def breakers(policy: str) -> CircuitBreakers:
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: a, trafficPolicy: {policy}}}
"""
    route = virtual_service("- route: [{destination: {host: a}}]")
    return only_cluster(snapshot_of(GATEWAY, route, service_entry("a"), rule)).circuit_breakers


def test_a_rule_that_says_nothing_has_istios_retries_and_no_timeout() -> None:
    found = action("name: x")

    assert (found.timeout_s, found.max_grpc_timeout_s, found.retry_policy) == (0, 0, DEFAULT_RETRIES)


@pytest.mark.parametrize(("timeout", "seconds"), [("1.5s", 1.5), ("0s", 0), ("10ms", 0.01)])
def test_a_timeout_bounds_grpc_too(timeout: str, seconds: float) -> None:
    found = action(f"timeout: {timeout}")

    assert found.timeout_s == found.max_grpc_timeout_s == seconds


@pytest.mark.parametrize("retries", ["{}", "{attempts: 0}", "{attempts: 0, backoff: 1s}"])
def test_no_attempts_are_no_retries(retries: str) -> None:
    assert action(f"retries: {retries}").retry_policy is None


@pytest.mark.parametrize(
    ("retries", "changed"),
    [
        ("attempts: 5", {"num_retries": 5}),
        ("attempts: 1, perTryTimeout: 2s, backoff: 10ms", {"per_try_timeout_s": 2.0, "base_interval_s": 0.01}),
        ("attempts: 1, retryIgnorePreviousHosts: false", {"previous_hosts": False}),
        ("attempts: 1, retryIgnorePreviousHosts: true, retryRemoteLocalities: true", {"previous_priorities": True}),
        ("attempts: 1, retryRemoteLocalities: false", {}),
        ("attempts: 1, retryOn: ''", {}),
        ("attempts: 1, retryOn: '5xx,reset'", {"retry_on": ("5xx", "reset")}),
        (
            "attempts: 1, retryOn: '503,reset,409'",
            {"retry_on": ("reset", "retriable-status-codes"), "retriable_status_codes": (503, 409)},
        ),
        (
            "attempts: 1, retryOn: 'retriable-status-codes,503'",
            {"retry_on": ("retriable-status-codes",), "retriable_status_codes": (503,)},
        ),
    ],
)
def test_what_a_rule_says_of_retries(retries: str, changed: dict[str, object]) -> None:
    fields = {"retry_on": DEFAULT_RETRIES.retry_on, "num_retries": 1, "previous_hosts": True, **changed}

    assert action(f"retries: {{{retries}}}").retry_policy == RetryPolicy(
        host_selection_max_attempts=5,
        **fields,  # type: ignore[arg-type]
    )


BY_HASH = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec: {host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}
"""


def test_where_a_hash_chooses_the_host_it_has_the_retries_too() -> None:
    policy = action("name: x", BY_HASH).retry_policy

    assert policy is not None
    assert not policy.previous_hosts


def test_of_several_destinations_a_hash_has_no_say_in_where_retries_go() -> None:
    chosen = action("route: [{destination: {host: a}, weight: 1}, {destination: {host: b}, weight: 1}]", BY_HASH)

    assert chosen.hash_policies
    assert chosen.retry_policy is not None
    assert chosen.retry_policy.previous_hosts


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{connectionPool: {http: {maxRetries: 7}}}", CircuitBreakers(max_retries=7)),
        ("{connectionPool: {http: {maxRetries: 0}}}", CircuitBreakers()),
        ("{retryBudget: {}}", CircuitBreakers(retry_budget=RetryBudget(20, 3, 0))),
        (
            "{retryBudget: {percent: 0, minRetryConcurrency: 10, budgetInterval: 5s}}",
            CircuitBreakers(retry_budget=RetryBudget(0, 10, 5)),
        ),
        ("{retryBudget: {percent: 50}, portLevelSettings: [{port: {number: 80}, tls: {}}]}", CircuitBreakers()),
    ],
)
def test_what_bounds_the_retries_of_a_service(policy: str, expected: CircuitBreakers) -> None:
    assert breakers(policy) == expected


CALLED = """
apiVersion: v1
kind: Service
metadata: {name: caller}
spec:
  selector: {app: caller}
  ports: [{name: http, port: 80}, {name: grpc, port: 81}]
"""


def actions(snapshot: Snapshot) -> dict[str, tuple[RouteAction, bool]]:
    """What the first route of each virtual host does, and whether it counts attempts."""
    found = {}
    for listener in snapshot.listeners:
        for host in listener.filter_chains[0].http.route_config.virtual_hosts:
            first = host.routes[0].action
            assert isinstance(first, RouteAction)
            found[host.name] = first, host.include_request_attempt_count
    return found


def test_a_sidecar_retries_what_its_app_calls_and_what_its_app_has_not_seen() -> None:
    found = actions(sidecar_of(CALLED, service_entry("a")))

    told = {name: (action.retry_policy, counts) for name, (action, counts) in found.items()}
    assert told["a.default.svc.cluster.local:80"] == (DEFAULT_RETRIES, True)
    assert told["allow_any"] == (None, True)
    assert told["inbound|http|80"] == (INBOUND_RETRIES, False)
    assert told["inbound|http|81"] == (None, False)
