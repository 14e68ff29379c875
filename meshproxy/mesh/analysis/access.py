"""Security policies that no proxy could enforce: none may start as if they were.

Istio passes over a policy that selects nothing. Here that is a problem: whoever wrote it believes that it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...resources import (
    AuthorizationPolicy,
    Problem,
    RequestAuthentication,
    Resource,
    Service,
    ServiceEntry,
    TargetReference,
    WorkloadEntry,
    is_jwt_claim,
)
from ..advice import advice
from ..authorization import DRY_RUN
from ..names import ROOT_NAMESPACE
from ..policy_targets import GATEWAY_NAME_LABEL, KINDS, target_references
from ..registry import selects
from ..workloads import Workload
from .scope import Scope

_BOOLEANS = frozenset(("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"))

Policy = Resource[AuthorizationPolicy] | Resource[RequestAuthentication]


def _policies(scope: Scope) -> tuple[Policy, ...]:
    return (*scope.of(AuthorizationPolicy), *scope.of(RequestAuthentication))


def unclear_dry_runs(scope: Scope) -> Iterator[Problem]:
    """The annotation for a dry run that says neither yes nor no."""
    for policy in scope.of(AuthorizationPolicy):
        value = policy.annotations.get(DRY_RUN, "false")
        if value not in _BOOLEANS:
            path = ("metadata", "annotations", DRY_RUN)
            yield policy.problem(path, f"{value!r} is neither 'true' nor 'false'")


def unattached_policies(scope: Scope) -> Iterator[Problem]:
    """A policy that holds for nothing that is known: by its namespace, its selector or its references."""
    if scope.unreadable("Gateway", "WorkloadEntry", "Service", "ServiceEntry"):
        return
    for policy in _policies(scope):
        references = target_references(policy.spec)
        for place, reference in enumerate(references):
            if (reason := _reference_error(scope, policy, reference)) is not None:
                path = ("targetRef",) if policy.spec.target_ref else ("targetRefs", place)
                yield policy.problem(("spec", *path), reason)
        if not references and (reason := _selector_error(scope, policy)) is not None:
            yield policy.problem(("spec", "selector") if policy.spec.selector else ("metadata", "namespace"), reason)


def _selector_error(scope: Scope, policy: Policy) -> str | None:
    labels = policy.spec.selector.match_labels if policy.spec.selector else {}
    if policy.namespace == ROOT_NAMESPACE and not labels:
        return None
    if policy.namespace in (ROOT_NAMESPACE, scope.namespace) and any(
        selects(labels, known) for known in gateway_labels(scope)
    ):
        return None
    namespaces = None if policy.namespace == ROOT_NAMESPACE else policy.namespace
    if any(selects(labels, known) for known in _workload_labels(scope, namespaces)):
        return None
    where = "in the mesh" if namespaces is None else f"in namespace {policy.namespace!r}"
    what = f"no workload {where} has the labels that it selects" if labels else f"there is no workload {where}"
    gateway = f"; the gateway runs in {scope.namespace!r}" if any(True for _ in gateway_labels(scope)) else ""
    return f"{what}, so that nothing would enforce it{gateway}"


def gateway_labels(scope: Scope) -> Iterator[Mapping[str, str]]:
    """The labels of the gateway, which need not be one label set."""
    if scope.labels is not None:
        yield scope.labels
    else:
        yield from (gateway.spec.selector for gateway in scope.mesh.gateways.values())


def _workload_labels(scope: Scope, namespace: str | None) -> Iterator[Mapping[str, str]]:
    """The labels of workloads, as far as they are known: of those behind a Service, what it selects them by."""
    for entry in scope.mesh.of(WorkloadEntry):
        if namespace in (None, entry.namespace):
            yield Workload.of(entry.spec, entry.labels).labels
    for service in scope.mesh.of(Service):
        if namespace in (None, service.namespace):
            yield service.spec.selector or {}
    for outside in scope.mesh.of(ServiceEntry):
        if outside.spec.workload_selector is not None and namespace in (None, outside.namespace):
            yield outside.spec.workload_selector.labels


def _reference_error(scope: Scope, policy: Policy, reference: TargetReference) -> str | None:
    kind = (reference.group or "", reference.kind)
    if kind not in KINDS:
        known = ", ".join(dict.fromkeys(f"{group or 'core'}/{name}" for group, name in KINDS))
        return f"{'/'.join(filter(None, kind))} is nothing that a proxy stands for here; refer to one of {known}"
    if reference.namespace not in (None, "", policy.namespace):
        return f"refers to namespace {reference.namespace!r}; a policy is written beside what it refers to"
    model = KINDS[kind]
    if model is None:
        if policy.namespace == scope.namespace and any(
            labels.get(GATEWAY_NAME_LABEL) == reference.name for labels in gateway_labels(scope)
        ):
            return None
        return (
            f"no gateway in namespace {policy.namespace!r} has the label {GATEWAY_NAME_LABEL}: {reference.name}, "
            "so that nothing would enforce it"
        )
    services = {one.name: one for one in scope.mesh.of(model) if one.namespace == policy.namespace}
    if reference.name not in services:
        return f"no {reference.kind} {reference.name!r} beside it; {advice(reference.name, services, 'there are none')}"
    if not any(selects(_selected(services[reference.name]), labels) for labels in _entries(scope, policy.namespace)):
        return f"no WorkloadEntry is behind {reference.kind} {reference.name!r}, so that nothing would enforce it"
    return None


def _entries(scope: Scope, namespace: str) -> Iterator[Mapping[str, str]]:
    for entry in scope.mesh.of(WorkloadEntry):
        if entry.namespace == namespace:
            yield Workload.of(entry.spec, entry.labels).labels


_NOTHING = {"": ""}  # a label that no workload has


def _selected(service: Resource[Any]) -> Mapping[str, str]:
    spec = service.spec
    if isinstance(spec, ServiceEntry):
        return spec.workload_selector.labels if spec.workload_selector else _NOTHING
    return spec.selector or _NOTHING


def claims_without_tokens(scope: Scope) -> Iterator[Problem]:
    """A rule that asks for a claim where no token is ever read."""
    if scope.of(RequestAuthentication) or scope.unreadable("RequestAuthentication"):
        return
    for service in scope.virtual_services:
        for n, rule in enumerate(service.spec.http):
            for m, match in enumerate(rule.match):
                for field, names in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                    for name in filter(is_jwt_claim, names):
                        yield service.problem(
                            ("spec", "http", n, "match", m, field, name),
                            "asks for a claim, and no RequestAuthentication says which tokens are read",
                        )
