"""`verify_peer`: what proves an identity, and everything that must not."""

from __future__ import annotations

import contextlib
import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.identity import (
    Authority,
    Identity,
    NotVerified,
    SpiffeId,
    Unusable,
    certificates,
    keys,
    spiffe,
    verify_peer,
)
from meshproxy.identity.revocation import revocation_list, revoked_entry

from .support import NOW, RATINGS, REVIEWS, authority_certificate, credentials, leaf_certificate, usage

URI = x509.UniformResourceIdentifier
ROOT_KEY, CA_KEY = keys.generate(), keys.generate()
ROOT = authority_certificate(ROOT_KEY, name="root")
CA = authority_certificate(CA_KEY, issuer=ROOT, issuer_key=ROOT_KEY, path_length=0, name="intermediate")


def verified(*chain: x509.Certificate, ids: tuple[SpiffeId, ...] | None = None) -> Identity:
    return verify_peer(chain, roots=[ROOT], now=NOW, trust_domains=("cluster.local",), ids=ids)


def test_a_chain_proves_the_identity_in_its_leaf(authority: Authority) -> None:
    issued = credentials(authority).issued

    identity = verify_peer(
        issued.chain, roots=issued.roots, crls=issued.crls, now=NOW, trust_domains=("cluster.local",), ids=(REVIEWS,)
    )

    assert identity == Identity(REVIEWS, issued.leaf)


def test_intermediates_may_come_in_any_order() -> None:
    key = keys.generate()
    upper = authority_certificate(key, issuer=ROOT, issuer_key=ROOT_KEY, name="upper")
    lower = authority_certificate(CA_KEY, issuer=upper, issuer_key=key, name="lower")
    leaf = leaf_certificate(lower, CA_KEY)
    assert verified(leaf, lower, upper).id == verified(leaf, upper, lower).id == REVIEWS


def test_a_root_without_key_usage_serves_as_openssl_makes_them() -> None:
    root = authority_certificate(ROOT_KEY, key_usage=False)
    leaf = leaf_certificate(root, ROOT_KEY)
    assert verify_peer([leaf], roots=[root], now=NOW, trust_domains=("cluster.local",)).id == REVIEWS


OTHER_KEY = keys.generate()
OTHER_ROOT = authority_certificate(OTHER_KEY, name="root")
NO_CA = authority_certificate(CA_KEY, issuer=ROOT, issuer_key=ROOT_KEY, ca=False, key_usage=False, name="no CA")
NO_SIGNER = leaf_certificate(ROOT, ROOT_KEY, key=CA_KEY)
OLD_CA = authority_certificate(CA_KEY, issuer=ROOT, issuer_key=ROOT_KEY, ends=NOW - timedelta(hours=1), name="old")
BELOW = authority_certificate(OTHER_KEY, issuer=CA, issuer_key=CA_KEY, name="below an intermediate of path length 0")
CHAIN = (leaf_certificate(CA, CA_KEY), CA)
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        pytest.param((), "no certificate", id="nothing"),
        pytest.param((leaf_certificate(CA, CA_KEY),), "no root that is trusted", id="without its intermediate"),
        pytest.param((leaf_certificate(OTHER_ROOT, OTHER_KEY),), "no root that is trusted", id="a root of that name"),
        pytest.param((leaf_certificate(OTHER_ROOT, OTHER_KEY), OTHER_ROOT), "no root", id="with its own root"),
        pytest.param((leaf_certificate(CA, OTHER_KEY), CA), "no root that is trusted", id="signed by another key"),
        pytest.param((leaf_certificate(NO_CA, CA_KEY), NO_CA), "no root that is trusted", id="signed by CA:FALSE"),
        pytest.param((leaf_certificate(BELOW, OTHER_KEY), BELOW, CA), "no root", id="longer than a path may be"),
        pytest.param((leaf_certificate(OLD_CA, CA_KEY), OLD_CA), "no root that is trusted", id="an expired CA"),
        pytest.param((leaf_certificate(CA, CA_KEY, ends=NOW - timedelta(minutes=1)), CA), "has expired", id="expired"),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, begins=NOW + timedelta(minutes=1)), CA), "compare the clocks", id="too early"
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, [URI("spiffe://evil.test/ns/default/sa/reviews")]), CA),
            "of the trust domain 'evil.test'; expected is cluster.local",
            id="another trust domain",
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, [URI("spiffe://cluster.local.evil.test/ns/a/sa/b")]), CA),
            "trust domain",
            id="a trust domain that begins with ours",
        ),
        pytest.param((leaf_certificate(CA, CA_KEY, [URI("spiffe://cluster.local")]), CA), "trust domain", id="no path"),
        pytest.param((leaf_certificate(CA, CA_KEY, [x509.DNSName("reviews")]), CA), "no URI names", id="a DNS name"),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, [URI(str(REVIEWS)), URI(str(RATINGS))]), CA), "2 URI names", id="two names"
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, [URI("spiffe://cluster.local/ns/../sa/reviews")]), CA),
            "no SPIFFE certificate",
            id="a name that is not a SPIFFE ID",
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, more=[(x509.BasicConstraints(True, None), True)]), CA),
            "that of an authority",
            id="a CA as a workload",
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, key_usage=usage(digital_signature=True, key_cert_sign=True)), CA),
            "key usage",
            id="a workload that may sign certificates",
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, key_usage=usage()), CA), "key usage", id="a key that may sign nothing"
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, usages=[ExtendedKeyUsageOID.CODE_SIGNING]), CA), "no root", id="for code"
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, usages=[ExtendedKeyUsageOID.CLIENT_AUTH]), CA),
            "servers and clients",
            id="for clients alone",
        ),
        pytest.param(
            (leaf_certificate(CA, CA_KEY, more=[(UNKNOWN, True)]), CA), "no root", id="an unknown critical extension"
        ),
        pytest.param((leaf_certificate(CA, CA_KEY), *[CA] * 8), "9 certificates", id="too long a chain"),
    ],
)
def test_what_proves_nothing_is_refused(chain: tuple[x509.Certificate, ...], reason: str) -> None:
    with pytest.raises(NotVerified, match=reason):
        verified(*chain)


