"""Gateway: on which ports a gateway listens, and for which hosts.

Source: Istio's `networking/v1alpha3/gateway.proto`, and the admission webhook's rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, field_validator

from .model import Model, NotYet, Refused, Ruled, Wrong, none_of, one_of, raise_wrongs
from .types import (
    UNIX_PREFIX,
    Bool,
    Selector,
    Text,
    checked,
    is_dns_label,
    is_ip_address,
    unix_path_error,
    wildcard_host_error,
)

ServerTLSMode = Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
TLSProtocol = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]

# The names of Istio's protocols; it compares them without regard to case.
OTHER_PROTOCOLS = (
    "HTTPS",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "TLS",
    "TCP",
    "MONGO",
    "REDIS",
    "MYSQL",
    "UDP",
    "HTTP_PROXY",
)
PROTOCOLS = ("HTTP", *OTHER_PROTOCOLS)


def protocol_error(protocol: str) -> str | None:
    """Why the text names none of Istio's protocols; None when it does."""
    if protocol.upper() in PROTOCOLS:
        return None
    return f"{protocol!r} is not a protocol; use one of {', '.join(PROTOCOLS)}"


Protocol = Annotated[
    str, checked(protocol_error), WithJsonSchema({"type": "string", "description": f"One of {', '.join(PROTOCOLS)}."})
]


def _server_host_error(host: str) -> str | None:
    """A gateway's host is `dnsName` or `namespace/dnsName`; the namespace may be `*` or `.`."""
    namespace, slash, name = host.rpartition("/")
    if slash and namespace not in ("*", ".") and not is_dns_label(namespace):
        return f"{namespace!r} is no namespace; write namespace/host, ./host for its own, or */host for any"
    if is_ip_address(name) or name == "*":
        return None
    if "." not in name and not wildcard_host_error(name):
        return f"{name!r} is a short name; give the whole name, such as {name}.example.com, or '*'"
    if "*" in name and not name.startswith("*."):
        return f"{name!r} has a partial wildcard; '*' stands for whole labels, as in *.example.com"
    return wildcard_host_error(name)


def _bind_error(bind: str) -> str | None:
    if bind.startswith(UNIX_PREFIX):
        return unix_path_error(bind)
    return None if is_ip_address(bind) else f"{bind!r} is not an IP address such as 127.0.0.1, nor unix:///a/path"


class Port(Model):
    """The port a server listens on."""

    number: Annotated[int, Field(strict=True, ge=0, le=65535)]
    protocol: Annotated[
        Protocol,
        NotYet("listeners of other protocols; use HTTP", none_of(*OTHER_PROTOCOLS)),
    ]
    name: Text
    target_port: Annotated[int | None, Field(strict=True), Refused("Istio has no use for targetPort in a Gateway")] = (
        None
    )


class TLSCertificate(Model):
    """A certificate, its key, and the CAs to check clients by; all are paths of files."""

    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None


class ServerTLSSettings(Ruled):
    """TLS towards the clients."""

    https_redirect: Bool = False
    mode: ServerTLSMode | None = None
    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    ca_crl: str | None = None
    credential_name: str | None = None
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str | None = None
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TLSProtocol | None = None
    max_protocol_version: TLSProtocol | None = None
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: Bool | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        sources = {
            "serverCertificate with privateKey": self.server_certificate and self.private_key,
            "credentialName": self.credential_name,
            "credentialNames": self.credential_names,
            "tlsCertificates": self.tls_certificates,
        }
        given = [name for name, source in sources.items() if source]
        if len(given) > 1:
            yield (), f"certificates come from one source, not from {' and '.join(given)}"
        if self.mode == "ISTIO_MUTUAL" and given:
            yield (), f"mode: ISTIO_MUTUAL uses the mesh's own certificates; remove {given[0]}"
        if self.mode in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL") and not given:
            yield (
                (),
                f"mode: {self.mode} needs credentialName, or serverCertificate and privateKey",
            )
        if self.mode in ("MUTUAL", "OPTIONAL_MUTUAL") and not (
            self.ca_certificates or self.credential_name or self.credential_names
        ):
            yield (
                ("caCertificates",),
                f"is required by mode: {self.mode}, to check the clients' certificates by",
            )


class Server(Ruled):
    """A port, and the hosts that are served there."""

    port: Port
    bind: Annotated[str, checked(_bind_error)] | None = None
    hosts: Annotated[tuple[Annotated[str, checked(_server_host_error)], ...], Field(min_length=1)]
    tls: Annotated[
        ServerTLSSettings | None,
        NotYet("TLS of listeners; remove tls and use protocol HTTP", one_of({}, {"httpsRedirect": False})),
    ] = None
    default_endpoint: Annotated[str | None, Refused("Istio gives defaultEndpoint no effect in a Gateway")] = None
    name: str | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        unix = self.bind is not None and self.bind.startswith(UNIX_PREFIX)
        if unix and self.port.number:
            yield ("port", "number"), "a unix domain socket has no port; give 0"
        if not unix and not self.port.number:
            yield ("port", "number"), "port 0 is out of range; ports are 1 to 65535"
        if self.port.protocol.upper() in ("HTTPS", "TLS") and self.tls is None:
            yield ("tls",), f"is required by protocol {self.port.protocol}"


class Gateway(Model):
    """The servers of the gateway workloads that the selector picks."""

    servers: Annotated[tuple[Server, ...], Field(min_length=1)]
    selector: Selector = Field(default_factory=dict)

    @field_validator("servers")
    @classmethod
    def _port_names_apart(cls, servers: tuple[Server, ...]) -> tuple[Server, ...]:
        names = [server.port.name for server in servers]
        raise_wrongs(
            "servers",
            (
                (
                    (index, "port", "name"),
                    f"{name!r} is already the name of another server's port; names are unique here",
                )
                for index, name in enumerate(names)
                if name in names[:index]
            ),
        )
        return servers
