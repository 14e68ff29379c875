"""What is wrong with a mesh though each resource is well-formed: what dangles, conflicts, or never happens.

Rules:

1. Sound. A problem keeps the configuration from running, so it is only said what is certain; what might be
   meant is left alone. What refers to a resource that is itself too broken to be read is not reported on top
   of that.
2. Every problem in one run. The well-formed parts of a broken resource are checked too, but they are no part of
   the mesh, and a check that looks at them asks `Resource.is_whole` of everything that its verdict rests on.
3. Each problem stands where the user has to change something, and says what would be right.
4. A check is a generator of problems over a `Scope`; `CHECKS` lists them all. What only matters beside one app
   is asked for by its workload: `sidecar_problems`, `sidecar_notes`.
5. What is well-formed, means what Istio says, and does less than it seems, is no problem: `remarks` tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from ...resources import Note, Problem, Resource
from ..mesh import Mesh
from ..names import ROOT_NAMESPACE
from . import (
    access,
    balancing,
    conflicts,
    contradictions,
    delegation,
    destination_rules,
    destinations,
    gateways,
    headers,
    health,
    limits,
    mutual_tls,
    providers,
    services,
    shadowing,
    tls,
    upstream_tls,
)
from .scope import Scope
from .sidecars import sidecar_notes, sidecar_problems
from .upstream_tls import secrets_of_rules

__all__ = ["CHECKS", "Check", "analyse", "remarks", "secrets_of_rules", "sidecar_notes", "sidecar_problems"]

Check = Callable[[Scope], Iterator[Problem]]

CHECKS: tuple[Check, ...] = (
    gateways.unknown_gateways,
    gateways.unseen_virtual_services,
    gateways.unbound_match_gateways,
    gateways.hosts_not_admitted,
    gateways.ports_without_server,
    gateways.unsupported_servers,
    tls.conflicting_servers,
    tls.missing_credentials,
    upstream_tls.missing_credentials,
    delegation.unusable_delegates,
    delegation.contradictory_rules,
    destinations.unknown_destinations,
    destinations.unknown_subsets,
    headers.unknown_commands,
    headers.connection_headers,
    shadowing.hidden_rules,
    conflicts.gateway_conflicts,
    conflicts.mesh_conflicts,
    destination_rules.unknown_hosts,
    destination_rules.empty_subsets,
    destination_rules.repeated_subsets,
    limits.unknown_gateways,
    limits.unknown_routes,
    services.unknown_target_ports,
    services.protocol_conflicts,
    access.unclear_dry_runs,
    access.unattached_policies,
    access.claims_without_tokens,
    providers.several_configurations,
    providers.repeated_providers,
    providers.unknown_services,
    providers.unknown_providers,
    providers.several_providers,
    mutual_tls.useless_peer_authentications,
    mutual_tls.unknown_ports,
    mutual_tls.refused_by_strict,
)


def remarks(mesh: Mesh) -> tuple[Note, ...]:
    """What a person should know of a mesh that can run, by file and line."""
    found = (
        *balancing.idle_settings(mesh),
        *contradictions.contradictions(mesh),
        *health.idle_outlier_detection(mesh),
        *health.idle_probes(mesh),
        *mutual_tls.overlapping_peer_authentications(mesh),
        *mutual_tls.unreachable_workloads(mesh),
        *upstream_tls.unverified_names(mesh),
        *upstream_tls.credentials_at_sidecars(mesh),
    )
    return tuple(sorted(set(found)))


def analyse(
    mesh: Mesh,
    *,
    namespace: str = ROOT_NAMESPACE,
    labels: Mapping[str, str] | None = None,
    invalid: Collection[str] = frozenset(),
    partial: Iterable[Resource[Any]] = (),
) -> tuple[Problem, ...]:
    """Every problem of a mesh, by file and line.

    `namespace` is where the gateway runs, `labels` are its own, if it has any; `invalid` are the ids of resources
    that could not be read, and `partial` is what is left of these (`Loaded.invalid`, `Loaded.partial`).
    """
    scope = Scope(mesh, namespace, frozenset(invalid), tuple(partial), labels)
    found = dict.fromkeys(problem for check in CHECKS for problem in check(scope))
    return tuple(sorted(found))
