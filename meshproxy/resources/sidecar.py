"""Sidecar: what the proxy beside a workload listens for, and which services it knows.

Source: Istio's `networking/v1alpha3/sidecar.proto`, and the validation in its CRD.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .destination_rule import ConnectionPoolSettings
from .gateway import Protocol, ServerTLSSettings
from .model import Model
from .service_entry import WorkloadSelector
from .types import UInt
from .virtual_service import Destination

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]
OutboundMode = Literal["REGISTRY_ONLY", "ALLOW_ANY"]


class SidecarPort(Model):
    """The port of a listener; 0 for a unix domain socket."""

    number: UInt | None = None
    protocol: Protocol | None = None
    name: str | None = None
    target_port: UInt | None = None


class IngressListener(Model):
    """A port for requests to the workload, and where the workload itself listens."""

    port: SidecarPort
    bind: str | None = None
    capture_mode: CaptureMode | None = None
    default_endpoint: str | None = None
    tls: ServerTLSSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None


class EgressListener(Model):
    """Services that the workload may call, as namespace/host, and the port where the proxy takes its requests."""

    port: SidecarPort | None = None
    bind: str | None = None
    capture_mode: CaptureMode | None = None
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]


class OutboundTrafficPolicy(Model):
    """What becomes of requests to hosts that no resource names."""

    mode: OutboundMode | None = None
    egress_proxy: Destination | None = None


class Sidecar(Model):
    """The listeners of the proxies beside some workloads of its namespace, or all."""

    workload_selector: WorkloadSelector | None = None
    ingress: tuple[IngressListener, ...] = ()
    egress: tuple[EgressListener, ...] = ()
    inbound_connection_pool: ConnectionPoolSettings | None = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
