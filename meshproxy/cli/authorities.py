"""The CA that a serving command's options name, found."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from cryptography import x509

from ..identity import Authority, RemoteCa, Unusable, WorkloadIdentity, certificates, files, local_ca, trusted_by
from ..identity.protocol import DEFAULT_PORT
from ..identity.spiffe import SpiffeId
from ..mesh import Trust
from ..mesh.names import TRUST_DOMAIN
from .ca_options import CaOptions, RemoteAddress
from .keys import Passphrase

_MAX_TOKEN = 4096


@dataclass(frozen=True)
class Ca:
    """A CA that was found, and whose identities it is for."""

    trust: Trust
    identify: Callable[[SpiffeId], WorkloadIdentity]


def local(directory: Path, options: CaOptions) -> Ca:
    """The CA of a directory. Raises `IdentityError`."""
    authority = Authority(directory, Passphrase(options.passphrase_file))
    domain = authority.trust_domain
    if options.trust_domain not in (None, domain):
        raise click.UsageError(f"--trust-domain {options.trust_domain}: the CA in {directory} is that of {domain}")
    sign = local_ca(authority, _now, timedelta(seconds=options.certificate_ttl_s))
    return Ca(
        Trust(domain, options.trust_domain_aliases),
        lambda id: WorkloadIdentity(
            sign, id, clock=_now, chance=random.random, trusted=trusted_by(authority), kept=options.credentials
        ),
    )


def remote(address: RemoteAddress, options: CaOptions) -> Ca:
    """A CA that is served elsewhere. Raises `IdentityError`."""
    assert options.ca_root is not None
    roots = tuple(certificates.read_certificates(options.ca_root))
    domain = options.trust_domain or _trust_domain_of(roots) or TRUST_DOMAIN
    token = _join_token(options.join_token_file) if options.join_token_file is not None else None
    ca = RemoteCa(address.host, domain, roots, address.port or DEFAULT_PORT, token)
    return Ca(
        Trust(domain, options.trust_domain_aliases),
        lambda id: WorkloadIdentity(ca, id, clock=_now, chance=random.random, kept=options.credentials),
    )


def _trust_domain_of(roots: tuple[x509.Certificate, ...]) -> str | None:
    try:
        return certificates.spiffe_id(roots[0]).trust_domain
    except ValueError:
        return None  # a root that somebody brought need not say


def _join_token(path: Path) -> str:
    token = files.read(path)[:_MAX_TOKEN].decode("ascii", "replace").strip()
    if not token or not token.isprintable() or " " in token:
        raise Unusable(f"{path} holds no join token; `meshproxy ca token` makes one, and writes it alone to its output")
    return token


def _now() -> datetime:
    return datetime.now(UTC)
