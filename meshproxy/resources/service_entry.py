"""ServiceEntry and WorkloadEntry: services and workloads that no cluster knows of.

Source: Istio's `networking/v1alpha3/service_entry.proto` and `workload_entry.proto`, and the
admission webhook's rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from .gateway import OTHER_PROTOCOLS, Protocol
from .model import Model, NotYet, Ruled, Wrong, none_of, raise_wrongs
from .types import (
    UNIX_PREFIX,
    DNSLabel,
    Labels,
    PortNumber,
    Selector,
    ServiceExportTo,
    Subnet,
    Text,
    UInt,
    checked,
    fqdn_error,
    is_dns_label,
    is_ip_address,
    unix_path_error,
    wildcard_host_error,
)

Location = Literal["MESH_EXTERNAL", "MESH_INTERNAL"]
Resolution = Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"]


def _host_error(host: str) -> str | None:
    if host == "*":
        return "'*' cannot be a service; give a host name, or a wildcard such as *.example.com"
    return wildcard_host_error(host)


def _address_error(address: str) -> str | None:
    if address.startswith(UNIX_PREFIX):
        return unix_path_error(address)
    if is_ip_address(address):
        return None
    reason = fqdn_error(address)
    return f"no address: {reason}; write an IP address, a host name or unix:///a/path" if reason else None


def _named_ports(ports: dict[str, int]) -> dict[str, int]:
    raise_wrongs(
        "ports",
        (
            ((name,), f"{name!r} is not a port's name; use letters, digits and '-'")
            for name in ports
            if not is_dns_label(name)
        ),
    )
    return ports


class WorkloadEntry(Ruled):
    """A workload: where it is, which ports it has, and its labels. In a ServiceEntry, an endpoint of it.

    `ports` gives the workload's own number of a port, by the name that the service has for it.
    """

    address: Annotated[str, checked(_address_error)] | None = None
    ports: Annotated[dict[str, PortNumber], AfterValidator(_named_ports)] = Field(default_factory=dict)
    labels: Labels = Field(default_factory=dict)
    network: str | None = None
    locality: str | None = None
    weight: UInt | None = None
    service_account: str | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if not (self.address or self.network):
            yield ("address",), "is required; give an IP address, a host name or unix:///a/path"
        if self.is_unix and self.ports:
            yield ("ports",), "a unix domain socket has no ports; remove them"

    @property
    def is_unix(self) -> bool:
        """Whether the address is a unix domain socket."""
        return self.address is not None and self.address.startswith(UNIX_PREFIX)


class WorkloadSelector(Model):
    """Workloads by their labels."""

    labels: Selector = Field(default_factory=dict)


def _none_if_empty(protocol: object) -> object:
    """In a proto, an empty string is an absent one."""
    return None if protocol == "" else protocol


class ServicePort(Model):
    """A port of the service, and the endpoints' own number for it if it is another."""

    number: PortNumber
    protocol: Annotated[
        Protocol | None,
        BeforeValidator(_none_if_empty),
        NotYet(
            "upstreams of other protocols; use HTTP, and a DestinationRule's tls where the endpoints speak HTTPS",
            none_of(*OTHER_PROTOCOLS),
        ),
    ] = None
    name: DNSLabel
    target_port: PortNumber | None = None


