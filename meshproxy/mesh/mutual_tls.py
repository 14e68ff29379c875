"""Mutual TLS of the mesh: which identities count, and what a sidecar's inbound listener takes.

Sources: Istio's `getFilterChainMatchOptions`, `BuildInboundTLS` and `buildSidecarInboundHTTPOpts`, for ports that speak
HTTP, which all of ours do. STRICT has a filter chain for TLS alone: whoever speaks plain HTTP finds none, and the
connection is closed. PERMISSIVE has one for TLS from the mesh, which is known by what the client offers in ALPN, and
one for plain HTTP. Only what came with a certificate has an entry in x-forwarded-client-cert.

Differences from Istio, on purpose:

1. A proxy that was given no CA has no identity. It takes plain HTTP where the mode is PERMISSIVE; where that is STRICT,
   it needs an identity all the same, and does not start without one.
2. With DISABLE there is no look at what comes first: TLS is answered with 400, where Istio closes the connection.
3. The client's identity has to be one of the trust domain or its aliases, also where there are no aliases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    CertificateValidationContext,
    ClientCertDetails,
    CommonTlsContext,
    DownstreamTlsContext,
    FilterChain,
    FilterChainMatch,
    HttpConnectionManager,
    Origin,
    Secret,
    Snapshot,
    WorkloadCertificate,
    WorkloadRoots,
)
from .names import TRUST_DOMAIN, spiffe_id
from .peer_authentication import Mode

WORKLOAD_SECRETS = (
    Secret(WORKLOAD_CERTIFICATE, WorkloadCertificate()),
    Secret(WORKLOAD_ROOTS, WorkloadRoots()),
)

MESH_ALPN = ("istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2")
"""What the mesh's clients offer, of which one is enough; no other client does."""

CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose identities are the mesh's: those of the trust domain `domain`, or of `aliases`, its other names."""

    domain: str = TRUST_DOMAIN
    aliases: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """The trust domain, and its other names."""
        return (self.domain, *self.aliases)

    def ids(self, service_account: str) -> tuple[str, ...]:
        """The identities that the workloads of a service account, `NAMESPACE/ACCOUNT`, may have."""
        return tuple(spiffe_id(service_account, domain) for domain in self.domains)


def inbound_chains(
    mode: Mode, http: HttpConnectionManager, trust: Trust | None, origin: Origin | None = None
) -> tuple[FilterChain, ...]:
    """The filter chains of a sidecar's inbound listener. `origin` is where the mode is written."""
    if mode == "DISABLE" or (mode == "PERMISSIVE" and trust is None):
        return (FilterChain(http),)
    secured = replace(
        http,
        forward_client_cert="APPEND_FORWARD",
        client_cert_details=ClientCertDetails(subject=True, uri=True, dns=True),
    )
    tls = inbound_tls(trust or Trust())
    if mode == "STRICT":
        return (FilterChain(secured, FilterChainMatch(transport_protocol="tls"), tls, "mtls", origin),)
    from_mesh = FilterChainMatch(transport_protocol="tls", application_protocols=MESH_ALPN)
    return (
        FilterChain(secured, from_mesh, tls, "mtls", origin),
        FilterChain(http, FilterChainMatch(transport_protocol="raw_buffer"), name="plain", origin=origin),
    )


def inbound_tls(trust: Trust) -> DownstreamTlsContext:
    """How a workload speaks TLS with clients of the mesh, who have to show a certificate."""
    common = CommonTlsContext(
        tls_certificates=(WORKLOAD_CERTIFICATE,),
        validation_context=CertificateValidationContext(WORKLOAD_ROOTS, trust_domains=trust.domains),
        cipher_suites=CIPHER_SUITES,
        alpn_protocols=("http/1.1",),
    )
    return DownstreamTlsContext(common, require_client_certificate=True)


def needs_of_identity(snapshot: Snapshot) -> Iterator[str]:
    """What of a snapshot cannot be without the workload's own identity, and where it is written."""
    for listener in snapshot.listeners:
        for chain in listener.filter_chains:
            if chain.tls is not None and _shows_identity(chain.tls.common):
                yield f"the listener {listener.name} takes mutual TLS alone{_by(chain.origin)}"
    for cluster in snapshot.clusters:
        tls = cluster.auto_tls or cluster.tls
        if tls is not None and _shows_identity(tls.common):
            why = (
                "takes mutual TLS alone (PeerAuthentication, STRICT)"
                if cluster.auto_tls
                else "is called by ISTIO_MUTUAL"
            )
            yield f"{cluster.name} {why}{_by(cluster.origin)}"


def _shows_identity(tls: CommonTlsContext) -> bool:
    return WORKLOAD_CERTIFICATE in tls.tls_certificates


def _by(origin: Origin | None) -> str:
    return "" if origin is None else f", by {origin}"


def with_identity(snapshot: Snapshot) -> Snapshot:
    """The snapshot with secrets for the workload's own identity, if anything of it refers to them."""
    if not any(True for _ in needs_of_identity(snapshot)):
        return snapshot
    own = {secret.name: secret for secret in WORKLOAD_SECRETS}
    return replace(snapshot, secrets=tuple(({one.name: one for one in snapshot.secrets} | own).values()))
