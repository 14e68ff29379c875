"""What a sidecar runs: the listeners where its workload is called, and the one that its app calls others by.

Sources: Istio's `buildInboundListeners` and `buildHTTPProxy`, `buildCatchAllVirtualHost`, and for the headers
`GetProxyHeaders`. A sidecar stands inside the mesh on both sides: it leaves what a request says of its origin as it
is, where a gateway would not believe it (`use_remote_address`).

Differences from Istio, on purpose:

1. Connections are not captured, so that each inbound listener has the workload's own address and port, and the app
   listens elsewhere; nothing that no service leads to is passed on to it.
2. `ALLOW_ANY` sends a request to where its authority says, as `ALLOW_ANY_DYNAMIC_DNS` does: there is no original
   destination to send it to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Unpack

from ..resources import DEFAULT_NAMESPACE, Resource, Secret, WorkloadEntry
from ..snapshot import (
    Action,
    Address,
    Cluster,
    DirectResponseAction,
    ExtAuthz,
    FilterChain,
    HttpConnectionManager,
    JwtAuthentication,
    Listener,
    Locality,
    RbacFilter,
    Route,
    RouteAction,
    RouteConfiguration,
    RouteMatch,
    Snapshot,
    SocketAddress,
    VirtualHost,
    WeightedCluster,
)
from .advice import listed, nearest
from .authentication import jwt_authentication
from .authorization import rbac_filters
from .clusters import Targets
from .credentials import Credentials
from .ext_authz import ext_authz
from .http_options import HttpOptions
from .inbound import inbound_cluster, inbound_ports, inbound_routes, served_ports
from .limits import at_inbound, at_outbound
from .localities import Whereabouts
from .mesh import Mesh
from .mutual_tls import Trust, inbound_chains, with_identity
from .outbound import considered_outbound, outbound_virtual_hosts
from .policy_targets import Target
from .routes import ConsideredRoute
from .trust_domains import believed
from .workload_groups import health_check
from .workloads import Workload

OutboundPolicy = Literal["ALLOW_ANY", "REGISTRY_ONLY"]

PASSTHROUGH_CLUSTER = "PassthroughCluster"


class UnknownWorkload(LookupError):
    """No WorkloadEntry has this name; the message says which ones there are."""


def find_workload(mesh: Mesh, name: str) -> Resource[WorkloadEntry]:
    """The WorkloadEntry called `NAME` in the default namespace, or `NAME.NAMESPACE`. Raises `UnknownWorkload`."""
    entries = mesh.of(WorkloadEntry)
    by_name = {f"{entry.name}.{entry.namespace}": entry for entry in entries}
    found = by_name.get(name) or by_name.get(f"{name}.{DEFAULT_NAMESPACE}")
    if found is not None:
        return found
    known = {entry.name: full for full, entry in by_name.items()} | {full: full for full in by_name}
    close = nearest(name, known)
    others = f"known are {listed(sorted(by_name))}" if by_name else "there are none"
    raise UnknownWorkload(f"no WorkloadEntry {name!r}; {f'did you mean {close!r}?' if close else others}")


def sidecar_snapshot(
    mesh: Mesh,
    *,
    workload: Resource[WorkloadEntry],
    app: Address,
    outbound: SocketAddress,
    outbound_policy: OutboundPolicy = "ALLOW_ANY",
    locality: Locality | None = None,
    trust: Trust | None = None,
    **http: Unpack[HttpOptions],
) -> Snapshot:
    """What the sidecar of a workload runs.

    It listens at the workload's address, on the port behind each HTTP port of the services that select it, for
    requests to the app at `app`; and at `outbound` for the app's own requests. `outbound_policy` decides about those
    for hosts that no resource names; `locality` is where it runs, if not where the workload says. `trust` is whose
    identities it believes, where it has one itself. `sidecar_problems` finds the addresses that cannot be.
    """
    trust = believed(mesh, trust)
    targets = _targets(mesh, workload, locality, trust)
    accepted = mesh.peer_authentications.of(workload.namespace, _labels(workload))
    outward = at_outbound(mesh.traffic_limits, workload.namespace)
    inward = at_inbound(mesh.traffic_limits, workload.namespace, _labels(workload))
    manager = _manager(_outbound_routes(mesh, workload, targets, outbound_policy), http)
    listeners = [outward.on(_listener(outbound, (FilterChain(manager),)))]
    app_clusters = []
    served = served_ports(mesh, workload)
    itself = Workload.of(workload.spec, workload.labels)
    check = health_check(
        workload, mesh.workload_groups, lambda port: app if port in served else itself.at(port), beside=True
    )
    for number, inbound in served.items():
        address = SocketAddress(workload.spec.address or "", number)
        target = inbound_target(mesh, workload, number)
        access, tokens = rbac_filters(mesh, target, number, trust), jwt_authentication(mesh, target)
        asked = ext_authz(mesh, target, number, targets, trust)
        manager = _manager(inbound_routes(number, inbound), http, asked, tokens, access)
        chains = inbound_chains(accepted.at(number), manager, trust, accepted.origin(number))
        listeners.append(inward.on(_listener(address, chains)))
        app_clusters.append(inbound_cluster(number, inbound, app, mesh.destination_rules, check))
    clusters = list(targets.clusters())
    if outbound_policy == "ALLOW_ANY":
        clusters.append(Cluster(PASSTHROUGH_CLUSTER, (), type="DYNAMIC_FORWARD_PROXY"))
    return with_identity(Snapshot(tuple(listeners), (*clusters, *app_clusters), tuple(targets.secrets())))


def considered_by_sidecar(mesh: Mesh, workload: Resource[WorkloadEntry], host: str, port: int) -> list[ConsideredRoute]:
    """What the app's requests to `port` of `host` may meet, in order, with those routes that do not exist here."""
    targets = _targets(mesh, workload)
    name = f"{workload.name}.{workload.namespace}"
    return considered_outbound(mesh.virtual_services, _labels(workload), targets, name, host, port)


