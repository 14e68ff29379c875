"""What a check may look at, and which host it says was meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from meshproxy.resources import Resource, VirtualService

from ..advice import listed, nearest
from ..gateway import Admission, PlacedServer
from ..mesh import Mesh
from ..names import service_hostname
from ..registry import Registry
from ..virtual_services import MergedVirtualService


@dataclass(frozen=True)
class Scope:
    """A mesh, the namespace its gateway runs in, and the ids of resources that could not be read."""

    mesh: Mesh
    namespace: str
    invalid: frozenset[str]

    def unreadable(self, *kinds: str) -> bool:
        """Whether a resource of these kinds could not be read, so that what seems missing may be in there."""
        return any(id.partition("/")[0] in kinds for id in self.invalid)

    @cached_property
    def virtual_services(self) -> tuple[Resource[VirtualService], ...]:
        """Every VirtualService, those for delegation too, as written."""
        return self.mesh.of(VirtualService)

    @cached_property
    def admissions(self) -> dict[str, list[Admission]]:
        """What each Gateway's servers admit, by `namespace/name`."""
        return {
            name: [Admission(PlacedServer(server, gateway, n)) for n, server in enumerate(gateway.spec.servers)]
            for name, gateway in self.mesh.gateways.items()
        }

    @property
    def merged(self) -> Iterator[MergedVirtualService]:
        """Every VirtualService with hosts."""
        return iter(self.mesh.virtual_services.merged)


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
