"""Certificates for the gateway of a test, made for it alone: a test needs no keys, and must not have those of others.

Its listeners show certificates of an authority that is made with them, for the servers that they are for and for this
machine. What clients show is not stood in for: one that has to show a certificate is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address

from ..snapshot import FilterChain, InlineSource, Secret, Snapshot, TlsCertificate, TrustedCa

_THIS_MACHINE: tuple[str | IPv4Address, ...] = ("localhost", IPv4Address("127.0.0.1"))


def stood_in(snapshot: Snapshot) -> tuple[tuple[Secret, ...], str]:
    """Secrets for a snapshot's listeners, and the authority that their clients are to trust, in PEM."""
    chains = [chain for listener in snapshot.listeners for chain in listener.filter_chains if chain.tls is not None]
    if not chains:
        return (), ""
    from ..identity import SpiffeId, certificates, keys

    key, now = keys.generate(), datetime.now(UTC)
    root = certificates.root_certificate(key, "test", now)
    pem = certificates.to_pem([root]).decode()
    secrets = []
    for secret in snapshot.secrets:
        own = keys.generate()
        names: list[str | IPv4Address] = [*_servers(secret.name, chains), *_THIS_MACHINE]
        shown = certificates.workload_certificate(
            own.public_key(), SpiffeId("test", "/gateway"), root, key, now, names=names
        )
        source = secret.source
        if isinstance(source, TlsCertificate):
            chain = InlineSource("the test's certificate", certificates.to_pem([shown]).decode())
            source = TlsCertificate(chain, InlineSource("the test's key", keys.to_pem(own).decode()))
        elif isinstance(source, TrustedCa):
            source = TrustedCa(InlineSource("the test's authority", pem))
        secrets.append(replace(secret, source=source))
    return tuple(secrets), pem


def _servers(secret: str, chains: Iterable[FilterChain]) -> list[str]:
    """The names of the servers for which it is shown."""
    shown_by = (chain for chain in chains if chain.tls is not None and secret in chain.tls.common.tls_certificates)
    return [name for chain in shown_by for name in chain.match.server_names]