def test_a_workload_cannot_sign_for_another() -> None:
    forged = leaf_certificate(NO_SIGNER, CA_KEY, [URI(str(RATINGS))])
    with pytest.raises(NotVerified):
        verified(forged, NO_SIGNER)


def test_a_weak_key_in_the_chain_is_refused() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    with pytest.raises(NotVerified, match="an RSA key of 1024 bits"):
        verified(leaf_certificate(CA, CA_KEY, key=weak), CA)
    weak_ca = authority_certificate(weak, issuer=ROOT, issuer_key=ROOT_KEY, name="weak")
    with pytest.raises(NotVerified):
        verified(leaf_certificate(weak_ca, weak), weak_ca)


def test_an_expected_identity_is_that_and_no_other() -> None:
    leaf = leaf_certificate(CA, CA_KEY)
    assert verified(leaf, CA, ids=(RATINGS, REVIEWS)).id == REVIEWS
    with pytest.raises(NotVerified, match=f"the peer is {REVIEWS}; expected is {RATINGS}"):
        verified(leaf, CA, ids=(RATINGS,))
    with pytest.raises(NotVerified):
        verified(leaf, CA, ids=())


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_damaged_chain_is_refused_whatever_the_damage(changes: list[tuple[int, int]]) -> None:
    whole = certificates.to_pem(CHAIN)
    first, second = (one.public_bytes(serialization.Encoding.DER) for one in CHAIN)
    der = bytearray(first + second)
    for place, value in changes:
        der[place % len(der)] = value
    pieces = (bytes(der[: len(first)]), bytes(der[len(first) :]))
    pem = b"".join(ssl.DER_cert_to_PEM_cert(one).encode() for one in pieces)
    with contextlib.suppress(NotVerified, Unusable):
        verified(*certificates.parse_certificates(pem, "a damaged chain"))
        assert certificates.to_pem(certificates.parse_certificates(pem, "")) == whole


def test_nothing_is_verified_without_roots() -> None:
    with pytest.raises(NotVerified, match="no roots to trust"):
        verify_peer([leaf_certificate(CA, CA_KEY), CA], roots=[], now=NOW, trust_domains=("cluster.local",))


def test_a_trust_domain_that_is_added_is_trusted() -> None:
    other = spiffe.parse("spiffe://partner.test/ns/a/sa/b")
    leaf = leaf_certificate(CA, CA_KEY, [URI(str(other))])
    found = verify_peer([leaf, CA], roots=[ROOT], now=NOW, trust_domains=("cluster.local", "partner.test"))
    assert found.id == other


def test_a_revoked_certificate_is_refused_and_so_is_all_below_a_revoked_authority() -> None:
    leaf = leaf_certificate(CA, CA_KEY)
    for issuer, key, revoked in ((CA, CA_KEY, leaf), (ROOT, ROOT_KEY, CA)):
        crl = revocation_list(issuer, key, [revoked_entry(revoked.serial_number, NOW)], 1, NOW)
        with pytest.raises(NotVerified, match=f"{revoked.serial_number:x} has been revoked"):
            verify_peer([leaf, CA], roots=[ROOT], crls=[crl], now=NOW, trust_domains=("cluster.local",))


def test_a_revocation_list_speaks_of_its_issuers_certificates_alone() -> None:
    leaf = leaf_certificate(CA, CA_KEY)
    entry = [revoked_entry(leaf.serial_number, NOW)]
    forged = revocation_list(CA, OTHER_KEY, entry, 1, NOW)
    other = revocation_list(OTHER_ROOT, OTHER_KEY, entry, 1, NOW)
    found = verify_peer([leaf, CA], roots=[ROOT], crls=[forged, other], now=NOW, trust_domains=("cluster.local",))
    assert found.id == REVIEWS


def test_an_expired_revocation_list_is_not_relied_on() -> None:
    leaf = leaf_certificate(CA, CA_KEY)
    builder = x509.CertificateRevocationListBuilder().issuer_name(CA.subject)
    builder = builder.last_update(NOW - timedelta(days=2)).next_update(NOW - timedelta(days=1))
    with pytest.raises(NotVerified, match="get its next one"):
        verify_peer(
            [leaf, CA],
            roots=[ROOT],
            crls=[builder.sign(CA_KEY, hashes.SHA256())],
            now=NOW,
            trust_domains=("cluster.local",),
        )
