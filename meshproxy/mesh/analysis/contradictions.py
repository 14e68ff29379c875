"""Traffic policies of which a part comes to nothing beside another, by Istio's own rules: worth telling, not wrong."""

from __future__ import annotations

from collections.abc import Iterator

from ...resources import (
    DestinationRule,
    HTTPFaultInjection,
    HTTPRoute,
    Note,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
    VirtualService,
)
from ...resources.problems import Path
from ..destination_rules import policies_of
from ..mesh import Mesh
from ..outliers import outlier_detection

_Found = Iterator[tuple[Path, str]]


def contradictions(mesh: Mesh) -> Iterator[Note]:
    """Settings that another one outranks, or that nothing is done with, where they are written."""
    for virtual_service in mesh.of(VirtualService):
        for place, http in enumerate(virtual_service.spec.http):
            for path, message in _of_rule(http):
                where = ("spec", "http", place, *path)
                yield Note(virtual_service.position(*where), f"{virtual_service.id}: {path[-1]} {message}")
    for rule in mesh.of(DestinationRule):
        for level, policy in policies_of(rule.spec):
            for path, message in _of_policy(policy):
                yield Note(rule.position(*level, *path), f"{rule.id}: {path[-1]} {message}")


def _of_rule(http: HTTPRoute) -> _Found:
    if http.fault is not None:
        yield from ((("fault", *path), message) for path, message in _of_fault(http.fault))
    if http.redirect or http.direct_response:
        action = "redirect" if http.redirect else "directResponse"
        for name in ("timeout", "retries"):
            if getattr(http, name) is not None:
                yield (name,), f"comes to nothing beside {action}: nothing is sent upstream"
    else:
        yield from _of_time(http)
    if http.mirror_percentage is not None and http.mirror_percent is not None:
        yield ("mirrorPercent",), "comes to nothing beside mirrorPercentage"
    cors = http.cors_policy
    if cors is not None and cors.allow_origin and cors.allow_origins:
        yield ("corsPolicy", "allowOrigin"), "comes to nothing beside allowOrigins"
    elif cors is not None and not (cors.allow_origin or cors.allow_origins):
        yield ("corsPolicy",), "allows no origin anything; give allowOrigins"


def _of_fault(fault: HTTPFaultInjection) -> _Found:
    delay, abort = fault.delay, fault.abort
    if delay is not None and delay.percentage is not None and delay.percent is not None:
        yield ("delay", "percent"), "comes to nothing beside percentage"
    if delay is not None and delay.percentage is None and delay.percent is None:
        yield ("delay",), "never happens: without percentage it is for none of the requests"
    if abort is not None and abort.percentage is None:
        yield ("abort",), "never happens: without percentage it is for none of the requests"


def _of_time(http: HTTPRoute) -> _Found:
    retries = http.retries
    if retries is None or not retries.attempts:
        return
    if http.timeout and retries.per_try_timeout and retries.per_try_timeout >= http.timeout:
        yield ("retries", "perTryTimeout"), "comes to nothing: the timeout of the whole request is no longer"
    conditions = (retries.retry_on or "").split(",")
    if "retriable-status-codes" in conditions and not any(one.isdigit() for one in conditions):
        yield ("retries", "retryOn"), "has retriable-status-codes, and no status codes beside it"


def _of_policy(policy: TrafficPolicy | PortTrafficPolicy) -> _Found:
    pool, outliers = policy.connection_pool, policy.outlier_detection
    budget = policy.retry_budget if isinstance(policy, TrafficPolicy) else None
    if pool is not None and pool.http is not None and pool.http.max_retries and budget is not None:
        yield ("connectionPool", "http", "maxRetries"), "comes to nothing beside retryBudget"
    if outliers is not None:
        yield from ((("outlierDetection", *path), message) for path, message in _of_outliers(outliers))


def _of_outliers(outliers: OutlierDetection) -> _Found:
    config = outlier_detection(outliers)
    given = outliers.consecutive_gateway_errors
    if outliers.consecutive_errors and given is not None:
        yield ("consecutiveErrors",), "comes to nothing beside consecutiveGatewayErrors, which is its new name"
    if config is not None and given and 0 < config.consecutive_5xx <= given:
        default = "" if outliers.consecutive_5xx_errors else ", 5 by default,"
        message = (
            f"comes to nothing: they are 5xx errors too, and consecutive5xxErrors{default} ejects as soon or sooner"
        )
        yield ("consecutiveGatewayErrors",), message
