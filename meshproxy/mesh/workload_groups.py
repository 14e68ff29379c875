"""WorkloadGroups: what workloads have in common, and how it is found out whether they are healthy.

In Istio a workload of a group registers itself: its WorkloadEntry is made out of the group's template. Here people
write the entries, and the annotation by which Istio marks those that it makes says that one belongs to a group: what it
leaves out is then the template's (Istio's `workloadEntryFromGroup`).

Nor is there an agent that would tell all others how the workload beside it is: each proxy probes the workloads that it
sends requests to. A command can only be run beside a workload, so that its sidecar alone does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .. import resources as api
from ..resources import Resource, WorkloadEntry, WorkloadGroup
from ..snapshot import (
    Address,
    CommonTlsContext,
    ExecProbe,
    HeaderValue,
    HealthCheck,
    HttpProbe,
    Probe,
    SocketAddress,
    TcpProbe,
    UpstreamTlsContext,
)

GROUP_ANNOTATION = "istio.io/autoRegistrationGroup"

Groups = Mapping[tuple[str, str], Resource[WorkloadGroup]]
"""WorkloadGroups by namespace and name."""

_WHATEVER = UpstreamTlsContext(CommonTlsContext(), auto_host_sni=True)
"""TLS with a peer that need not prove anything: nothing is told to it."""

_USER_AGENT = HeaderValue("user-agent", "istio-probe/1.0")


def groups_of(resources: Iterable[Resource[Any]]) -> Groups:
    """The WorkloadGroups among resources."""
    return {(one.namespace, one.name): one for one in resources if isinstance(one.spec, WorkloadGroup)}


def group_of(entry: Resource[WorkloadEntry], groups: Groups) -> Resource[WorkloadGroup] | None:
    """The group that an entry says it belongs to, if there is one."""
    name = entry.annotations.get(GROUP_ANNOTATION)
    return groups.get((entry.namespace, name)) if name else None


def completed(resources: Iterable[Resource[Any]]) -> Iterator[Resource[Any]]:
    """The resources, in each WorkloadEntry of a group what it leaves out taken from the group."""
    resources = tuple(resources)
    groups = groups_of(resources)
    for resource in resources:
        group = group_of(resource, groups) if isinstance(resource.spec, WorkloadEntry) else None
        yield resource if group is None else _joined(resource, group.spec)


def _joined(entry: Resource[WorkloadEntry], group: WorkloadGroup) -> Resource[WorkloadEntry]:
    left_out = group.template.model_fields_set - entry.spec.model_fields_set - {"address"}
    inherited = {name: getattr(group.template, name) for name in left_out}
    metadata = group.metadata or api.EntryMetadata()
    labels = {**group.template.labels, **metadata.labels, **entry.spec.labels}
    return replace(
        entry,
        spec=entry.spec.model_copy(update={**inherited, "labels": labels}),
        annotations={**metadata.annotations, **entry.annotations},
    )


def health_check(
    entry: Resource[WorkloadEntry], groups: Groups, at: Callable[[int], Address], beside: bool = False
) -> HealthCheck | None:
    """How the workload of an entry is probed by a proxy, `beside` it or not; None if it is not.

    `at` tells where the workload's ports are for that proxy.
    """
    group = group_of(entry, groups)
    settings = group.spec.probe if group is not None else None
    probe = _probe(settings, at, beside) if settings is not None else None
    if settings is None or probe is None:
        return None
    return HealthCheck(
        probe,
        initial_delay_s=float(settings.initial_delay_seconds or 0),
        timeout_s=float(settings.timeout_seconds or 1),
        interval_s=float(settings.period_seconds or 10),
        healthy_threshold=settings.success_threshold or 1,
        unhealthy_threshold=settings.failure_threshold or 1,
    )


def _probe(settings: api.ReadinessProbe, at: Callable[[int], Address], beside: bool) -> Probe | None:
    if settings.http_get is not None:
        return _http_probe(settings.http_get, at)
    if settings.tcp_socket is not None:
        socket = settings.tcp_socket
        return TcpProbe(SocketAddress(socket.host, socket.port) if socket.host else at(socket.port))
    if settings.exec is not None and beside:
        return ExecProbe(settings.exec.command)
    return None


def _http_probe(settings: api.HTTPProbe, at: Callable[[int], Address]) -> HttpProbe:
    path = settings.path or "/"
    given = [HeaderValue((header.name or "").lower(), header.value or "") for header in settings.http_headers]
    headers = {header.name: header for header in [_USER_AGENT, *given]}
    host = headers.pop("host", None)
    return HttpProbe(
        SocketAddress(settings.host, settings.port) if settings.host else at(settings.port),
        path if path.startswith("/") else f"/{path}",
        host.value if host is not None else "",
        tuple(headers.values()),
        _WHATEVER if settings.scheme == "HTTPS" else None,
    )
