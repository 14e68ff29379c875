"""Kubernetes' Service, Endpoints and EndpointSlice: services and where their endpoints are.

Source: the Kubernetes API reference, core/v1 and discovery.k8s.io/v1. Unlike Istio's kinds, these take
a null for an absent field. Fields that steer kube-proxy, load balancers of clouds or the choice of
cluster IPs are accepted: they have no say in what a proxy sends where.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator

from .model import Model, NotYet, Ruled, Wrong, none_of, raise_wrongs
from .types import FQDN, Bool, Int, IPAddress, Labels, PortNumber, PortOrName, Text

PortProtocol = Literal["TCP", "UDP", "SCTP"]


class KubernetesServicePort(Model):
    """A port of a Service. `target_port` is the pods' port, by number or by name; `port` unless given."""

    name: str | None = None
    port: PortNumber
    protocol: PortProtocol = "TCP"
    target_port: PortOrName | None = None
    node_port: Annotated[int, Field(strict=True, ge=0, le=65535)] | None = None
    app_protocol: str | None = None


class ClientIPConfig(Model):
    """For how long a client stays with its endpoint."""

    timeout_seconds: Int | None = None


class SessionAffinityConfig(Model):
    """Settings of session affinity."""

    client_ip: ClientIPConfig | None = Field(None, alias="clientIP")


class Service(Ruled):
    """A service: a name, its ports, and the labels of the pods behind it."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ip: str | None = Field(None, alias="clusterIP")
    cluster_ips: tuple[str, ...] = Field((), alias="clusterIPs")
    external_name: FQDN | None = None
    ports: tuple[KubernetesServicePort, ...] = ()
    selector: Labels = Field(default_factory=dict)
    publish_not_ready_addresses: Bool = False
    session_affinity: Annotated[
        Literal["None", "ClientIP"] | None, NotYet("session affinity; use None", none_of("ClientIP"))
    ] = None
    session_affinity_config: Annotated[SessionAffinityConfig | None, NotYet("session affinity")] = None
    internal_traffic_policy: Annotated[
        Literal["Cluster", "Local"] | None,
        NotYet("endpoints of one node only; use Cluster", none_of("Local")),
    ] = None
    traffic_distribution: Annotated[str | None, NotYet("balancing by locality")] = None
    external_traffic_policy: Literal["Cluster", "Local"] | None = None
    external_ips: tuple[str, ...] = Field((), alias="externalIPs")
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    health_check_node_port: Int | None = None
    allocate_load_balancer_node_ports: Bool | None = None
    load_balancer_class: str | None = None
    load_balancer_ip: str | None = Field(None, alias="loadBalancerIP")
    load_balancer_source_ranges: tuple[str, ...] = ()

    @field_validator("ports")
    @classmethod
    def _ports_apart(cls, ports: tuple[KubernetesServicePort, ...]) -> tuple[KubernetesServicePort, ...]:
        raise_wrongs("ports", _port_errors(ports))
        return ports

    def broken_rules(self) -> Iterator[Wrong]:
        if self.type == "ExternalName" and not self.external_name:
            yield ("externalName",), "is required by type: ExternalName"
        if self.type != "ExternalName" and not self.ports and self.cluster_ip != "None":
            yield ("ports",), "is required, except by headless services and type: ExternalName"


def _port_errors(ports: tuple[KubernetesServicePort, ...]) -> Iterator[Wrong]:
    for index, port in enumerate(ports):
        earlier = ports[:index]
        if len(ports) > 1 and not port.name:
            yield (index, "name"), "is required when a Service has several ports"
        elif port.name and port.name in [other.name for other in earlier]:
            yield (index, "name"), f"{port.name!r} is already the name of another port; names are unique here"
        if (port.port, port.protocol) in [(other.port, other.protocol) for other in earlier]:
            yield (index, "port"), f"port {port.port} is already in the list for {port.protocol}; keep one"


class ObjectReference(Model):
    """The object behind an address, a pod as a rule."""

    api_version: str | None = None
    field_path: str | None = None
    kind: str | None = None
    name: str | None = None
    namespace: str | None = None
    resource_version: str | None = None
    uid: str | None = None


class EndpointAddress(Model):
    """An endpoint's address."""

    ip: IPAddress
    hostname: str | None = None
    node_name: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Model):
    """A port of endpoints. Its name is that of the Service's port."""

    name: str | None = None
    port: PortNumber
    protocol: PortProtocol = "TCP"
    app_protocol: str | None = None


class EndpointSubset(Model):
    """Addresses that share their ports; each address serves every port."""

    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Model):
    """The endpoints of the Service of the same name."""

    subsets: tuple[EndpointSubset, ...] = ()


class EndpointConditions(Model):
    """An endpoint's state; unknown counts as ready."""

    ready: Bool | None = None
    serving: Bool | None = None
    terminating: Bool | None = None


class ForZone(Model):
    """A zone that should use an endpoint."""

    name: Text


class ForNode(Model):
    """A node that should use an endpoint."""

    name: Text


class EndpointHints(Model):
    """Who should use an endpoint; for kube-proxy."""

    for_zones: tuple[ForZone, ...] = ()
    for_nodes: tuple[ForNode, ...] = ()


class Endpoint(Model):
    """An endpoint; of several addresses, all lead to the same one."""

    addresses: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]
    conditions: EndpointConditions = Field(default_factory=EndpointConditions)
    hostname: str | None = None
    target_ref: ObjectReference | None = None
    deprecated_topology: dict[str, str] = Field(default_factory=dict)
    node_name: str | None = None
    zone: str | None = None
    hints: EndpointHints | None = None


class EndpointSlicePort(Model):
    """A port of all endpoints in the slice; without a number, every port of theirs."""

    name: str | None = None
    port: PortNumber | None = None
    protocol: PortProtocol = "TCP"
    app_protocol: str | None = None


class EndpointSlice(Model):
    """Some of a Service's endpoints; the label `kubernetes.io/service-name` tells of which."""

    address_type: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: Annotated[tuple[Endpoint, ...], Field(max_length=1000)] = ()
    ports: tuple[EndpointSlicePort, ...] = ()
