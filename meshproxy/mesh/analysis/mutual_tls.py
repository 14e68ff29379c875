"""PeerAuthentications that hold for nothing, and those that keep everybody out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...resources import (
    DestinationRule,
    Note,
    PeerAuthentication,
    Problem,
    Resource,
    Service,
    ServiceEntry,
    WorkloadEntry,
)
from ..advice import listed
from ..destination_rules import MergedRule, PlacedSubset, PlacedTls, effective_policy
from ..inbound import inbound_ports
from ..mesh import Mesh
from ..names import ROOT_NAMESPACE, fqdn
from ..peer_authentication import Policy, labels_of
from ..registry import Service as KnownService
from ..registry import ServiceEndpoint, selects
from ..workloads import TLS_MODE_LABEL, Workload, has_sidecar
from .scope import Scope


def useless_peer_authentications(scope: Scope) -> Iterator[Problem]:
    """A policy that holds for no workload: by where it stands, by what it selects, or because an older one counts."""
    of_namespace: dict[str, Policy] = {}
    for policy in scope.mesh.of(PeerAuthentication):
        labels = labels_of(policy)
        if not labels and (elder := of_namespace.setdefault(policy.namespace, policy)) != policy:
            where = "the mesh" if policy.namespace == ROOT_NAMESPACE else f"namespace {policy.namespace!r}"
            yield policy.problem((), f"{elder.id} is for all of {where} too, and only that counts; remove one of them")
        elif labels and policy.namespace == ROOT_NAMESPACE:
            message = (
                f"has no effect in {ROOT_NAMESPACE!r}, whose policies are for the whole mesh; write the policy beside "
                "the workloads that it is for"
            )
            yield policy.problem(("spec", "selector"), message)
        elif not scope.unreadable("WorkloadEntry", "Service", "ServiceEntry"):
            yield from _nobody(scope.mesh, policy)


def _nobody(mesh: Mesh, policy: Policy) -> Iterator[Problem]:
    labels = labels_of(policy)
    known = list(_workload_labels(mesh, None if policy.namespace == ROOT_NAMESPACE else policy.namespace))
    if policy.namespace == ROOT_NAMESPACE or any(selects(labels, one) for one in known):
        return
    where = f"in namespace {policy.namespace!r}"
    message = f"no workload {where} has the labels that it selects" if labels else f"there is no workload {where}"
    path = ("spec", "selector") if labels else ("metadata", "namespace")
    yield policy.problem(path, f"{message}, so that nothing would enforce it; it is enforced by their sidecars")


def _workload_labels(mesh: Mesh, namespace: str | None) -> Iterator[Mapping[str, str]]:
    """The labels of workloads, as far as they are known: of those behind a Service, what it selects them by."""
    for entry in mesh.of(WorkloadEntry):
        if namespace in (None, entry.namespace):
            yield Workload.of(entry.spec, entry.labels).labels
    for service in mesh.of(Service):
        if namespace in (None, service.namespace):
            yield service.spec.selector or {}
    for outside in mesh.of(ServiceEntry):
        if namespace in (None, outside.namespace):
            if outside.spec.workload_selector is not None:
                yield outside.spec.workload_selector.labels
            yield from (endpoint.labels for endpoint in outside.spec.endpoints)


def unknown_ports(scope: Scope) -> Iterator[Problem]:
    """A port in `portLevelMtls` that no service leads to, at any workload that the policy selects."""
    if scope.unreadable("WorkloadEntry", "Service", "ServiceEntry"):
        return
    for policy in scope.mesh.of(PeerAuthentication):
        labels = labels_of(policy)
        entries = [entry for entry in scope.mesh.of(WorkloadEntry) if _is_of(policy, entry)]
        if not labels or not entries:
            continue
        known = {one.number for entry in entries for one in inbound_ports(scope.mesh, entry) if one.number is not None}
        for port in policy.spec.port_level_mtls:
            if int(port) not in known:
                told = listed(map(str, sorted(known))) or "none"
                message = (
                    f"no service leads to port {port} of the workloads that it selects; their own ports are {told}"
                )
                yield policy.problem(("spec", "portLevelMtls", port), message)


def _is_of(policy: Policy, entry: Resource[WorkloadEntry]) -> bool:
    return policy.namespace == entry.namespace and selects(
        labels_of(policy), Workload.of(entry.spec, entry.labels).labels
    )


def refused_by_strict(scope: Scope) -> Iterator[Problem]:
    """A DestinationRule by which requests come without the identity that all of the endpoints ask for."""
    if scope.unreadable("PeerAuthentication", "WorkloadEntry"):
        return
    for placed, service, endpoints in _tls_settings(scope.mesh):
        if (placed.settings.mode or "DISABLE") not in ("DISABLE", "SIMPLE"):
            continue
        if endpoints and all(one.mtls == "STRICT" for one in endpoints):
            message = (
                f"the endpoints of {service.hostname} take mutual TLS of the mesh alone (PeerAuthentication, STRICT); "
                "write ISTIO_MUTUAL, or leave tls out, which comes to the same"
            )
            yield placed.resource.problem((*placed.path, "mode"), message)


def _tls_settings(mesh: Mesh) -> Iterator[tuple[PlacedTls, KnownService, tuple[ServiceEndpoint, ...]]]:
    """The settings of TLS that hold for ports of services, with the endpoints that they are for."""
    for rule in mesh.of(DestinationRule):
        for service in mesh.registry.under(fqdn(rule.spec.host, rule.namespace)):
            for merged in mesh.destination_rules.findable(service.hostname, service.namespace, rule.namespace):
                for subset in (None, *merged.subsets):
                    yield from _of_ports(service, merged, subset)


def _of_ports(
    service: KnownService, merged: MergedRule, subset: PlacedSubset | None
) -> Iterator[tuple[PlacedTls, KnownService, tuple[ServiceEndpoint, ...]]]:
    labels = subset.subset.labels if subset is not None else {}
    for port in service.ports:
        placed = effective_policy(merged, subset, port.number).tls
        if placed is not None:
            behind = service.endpoints.get(port.number, ())
            yield placed, service, tuple(one for one in behind if selects(labels, one.labels))


def unreachable_workloads(mesh: Mesh) -> Iterator[Note]:
    """Workloads that take mutual TLS alone, where those who would call them do not know that they take it at all."""
    for entry in mesh.of(WorkloadEntry):
        labels = Workload.of(entry.spec, entry.labels).labels
        accepted = mesh.peer_authentications.of(entry.namespace, labels)
        strict = [one for one in inbound_ports(mesh, entry) if one.number and accepted.at(one.number) == "STRICT"]
        if not strict:
            continue
        if not has_sidecar(entry.spec, labels):
            why = (
                f"it is not known to have a sidecar; give it a serviceAccount, or the label {TLS_MODE_LABEL}: istio"
                if TLS_MODE_LABEL not in labels
                else f"its label {TLS_MODE_LABEL} says that it takes none"
            )
            policy = accepted.said_by(strict[0].number or 0)
            told = f" ({policy.id})" if policy is not None else ""
            message = f"{entry.id} takes mutual TLS alone{told}, and is called in plain text: {why}"
            yield Note(entry.position("metadata", "name"), message)
            continue
        for one in strict:
            if isinstance(one.service.spec, ServiceEntry) and one.service.spec.location != "MESH_INTERNAL":
                message = (
                    f"{entry.id} takes mutual TLS alone, and is called in plain text by {one.service.id}: its location "
                    "is MESH_EXTERNAL, as it is without any; write MESH_INTERNAL"
                )
                yield Note(one.service.position("spec", "location"), message)


def overlapping_peer_authentications(mesh: Mesh) -> Iterator[Note]:
    """Policies that select a workload which an older one selects too."""
    policies = [one for one in mesh.of(PeerAuthentication) if labels_of(one) and one.namespace != ROOT_NAMESPACE]
    for entry in mesh.of(WorkloadEntry):
        those = [policy for policy in policies if _is_of(policy, entry)]
        for policy in those[1:]:
            message = f"does not hold for {entry.id}, which {those[0].id} selects too: the oldest alone counts"
            yield Note(policy.position("spec", "selector"), f"{policy.id} {message}")
