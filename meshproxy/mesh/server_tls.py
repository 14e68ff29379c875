"""TLS at a gateway's servers: what their `tls` makes of a filter chain, and the key material that it takes.

Source: Istio's `BuildListenerTLSContext` (pilot/pkg/networking/core/listener.go), and from there
`ApplyCredentialSDSToServerCommonTLSContext` and `ApplyToCommonTLSContext`. Two differences, both stricter: what
`verifyCertificateSpki` and `verifyCertificateHash` list holds for files too, and a client of mode ISTIO_MUTUAL is a
workload of the mesh.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, get_args

from ..resources import ServerTLSSettings
from ..snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    Exact,
    FileSource,
    Origin,
    Secret,
    TlsCertificate,
    TlsVersion,
    TrustedCa,
    WorkloadCertificate,
    WorkloadRoots,
)
from .credentials import CA_SUFFIX, Credentials, NoCredential
from .mutual_tls import Trust

ALPN_PROTOCOLS = ("http/1.1",)
"""What servers speak; Istio's, HTTP/2 too."""

VERIFYING_MODES = ("MUTUAL", "OPTIONAL_MUTUAL", "ISTIO_MUTUAL")

_VERSIONS: tuple[TlsVersion, ...] = get_args(TlsVersion)


class MissingMaterial(NamedTuple):
    """Key material that is not there: at which field it is named, and why it is not."""

    field: tuple[str | int, ...]
    why: str


class ServerTls(NamedTuple):
    """How a server's connections are secured, the secrets that this refers to, and what there is none of."""

    context: DownstreamTlsContext
    secrets: tuple[Secret, ...]
    missing: tuple[MissingMaterial, ...] = ()


def server_tls(
    settings: ServerTLSSettings, credentials: Credentials, trust: Trust, origin: Origin | None = None
) -> ServerTls:
    """What secures the connections to a server where TLS ends; `origin` is where its settings are written."""
    missing: list[MissingMaterial] = []
    certificates = [*_certificates(settings, credentials, origin, missing)]
    trusted = _trusted(settings, credentials, origin, missing) if settings.mode in VERIFYING_MODES else None
    names = [settings_name for settings_name, _ in certificates]
    validation = None
    if settings.mode in VERIFYING_MODES:
        validation = CertificateValidationContext(
            trusted[0] if trusted is not None else None,
            tuple(map(Exact, settings.subject_alt_names)),
            settings.verify_certificate_spki,
            settings.verify_certificate_hash,
            trust.domains if settings.mode == "ISTIO_MUTUAL" else (),
        )
    oldest, newest = (None if one == "TLS_AUTO" else _version(one) for one in settings.versions)
    common = CommonTlsContext(
        tuple(names),
        validation,
        oldest or min("TLSv1_2", newest or "TLSv1_2"),
        newest or "TLSv1_3",
        tuple(dict.fromkeys(settings.cipher_suites)),
        ALPN_PROTOCOLS,
    )
    found = [secret for _, secret in (*certificates, *([trusted] if trusted is not None else [])) if secret is not None]
    context = DownstreamTlsContext(common, settings.mode in ("MUTUAL", "ISTIO_MUTUAL"))
    return ServerTls(context, tuple(found), tuple(missing))


_Named = tuple[str, Secret | None]
"""A secret's name, and the secret if there is one."""


def _version(written: str) -> TlsVersion:
    """`TLSV1_2` is `TLSv1_2`."""
    return _VERSIONS[[one.upper() for one in _VERSIONS].index(written)]


def _certificates(
    settings: ServerTLSSettings, credentials: Credentials, origin: Origin | None, missing: list[MissingMaterial]
) -> Iterator[_Named]:
    if settings.mode == "ISTIO_MUTUAL":
        yield WORKLOAD_CERTIFICATE, Secret(WORKLOAD_CERTIFICATE, WorkloadCertificate())
        return
    named: list[tuple[tuple[str | int, ...], str]] = [
        (("credentialNames", place), name) for place, name in enumerate(settings.credential_names)
    ]
    if settings.credential_name:
        named.append((("credentialName",), settings.credential_name))
    for field, name in named:
        try:
            secret = credentials.certificate(name)
            yield secret.name, secret
        except NoCredential as error:
            missing.append(MissingMaterial(field, str(error)))
            yield name, None
    files = [(one.server_certificate, one.private_key) for one in settings.tls_certificates]
    files.append((settings.server_certificate, settings.private_key))
    for chain, key in files:
        if chain and key and not named:
            made = f"file-cert:{chain}~{key}"
            yield made, Secret(made, TlsCertificate(FileSource(chain), FileSource(key)), origin)


def _trusted(
    settings: ServerTLSSettings, credentials: Credentials, origin: Origin | None, missing: list[MissingMaterial]
) -> _Named | None:
    if settings.mode == "ISTIO_MUTUAL":
        return WORKLOAD_ROOTS, Secret(WORKLOAD_ROOTS, WorkloadRoots())
    # With several, the authorities of the first are those of all.
    first = settings.credential_names[0] if settings.credential_names else settings.credential_name
    credential = settings.ca_cert_credential_name or first
    if credential:
        field = "caCertCredentialName" if settings.ca_cert_credential_name else "credentialName"
        field = field if settings.ca_cert_credential_name or settings.credential_name else "credentialNames"
        try:
            secret = credentials.authorities(credential)
            return secret.name, secret
        except NoCredential as error:
            missing.append(MissingMaterial((field,), str(error)))
            return f"{credential.removesuffix(CA_SUFFIX)}{CA_SUFFIX}", None
    path, crl = settings.ca_certificates or "", settings.ca_crl
    source = TrustedCa(FileSource(path), None if crl is None else FileSource(crl))
    made = f"file-root:{path}" + (f"~{crl}" if crl else "")
    return made, Secret(made, source, origin)
