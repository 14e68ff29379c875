"""Where rules send requests: hosts, ports and subsets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from meshproxy.resources import Destination, Problem, Resource, VirtualService

from ..destination_rules import MergedRule
from ..hosts import is_wildcard, subset_of
from ..names import fqdn, service_hostname
from ..registry import Service
from .scope import Scope, advice, listed


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
    """A destination's subset that no DestinationRule defines."""
    for placed in _destinations(scope):
        name, service = placed.destination.subset, _service(scope, placed)
        if not name or service is None or scope.unreadable("DestinationRule"):
            continue
        rules = _rules(scope, placed, service)
        if any(rule.subset(name) for rule in rules):
            continue
        if not rules:
            message = (
                f"no DestinationRule defines the subset {name!r} of {placed.host}; write one, or remove it"
            )
        else:
            known = [subset.subset.name for rule in rules for subset in rule.subsets]
            message = (
                f"{placed.host} has no subset {name!r}; {advice(name, known, 'its DestinationRule has none')}"
            )
        yield placed.problem(("subset",), message)


def _destinations(scope: Scope) -> Iterator[PlacedDestination]:
    for resource in scope.virtual_services:
        for n, rule in enumerate(resource.spec.http):
            for m, route in enumerate(rule.route):
                host = fqdn(route.destination.host, resource.namespace)
                path = ("spec", "http", n, "route", m, "destination")
                yield PlacedDestination(route.destination, host, resource, path)


def _service(scope: Scope, placed: PlacedDestination) -> Service | None:
    """The service of a destination, as seen from the namespace of its rule or of the gateway."""
    registry = scope.mesh.registry
    return registry.find(placed.host, placed.resource.namespace) or registry.find(
        placed.host, scope.namespace
    )


def _rules(scope: Scope, placed: PlacedDestination, service: Service) -> list[MergedRule]:
    viewers = dict.fromkeys((placed.resource.namespace, scope.namespace))
    find = scope.mesh.destination_rules.find
    found = (find(service.hostname, service.namespace, viewer) for viewer in viewers)
    return [rule for rule in found if rule is not None]


def _unknown_host(scope: Scope, placed: PlacedDestination) -> Iterator[Problem]:
    registry, host = scope.mesh.registry, placed.host
    if declared := registry.declared(host):
        owners, namespace = listed(service.resource.id for service in declared), placed.resource.namespace
        message = f"{host} is not exported to namespace {namespace!r}; add that to exportTo of {owners}"
        yield placed.problem(("host",), message)
        return
    if scope.unreadable("ServiceEntry") or _id_of(host) in scope.invalid:
        return
    name = placed.destination.host
    likely = [service_hostname(*name.split(".")[:2])] if "." in name else []
    likely += [known for known in registry.hostnames if known.partition(".")[0] == name.partition(".")[0]]
    wildcard = next((w for w in registry.hostnames if is_wildcard(w) and subset_of(host, w)), None)
    if wildcard:
        hint = f"{wildcard} covers it, but a destination needs a ServiceEntry of its own name"
    else:
        hint = advice(host, registry.hostnames, "no Service or ServiceEntry declares any", likely=likely)
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
    elif port is None and len(service.ports) > 1:
        message = f"{service.hostname} has several ports, {known}; say which by port.number"
        yield placed.problem((), message)
