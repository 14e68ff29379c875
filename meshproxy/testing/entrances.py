"""Where a request enters the mesh: the listener of a gateway or of a sidecar, and what stands behind it.

Whoever does not say which, means the only gateway with a rule for the host, else any sidecar if there is a rule for
sidecars, else the only gateway that admits the host. Any sidecar, `gateway: mesh`, is one in the namespace of the
VirtualService that has the host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from ..mesh import ROOT_NAMESPACE, Mesh, UnknownWorkload, find_workload, gateway_snapshot, sidecar_snapshot
from ..mesh.advice import advice, listed
from ..mesh.gateway import Admission, PlacedServer, considered_by_gateway, merge_servers, selected_gateways, servers_for
from ..mesh.hosts import subset_of
from ..mesh.names import MESH_GATEWAY, gateway_name, short_names
from ..mesh.routes import ConsideredRoute
from ..mesh.sidecar import considered_by_sidecar
from ..mesh.virtual_services import MergedVirtualService
from ..resources import DEFAULT_NAMESPACE, Gateway, Resource, WorkloadEntry
from ..resources.documents import Place
from ..snapshot import Address, Listener, Snapshot, SocketAddress
from .cases import Hop

HTTP_PORT = 80

_LOCALHOST = "127.0.0.1"
_OUTBOUND = SocketAddress(_LOCALHOST, 15001)
_APP = SocketAddress(_LOCALHOST, 15099)  # nothing is ever sent there


class NoEntrance(LookupError):
    """A request has no way in, or more than one; the message says which there are."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """A listener of a proxy, and all that this proxy runs. `name` is for people.

    `considered` lists what requests to a port of a host may meet there, with those rules that do not exist for this
    proxy or port; it is None where all exist.
    """

    name: str
    snapshot: Snapshot = field(repr=False)
    listener: Listener = field(repr=False)
    considered: Callable[[str, int], Iterable[ConsideredRoute]] | None = field(default=None, repr=False)


class _Door(NamedTuple):
    """A port of a Gateway; several servers may share it."""

    gateway: Resource[Gateway]
    port: int
    bind: str
    servers: list[PlacedServer]

    @property
    def name(self) -> str:
        return f"{self.gateway.namespace}/{self.gateway.name}"


class Entrances:
    """The ways into a mesh. What each proxy runs is made when it is first asked for, and kept."""

    def __init__(self, mesh: Mesh, namespace: str = ROOT_NAMESPACE) -> None:
        self._mesh = mesh
        self._namespace = namespace
        self._gateways: dict[str, Snapshot] = {}
        # By the resources themselves: a WorkloadEntry may be called what the made-up one of a namespace is.
        self._sidecars: dict[Resource[WorkloadEntry], Snapshot] = {}
        self._made_up: dict[str, Resource[WorkloadEntry]] = {}
        self._doors = [
            _Door(gateway, port, bind, servers)
            for gateway in mesh.gateways.values()
            for (port, bind), servers in merge_servers([gateway]).items()
        ]

    def find(self, hop: Hop, authority: str) -> Entrance:
        """Where a client's request for `authority` enters. Raises `NoEntrance`."""
        host, port = host_and_port(authority)
        if hop.workload is not None:
            workload = self._workload(hop.workload)
            return self._outbound(workload, f"the sidecar of {workload.name}.{workload.namespace}")
        if hop.gateway == MESH_GATEWAY:
            return self._anyone_near(host)
        if hop.gateway is not None:
            name = self._named(hop.gateway)
            return self._entrance(_choose(name, self._doors_of(name), hop.port or port))
        return self._by_host(host, hop.port or port)

    def following(self, hop: Hop, addresses: Collection[Address]) -> Entrance:
        """Where a request enters that another proxy sends to `addresses`, as far as they are known.

        Raises `NoEntrance`, also when the proxy listens at none of them.
        """
        if hop.workload is not None:
            return self._inbound(self._workload(hop.workload), hop.port, addresses)
        if hop.gateway == MESH_GATEWAY or hop.gateway is None:
            raise NoEntrance("a request is sent to one sidecar and not to any; name its workload")
        name = self._named(hop.gateway)
        ports = {address.port for address in addresses if isinstance(address, SocketAddress)}
        known = self._doors_of(name)
        led = [door for door in known if door.port in ports]
        if addresses and not led:
            own = listed(sorted({door.port for door in known}))
            raise NoEntrance(f"the request is sent to {listed(addresses)}; Gateway {name} listens on port {own}")
        return self._entrance(_choose(name, led or known, hop.port))

    def _named(self, gateway: str) -> str:
        name = gateway_name(gateway, DEFAULT_NAMESPACE)
        if name not in self._mesh.gateways:
            raise NoEntrance(f"no Gateway {name!r}; {advice(name, self._mesh.gateways, 'there are none')}")
        return name

    def _doors_of(self, name: str) -> list[_Door]:
        return [door for door in self._doors if door.name == name]

    def _entrance(self, door: _Door) -> Entrance:
        snapshot = self._gateways.get(door.name)
        if snapshot is None:
            # What a proxy runs that has the labels which the Gateway asks for, and no others.
            labels = door.gateway.spec.selector
            snapshot = gateway_snapshot(self._mesh, selector=labels, namespace=self._namespace)
            self._gateways[door.name] = snapshot
        listener = next(one for one in snapshot.listeners if one.name == f"{door.bind}_{door.port}")
        return Entrance(f"gateway {door.name}, port {door.port}", snapshot, listener, partial(self._considered, door))

    def _considered(self, door: _Door, host: str, _port: int) -> list[ConsideredRoute]:
        """What requests for a host may meet at a port of a Gateway, which others of the same proxy may share."""
        labels = door.gateway.spec.selector
        servers = servers_for(merge_servers(selected_gateways(self._mesh, labels))[door.port, door.bind], host)
        if not servers:
            return []
        return considered_by_gateway(self._mesh, servers, host, selector=labels, namespace=self._namespace)

    def _by_host(self, host: str, port: int | None) -> Entrance:
        doors = [door for door in self._doors if self._has_rule(door, host)]
        if not doors and self._services_of_mesh(host):
            return self._anyone_near(host)
        doors = doors or [door for door in self._doors if _admits(door, host)]
        names = list(dict.fromkeys(door.name for door in doors))
        found = [self._entrance(_choose(name, [d for d in doors if d.name == name], port)) for name in names]
        if not found:
            known = listed([*self._mesh.gateways, MESH_GATEWAY])
            raise NoEntrance(f"no Gateway admits {host!r}; give `gateway` ({known}) or `workload`")
        # Gateways that do the very same leave no choice.
        if any(entrance.listener != found[0].listener for entrance in found):
            raise NoEntrance(f"{host!r} may enter by {' or by '.join(sorted(names))}; say which as `gateway`")
        return found[0]

    def _has_rule(self, door: _Door, host: str) -> bool:
        """Whether a VirtualService has the host here."""
        services = self._mesh.virtual_services.at_gateway(door.name, self._namespace)
        admissions = [Admission(server) for server in door.servers]
        return any(
            subset_of(host, common)
            for service in services
            for admission in admissions
            for common in admission.admit(service)
        )

    def _services_of_mesh(self, host: str) -> list[MergedVirtualService]:
        """The VirtualServices for sidecars that have the host."""
        merged = self._mesh.virtual_services.merged
        return [service for service in merged if MESH_GATEWAY in service.gateways and _has_host(service, host)]

    def _workload(self, name: str) -> Resource[WorkloadEntry]:
        try:
            return find_workload(self._mesh, name)
        except UnknownWorkload as error:
            raise NoEntrance(str(error)) from None

    def _anyone_near(self, host: str) -> Entrance:
        """The sidecar of a workload without labels, where the VirtualService of the host is at home."""
        namespace = next((one.resource.namespace for one in self._services_of_mesh(host)), DEFAULT_NAMESPACE)
        if namespace not in self._made_up:
            self._made_up[namespace] = _workload("any-sidecar", namespace)
        return self._outbound(self._made_up[namespace], f"any sidecar in {namespace}")

    def _sidecar(self, workload: Resource[WorkloadEntry]) -> Snapshot:
        snapshot = self._sidecars.get(workload)
        if snapshot is None:
            snapshot = sidecar_snapshot(self._mesh, workload=workload, app=_APP, outbound=_OUTBOUND)
            self._sidecars[workload] = snapshot
        return snapshot

    def _outbound(self, workload: Resource[WorkloadEntry], name: str) -> Entrance:
        snapshot = self._sidecar(workload)
        listener = next(one for one in snapshot.listeners if one.address == _OUTBOUND)
        return Entrance(name, snapshot, listener, partial(considered_by_sidecar, self._mesh, workload))

    def _inbound(self, workload: Resource[WorkloadEntry], port: int | None, addresses: Collection[Address]) -> Entrance:
        snapshot = self._sidecar(workload)
        name = f"{workload.name}.{workload.namespace}"
        inbound = [one for one in snapshot.listeners if one.address != _OUTBOUND and port in (None, one.address.port)]
        led = [one for one in inbound if not addresses or one.address in addresses]
        if not led:
            own = listed(one.address for one in inbound) or "nowhere, as no service leads to it"
            raise NoEntrance(f"the request is sent to {listed(addresses)}; the sidecar of {name} listens at {own}")
        if len(led) > 1:
            ports = listed(one.address.port for one in led)
            raise NoEntrance(f"the sidecar of {name} has ports {ports}; say which as `port`")
        return Entrance(f"the sidecar of {name}, port {led[0].address.port}", snapshot, led[0])