class ServiceEntry(Ruled):
    """A service: its hosts and ports, and how its endpoints are found."""

    hosts: Annotated[tuple[Annotated[str, checked(_host_error)], ...], Field(min_length=1, max_length=256)]
    addresses: Annotated[tuple[Subnet, ...], Field(max_length=256)] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Location | None = None
    resolution: Annotated[
        Resolution | None,
        NotYet("NONE and DYNAMIC_DNS; use STATIC, DNS or DNS_ROUND_ROBIN", none_of("NONE", "DYNAMIC_DNS")),
    ] = None
    endpoints: Annotated[tuple[WorkloadEntry, ...], Field(max_length=4096)] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: ServiceExportTo = ()
    subject_alt_names: tuple[Text, ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        if self.workload_selector is not None and "endpoints" in self.model_fields_set:
            yield ("workloadSelector",), "give one of workloadSelector and endpoints, not both"
        yield from self._port_errors()
        yield from self._endpoint_errors()
        yield from self._resolution_errors()

    def _port_errors(self) -> Iterator[Wrong]:
        for index, port in enumerate(self.ports):
            earlier = self.ports[:index]
            if port.name in [other.name for other in earlier]:
                yield (
                    ("ports", index, "name"),
                    f"{port.name!r} is already the name of another port; names are unique here",
                )
            if port.number in [other.number for other in earlier]:
                yield ("ports", index, "number"), f"port {port.number} is already in the list; keep one"
        tcp = [index for index, port in enumerate(self.ports) if (port.protocol or "").upper() not in _TELLS_HOSTS]
        if len(self.hosts) > 1 and tcp and self.resolution not in (None, "NONE"):
            message = "several hosts can only be told apart on HTTP and TLS ports; set protocol, or keep one host"
            yield ("ports", tcp[0]), message

    def _endpoint_errors(self) -> Iterator[Wrong]:
        names = [port.name for port in self.ports]
        for index, endpoint in enumerate(self.endpoints):
            for name in endpoint.ports:
                if name not in names:
                    known = f"its ports are {', '.join(names)}" if names else "it has no ports"
                    yield (
                        ("endpoints", index, "ports", name),
                        f"the service has no port of this name; {known}",
                    )
            yield from ((("endpoints", index, *path), text) for path, text in self._address_errors(endpoint))

    def _address_errors(self, endpoint: WorkloadEntry) -> Iterator[Wrong]:
        address = endpoint.address or ""
        if self.resolution == "STATIC":
            if address and not endpoint.is_unix and not is_ip_address(address):
                yield (
                    ("address",),
                    f"resolution STATIC takes IP addresses, not {address!r}; use resolution: DNS",
                )
            if endpoint.is_unix and len(self.ports) != 1:
                yield (
                    ("address",),
                    "a unix domain socket serves a service of one port; this one has " + str(len(self.ports)),
                )
        elif self.resolution in ("DNS", "DNS_ROUND_ROBIN") and endpoint.is_unix:
            yield ("address",), "a unix domain socket is not found by DNS; use resolution: STATIC"

    def _resolution_errors(self) -> Iterator[Wrong]:
        resolution = self.resolution or "NONE"
        if resolution not in ("NONE", "STATIC"):
            for index, address in enumerate(self.addresses):
                if "/" in address:
                    yield (
                        ("addresses", index),
                        f"subnets are for resolution STATIC and NONE, not {resolution}; give an IP address",
                    )
        if resolution == "NONE" and self.endpoints:
            yield (
                ("endpoints",),
                "resolution NONE, the default, has no endpoints; use STATIC, or DNS for host names",
            )
        elif self.resolution is None:
            yield (
                ("resolution",),
                "not supported yet: NONE, which absence means; give STATIC, DNS or DNS_ROUND_ROBIN",
            )
        if resolution in ("DNS", "DNS_ROUND_ROBIN") and not self.endpoints:
            for index, host in enumerate(self.hosts):
                if fqdn_error(host):
                    yield (
                        ("hosts", index),
                        f"{host!r} cannot be looked up in DNS; give endpoints, or a name without '*'",
                    )
        if resolution == "DNS_ROUND_ROBIN" and len(self.endpoints) > 1:
            yield (
                ("endpoints", 1),
                "resolution DNS_ROUND_ROBIN takes one endpoint at most; use resolution: DNS",
            )
        if resolution == "DYNAMIC_DNS":
            yield from self._dynamic_dns_errors()

    def _dynamic_dns_errors(self) -> Iterator[Wrong]:
        for index, host in enumerate(self.hosts):
            if not host.startswith("*"):
                yield ("hosts", index), "resolution DYNAMIC_DNS is for wildcard hosts; use resolution: DNS"
        for name, value in (("addresses", self.addresses), ("endpoints", self.endpoints)):
            if value:
                yield (name,), "resolution DYNAMIC_DNS finds addresses by the request's host; remove them"


# Protocols whose requests or handshakes name the host.
_TELLS_HOSTS = frozenset(("HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY", "HTTPS", "TLS"))
