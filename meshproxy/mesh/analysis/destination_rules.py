"""DestinationRules: their hosts, and subsets that no endpoint or two rules are in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ...resources import DestinationRule, Problem, Resource, Subset
from ..advice import listed
from ..destination_rules import joins, selector_of
from ..names import fqdn
from ..registry import Service
from .scope import Scope, host_advice


def unknown_hosts(scope: Scope) -> Iterator[Problem]:
    """A host of which no service exists."""
    registry = scope.mesh.registry
    if scope.unreadable("Service"):
        return
    for rule in scope.of(DestinationRule):
        host = fqdn(rule.spec.host, rule.namespace)
        if registry.under(host) or scope.obscures("ServiceEntry", host):
            continue
        hint = host_advice(rule.spec.host, host, registry)
        yield rule.problem(("spec", "host"), f"no Service or ServiceEntry declares the host {host!r}; {hint}")


def empty_subsets(scope: Scope) -> Iterator[Problem]:
    """A subset whose labels no endpoint has, although there are endpoints to choose from."""
    if scope.unreadable("ServiceEntry", "Service", "WorkloadEntry", "Endpoints", "EndpointSlice"):
        return
    for rule in scope.of(DestinationRule):
        services = scope.mesh.registry.under(fqdn(rule.spec.host, rule.namespace))
        peopled = [service for service in services if service.select({})]
        for place, subset in enumerate(rule.spec.subsets):
            if peopled and not any(service.select(subset.labels) for service in peopled):
                path = ("spec", "subsets", place, "labels")
                yield rule.problem(path, _nobody(subset, peopled))


def _nobody(subset: Subset, services: list[Service]) -> str:
    wanted = ", ".join(f"{name}={value}" for name, value in subset.labels.items())
    present = {
        f"{name}={endpoint.labels[name]}": None
        for service in services
        for endpoints in service.endpoints.values()
        for endpoint in endpoints
        for name in subset.labels
        if name in endpoint.labels
    }
    hint = f"there are {listed(present)}" if present else f"none has {listed(subset.labels)} at all"
    return f"no endpoint of {listed(s.hostname for s in services)} has {wanted}; {hint}"


def repeated_subsets(scope: Scope) -> Iterator[Problem]:
    """A subset that an older rule of the same host, namespace and workloads defines, so that this one is ignored."""
    known: defaultdict[tuple[str, str, str], list[Resource[DestinationRule]]] = defaultdict(list)
    for rule in scope.mesh.of(DestinationRule):
        host = fqdn(rule.spec.host, rule.namespace)
        for place, subset in enumerate(rule.spec.subsets):
            namesakes = known[rule.namespace, host, subset.name]
            alike = [r for r in namesakes if selector_of(r) == selector_of(rule)]
            elder = next((r for r in alike if joins(rule, r)), None)
            namesakes.append(rule)
            if elder is not None:
                message = f"{elder.id} has a subset {subset.name!r} of {host} too, and only that counts; rename one"
                yield rule.problem(("spec", "subsets", place, "name"), message)
