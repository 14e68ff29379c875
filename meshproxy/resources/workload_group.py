"""WorkloadGroup: what the WorkloadEntries of workloads that register themselves look like.

Source: Istio's `networking/v1alpha3/workload_group.proto`, and the validation in its CRD.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from .heads import header_errors, uri_error
from .model import Model, NotYet, Ruled, Wrong
from .service_entry import WorkloadEntry
from .types import Labels, NonNegative, PortNumber, Text, checked, one_of_texts


class EntryMetadata(Model):
    """Labels and annotations of every WorkloadEntry of the group."""

    labels: Labels = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class EntryTemplate(WorkloadEntry):
    """The spec of every WorkloadEntry of the group; each workload brings its own address."""

    def broken_rules(self) -> Iterator[Wrong]:
        return (wrong for wrong in super().broken_rules() if wrong[0] != ("address",))


class ProbeHeader(Ruled):
    """A header of the probe's request."""

    name: str | None = None
    value: str | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        name, value = self.name or "", (self.value or "").replace("%", "%%")  # here a percent sign is no more than that
        for _, reason in header_errors({name: value}, authority=name.lower() == "host"):
            yield (), reason


class HTTPProbe(Model):
    """Ready when a GET is answered with a status from 200 to 399; over HTTPS, whatever certificate is shown."""

    path: Annotated[str, checked(uri_error)] | None = None
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

    command: Annotated[tuple[Text, ...], Field(min_length=1)]


class GRPCProbe(Model):
    """Ready when the gRPC health service says SERVING."""

    port: PortNumber | None = None
    service: str | None = None


class ReadinessProbe(Ruled):
    """How to find out whether a workload is ready; times in seconds.

    Absent or 0 is: no delay, 1 s for an answer, every 10 s, and one probe is enough to be ready or not.
    """

    initial_delay_seconds: NonNegative | None = None
    timeout_seconds: NonNegative | None = None
    period_seconds: NonNegative | None = None
    success_threshold: NonNegative | None = None
    failure_threshold: NonNegative | None = None
    http_get: HTTPProbe | None = None
    tcp_socket: TCPProbe | None = None
    exec: ExecProbe | None = None
    grpc: Annotated[GRPCProbe | None, NotYet("probes by gRPC")] = None

    def broken_rules(self) -> Iterator[Wrong]:
        methods = {"httpGet": self.http_get, "tcpSocket": self.tcp_socket, "exec": self.exec, "grpc": self.grpc}
        given = [name for name, method in methods.items() if method is not None]
        if len(given) != 1:
            yield (
                (),
                f"probes in one way; give one of {', '.join(methods)}" + (f", not {' and '.join(given)}" * bool(given)),
            )


class WorkloadGroup(Model):
    """Workloads of one sort, each of which becomes a WorkloadEntry once it is up."""

    metadata: EntryMetadata | None = None
    template: EntryTemplate
    probe: ReadinessProbe | None = None