def _choose(name: str, doors: Iterable[_Door], wanted: int | None) -> _Door:
    """The wanted port of a Gateway if it has that, else its only one, else 80."""
    by_port = {door.port: door for door in doors}
    if not by_port:
        raise NoEntrance(f"Gateway {name} has no port for HTTP")
    for port in (wanted, HTTP_PORT):
        if port in by_port:
            return by_port[port]
    if len(by_port) > 1:
        raise NoEntrance(f"Gateway {name} has ports {listed(sorted(by_port))}; say which as `port`")
    return next(iter(by_port.values()))


def _admits(door: _Door, host: str) -> bool:
    patterns = (pattern.rpartition("/")[2].lower() for server in door.servers for pattern in server.server.hosts)
    return any(subset_of(host, pattern) for pattern in patterns)


def _has_host(service: MergedVirtualService, host: str) -> bool:
    names = (name for known in service.hosts for name in (known, *short_names(known, service.resource.namespace)))
    return any(subset_of(host, name) for name in names)


def host_and_port(authority: str) -> tuple[str, int | None]:
    """The host of an authority in lower case, without the brackets of IPv6, and its port if it has one."""
    host, colon, port = authority.lower().rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return authority.lower().strip("[]"), None


def _workload(name: str, namespace: str) -> Resource[WorkloadEntry]:
    return Resource(
        kind="WorkloadEntry",
        api_version="networking.istio.io/v1",
        name=name,
        namespace=namespace,
        labels={},
        annotations={},
        created=None,
        spec=WorkloadEntry(address=_LOCALHOST),
        file="",
        place=Place(1, 1),
    )
