"""Where rules send requests: hosts, ports and subsets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...resources import Destination, DestinationRule, Problem, Resource, VirtualService
from ..advice import advice, listed
from ..destination_rules import MergedRule
from ..hosts import is_wildcard, subset_of
from ..names import MESH_GATEWAY, fqdn
from ..registry import Service
from ..virtual_services import Path
from .scope import Scope, host_advice


class PlacedDestination(NamedTuple):
    """A destination and where it is written; `host` is what its name means there."""

    destination: Destination
    host: str
    resource: Resource[VirtualService]
    path: tuple[str | int, ...]

    def problem(self, field: tuple[str, ...], message: str) -> Problem:
        """A problem of one of the destination's fields."""
        return self.resource.problem((*self.path, *field), message)


def unknown_destinations(scope: Scope) -> Iterator[Problem]:
    """A destination whose host does not exist or cannot be seen, or has no such port."""
    for placed in _destinations(scope):
        service = _service(scope, placed)
        if service is None:
            yield from _unknown_host(scope, placed)
        else:
            yield from _unknown_port(placed, service)


def unknown_subsets(scope: Scope) -> Iterator[Problem]:
    """A destination's subset that no DestinationRule defines, or none that holds for the proxy."""
    for placed in _destinations(scope):
        name, service = placed.destination.subset, _service(scope, placed)
        if name and service is not None and not scope.obscures("DestinationRule", placed.host):
            rules = _rules(scope, placed, service)
            if not any(rule.subset(name) for rule in rules):
                yield placed.problem(("subset",), _missing_subset(scope, placed, name, rules))


def _missing_subset(scope: Scope, placed: PlacedDestination, name: str, rules: list[MergedRule]) -> str:
    namesakes = [
        rule.id
        for rule in scope.mesh.of(DestinationRule)
        if fqdn(rule.spec.host, rule.namespace) == placed.host and name in [s.name for s in rule.spec.subsets]
    ]
    if namesakes:
        return (
            f"{listed(namesakes)} defines the subset {name!r}, but not for a proxy of namespace "
            f"{listed(_viewers(scope, placed))}; write it in the namespace of the service"
        )
    if not rules:
        return f"no DestinationRule defines the subset {name!r} of {placed.host}; write one, or remove it"
    known = [subset.subset.name for rule in rules for subset in rule.subsets]
    return f"{placed.host} has no subset {name!r}; {advice(name, known, 'its DestinationRule has none')}"


def _destinations(scope: Scope) -> Iterator[PlacedDestination]:
    for resource in scope.virtual_services:
        for n, rule in enumerate(resource.spec.http):
            placed: list[tuple[Destination, Path]] = [
                (route.destination, ("route", m, "destination")) for m, route in enumerate(rule.route)
            ]
            placed += [(mirror.destination, ("mirrors", m, "destination")) for m, mirror in enumerate(rule.mirrors)]
            if rule.mirror is not None:
                placed.append((rule.mirror, ("mirror",)))
            for destination, path in placed:
                host = fqdn(destination.host, resource.namespace)
                yield PlacedDestination(destination, host, resource, ("spec", "http", n, *path))


def _viewers(scope: Scope, placed: PlacedDestination) -> tuple[str, ...]:
    """The namespaces of the proxies that a rule is for; for sidecars, its own stands for all."""
    spec, is_whole = placed.resource.spec, placed.resource.is_whole
    only_gateways = spec.hosts and spec.gateways and MESH_GATEWAY not in spec.gateways and is_whole("spec", "gateways")
    return (scope.namespace,) if only_gateways else (placed.resource.namespace, scope.namespace)


def _service(scope: Scope, placed: PlacedDestination) -> Service | None:
    """The service of a destination, as some proxy that the rule is for sees it."""
    found = (scope.mesh.registry.find(placed.host, viewer) for viewer in _viewers(scope, placed))
    return next((service for service in found if service is not None), None)


def _rules(scope: Scope, placed: PlacedDestination, service: Service) -> list[MergedRule]:
    findable, viewers = scope.mesh.destination_rules.findable, _viewers(scope, placed)
    return [rule for viewer in viewers for rule in findable(service.hostname, service.namespace, viewer)]


def _unknown_host(scope: Scope, placed: PlacedDestination) -> Iterator[Problem]:
    registry, host = scope.mesh.registry, placed.host
    if declared := registry.declared(host):
        owners, viewers = listed(service.resource.id for service in declared), _viewers(scope, placed)
        message = f"{host} is not exported to namespace {viewers[0]!r}; add that to exportTo of {owners}"
        yield placed.problem(("host",), message)
        return
    if scope.obscures("ServiceEntry", host) or _id_of(host) in scope.invalid:
        return
    wildcard = next((w for w in registry.hostnames if is_wildcard(w) and subset_of(host, w)), None)
    if wildcard:
        hint = f"{wildcard} covers it, but a destination needs a ServiceEntry of its own name"
    else:
        hint = host_advice(placed.destination.host, host, registry)
    yield placed.problem(("host",), f"no Service or ServiceEntry declares the host {host!r}; {hint}")


def _id_of(host: str) -> str:
    """The id of the Service that `host` would be of, if it has the form of one."""
    name, _, rest = host.partition(".")
    return f"Service/{name}.{rest.partition('.')[0]}"


def _unknown_port(placed: PlacedDestination, service: Service) -> Iterator[Problem]:
    port = placed.destination.port
    if service.external_name is not None and not service.ports:
        return
    known = listed(f"{port.number} ({port.name})" if port.name else port.number for port in service.ports)
    if port is not None and service.port(port.number) is None:
        message = f"{service.hostname} has no port {port.number}; its ports are {known or 'none'}"
        yield placed.problem(("port", "number"), message)
    elif port is None and len(service.ports) > 1 and placed.resource.is_whole(*placed.path):
        message = f"{service.hostname} has several ports, {known}; say which by port.number"
        yield placed.problem((), message)
