"""TLS to upstreams: what a DestinationRule's `tls` makes of a cluster, and the key material that it takes.

Sources: Istio's `buildUpstreamTLSSettings`, `buildUpstreamClusterTLSContext` and `setAutoSniAndAutoSanValidation`
(cluster_tls.go). From there:

- Endpoints are asked for the server that the settings name, or that the request's authority names if they name none.
  In the latter case their certificates must have that very name, unless the settings list the names that will do.
- The names that a ServiceEntry lists for its endpoints hold where the settings list none, and besides the authority's.
- ISTIO_MUTUAL shows the workload's own certificate, and believes those of the mesh. The server is then the cluster, and
  the names are the service accounts of the endpoints, where they are known.
- Without authorities, those of the machine are believed (`file-root:system`).
- A sidecar is given the Secret of a `credentialName` only by a rule for workloads that it selects. Istio's then speaks
  plain text; here it speaks to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from ..resources import ClientTLSSettings
from ..snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    CertificateValidationContext,
    Cluster,
    CommonTlsContext,
    Endpoint,
    Exact,
    FileSource,
    HealthCheck,
    HttpProbe,
    Origin,
    Secret,
    SystemRoots,
    TlsCertificate,
    TrustedCa,
    UpstreamTlsContext,
)
from .credentials import CA_SUFFIX, Credentials, NoCredential
from .destination_rules import PlacedTls
from .mutual_tls import Trust
from .registry import Service

ISTIO_ALPN = ("istio-http/1.1", "istio", "http/1.1")
"""By these a sidecar tells a connection of the mesh that brings HTTP/1.1 (Istio's `istio.alpn` filter)."""

SYSTEM_ROOTS = "file-root:system"

OWN = Trust()
"""The identities that are the mesh's where nobody says otherwise."""


class UpstreamTls(NamedTuple):
    """How connections to a cluster are secured, and the secrets that this refers to."""

    context: UpstreamTlsContext
    secrets: tuple[Secret, ...] = ()


def upstream_tls(
    placed: PlacedTls | None,
    service: Service,
    port: int,
    subset: str = "",
    trust: Trust = OWN,
    credentials: Credentials | None = None,
) -> UpstreamTls | None:
    """What secures connections to a port of a service, or of one of its subsets; None where nothing does.

    `trust` is whose identities are the mesh's, `credentials` are the Secrets that the proxy is given. Another is
    referred to all the same: without it there are no connections.
    """
    settings = placed.settings if placed is not None else ClientTLSSettings()
    mode = settings.mode or "DISABLE"
    if placed is None or mode == "DISABLE":
        return None
    if mode == "ISTIO_MUTUAL":
        names = settings.subject_alt_names or expected_names(service, trust)
        context = istio_mutual(service, port, subset, names, settings.sni or "", trust)
        return UpstreamTls(context)  # whoever shows an identity has the secrets for it
    certificates, roots = _references(settings, credentials)
    names = settings.subject_alt_names
    if not names and not service.kubernetes:
        names = expected_names(service, trust)
    common = CommonTlsContext(
        tls_certificates=tuple(named.name for named in certificates),
        validation_context=_validation(roots, names),
    )
    context = UpstreamTlsContext(
        common,
        sni=settings.sni or "",
        auto_host_sni=not settings.sni,
        auto_sni_san_validation=not (settings.sni or settings.subject_alt_names or settings.insecure_skip_verify),
    )
    return UpstreamTls(context, key_material(settings, credentials, placed.origin))


def key_material(settings: ClientTLSSettings, credentials: Credentials | None, origin: Origin) -> tuple[Secret, ...]:
    """The key material that settings refer to, as far as a proxy with these credentials has it."""
    certificates, roots = _references(settings, credentials)
    given = (secret for _, secret in (*certificates, *roots) if secret is not None)
    return tuple(replace(one, origin=one.origin or origin) for one in given)


def istio_mutual(
    service: Service, port: int, subset: str, names: Iterable[str], sni: str = "", trust: Trust = OWN
) -> UpstreamTlsContext:
    """Mutual TLS of the mesh with endpoints whose certificates have one of these names, or, without any, an identity in
    the mesh."""
    common = CommonTlsContext(
        tls_certificates=(WORKLOAD_CERTIFICATE,),
        validation_context=CertificateValidationContext(
            WORKLOAD_ROOTS, tuple(map(Exact, names)), trust_domains=trust.domains
        ),
        alpn_protocols=ISTIO_ALPN,
    )
    return UpstreamTlsContext(common, sni=sni or f"outbound_.{port}_.{subset}_.{service.hostname}")


def expected_names(service: Service, trust: Trust = OWN) -> tuple[str, ...]:
    """The names that its endpoints' certificates may have, as far as somebody has said: the ones that it lists, and the
    identities of its workloads."""
    accounts = {one.service_account for endpoints in service.endpoints.values() for one in endpoints} - {""}
    identities = (identity for account in accounts for identity in trust.ids(account))
    return tuple(sorted({*service.subject_alt_names, *identities}))


def secured(cluster: Cluster, context: UpstreamTlsContext | None) -> Cluster:
    """A cluster whose connections are secured; also those by which an endpoint is probed where it serves."""
    if context is None:
        return cluster
    endpoints = tuple(replace(one, health_check=_probed(one, context)) for one in cluster.endpoints)
    return replace(cluster, endpoints=endpoints, tls=context)


def secured_where_known(cluster: Cluster, context: UpstreamTlsContext | None) -> Cluster:
    """A cluster whose connections are secured to those of its endpoints that are known to take mutual TLS."""
    if context is None:
        return cluster
    if cluster.type == "DYNAMIC_FORWARD_PROXY":  # which knows of no endpoint
        return replace(cluster, tls=context)
    endpoints = tuple(
        replace(one, health_check=_probed(one, context)) if one.tls_mode == "istio" else one
        for one in cluster.endpoints
    )
    return replace(cluster, endpoints=endpoints, auto_tls=context)


def _probed(endpoint: Endpoint, context: UpstreamTlsContext) -> HealthCheck | None:
    check = endpoint.health_check
    if check is None or not isinstance(check.probe, HttpProbe) or check.probe.address != endpoint.address:
        return check
    return replace(check, probe=replace(check.probe, tls=check.probe.tls or context))


class _Named(NamedTuple):
    """A secret's name, and the secret if the proxy is given it."""

    name: str
    secret: Secret | None


def _references(settings: ClientTLSSettings, credentials: Credentials | None) -> tuple[list[_Named], list[_Named]]:
    """The certificate to show and the authorities to trust: at most one each."""
    shown = [_certificate(settings, credentials)] if settings.mode == "MUTUAL" else []
    verified = settings.mode in ("SIMPLE", "MUTUAL") and not settings.insecure_skip_verify
    return shown, [_roots(settings, credentials)] if verified else []


def _certificate(settings: ClientTLSSettings, credentials: Credentials | None) -> _Named:
    if settings.credential_name:
        return _given(settings.credential_name, credentials.certificate if credentials is not None else None)
    chain, key = settings.client_certificate or "", settings.private_key or ""
    name = f"file-cert:{chain}~{key}"
    return _Named(name, Secret(name, TlsCertificate(FileSource(chain), FileSource(key))))


def _roots(settings: ClientTLSSettings, credentials: Credentials | None) -> _Named:
    if settings.credential_name:
        named = _given(settings.credential_name, credentials.authorities if credentials is not None else None)
        return named if named.secret is not None else _Named(f"{named.name}{CA_SUFFIX}", None)
    path, crl = settings.ca_certificates, settings.ca_crl
    source = TrustedCa(FileSource(path) if path else SystemRoots(), FileSource(crl) if crl else None)
    name = (f"file-root:{path}" if path else SYSTEM_ROOTS) + (f"~{crl}" if crl else "")
    return _Named(name, Secret(name, source))


def _given(credential: str, find: Callable[[str], Secret] | None) -> _Named:
    try:
        if find is not None:
            secret = find(credential)
            return _Named(secret.name, secret)
    except NoCredential:  # `check` tells
        pass
    return _Named(f"kubernetes://{credential}", None)


def _validation(roots: Iterable[_Named], names: Iterable[str]) -> CertificateValidationContext | None:
    return next((CertificateValidationContext(one.name, tuple(map(Exact, names))) for one in roots), None)
