"""The CA in its directory: what it issues, rotates and revokes. OpenSSL is the referee."""

from __future__ import annotations

import shutil
import stat
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509

from meshproxy.identity import (
    Authority,
    IdentityError,
    Issued,
    NotVerified,
    Refused,
    Unusable,
    authority,
    certificates,
    files,
    keys,
    server_id,
    spiffe,
    verify_peer,
)
from meshproxy.identity import (
    credentials as own,
)
from meshproxy.identity.authority import create, read_root

from .support import NOW, RATINGS, REVIEWS, authority_certificate, credentials, needs_openssl, openssl, openssl_verify

DAY = timedelta(days=1)


def is_verified(issued: Issued, trusted: Issued) -> bool:
    """Whether somebody who trusts what `trusted` says believes this chain."""
    try:
        verify_peer(issued.chain, roots=trusted.roots, crls=trusted.crls, now=NOW, trust_domains=("cluster.local",))
    except NotVerified:
        return False
    return True


@needs_openssl
@pytest.mark.parametrize("key_type", ["ecdsa", "rsa"])
def test_openssl_verifies_what_a_ca_issues(tmp_path: Path, key_type: Literal["ecdsa", "rsa"]) -> None:
    create(tmp_path / "ca", trust_domain="cluster.local", key_type=key_type, now=NOW)
    ca = Authority(tmp_path / "ca")
    key = keys.generate(ca.key_type)

    issued = ca.issue(key.public_key(), REVIEWS, NOW)

    assert ca.key_type == key_type
    assert openssl_verify(tmp_path, issued) == "OK"


@needs_openssl
def test_a_workloads_certificate_holds_what_spiffe_and_istio_ask_for(authority: Authority, tmp_path: Path) -> None:
    issued = credentials(authority).issued
    file = tmp_path / "leaf.pem"
    file.write_bytes(certificates.to_pem(issued.chain))

    text = openssl("x509", "-in", file, "-noout", "-text")

    said = [line.strip() for line in text.splitlines()]
    assert "X509v3 Subject Alternative Name: critical" in said
    assert said[said.index("X509v3 Subject Alternative Name: critical") + 1] == f"URI:{REVIEWS}"
    assert said[said.index("X509v3 Key Usage: critical") + 1] == "Digital Signature"
    usages = said[said.index("X509v3 Extended Key Usage:") + 1]
    assert usages == "TLS Web Server Authentication, TLS Web Client Authentication"
    assert said[said.index("X509v3 Basic Constraints: critical") + 1] == "CA:FALSE"
    assert {"X509v3 Subject Key Identifier:", "X509v3 Authority Key Identifier:", "Subject:"} <= set(said)
    assert issued.leaf.not_valid_before_utc < NOW
    assert issued.leaf.not_valid_after_utc == NOW + DAY
    assert issued.leaf.serial_number != credentials(authority).issued.leaf.serial_number
    assert issued.leaf.serial_number.bit_length() > 64


def test_signing_certificates_carry_the_trust_domains_own_id(authority: Authority) -> None:
    for certificate in (*authority.trusted().chain, *authority.trusted().roots):
        assert str(certificates.spiffe_id(certificate)) == "spiffe://cluster.local"


def test_keys_are_for_their_owner_alone_and_so_are_directories(authority: Authority, tmp_path: Path) -> None:
    own.write_credentials(tmp_path / "a" / "b", credentials(authority))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert {name for name, mode in modes.items() if mode & 0o077} == {
        "root-cert.pem", "ca-cert.pem", "crl.pem", "cert-chain.pem",
    }  # fmt: skip
    assert modes["ca"] == modes["a"] == modes["b"] == 0o700
    assert modes["ca-key.pem"] == modes["root-key.pem"] == modes["key.pem"] == modes["issued.jsonl"] == 0o600


def test_credentials_are_read_as_they_were_written(authority: Authority, tmp_path: Path) -> None:
    written = credentials(authority)
    own.write_credentials(tmp_path / "reviews", written)
    read = own.read_credentials(tmp_path / "reviews")
    assert read.issued == written.issued
    assert keys.fits(read.key, written.issued.leaf.public_key())


def test_no_certificate_outlives_its_ca(authority: Authority) -> None:
    end = authority.trusted().chain[0].not_valid_after_utc
    issued = authority.issue(keys.generate().public_key(), REVIEWS, end - timedelta(hours=1), 7 * DAY)
    assert issued.leaf.not_valid_after_utc == end