def _targets(
    mesh: Mesh, workload: Resource[WorkloadEntry], locality: Locality | None = None, trust: Trust | None = None
) -> Targets:
    own = Workload.of(workload.spec, workload.labels)
    here = Whereabouts.of(own.endpoint_labels, own.locality if locality is None else locality)
    view = mesh.registry.at_sidecar(workload.namespace)
    credentials = Credentials.of(mesh.of(Secret), workload.namespace)
    return Targets(view, mesh.destination_rules, here, trust, credentials, auto_mtls=mesh.auto_mtls)


def _labels(workload: Resource[WorkloadEntry]) -> Mapping[str, str]:
    return Workload.of(workload.spec, workload.labels).labels


def inbound_target(mesh: Mesh, workload: Resource[WorkloadEntry], port: int) -> Target:
    """A port of a workload as policies see it."""
    services = tuple(one.service for one in inbound_ports(mesh, workload) if one.number == port)
    return Target(workload.namespace, (_labels(workload),), services)


def _manager(
    routes: RouteConfiguration,
    http: HttpOptions,
    asked: ExtAuthz | None = None,
    tokens: JwtAuthentication | None = None,
    access: tuple[RbacFilter, ...] = (),
) -> HttpConnectionManager:
    return HttpConnectionManager(
        routes, use_remote_address=False, ext_authz=asked, jwt_authn=tokens, rbac=access, **http
    )


def _listener(address: SocketAddress, chains: tuple[FilterChain, ...]) -> Listener:
    return Listener(f"{address.host}_{address.port}", address, chains)


def _outbound_routes(
    mesh: Mesh, workload: Resource[WorkloadEntry], targets: Targets, policy: OutboundPolicy
) -> RouteConfiguration:
    hosts = outbound_virtual_hosts(mesh.virtual_services, _labels(workload), targets)
    return RouteConfiguration("http_proxy", (*hosts, _CATCH_ALL[policy]), ignore_port_in_host_matching=False)


def _catch_all(name: str, action: Action) -> VirtualHost:
    return VirtualHost(name, ("*",), (Route(name, RouteMatch(), action),), include_request_attempt_count=True)


_CATCH_ALL: dict[OutboundPolicy, VirtualHost] = {
    "ALLOW_ANY": _catch_all("allow_any", RouteAction((WeightedCluster(PASSTHROUGH_CLUSTER),), max_grpc_timeout_s=0.0)),
    "REGISTRY_ONLY": _catch_all("block_all", DirectResponseAction(502)),
}
