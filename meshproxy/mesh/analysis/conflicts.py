"""VirtualServices that claim one host, so that the order in which they merge decides what happens.

At a gateway, several VirtualServices of one host are one virtual host: ordinary, as long as each has its own
part of the requests and at most one a route for the rest. Istio promises nothing about more (it merges by
creation time, then name, then namespace). Sidecars do not merge them at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from ...resources import Destination, Problem
from ...snapshot import Route
from ..clusters import ClusterReference
from ..covering import CoverIndex, is_catch_all
from ..gateway import Contribution, contributions, merge_servers, route_groups
from ..names import MESH_GATEWAY, cluster_name, fqdn
from ..virtual_services import Match, MergedVirtualService
from .scope import Scope

Claim = tuple[MergedVirtualService, Match, Route]


def gateway_conflicts(scope: Scope) -> Iterator[Problem]:
    """Two VirtualServices of one host at one gateway that do different things with the same requests."""
    for gateway in scope.mesh.gateways.values():
        for servers in (one for group in merge_servers([gateway]).values() for one in route_groups(group)):
            shared: dict[tuple[Contribution, ...], str] = {}
            hosts = contributions(scope.mesh, servers, None, scope.namespace, _symbolic_cluster)
            for host, merged in hosts.items():
                if len(merged) > 1:
                    shared.setdefault(tuple(merged), host)
            for together, host in shared.items():
                yield from _conflicts(together, f"host {host!r} at Gateway '{gateway.namespace}/{gateway.name}'")


def _symbolic_cluster(destination: Destination, namespace: str) -> ClusterReference:
    """A name for a destination that is enough to tell two apart; the service need not exist."""
    port = destination.port.number if destination.port else 0
    return ClusterReference(cluster_name(fqdn(destination.host, namespace), port, destination.subset or ""))


def _conflicts(merged: tuple[Contribution, ...], where: str) -> Iterator[Problem]:
    """The first conflict of each two VirtualServices, at the one that merges later."""
    index: CoverIndex[Claim] = CoverIndex()
    order = {contribution.service: place for place, contribution in enumerate(merged)}
    claims = [(c.service, m, r) for c in merged for m, r in zip(c.matches, c.routes, strict=True)]
    for claim in claims:
        index.add(claim[2].match, claim)
    told: set[frozenset[MergedVirtualService]] = set()
    for narrow in claims:
        for wide in index.covering(narrow[2].match):
            pair = frozenset((wide[0], narrow[0]))
            if len(pair) == 2 and pair not in told and _depends_on_order(wide[2], narrow[2]):
                told.add(pair)
                earlier, later = sorted((wide, narrow), key=lambda claim: order[claim[0]])
                yield _problem(earlier, later, where)


def _depends_on_order(wide: Route, narrow: Route) -> bool:
    """Whether it matters which of two routes comes first. A route for the rest always comes last."""
    if is_catch_all(wide.match) and not is_catch_all(narrow.match):
        return False
    effects = [(route.action, route.request_headers, route.response_headers) for route in (wide, narrow)]
    return effects[0] != effects[1]


def _problem(earlier: Claim, later: Claim, where: str) -> Problem:
    position = earlier[1].resource.position(*earlier[1].path)
    message = (
        f"takes requests for {where} that {earlier[0].resource.id} takes too, "
        f"in {position.file}:{position.line}, and which of them answers depends on the order in which they "
        "merge (creation time, then name); put the rules into one VirtualService, in the order that you mean"
    )
    return later[1].resource.problem(later[1].path, message)


def mesh_conflicts(scope: Scope) -> Iterator[Problem]:
    """Two VirtualServices of one host for the sidecars of one namespace, of which only the older holds."""
    claims: defaultdict[str, list[MergedVirtualService]] = defaultdict(list)
    for service in scope.mesh.virtual_services.merged:
        if MESH_GATEWAY not in service.gateways:
            continue
        for place, host in enumerate(service.hosts):
            for elder in claims[host]:
                if elder.visibility.overlaps(service.visibility):
                    message = f"{elder.resource.id} has the host {host!r} for sidecars too; merge them into one"
                    yield service.resource.problem(("spec", "hosts", place), message)
                    break
            claims[host].append(service)
