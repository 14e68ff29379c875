"""Gateway: on which ports a gateway listens, and for which hosts.

Source: Istio's `networking/v1alpha3/gateway.proto`, and the admission webhook's rules.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from string import hexdigits
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
TLS_VERSIONS: tuple[TLSProtocol, ...] = ("TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3")

CIPHER_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
)
"""Those that Istio lets a Gateway name, but for DES-CBC3-SHA, which OpenSSL has given up."""

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
        NotYet("listeners of other protocols; use HTTP or HTTPS", one_of("HTTP", "HTTPS")),
    ]
    name: Text
    target_port: Annotated[int | None, Field(strict=True), Refused("Istio has no use for targetPort in a Gateway")] = (
        None
    )


class TLSCertificate(Model):
    """A certificate, its key, and the CAs to check clients by; all are paths of files."""

    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: Annotated[
        str | None, Refused("Istio checks clients by the caCertificates beside tlsCertificates alone")
    ] = None


def _cipher_suite_error(name: str) -> str | None:
    if name in CIPHER_SUITES:
        return None
    return f"{name!r} is no cipher suite that is spoken; use some of {', '.join(CIPHER_SUITES)}"


def _spki_error(text: str) -> str | None:
    try:
        if len(base64.b64decode(text, validate=True)) == 32:
            return None
    except ValueError:
        pass
    return f"{text!r} is no SHA-256 sum of a public key in base64, such as openssl dgst -sha256 -binary | base64 writes"


def _hash_error(text: str) -> str | None:
    digits = text.replace(":", "")
    if len(digits) == 64 and all(digit in hexdigits for digit in digits):
        return None
    return f"{text!r} is no SHA-256 sum of a certificate in hexadecimal digits"


class ServerTLSSettings(Ruled):
    """TLS towards the clients."""

    https_redirect: Bool = False
    mode: Annotated[
        ServerTLSMode | None,
        NotYet("passing TLS on to servers; use SIMPLE", none_of("PASSTHROUGH", "AUTO_PASSTHROUGH")),
    ] = None
    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    ca_crl: str | None = None
    credential_name: str | None = None
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str | None = None
    tls_certificates: tuple[TLSCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[Annotated[str, checked(_spki_error)], ...] = ()
    verify_certificate_hash: tuple[Annotated[str, checked(_hash_error)], ...] = ()
    min_protocol_version: TLSProtocol | None = None
    max_protocol_version: TLSProtocol | None = None
    cipher_suites: tuple[Annotated[str, checked(_cipher_suite_error)], ...] = ()
    insecure_skip_verify: Annotated[
        Bool | None,
        Refused(
            "certificates that clients are asked for are verified; use mode: SIMPLE to ask for none", one_of(False)
        ),
    ] = None

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
        yield from self._broken_files()
        yield from self._idle_settings()
        versions = [TLS_VERSIONS.index(one) for one in self.versions if one != "TLS_AUTO"]
        if len(versions) == 2 and versions[0] > versions[1]:
            yield ("maxProtocolVersion",), f"is older than minProtocolVersion: {self.min_protocol_version}"

    @property
    def versions(self) -> tuple[TLSProtocol, TLSProtocol]:
        """The oldest and the newest version that are spoken."""
        return self.min_protocol_version or "TLS_AUTO", self.max_protocol_version or "TLS_AUTO"

    def _broken_files(self) -> Iterator[Wrong]:
        if self.server_certificate and not self.private_key:
            yield ("privateKey",), "is required beside serverCertificate"
        if self.private_key and not self.server_certificate:
            yield ("serverCertificate",), "is required beside privateKey"
        for place, one in enumerate(self.tls_certificates):
            if not one.server_certificate:
                yield ("tlsCertificates", place, "serverCertificate"), "is required"
            if not one.private_key:
                yield ("tlsCertificates", place, "privateKey"), "is required"
        if self.ca_crl and (self.credential_name or self.credential_names):
            yield ("caCrl",), "goes into the Secret beside its certificates, as ca.crl"
        if self.mode == "ISTIO_MUTUAL" and self.ca_crl:
            yield ("caCrl",), "has no place in mode: ISTIO_MUTUAL, where the mesh's CA says what is revoked"
        if self.mode == "ISTIO_MUTUAL" and self.ca_certificates:
            yield ("caCertificates",), "has no place in mode: ISTIO_MUTUAL, which believes the mesh's CA"

    def _idle_settings(self) -> Iterator[Wrong]:
        """What says how clients are verified, where they are asked for no certificate."""
        if self.mode != "SIMPLE":
            return
        settings = {
            "caCertificates": self.ca_certificates,
            "caCrl": self.ca_crl,
            "caCertCredentialName": self.ca_cert_credential_name,
            "subjectAltNames": self.subject_alt_names,
            "verifyCertificateSpki": self.verify_certificate_spki,
            "verifyCertificateHash": self.verify_certificate_hash,
        }
        for name, value in settings.items():
            if value:
                yield (name,), "has no effect in mode: SIMPLE, which asks clients for no certificate; use MUTUAL"


class Server(Ruled):
    """A port, and the hosts that are served there."""

    port: Port
    bind: Annotated[str, checked(_bind_error)] | None = None
    hosts: Annotated[tuple[Annotated[str, checked(_server_host_error)], ...], Field(min_length=1)]
    tls: ServerTLSSettings | None = None
    default_endpoint: Annotated[str | None, Refused("Istio gives defaultEndpoint no effect in a Gateway")] = None
    name: str | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        unix = self.bind is not None and self.bind.startswith(UNIX_PREFIX)
        if unix and self.port.number:
            yield ("port", "number"), "a unix domain socket has no port; give 0"
        if not unix and not self.port.number:
            yield ("port", "number"), "port 0 is out of range; ports are 1 to 65535"
        is_secured = self.port.protocol.upper() in ("HTTPS", "TLS")
        if is_secured and self.tls is None:
            yield ("tls",), f"is required by protocol {self.port.protocol}"
        if is_secured and self.tls is not None and self.tls.mode is None:
            why = "is required: without it, TLS is passed on to servers (PASSTHROUGH), which is not supported yet"
            yield ("tls", "mode"), f"{why}; give SIMPLE"
        if not is_secured and self.tls is not None:
            others = sorted(self.tls.model_fields_set - {"https_redirect"})
            if others:
                yield ("tls",), f"has no effect for protocol {self.port.protocol}, but for httpsRedirect; use HTTPS"


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