@pytest.mark.parametrize(("days", "cure"), [(731, "ca rotate"), (3651, "ca rotate --root")])
def test_an_expired_ca_says_so_and_the_cure(authority: Authority, days: int, cure: str) -> None:
    if days > 3650:
        authority.rotate(NOW + 3649 * DAY)
    with pytest.raises(IdentityError, match=f"has expired on .*: meshproxy {cure}$"):
        authority.issue(keys.generate().public_key(), REVIEWS, NOW + days * DAY)


def test_a_ca_issues_for_its_own_trust_domain_and_nobody_else_its_own_identity(authority: Authority) -> None:
    for identity in ("spiffe://other.test/ns/a/sa/b", "spiffe://cluster.local", str(server_id("cluster.local"))):
        with pytest.raises(Refused) as refused:
            authority.issue(keys.generate().public_key(), spiffe.parse(identity), NOW)
        assert refused.value.status == 403


def test_a_directory_that_is_a_ca_is_not_made_one_again(authority: Authority) -> None:
    before = (authority.directory / "ca-key.pem").read_bytes()
    with pytest.raises(IdentityError, match=r"is a CA already: it has ca-cert.pem.*Use another --dir"):
        create(authority.directory, trust_domain="cluster.local", key_type="ecdsa", now=NOW)
    assert (authority.directory / "ca-key.pem").read_bytes() == before


def test_a_directory_that_is_no_ca_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"is no CA: it has no ca-cert.pem; make one with `meshproxy ca init"):
        Authority(tmp_path)


def test_keys_are_encrypted_with_the_passphrase_and_stay_so(tmp_path: Path) -> None:
    create(tmp_path, trust_domain="cluster.local", key_type="ecdsa", now=NOW, passphrase=b"open sesame")
    ca = Authority(tmp_path, lambda path: b"open sesame")
    ca.rotate_root(NOW)
    for name in ("ca-key.pem", "old-ca-key.pem", "root-key.pem"):
        assert b"ENCRYPTED" in (tmp_path / name).read_bytes()
    with pytest.raises(Unusable, match=r"cannot decrypt the key .*ca-key.pem: the passphrase is not the one") as wrong:
        Authority(tmp_path, lambda path: b"wrong horse")
    assert "horse" not in str(wrong.value)
    with pytest.raises(Unusable, match="is encrypted, and no passphrase was given"):
        Authority(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot read .*ca-key.pem: No such file"),
        (b"", "no private key in PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is damaged"),
        (keys.to_pem(keys.generate()), "the key .*ca-key.pem does not fit the certificate .*ca-cert.pem"),
    ],
)
def test_a_key_that_cannot_be_used_is_told(authority: Authority, content: bytes | None, reason: str) -> None:
    file = authority.directory / "ca-key.pem"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(Unusable, match=reason):
        Authority(authority.directory)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_cannot_be_used_is_told(authority: Authority, content: bytes) -> None:
    (authority.directory / "root-cert.pem").write_bytes(content)
    with pytest.raises(Unusable, match=r"cannot use .*root-cert.pem: .*certificate"):
        Authority(authority.directory)


class TestAnOwnRoot:
    KEY = keys.generate()

    def bring(self, folder: Path, certificate: x509.Certificate, key: keys.PrivateKey) -> authority.Signer:
        (folder / "r.pem").write_bytes(certificates.to_pem([certificate]))
        (folder / "r.key").write_bytes(keys.to_pem(key))
        return read_root(folder / "r.pem", folder / "r.key", keys.no_passphrase)

    @needs_openssl
    @pytest.mark.parametrize("key_usage", [True, False])
    def test_signs_the_intermediate_and_its_key_is_not_copied(self, tmp_path: Path, key_usage: bool) -> None:
        root = self.bring(tmp_path, authority_certificate(self.KEY, path_length=1, key_usage=key_usage), self.KEY)
        create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=NOW, own=root)
        issued = credentials(Authority(tmp_path / "ca")).issued
        assert issued.roots == (root.certificate,)
        assert openssl_verify(tmp_path, issued, strict=key_usage) == "OK"
        assert not (tmp_path / "ca" / "root-key.pem").exists()

    @pytest.mark.parametrize(
        ("certificate", "reason"),
        [
            (authority_certificate(KEY, path_length=0), "no certificate could be verified"),
            (authority_certificate(KEY, ends=NOW - DAY), "the root has expired"),
            (authority_certificate(KEY, ca=False, key_usage=False), "is not the certificate of an authority"),
            (authority_certificate(keys.generate()), r"r.key does not fit the certificate .*r.pem"),
        ],
    )
    def test_that_cannot_serve_is_refused(self, tmp_path: Path, certificate: x509.Certificate, reason: str) -> None:
        with pytest.raises(IdentityError, match=reason):
            root = self.bring(tmp_path, certificate, self.KEY)
            create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=NOW, own=root)
        assert not (tmp_path / "ca" / "ca-key.pem").exists()

    def test_is_asked_for_when_it_must_sign(self, tmp_path: Path) -> None:
        root = self.bring(tmp_path, authority_certificate(self.KEY), self.KEY)
        create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=NOW, own=root)
        ca = Authority(tmp_path / "ca")
        with pytest.raises(IdentityError, match="say where it is: --current-root-key"):
            ca.rotate(NOW)
        ca.rotate(NOW, root_key=tmp_path / "r.key")
        assert credentials(ca).issued.roots == (root.certificate,)

    def test_takes_the_place_of_the_present_one(self, authority: Authority, tmp_path: Path) -> None:
        before = credentials(authority).issued
        root = self.bring(tmp_path, authority_certificate(self.KEY), self.KEY)
        authority.rotate_root(NOW, own=root)
        after = credentials(authority).issued
        assert after.roots == (root.certificate, *before.roots)
        assert is_verified(after, before)
        assert not (authority.directory / "root-key.pem").exists()


