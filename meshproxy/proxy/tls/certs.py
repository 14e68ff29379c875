"""What the admin page `/certs` tells of key material, in the form of Envoy's `admin.v3.Certificates`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from ...identity.certificates import UNREADABLE
from ...identity.material import KeyPair, paths
from ...snapshot import TlsCertificate, TrustedCa
from .secrets import RunningSecret


def certificates_page(secrets: Iterable[RunningSecret], now: datetime | None = None) -> dict[str, Any]:
    """All certificates in use, by their secrets. `trouble` is what is wrong with what came last."""
    return {"certificates": [_secret(one, now or datetime.now(UTC)) for one in secrets]}


def _secret(secret: RunningSecret, now: datetime) -> dict[str, Any]:
    source, material = secret.config.source, secret.material
    files = paths(source) if isinstance(source, (TlsCertificate, TrustedCa)) else ()
    told: dict[str, Any] = {"name": secret.config.name, "ca_cert": [], "cert_chain": []}
    if isinstance(material, KeyPair):
        told["cert_chain"] = [_certificate(one, files, now) for one in material.chain]
    elif material is not None:
        told["ca_cert"] = [_certificate(one, files, now) for one in material.certificates]
    if secret.updated is not None:
        told["last_updated"] = _time(secret.updated)
    if secret.trouble is not None:
        told["trouble"] = secret.trouble
    return told


def _certificate(certificate: x509.Certificate, files: Iterable[str], now: datetime) -> dict[str, Any]:
    return {
        "path": next(iter(files), "<inline>"),
        "serial_number": f"{certificate.serial_number:x}",
        "subject_alt_names": [_name(one) for one in _names(certificate)],
        "days_until_expiration": str(max((certificate.not_valid_after_utc - now).days, 0)),
        "valid_from": _time(certificate.not_valid_before_utc),
        "expiration_time": _time(certificate.not_valid_after_utc),
    }


def _names(certificate: x509.Certificate) -> Iterable[x509.GeneralName]:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()


def _name(name: x509.GeneralName) -> dict[str, str]:
    match name:
        case x509.DNSName():
            return {"dns": name.value}
        case x509.UniformResourceIdentifier():
            return {"uri": name.value}
        case x509.IPAddress():
            return {"ip_address": str(name.value)}
    return {"other": str(name.value)}


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
