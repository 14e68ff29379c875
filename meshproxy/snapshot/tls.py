"""Transport Layer Security: key material, and how a connection is secured by it.

Source: Envoy's `extensions.transport_sockets.tls.v3`. What differs is that all key material has one place, the
snapshot's secrets, which contexts refer to by name as with Envoy's SDS: it changes while the proxy runs, and the
contexts do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .values import Origin, ValueMatcher


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file, which is read again when it has changed."""

    path: str


@dataclass(frozen=True, slots=True)
class InlineSource:
    """The text itself. `name` is what it is called where it was written, such as `tls.key`."""

    name: str
    text: str = field(repr=False, metadata={"secret": True})


DataSource = FileSource | InlineSource


@dataclass(frozen=True, slots=True)
class TlsCertificate:
    """A certificate with those of its issuers, leaf first, and its private key; both in PEM."""

    certificate_chain: DataSource
    private_key: DataSource


@dataclass(frozen=True, slots=True)
class SystemRoots:
    """The authorities that the machine trusts, by its operating system."""


@dataclass(frozen=True, slots=True)
class TrustedCa:
    """The authorities whose certificates are believed, and the lists of those that they have revoked; all in PEM."""

    trusted_ca: DataSource | SystemRoots
    crl: DataSource | None = None


@dataclass(frozen=True, slots=True)
class WorkloadCertificate:
    """The workload's own certificate, from the CA of the mesh."""


@dataclass(frozen=True, slots=True)
class WorkloadRoots:
    """The roots that the CA of the mesh has the workload trust."""


SecretSource = TlsCertificate | TrustedCa | WorkloadCertificate | WorkloadRoots

WORKLOAD_CERTIFICATE = "default"
WORKLOAD_ROOTS = "ROOTCA"
"""What Istio calls the secrets of the workload's own identity."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where the key material called `name` comes from."""

    name: str
    source: SecretSource
    origin: Origin | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class CertificateValidationContext:
    """What a peer's certificate must be like; each condition that is given must hold.

    It is issued by one of the secret `trusted_ca`'s authorities, and not revoked. One of its alternative names (DNS
    name, URI, IP address or email address) meets one of `match_subject_alt_names`; its public key has one of the
    SHA-256 sums `verify_certificate_spki` (base64 of the sum of its `SubjectPublicKeyInfo`), or it has itself one of
    `verify_certificate_hash` (hexadecimal): of these two lists, one that holds is enough.

    With `trust_domains` it is the certificate of a workload, a SPIFFE ID in one of these domains (X509-SVID).
    """

    trusted_ca: str | None = None
    match_subject_alt_names: tuple[ValueMatcher, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    trust_domains: tuple[str, ...] = ()


TlsVersion = Literal["TLSv1_0", "TLSv1_1", "TLSv1_2", "TLSv1_3"]


@dataclass(frozen=True, slots=True)
class CommonTlsContext:
    """What both sides of a connection say: the secrets of their certificates, of which the one that suits the peer is
    shown, and what they ask of the peer's. Without a `validation_context` nothing is asked.

    `cipher_suites` are those of TLS 1.2 and older, by OpenSSL's names, the preferred ones first; none are the default
    ones. `alpn_protocols`, too, are in the order of preference.
    """

    tls_certificates: tuple[str, ...] = ()
    validation_context: CertificateValidationContext | None = None
    minimum_version: TlsVersion = "TLSv1_2"
    maximum_version: TlsVersion = "TLSv1_3"
    cipher_suites: tuple[str, ...] = ()
    alpn_protocols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DownstreamTlsContext:
    """TLS with clients. A client that shows a certificate shows a valid one, where there is a validation context; with
    `require_client_certificate` each has to show one."""

    common: CommonTlsContext
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamTlsContext:
    """TLS with endpoints, which are asked for the server `sni`, or, with `auto_host_sni`, for the one that the
    request's authority names. With `auto_sni_san_validation`, that is one of the names in the endpoint's certificate.
    """

    common: CommonTlsContext
    sni: str = ""
    auto_host_sni: bool = False
    auto_sni_san_validation: bool = False