@needs_openssl
@pytest.mark.parametrize("root", [False, True], ids=["intermediate", "root"])
def test_in_a_rotation_everybody_verifies_everybody(authority: Authority, tmp_path: Path, root: bool) -> None:
    old = credentials(authority).issued
    authority.rotate_root(NOW) if root else authority.rotate(NOW)
    new = credentials(authority).issued
    assert new.leaf.issuer != old.leaf.issuer
    assert len(new.roots) == (2 if root else 1)
    for issued in (old, new):
        assert openssl_verify(tmp_path, issued, new) == "OK"
        assert openssl_verify(tmp_path, issued, old, crls=False) == "OK"
        assert is_verified(issued, old) and is_verified(issued, new)


@needs_openssl
@pytest.mark.parametrize("root", [False, True], ids=["intermediate", "root"])
def test_a_finished_rotation_leaves_nothing_of_the_old(authority: Authority, tmp_path: Path, root: bool) -> None:
    old = credentials(authority).issued
    authority.rotate_root(NOW) if root else authority.rotate(NOW)
    during = credentials(authority).issued
    authority.finish_rotation(NOW, force=True)
    after = credentials(authority).issued
    assert not is_verified(old, after) and openssl_verify(tmp_path, old, after) != "OK"
    assert is_verified(during, after) and openssl_verify(tmp_path, during, after) == "OK"
    assert is_verified(after, after) and openssl_verify(tmp_path, after) == "OK"
    assert len(after.chain) == 2 and len(after.roots) == 1 and len(after.crls) == 2
    assert not list(authority.directory.glob("old-*"))


def test_a_rotation_is_not_finished_while_somebody_has_an_old_certificate(authority: Authority) -> None:
    credentials(authority)
    authority.rotate(NOW)
    with pytest.raises(IdentityError, match=f"1 of its certificates have not expired, the last that of {REVIEWS}"):
        authority.finish_rotation(NOW)
    authority.finish_rotation(NOW + DAY)
    with pytest.raises(IdentityError, match="no rotation is under way"):
        authority.finish_rotation(NOW)


def test_a_rotation_ends_before_the_next_begins(authority: Authority) -> None:
    authority.rotate(NOW)
    for again in (authority.rotate, authority.rotate_root):
        with pytest.raises(IdentityError, match="end it first, with `meshproxy ca rotate --finish`"):
            again(NOW)


def test_a_root_that_may_not_sign_another_says_so(tmp_path: Path) -> None:
    key = keys.generate()
    root = authority.Signer(authority_certificate(key, path_length=1), key)
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=NOW, own=root)
    (tmp_path / "root.key").write_bytes(keys.to_pem(key))
    with pytest.raises(IdentityError, match="allows a path of 1"):
        Authority(tmp_path / "ca").rotate_root(NOW, root_key=tmp_path / "root.key")


def test_what_another_process_rotates_is_seen_at_once(authority: Authority) -> None:
    Authority(authority.directory).rotate_root(NOW)
    assert len(credentials(authority).issued.roots) == 2


