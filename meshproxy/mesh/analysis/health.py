"""Outlier detection that can eject nobody, and probes that nobody carries out: worth telling, not wrong."""

from __future__ import annotations

from collections.abc import Iterator

from ...resources import (
    DestinationRule,
    Note,
    OutlierDetection,
    Resource,
    WorkloadEntry,
    WorkloadGroup,
)
from ..destination_rules import policies_of
from ..mesh import Mesh
from ..names import fqdn
from ..outliers import outlier_detection
from ..workload_groups import GROUP_ANNOTATION, group_of


def idle_outlier_detection(mesh: Mesh) -> Iterator[Note]:
    """Outlier detection that comes to nothing, where it is written."""
    for rule in mesh.of(DestinationRule):
        for path, level in policies_of(rule.spec):
            settings, balancer = level.outlier_detection, level.load_balancer
            if settings is None:
                continue
            passes = balancer is not None and balancer.simple == "PASSTHROUGH"
            idle = (("", "is not for PASSTHROUGH, which knows no endpoints"),)
            for name, message in idle if passes else _idle(mesh, rule, settings):
                where = (*path, "outlierDetection", *filter(None, (name,)))
                yield Note(rule.position(*where), f"{rule.id}: outlierDetection {message}")


def _idle(mesh: Mesh, rule: Resource[DestinationRule], settings: OutlierDetection) -> Iterator[tuple[str, str]]:
    config = outlier_detection(settings)
    assert config is not None
    if not (config.consecutive_5xx or config.consecutive_gateway_failure or config.split_external_local_origin_errors):
        yield "", "counts no errors: consecutive5xxErrors and consecutiveGatewayErrors are 0"
    services = mesh.registry.under(fqdn(rule.spec.host, rule.namespace))
    # A name may stand for any number of endpoints.
    most = max(
        (_endpoints(mesh, service.hostname) for service in services if service.resolution == "STATIC"), default=0
    )
    if (
        most
        and all(service.resolution == "STATIC" for service in services)
        and config.max_ejection_percent * most < 100
    ):
        told = "maxEjectionPercent" if settings.max_ejection_percent else "maxEjectionPercent, 10 by default,"
        name = "maxEjectionPercent" if settings.max_ejection_percent else ""
        one = f"one of {most} endpoints is {100 / most:.3g} %" if most > 1 else "the only endpoint is all of them"
        yield name, f"ejects nobody: {one}, and {told} allows {config.max_ejection_percent} %"


def _endpoints(mesh: Mesh, hostname: str) -> int:
    """The most endpoints that any port of a service of this name has."""
    return max(
        (len(those) for service in mesh.registry.declared(hostname) for those in service.endpoints.values()), default=0
    )


def idle_probes(mesh: Mesh) -> Iterator[Note]:
    """Probes that nobody carries out, or not everybody; entries of groups that do not exist."""
    entries = mesh.of(WorkloadEntry)
    peopled = {group.id for entry in entries if (group := group_of(entry, mesh.workload_groups)) is not None}
    for group in mesh.of(WorkloadGroup):
        probe = group.spec.probe
        if probe is not None and group.id not in peopled:
            message = "probes nobody: workloads do not register themselves yet; annotate their WorkloadEntries with "
            yield Note(group.position("spec", "probe"), f"{group.id} {message}{GROUP_ANNOTATION}: {group.name}")
        elif probe is not None and probe.exec is not None:
            message = "is run by the sidecars of the group's workloads alone; other proxies take them for healthy"
            yield Note(group.position("spec", "probe", "exec"), f"{group.id}: exec {message}")
    for entry in entries:
        name = entry.annotations.get(GROUP_ANNOTATION)
        if name and group_of(entry, mesh.workload_groups) is None:
            message = (
                f"there is no WorkloadGroup {name!r} in namespace {entry.namespace!r}, of which {entry.id} is to be"
            )
            yield Note(entry.position("metadata", "annotations", GROUP_ANNOTATION), message)
