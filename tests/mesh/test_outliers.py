"""What a DestinationRule says of outliers, with Istio's defaults."""

from __future__ import annotations

from typing import Any

import pytest

from meshproxy.mesh import remarks
from meshproxy.snapshot import OutlierDetection

from .support import mesh_of
from .test_destination_rules import WORLD, cluster, rule


def detection(settings: str) -> OutlierDetection | None:
    return cluster(rule(f"trafficPolicy: {{outlierDetection: {{{settings}}}}}")).outlier_detection


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("", {}),
        ("consecutive5xxErrors: 7", {"consecutive_5xx": 7}),
        ("consecutive5xxErrors: 0", {"consecutive_5xx": 0}),
        ("consecutiveGatewayErrors: 3", {"consecutive_gateway_failure": 3}),
        ("consecutiveGatewayErrors: 0", {}),
        ("consecutiveErrors: 5", {"consecutive_5xx": 0, "consecutive_gateway_failure": 5}),
        ("consecutiveErrors: 0", {}),
        (
            "consecutiveErrors: 5, consecutiveGatewayErrors: 2, consecutive5xxErrors: 9",
            {"consecutive_5xx": 9, "consecutive_gateway_failure": 2},
        ),
        ("splitExternalLocalOriginErrors: true", {"split_external_local_origin_errors": True}),
        (
            "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2",
            {"split_external_local_origin_errors": True, "consecutive_local_origin_failure": 2},
        ),
        (
            "splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 0",
            {"split_external_local_origin_errors": True},
        ),
        ("outlierDetectionHttpErrorCodes: [404, 429]", {"error_codes": (404, 429)}),
        ("interval: 1s, baseEjectionTime: 1m", {"interval_s": 1.0, "base_ejection_time_s": 60.0}),
        ("baseEjectionTime: 10m", {"base_ejection_time_s": 600.0, "max_ejection_time_s": 600.0}),
        ("maxEjectionPercent: 60", {"max_ejection_percent": 60}),
        ("maxEjectionPercent: 0", {}),
    ],
)
def test_outlier_detection(settings: str, expected: dict[str, Any]) -> None:
    assert detection(settings) == OutlierDetection(**expected)


def test_without_it_nothing_is_ejected() -> None:
    assert cluster().outlier_detection is None
    assert cluster(rule("trafficPolicy: {loadBalancer: {simple: RANDOM}}")).outlier_detection is None


def test_all_serve_below_the_least_health() -> None:
    assert cluster(rule("trafficPolicy: {outlierDetection: {minHealthPercent: 40}}")).healthy_panic_threshold == 40
    assert cluster(rule("trafficPolicy: {outlierDetection: {}}")).healthy_panic_threshold == 0
    assert cluster().healthy_panic_threshold == 0


def test_a_subset_and_a_port_have_their_own() -> None:
    port = "{port: {number: 81}, outlierDetection: {consecutive5xxErrors: 2}}"
    own = "{name: v1, labels: {version: v1}, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}"
    other = "{name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}"
    rules = rule(
        f"trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 1}}, portLevelSettings: [{port}]}}, "
        f"subsets: [{own}, {other}]"
    )
    found = [
        cluster(rules, subset=subset, port=number) for subset, number in (("", 80), ("", 81), ("v1", 80), ("v2", 80))
    ]
    assert [one.outlier_detection and one.outlier_detection.consecutive_5xx for one in found] == [1, 2, 3, 1]


def noted(settings: str) -> list[str]:
    """What `check` remarks on a policy for a service of two endpoints."""
    found = remarks(mesh_of(WORLD, rule(f"trafficPolicy: {{outlierDetection: {{{settings}}}}}")))
    return [note.message.removeprefix("DestinationRule/r.prod: outlierDetection ") for note in found]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("maxEjectionPercent: 50", []),
        ("maxEjectionPercent: 49", ["ejects nobody: one of 2 endpoints is 50 %, and maxEjectionPercent allows 49 %"]),
        (
            "",
            ["ejects nobody: one of 2 endpoints is 50 %, and maxEjectionPercent, 10 by default, allows 10 %"],
        ),
        (
            "maxEjectionPercent: 100, consecutive5xxErrors: 0",
            ["counts no errors: consecutive5xxErrors and consecutiveGatewayErrors are 0"],
        ),
        ("maxEjectionPercent: 100, consecutive5xxErrors: 0, splitExternalLocalOriginErrors: true", []),
    ],
)
def test_what_can_eject_nobody_is_told(settings: str, expected: list[str]) -> None:
    assert noted(settings) == expected


def test_of_a_name_it_is_not_known_how_many_endpoints_it_has() -> None:
    named = WORLD.replace("STATIC", "DNS").replace("10.0.0.1", "a.test").replace("10.0.0.2", "b.test")
    assert remarks(mesh_of(named, rule("trafficPolicy: {outlierDetection: {}}"))) == ()


def test_a_policy_without_endpoints_ejects_none() -> None:
    both = rule("trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, outlierDetection: {}}")
    messages = [note.message for note in remarks(mesh_of(WORLD, both))]
    assert "DestinationRule/r.prod: outlierDetection is not for PASSTHROUGH, which knows no endpoints" in messages