def test_an_expired_root_is_replaced(authority: Authority) -> None:
    later = NOW + 3651 * DAY
    with pytest.raises(IdentityError, match=r"the root has expired on .*; bring in another one with --root"):
        authority.rotate(later)
    authority.rotate_root(later)
    issued = authority.issue(keys.generate().public_key(), REVIEWS, later)
    verify_peer(issued.chain, roots=issued.roots, crls=issued.crls, now=later, trust_domains=("cluster.local",))


@pytest.mark.parametrize("named_by", ["file", "serial"])
def test_a_revoked_certificate_is_refused_and_others_are_not(
    authority: Authority, tmp_path: Path, named_by: str
) -> None:
    bad, good = credentials(authority).issued, credentials(authority, RATINGS).issued
    authority.rotate(NOW)
    assert authority.revoke(bad.leaf if named_by == "file" else bad.leaf.serial_number, NOW) == REVIEWS
    authority.revoke(credentials(authority).issued.leaf, NOW)
    trusted = authority.trusted()
    assert not is_verified(bad, trusted) and is_verified(good, trusted)
    if shutil.which("openssl"):
        assert "certificate revoked" in openssl_verify(tmp_path, bad, trusted)
        assert openssl_verify(tmp_path, good, trusted) == "OK"


def test_what_the_ca_never_issued_cannot_be_revoked(authority: Authority, tmp_path: Path) -> None:
    create(tmp_path / "other", trust_domain="cluster.local", key_type="ecdsa", now=NOW)
    other = credentials(Authority(tmp_path / "other")).issued.leaf
    with pytest.raises(IdentityError, match=r"no certificate .* is on record"):
        authority.revoke(other.serial_number, NOW)
    with pytest.raises(IdentityError, match="not by an authority that"):
        authority.revoke(other, NOW)


def test_a_crash_in_the_middle_leaves_the_new_or_the_old(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    before = credentials(authority).issued
    with monkeypatch.context() as crash, pytest.raises(KeyboardInterrupt):
        finish = files._finish

        def crash_once_committed(directory: Path) -> None:
            if (directory / files.COMMITTED).exists():
                raise KeyboardInterrupt
            finish(directory)

        crash.setattr(files, "_finish", crash_once_committed)
        authority.rotate_root(NOW)
    (authority.directory / files.COMMITTED / "ca-cert.pem").replace(authority.directory / "ca-cert.pem")

    after = credentials(Authority(authority.directory)).issued

    assert len(after.roots) == 2 and is_verified(after, before)
    assert not list(authority.directory.glob(".[cs]*"))


def test_a_crash_before_that_leaves_the_old_and_no_keys_about(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashes(*_: object) -> None:
        raise KeyboardInterrupt

    before = (authority.directory / "ca-key.pem").read_bytes()
    with monkeypatch.context() as crash, pytest.raises(KeyboardInterrupt):
        crash.setattr("os.rename", crashes)
        crash.setattr("shutil.rmtree", lambda *_, **__: None)
        authority.rotate(NOW)
    assert list(authority.directory.glob(".staged-*"))

    credentials(Authority(authority.directory))

    assert (authority.directory / "ca-key.pem").read_bytes() == before
    assert not list(authority.directory.glob(".[cs]*"))


def test_a_passphrase_is_asked_for_once(tmp_path: Path) -> None:
    asked = []

    def ask(path: Path) -> bytes:
        asked.append(path.name)
        return b"open sesame"

    create(tmp_path, trust_domain="cluster.local", key_type="ecdsa", now=NOW, passphrase=b"open sesame")
    ca = Authority(tmp_path, ask)
    Authority(tmp_path, lambda path: b"open sesame").rotate_root(NOW)
    ca.revoke(credentials(ca).issued.leaf, NOW)
    ca.finish_rotation(NOW)
    assert asked == ["ca-key.pem"]


def test_the_record_forgets_what_has_expired(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshproxy.identity.issuance._SMALL", 1000)
    ca = Authority(authority.directory)
    for day in range(40):
        credentials(ca, now=NOW + day * DAY)
    assert len((ca.directory / "issued.jsonl").read_bytes()) < 2000
    last = credentials(ca, now=NOW + 40 * DAY).issued.leaf
    assert ca.revoke(last.serial_number, NOW) == REVIEWS


def test_nothing_secret_is_in_a_repr(tmp_path: Path) -> None:
    create(tmp_path, trust_domain="cluster.local", key_type="rsa", now=NOW, passphrase=b"open sesame")
    ca = Authority(tmp_path, lambda path: b"open sesame")
    held = credentials(ca)
    assert repr(ca) == f"<Authority cluster.local in {tmp_path}>"
    assert "Key" not in repr(held).replace("KeyUsage", "")
