"""What a check may look at, and which host it says was meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from ...resources import DestinationRule, Model, Resource, ServiceEntry, VirtualService, hosts_overlap
from ..advice import listed, nearest
from ..gateway import Admission, PlacedServer
from ..mesh import Mesh
from ..names import fqdn, service_hostname
from ..registry import Registry
from ..virtual_services import MergedVirtualService, VirtualServices

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Scope:
    """A mesh, the namespace its gateway runs in, the ids of resources that could not be read, and what is left of
    these; `labels` are the gateway's, None where it runs all Gateways."""

    mesh: Mesh
    namespace: str
    invalid: frozenset[str]
    partial: tuple[Resource[Any], ...] = ()
    labels: Mapping[str, str] | None = None

    def unreadable(self, *kinds: str) -> bool:
        """Whether a resource of these kinds could not be read, so that what seems missing may be in there."""
        return any(id.partition("/")[0] in kinds for id in self.invalid)

    def obscures(self, kind: str, host: str) -> bool:
        """Whether a resource of this kind that could not be read, or only in part, may be about `host`."""
        of_kind = (id for id in self.invalid if id.partition("/")[0] == kind)
        return any(hosts_overlap(host, other) for id in of_kind for other in self._partial_hosts.get(id, ("*",)))

    @cached_property
    def _partial_hosts(self) -> dict[str, tuple[str, ...]]:
        return {resource.id: _hosts(resource) for resource in self.partial}

    def of(self, model: type[M]) -> tuple[Resource[M], ...]:
        """The resources of one kind, by its model, the partial ones too."""
        return (*self.mesh.of(model), *(resource for resource in self.partial if isinstance(resource.spec, model)))

    @cached_property
    def virtual_services(self) -> tuple[Resource[VirtualService], ...]:
        """Every VirtualService, those for delegation and the partial ones too, as written."""
        return self.of(VirtualService)

    @cached_property
    def admissions(self) -> dict[str, list[Admission]]:
        """What each Gateway's servers admit, by `namespace/name`."""
        return {
            name: [Admission(PlacedServer(server, gateway, n)) for n, server in enumerate(gateway.spec.servers)]
            for name, gateway in self.mesh.gateways.items()
        }

    @cached_property
    def merged(self) -> tuple[MergedVirtualService, ...]:
        """Every VirtualService with hosts, the partial ones too; these without the rules that they delegate."""
        partial = VirtualServices(r for r in self.partial if isinstance(r.spec, VirtualService))
        return (*self.mesh.virtual_services.merged, *partial.merged)


def _hosts(resource: Resource[Any]) -> tuple[str, ...]:
    """What a partial resource is about: hosts, or `*` where that is not certain."""
    match resource.spec:
        case ServiceEntry(hosts=hosts) if resource.is_whole("spec", "hosts"):
            return hosts
        case DestinationRule(host=host) if resource.is_whole("spec", "host"):
            return (fqdn(host, resource.namespace),)
    return ("*",)


def host_advice(written: str, host: str, registry: Registry) -> str:
    """Which host of the mesh was meant by `written`, which stands for the unknown `host`.

    A service of that name in another namespace is likely, or `name.namespace` for all that should follow it;
    else the service with the nearest name.
    """
    short = written.partition(".")[0]
    by_label = {known.partition(".")[0]: known for known in sorted(registry.hostnames)}
    spelt_out = service_hostname(*written.split(".")[:2]) if "." in written else host
    meant = next((h for h in (spelt_out, by_label.get(short), nearest(short, by_label)) if h in registry), None)
    if meant:
        return f"did you mean {meant!r}?"
    known = listed(sorted(registry.hostnames))
    return f"known are {known}" if known else "no Service or ServiceEntry declares any"
