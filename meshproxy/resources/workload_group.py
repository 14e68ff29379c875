"""WorkloadGroup: what the WorkloadEntries of workloads that register themselves look like.

Source: Istio's `networking/v1alpha3/workload_group.proto`, and the validation in its CRD.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from .model import Model, Wrong
from .service_entry import WorkloadEntry
from .types import Labels, NonNegative, PortNumber, Text, one_of_texts


class EntryMetadata(Model):
    """Labels and annotations of every WorkloadEntry of the group."""

    labels: Labels = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class EntryTemplate(WorkloadEntry):
    """The spec of every WorkloadEntry of the group; each workload brings its own address."""

    def broken_rules(self) -> Iterator[Wrong]:
        return (wrong for wrong in super().broken_rules() if wrong[0] != ("address",))


class ProbeHeader(Model):
    """A header of the probe's request."""

    name: str | None = None
    value: str | None = None


class HTTPProbe(Model):
    """Ready when a GET is answered with a status from 200 to 399."""

    path: str | None = None
    port: PortNumber
    host: str | None = None
    scheme: Annotated[str, one_of_texts("", "HTTP", "HTTPS")] | None = None
    http_headers: tuple[ProbeHeader, ...] = ()


class TCPProbe(Model):
    """Ready when a connection is accepted."""

    host: str | None = None
    port: PortNumber


class ExecProbe(Model):
    """Ready when a command exits with 0."""

    command: tuple[Text, ...]


class GRPCProbe(Model):
    """Ready when the gRPC health service says SERVING."""

    port: PortNumber | None = None
    service: str | None = None


class ReadinessProbe(Model):
    """How to find out whether a workload is ready; times in seconds."""

    initial_delay_seconds: NonNegative | None = None
    timeout_seconds: NonNegative | None = None
    period_seconds: NonNegative | None = None
    success_threshold: NonNegative | None = None
    failure_threshold: NonNegative | None = None
    http_get: HTTPProbe | None = None
    tcp_socket: TCPProbe | None = None
    exec: ExecProbe | None = None
    grpc: GRPCProbe | None = None


class WorkloadGroup(Model):
    """Workloads of one sort, each of which becomes a WorkloadEntry once it is up."""

    metadata: EntryMetadata | None = None
    template: EntryTemplate
    probe: ReadinessProbe | None = None
