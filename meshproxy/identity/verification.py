"""Whether a peer is who its certificate says. Everybody who meets a peer asks here.

Rule 1: a chain to a trusted root proves nothing by itself. What counts is the SPIFFE ID in its leaf, in a trust domain
that the asker expects (X509-SVID, section 5: https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md).

Rule 2: the path is found and checked by `cryptography`, with the web's rules for what extensions mean, so that one that
is not understood is never passed over. What differs from them, SPIFFE or what users bring asks for.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from . import certificates
from .errors import NotVerified
from .keys import strong
from .revocation import revocation_problem
from .spiffe import SpiffeId

MAX_CHAIN = 8
"""More certificates than any chain of a mesh has; each costs a signature to check."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer is, proven by `certificate`."""

    id: SpiffeId
    certificate: x509.Certificate


def verify_peer(
    chain: Sequence[x509.Certificate],
    *,
    roots: Sequence[x509.Certificate],
    crls: Sequence[x509.CertificateRevocationList] = (),
    now: datetime,
    trust_domains: Collection[str],
    ids: Collection[SpiffeId] | None = None,
) -> Identity:
    """The identity that a chain proves, leaf first, intermediates behind it in any order.

    Its trust domain must be among `trust_domains`, and the identity among `ids` where these are given. A revocation
    list among `crls` speaks of what its issuer signed, and of nobody else's.

    Raises:
        NotVerified: it proves none, or another; the text says why.
    """
    if not chain:
        raise NotVerified("the peer showed no certificate")
    if len(chain) > MAX_CHAIN:
        raise NotVerified(f"the peer showed {len(chain)} certificates; {MAX_CHAIN} are the most")
    leaf = chain[0]
    identity = _workload_id(leaf)
    if now > leaf.not_valid_after_utc:
        raise NotVerified(
            f"the certificate of {identity} has expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
        )
    if now < leaf.not_valid_before_utc:
        begins = f"{leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S}"
        raise NotVerified(f"the certificate of {identity} is valid from {begins} UTC on only; compare the clocks")
    if identity.trust_domain not in trust_domains:
        expected = ", ".join(sorted(trust_domains))
        raise NotVerified(f"{identity} is of the trust domain {identity.trust_domain!r}; expected is {expected}")
    for certificate, issuer in pairwise(_path(chain, roots, now, identity)):
        problem = revocation_problem(certificate, issuer, crls, now)
        if problem is not None:
            raise NotVerified(f"the chain of {identity} is refused: {problem}")
    if ids is not None and identity not in ids:
        raise NotVerified(f"the peer is {identity}; expected is {', '.join(sorted(map(str, ids)))}")
    return Identity(identity, leaf)


def _workload_id(leaf: x509.Certificate) -> SpiffeId:
    try:
        identity = certificates.spiffe_id(leaf)
    except ValueError as error:
        raise NotVerified(f"the peer's certificate is no SPIFFE certificate: {error}") from None
    if not identity.path:
        raise NotVerified(f"the peer's certificate is that of the trust domain {identity}, not of a workload")
    if certificates.is_authority(leaf):
        raise NotVerified(f"the certificate of {identity} is that of an authority, not of a workload")
    try:
        strong(leaf.public_key())  # of the keys behind it, the library does as much
    except certificates.UNREADABLE as error:
        raise NotVerified(f"the certificate of {identity} is for {error}") from None
    return identity


def _path(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime, identity: SpiffeId
) -> Sequence[x509.Certificate]:
    """The leaf, its issuer, and so on to a root. Raises `NotVerified`."""
    if not roots:
        raise NotVerified(f"the chain of {identity} cannot be verified: there are no roots to trust")
    builder = PolicyBuilder().store(Store(list(roots))).time(now).max_chain_depth(MAX_CHAIN)
    builder = builder.extension_policies(ca_policy=_AUTHORITY, ee_policy=_WORKLOAD)
    try:
        return builder.build_client_verifier().verify(leaf=chain[0], intermediates=list(chain[1:])).chain
    except VerificationError as error:
        # The library's reason ends with the certificate at hand, as its repr.
        reason = str(error).partition(" (encountered processing")[0].removeprefix("validation failed: ")
        raise NotVerified(f"the chain of {identity} leads to no root that is trusted here: {reason}") from None


def _signs(policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority's key usage must allow to sign certificates")


def _authenticates(policy: Policy, certificate: x509.Certificate, usage: x509.KeyUsage) -> None:
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise ValueError("a workload's key usage is digital signature, and never signing certificates")


def _both_ways(policy: Policy, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None) -> None:
    # Each end verifies the other by the same rules, so one for servers alone is no SVID (X509-SVID, section 4.4).
    wanted = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    if usage is not None and not wanted.issubset(usage):
        raise ValueError("a workload's extended key usage is for servers and clients")


# The roots that `openssl req -x509` makes on Debian have no key usage.
_AUTHORITY = ExtensionPolicy.webpki_defaults_ca().may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs)
_WORKLOAD = (
    ExtensionPolicy.webpki_defaults_ee()
    .require_present(x509.KeyUsage, Criticality.AGNOSTIC, _authenticates)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _both_ways)
)
