"""The mesh: every resource in the index where the questions about it are answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from .. import resources as api
from ..resources import Resource
from .declarations import Published, entry_services, kubernetes_service
from .destination_rules import DestinationRules
from .ordering import age
from .peer_authentication import PeerAuthentications
from .registry import Registry
from .virtual_services import VirtualServices
from .workload_groups import Groups, completed, groups_of
from .workloads import Workloads

M = TypeVar("M", bound=api.Model)


class PlacedProvider(NamedTuple):
    """An extension provider, and the MeshConfig that it is written in, at `spec.extensionProviders[place]`."""

    provider: api.ExtensionProvider
    resource: Resource[api.MeshConfig]
    place: int


@dataclass(frozen=True, eq=False)
class Mesh:
    """All that is known, the same for every proxy; what one proxy makes of it is a snapshot.

    Each index is made when it is first asked for, and kept.
    """

    resources: tuple[Resource[Any], ...]

    def __repr__(self) -> str:
        return f"<Mesh of {len(self.resources)} resources>"

    def of(self, model: type[M]) -> tuple[Resource[M], ...]:
        """The resources of one kind, by its model, the oldest first."""
        return tuple(sorted((r for r in self.resources if isinstance(r.spec, model)), key=age))

    @cached_property
    def gateways(self) -> dict[str, Resource[api.Gateway]]:
        """Gateways by `namespace/name`, the oldest first."""
        return {f"{gateway.namespace}/{gateway.name}": gateway for gateway in self.of(api.Gateway)}

    @cached_property
    def virtual_services(self) -> VirtualServices:
        """VirtualServices, their delegates merged in."""
        return VirtualServices(self.of(api.VirtualService))

    @cached_property
    def destination_rules(self) -> DestinationRules:
        """DestinationRules, to be asked for what holds."""
        return DestinationRules(self.of(api.DestinationRule))

    @cached_property
    def config(self) -> api.MeshConfig:
        """The oldest MeshConfig, or what holds without one."""
        return next((one.spec for one in self.of(api.MeshConfig)), api.MeshConfig())

    @property
    def auto_mtls(self) -> bool:
        """Workloads that are known to take mutual TLS are called by it, also where no DestinationRule says so."""
        return self.config.enable_auto_mtls is not False

    @cached_property
    def extension_providers(self) -> dict[str, PlacedProvider]:
        """Extension providers by name; of several with one name, the first of the oldest MeshConfig."""
        found: dict[str, PlacedProvider] = {}
        for config in self.of(api.MeshConfig):
            for place, provider in enumerate(config.spec.extension_providers):
                found.setdefault(provider.name, PlacedProvider(provider, config, place))
        return found

    @cached_property
    def traffic_limits(self) -> tuple[Resource[api.TrafficLimit], ...]:
        """TrafficLimits, the oldest first."""
        return self.of(api.TrafficLimit)

    @cached_property
    def workloads(self) -> Workloads:
        """Workloads, to be found by their labels."""
        return Workloads(self.of(api.WorkloadEntry), self.workload_groups, self.peer_authentications)

    @cached_property
    def peer_authentications(self) -> PeerAuthentications:
        """PeerAuthentications, to be asked for what holds."""
        return PeerAuthentications(self.of(api.PeerAuthentication))

    @cached_property
    def workload_groups(self) -> Groups:
        """WorkloadGroups by namespace and name."""
        return groups_of(self.resources)

    @cached_property
    def registry(self) -> Registry:
        """The services, with their endpoints."""
        published = Published(self.resources)
        entries = [s for entry in self.of(api.ServiceEntry) for s in entry_services(entry, self.workloads)]
        services = [
            kubernetes_service(service, self.workloads, published.addresses(service))
            for service in self.of(api.Service)
        ]
        return Registry(services + entries)


def build_mesh(resources: Iterable[Resource[Any]]) -> Mesh:
    """The mesh that some resources make, in whatever order they come."""
    return Mesh(tuple(completed(resources)))
