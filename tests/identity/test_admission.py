"""Who gets which certificate: what must be refused, and that it is, with a reason and without harm."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.identity import Authority, Issued, Refused, SpiffeId, certificates, keys, server_id, spiffe
from meshproxy.identity.admission import Attempts, admit
from meshproxy.identity.authority import create
from meshproxy.identity.signing_requests import parse_request, signing_request

from .support import NOW, RATINGS, REVIEWS, authority_certificate, credentials, leaf_certificate, needs_openssl, openssl

DAY = timedelta(days=1)
KEY = keys.generate()
URI = x509.UniformResourceIdentifier
Builder = x509.CertificateSigningRequestBuilder


def ask(
    ca: Authority,
    request: bytes | None = None,
    *,
    token: str | None = None,
    certificate: x509.Certificate | None = None,
    now: datetime = NOW,
) -> tuple[SpiffeId, Issued]:
    request = signing_request(KEY, REVIEWS) if request is None else request
    return admit(ca, request, token=token, certificate=certificate, now=now, lifetime=DAY)


def refusal(ca: Authority, request: bytes | None = None, **how: object) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        ask(ca, request, **how)  # type: ignore[arg-type]
    return refused.value.status, str(refused.value)


def test_a_join_token_admits_the_first_request_and_the_certificate_the_next(authority: Authority) -> None:
    token = authority.tokens.make(REVIEWS, NOW)

    identity, first = ask(authority, token=token)
    _, second = ask(authority, certificate=first.leaf)

    assert identity == REVIEWS == certificates.spiffe_id(second.leaf)
    assert second.leaf.serial_number != first.leaf.serial_number
    assert first.leaf.not_valid_after_utc == NOW + DAY


def test_a_token_is_used_once(authority: Authority) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    ask(authority, token=token)
    assert refusal(authority, token=token)[0] == 401


def test_only_the_hash_of_a_token_is_kept(authority: Authority) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    kept = [file.name.encode() + file.read_bytes() for file in authority.directory.rglob("*") if file.is_file()]
    assert not any(token.encode() in one for one in kept)


def test_a_token_expires_and_is_forgotten_then(authority: Authority) -> None:
    token = authority.tokens.make(REVIEWS, NOW, timedelta(minutes=5))
    assert refusal(authority, token=token, now=NOW + timedelta(minutes=5))[0] == 401
    authority.tokens.make(RATINGS, NOW + timedelta(minutes=6))
    assert len(list((authority.directory / "tokens").iterdir())) == 1


@pytest.mark.parametrize("token", ["", "x", "../ca-key.pem", "é", "a" * 10_000, "Q" * 43])
def test_a_token_that_was_never_made_is_refused(authority: Authority, token: str) -> None:
    assert refusal(authority, token=token) == (
        401,
        "the join token is not valid: it was used before, has expired or was never made; make one with `ca token`",
    )


def test_a_refused_request_does_not_use_the_token_up(authority: Authority) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    assert refusal(authority, b"nonsense", token=token)[0] == 400
    assert ask(authority, token=token)[0] == REVIEWS


def test_neither_token_nor_certificate_is_refused_before_the_request_is_read(authority: Authority) -> None:
    status, reason = refusal(authority, b"nonsense")
    assert status == 401
    assert "needs a join token" in reason


def test_whoever_is_admitted_asks_for_themselves(authority: Authority) -> None:
    other = signing_request(KEY, RATINGS)
    token = authority.tokens.make(REVIEWS, NOW)
    assert refusal(authority, other, token=token) == (
        403,
        f"the join token is that of {REVIEWS}, and the signing request asks for {RATINGS}",
    )
    held = credentials(authority).issued.leaf
    assert refusal(authority, other, certificate=held) == (
        403,
        f"the present certificate is that of {REVIEWS}, and the signing request asks for {RATINGS}",
    )


def test_a_certificate_does_not_help_a_bad_token(authority: Authority) -> None:
    held = credentials(authority).issued.leaf
    assert refusal(authority, token="x", certificate=held)[0] == 401


def _expired(ca: Authority) -> x509.Certificate:
    return credentials(ca, now=NOW - 2 * DAY).issued.leaf


def _revoked(ca: Authority) -> x509.Certificate:
    leaf = credentials(ca).issued.leaf
    ca.revoke(leaf, NOW)
    return leaf


def _of_another_ca(ca: Authority) -> x509.Certificate:
    create(ca.directory.parent / "other", trust_domain="cluster.local", key_type="ecdsa", now=NOW)
    return credentials(Authority(ca.directory.parent / "other")).issued.leaf


def _of_another_trust_domain(ca: Authority) -> x509.Certificate:
    signer = ca._state.signer
    return leaf_certificate(signer.certificate, signer.key, [URI("spiffe://other.test/ns/default/sa/reviews")])


def _self_made(ca: Authority) -> x509.Certificate:
    return leaf_certificate(authority_certificate(KEY), KEY)


@pytest.mark.parametrize("certificate", [_expired, _revoked, _of_another_ca, _of_another_trust_domain, _self_made])
def test_a_certificate_that_proves_nothing_renews_nothing(
    authority: Authority, certificate: Callable[[Authority], x509.Certificate]
) -> None:
    assert refusal(authority, certificate=certificate(authority))[0] == 401


def test_a_certificate_of_before_a_rotation_is_renewed_by_the_new_authority(authority: Authority) -> None:
    held = credentials(authority).issued.leaf
    authority.rotate_root(NOW)
    _, issued = ask(authority, certificate=held)
    assert len(issued.roots) == 2
    assert issued.leaf.issuer != held.issuer


@pytest.mark.parametrize("identity", ["spiffe://other.test/ns/a/sa/b", str(server_id("cluster.local"))])
def test_what_no_workload_may_be_no_token_makes_it(authority: Authority, identity: str) -> None:
    wanted = spiffe.parse(identity)
    token = authority.tokens.make(wanted, NOW)
    assert refusal(authority, signing_request(KEY, wanted), token=token)[0] == 403


def pem(
    builder: Builder | None = None,
    names: list[x509.GeneralName] | None = None,
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = KEY,
    digest: hashes.HashAlgorithm | None = hashes.SHA256(),  # noqa: B008
) -> bytes:
    """A signing request of whatever kind."""
    builder = (builder or Builder()).subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]))
    if names != []:
        builder = builder.add_extension(x509.SubjectAlternativeName(names or [URI(str(REVIEWS))]), critical=False)
    return builder.sign(key, digest).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]


REQUEST = pem()


def damaged(request: bytes) -> bytes:
    """The same with a bit of the signature changed."""
    der = bytearray(x509.load_pem_x509_csr(request).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        pytest.param(b"", 400, "not PEM", id="nothing"),
        pytest.param(b"nonsense", 400, "not PEM", id="nonsense"),
        pytest.param(pem()[:200], 400, "not PEM", id="cut off"),
        pytest.param(certificates.to_pem([authority_certificate(KEY)]), 400, "not PEM", id="a certificate"),
        pytest.param(pem() + b"#" * 16384, 413, "more than 16384 bytes", id="oversized"),
        pytest.param(damaged(pem()), 400, "not by the key that is in it", id="a key of somebody else"),
        pytest.param(pem(names=[]), 400, "must be one URI", id="no name"),
        pytest.param(pem(names=[x509.DNSName("reviews")]), 400, "must be one URI", id="a DNS name"),
        pytest.param(pem(names=[URI(str(REVIEWS)), x509.DNSName("ca")]), 400, "must be one URI", id="a DNS name more"),
        pytest.param(pem(names=[URI(str(REVIEWS)), URI(str(RATINGS))]), 400, "must be one URI", id="two identities"),
        pytest.param(pem(names=[URI("https://a.test")]), 400, "not a SPIFFE ID", id="a URL"),
        pytest.param(pem(names=[URI("spiffe://cluster.local/a/../b")]), 400, "not a SPIFFE ID", id="a path trick"),
        pytest.param(pem(digest=hashes.SHA224()), 400, "signed with SHA-256", id="SHA-224"),
        pytest.param(pem(key=rsa.generate_private_key(65537, 1024)), 400, "RSA key of 1024 bits", id="RSA 1024"),
        pytest.param(pem(key=rsa.generate_private_key(3, 2048)), 400, "unusual exponent", id="RSA with e = 3"),
        pytest.param(pem(key=ec.generate_private_key(ec.SECP192R1())), 400, "curve secp192r1", id="P-192"),
        pytest.param(pem(key=ec.generate_private_key(ec.SECP256K1())), 400, "curve secp256k1", id="secp256k1"),
        pytest.param(
            pem(key=ed25519.Ed25519PrivateKey.generate(), digest=None), 400, "neither ECDSA nor RSA", id="Ed25519"
        ),
    ],
)
def test_a_request_that_cannot_be_used_is_refused(
    authority: Authority, request_: bytes, status: int, reason: str
) -> None:
    token = authority.tokens.make(REVIEWS, NOW)
    found = refusal(authority, request_, token=token)
    assert found[0] == status
    assert reason in found[1]


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_request_of_any_bytes_is_read_or_refused(changes: list[tuple[int, int]]) -> None:
    der = bytearray(x509.load_pem_x509_csr(REQUEST).public_bytes(serialization.Encoding.DER))
    for place, value in changes:
        der[place % len(der)] = value
    body = base64.encodebytes(der)
    with contextlib.suppress(Refused):
        parse_request(b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n")


@needs_openssl
def test_sha_1_is_refused(authority: Authority) -> None:
    request = openssl(
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-sha1", "-subj", "/",
        "-addext", f"subjectAltName=URI:{REVIEWS}",
    )  # fmt: skip
    token = authority.tokens.make(REVIEWS, NOW)
    assert "signed with SHA-256" in refusal(authority, request[request.index("-----BEGIN") :].encode(), token=token)[1]


def test_what_else_a_request_asks_for_it_does_not_get(authority: Authority) -> None:
    greedy = Builder()
    greedy = greedy.add_extension(x509.BasicConstraints(True, None), critical=True)
    greedy = greedy.add_extension(x509.KeyUsage(True, True, True, True, True, True, True, False, False), critical=True)
    greedy = greedy.add_extension(x509.NameConstraints([x509.DNSName("")], None), critical=True)
    token = authority.tokens.make(REVIEWS, NOW)

    _, greedy_issued = ask(authority, pem(greedy), token=token)
    _, issued = ask(authority, certificate=greedy_issued.leaf)

    assert not greedy_issued.leaf.subject.rdns
    assert [(one.oid, one.critical) for one in greedy_issued.leaf.extensions] == [
        (one.oid, one.critical) for one in issued.leaf.extensions
    ]
    assert not certificates.is_authority(greedy_issued.leaf)
    assert certificates.spiffe_id(greedy_issued.leaf) == REVIEWS


@needs_openssl
def test_a_request_by_openssl_is_read() -> None:
    request = openssl(
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-keyout", "/dev/null",
        "-subj", "/CN=reviews", "-addext", f"subjectAltName=URI:{REVIEWS}",
    )  # fmt: skip
    assert parse_request(request[request.index("-----BEGIN") :].encode()).identity == REVIEWS


class TestAttempts:
    def test_a_burst_is_let_through_and_then_one_at_a_time(self) -> None:
        attempts = Attempts(burst=3, interval_s=10)
        for _ in range(3):
            assert attempts.wait_s("a", 100.0) == 0
            attempts.refused("a", 100.0)
        assert attempts.wait_s("a", 100.0) == 10
        assert attempts.wait_s("a", 109.0) == 1
        assert attempts.wait_s("b", 100.0) == 0
        attempts.refused("a", 110.0)
        assert attempts.wait_s("a", 110.0) == 10
        assert attempts.wait_s("a", 1000.0) == 0

    def test_only_so_many_are_remembered(self) -> None:
        attempts = Attempts(burst=1)
        for number in range(5000):
            attempts.refused(str(number), 0.0)
        assert len(attempts._spent_until) == 4096
        assert attempts.wait_s("4999", 0.0) > 0
