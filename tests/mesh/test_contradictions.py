"""Traffic policies of which a part comes to nothing beside another: `check` notes it, and they run."""

from __future__ import annotations

import pytest

from meshproxy.mesh import remarks

from .support import GATEWAY, mesh_of, problems_of, service_entry, virtual_service

DESTINATION = "route: [{destination: {host: a}}]"
OUTRANKED = "comes to nothing beside"
EJECTS = "outlierDetection: {maxEjectionPercent: 100, %s}"


def noted(*documents: str) -> list[str]:
    documents = (GATEWAY, service_entry("a"), *documents)
    assert problems_of(*documents) == []
    return [note.message.partition(": ")[2] for note in remarks(mesh_of(*documents))]


@pytest.mark.parametrize(
    ("http", "note"),
    [
        ("timeout: 1s, retries: {attempts: 1, perTryTimeout: 1s}", "perTryTimeout comes to nothing"),
        ("timeout: 1s, retries: {attempts: 1, perTryTimeout: 999ms}", None),
        ("timeout: 0s, retries: {attempts: 1, perTryTimeout: 1s}", None),
        ("retries: {attempts: 1, retryOn: 'reset,retriable-status-codes'}", "retryOn has retriable-status-codes"),
        ("retries: {attempts: 1, retryOn: 'retriable-status-codes,409'}", None),
        ("fault: {delay: {fixedDelay: 1s, percent: 1, percentage: {value: 2}}}", f"percent {OUTRANKED} percentage"),
        ("fault: {delay: {fixedDelay: 1s}}", "delay never happens"),
        ("fault: {delay: {fixedDelay: 1s, percent: 1}}", None),
        ("fault: {abort: {httpStatus: 503}}", "abort never happens"),
        ("mirror: {host: a}, mirrorPercent: 1, mirrorPercentage: {value: 2}", f"mirrorPercent {OUTRANKED}"),
        ("corsPolicy: {allowOrigin: [a], allowOrigins: [{exact: b}]}", f"allowOrigin {OUTRANKED} allowOrigins"),
        ("corsPolicy: {allowMethods: [GET]}", "corsPolicy allows no origin anything"),
    ],
)
def test_of_a_rule(http: str, note: str | None) -> None:
    found = noted(virtual_service(f"- {{{DESTINATION}, {http}}}"))
    assert len(found) == bool(note)
    assert all(one.startswith(note or "") for one in found)


@pytest.mark.parametrize("action", ["redirect: {uri: /}", "directResponse: {status: 200}"])
@pytest.mark.parametrize("policy", ["timeout: 1s", "retries: {attempts: 1}"])
def test_what_is_sent_nowhere_needs_no_time_and_no_retries(action: str, policy: str) -> None:
    [note] = noted(virtual_service(f"- {{{action}, {policy}}}"))
    assert f"{OUTRANKED} {action.partition(':')[0]}: nothing is sent upstream" in note


@pytest.mark.parametrize(
    ("policy", "note"),
    [
        ("connectionPool: {http: {maxRetries: 1}}, retryBudget: {percent: 1}", f"maxRetries {OUTRANKED} retryBudget"),
        ("connectionPool: {http: {maxRetries: 0}}, retryBudget: {percent: 1}", None),
        (outliers := "outlierDetection: {maxEjectionPercent: 100, %s}")
        and (
            outliers % "consecutiveErrors: 2, consecutiveGatewayErrors: 1",
            f"consecutiveErrors {OUTRANKED} consecutiveGatewayErrors",
        ),
        (EJECTS % "consecutiveGatewayErrors: 5", "consecutiveGatewayErrors comes to nothing"),
        (EJECTS % "consecutiveGatewayErrors: 4", None),
        (EJECTS % "consecutiveGatewayErrors: 2, consecutive5xxErrors: 2", "consecutiveGatewayErrors comes"),
        (EJECTS % "consecutiveGatewayErrors: 9, consecutive5xxErrors: 0", None),
    ],
)
@pytest.mark.parametrize("at", ["trafficPolicy: {%s}", "subsets: [{name: v1, trafficPolicy: {%s}}]"])
def test_of_a_policy_at_every_level(policy: str, note: str | None, at: str) -> None:
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: r}}
spec: {{host: a, {at % policy}}}
"""
    found = noted(rule)
    assert len(found) == bool(note)
    assert all(one.startswith(note or "") for one in found)
