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
from ..inbound import InboundPort, inbound_ports
from ..mesh import Mesh
from ..names import ROOT_NAMESPACE, fqdn
from ..peer_authentication import Effective, Policy, labels_of
from ..registry import Service as KnownService
from ..registry import ServiceEndpoint, selects
from ..workloads import TLS_MODE_LABEL, Workload, has_sidecar
from .scope import Scope


def useless_peer_authentications(scope: Scope) -> Iterator[Problem]:
    """A policy that holds for no workload: by where it stands, by what it selects, or because an older one counts."""
    of_namespace: dict[str, Policy] = {}
    workloads = None if scope.unreadable("WorkloadEntry", "Service", "ServiceEntry") else _Workloads(scope.mesh)
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
        elif policy.namespace != ROOT_NAMESPACE and workloads is not None and not workloads.any(policy):
            where = f"in namespace {policy.namespace!r}"
            what = f"no workload {where} has the labels that it selects" if labels else f"there is no workload {where}"
            path = ("spec", "selector") if labels else ("metadata", "namespace")
            yield policy.problem(path, f"{what}, so that nothing would enforce it; it is enforced by their sidecars")


class _Workloads:
    """The labels of workloads, as far as they are known: of those behind a Service, what it selects them by."""

    def __init__(self, mesh: Mesh) -> None:
        self._namespaces: set[str] = set()
        self._by_label: dict[tuple[str, tuple[str, str]], list[Mapping[str, str]]] = {}
        for namespace, labels in _labels_of_workloads(mesh):
            self._namespaces.add(namespace)
            for label in labels.items():
                self._by_label.setdefault((namespace, label), []).append(labels)

    def any(self, policy: Policy) -> bool:
        """Whether there is one that a policy is for."""
        labels = labels_of(policy)
        if not labels:
            return policy.namespace in self._namespaces
        candidates = self._by_label.get((policy.namespace, min(labels.items())), ())
        return any(selects(labels, one) for one in candidates)


def _labels_of_workloads(mesh: Mesh) -> Iterator[tuple[str, Mapping[str, str]]]:
    for entry in mesh.of(WorkloadEntry):
        yield entry.namespace, Workload.of(entry.spec, entry.labels).labels
    for service in mesh.of(Service):
        yield service.namespace, service.spec.selector or {}
    for outside in mesh.of(ServiceEntry):
        if outside.spec.workload_selector is not None:
            yield outside.namespace, outside.spec.workload_selector.labels
        yield from ((outside.namespace, endpoint.labels) for endpoint in outside.spec.endpoints)


def unknown_ports(scope: Scope) -> Iterator[Problem]:
    """A port in `portLevelMtls` that no service leads to, at any workload that the policy selects."""
    if scope.unreadable("WorkloadEntry", "Service", "ServiceEntry"):
        return
    own_ports: dict[str, set[int]] = {}
    for entry, policies in _selected(scope.mesh):
        for policy in policies:
            if policy.spec.port_level_mtls:
                ports = own_ports.setdefault(policy.id, set())
                ports.update(one.number for one in inbound_ports(scope.mesh, entry) if one.number is not None)
    for policy in scope.mesh.of(PeerAuthentication):
        known = own_ports.get(policy.id)
        for port in policy.spec.port_level_mtls if known is not None else ():
            if known is not None and int(port) not in known:
                told = listed(map(str, sorted(known))) or "none"
                message = (
                    f"no service leads to port {port} of the workloads that it selects; their own ports are {told}"
                )
                yield policy.problem(("spec", "portLevelMtls", port), message)


def _selected(mesh: Mesh) -> Iterator[tuple[Resource[WorkloadEntry], list[Policy]]]:
    """Each workload, with the policies that select it."""
    for entry in mesh.of(WorkloadEntry):
        labels = Workload.of(entry.spec, entry.labels).labels
        yield entry, mesh.peer_authentications.selecting(entry.namespace, labels)


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
    known: dict[str, list[Resource[WorkloadEntry]]] = {}
    for entry in mesh.of(WorkloadEntry):
        labels = Workload.of(entry.spec, entry.labels).labels
        accepted = mesh.peer_authentications.of(entry.namespace, labels)
        if "STRICT" not in (accepted.mode, *accepted.ports.values()):
            continue
        if has_sidecar(entry.spec, labels):
            known.setdefault(entry.namespace, []).append(entry)
        elif strict := [one.number for one in inbound_ports(mesh, entry) if one.number and _is_strict(accepted, one)]:
            policy = accepted.said_by(strict[0])
            told = f" ({policy.id})" if policy is not None else ""
            message = f"{entry.id} takes mutual TLS alone{told}, and is called in plain text: {_why(labels)}"
            yield Note(entry.position("metadata", "name"), message)
    for outside in mesh.of(ServiceEntry):
        selector = outside.spec.workload_selector
        if selector is None or outside.spec.location == "MESH_INTERNAL":
            continue
        for entry in known.get(outside.namespace, ()):
            if _is_called_by(mesh, outside, entry, selector.labels):
                message = (
                    f"{entry.id} takes mutual TLS alone, and is called in plain text by {outside.id}: its location is "
                    "MESH_EXTERNAL, as it is without any; write MESH_INTERNAL"
                )
                yield Note(outside.position("spec", "location"), message)


def _is_called_by(
    mesh: Mesh, outside: Resource[ServiceEntry], entry: Resource[WorkloadEntry], selector: Mapping[str, str]
) -> bool:
    """Whether a ServiceEntry leads to a port of a workload that is STRICT."""
    labels = Workload.of(entry.spec, entry.labels).labels
    accepted = mesh.peer_authentications.of(entry.namespace, labels)
    return selects(selector, labels) and any(
        one.service is outside and _is_strict(accepted, one) for one in inbound_ports(mesh, entry)
    )


def _is_strict(accepted: Effective, port: InboundPort) -> bool:
    return port.number is not None and accepted.at(port.number) == "STRICT"


def _why(labels: Mapping[str, str]) -> str:
    if TLS_MODE_LABEL in labels:
        return f"its label {TLS_MODE_LABEL} says that it takes none"
    return f"it is not known to have a sidecar; give it a serviceAccount, or the label {TLS_MODE_LABEL}: istio"


def overlapping_peer_authentications(mesh: Mesh) -> Iterator[Note]:
    """Policies that select a workload which an older one selects too."""
    for entry, policies in _selected(mesh):
        for policy in policies[1:]:
            message = f"does not hold for {entry.id}, which {policies[0].id} selects too: the oldest alone counts"
            yield Note(policy.position("spec", "selector"), f"{policy.id} {message}")
