"""Certificates in words, and what is found wrong with them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from meshproxy.identity import Authority, certificates, keys, write_credentials
from meshproxy.identity.description import Description, describe_file, in_words

from .support import NOW, authority_certificate, credentials, leaf_certificate

KEY = keys.generate()
ROOT = authority_certificate(KEY)
HOUR = timedelta(hours=1)


def described(folder: Path, *chain: x509.Certificate, hours: float = 0) -> Description:
    file = folder / "some.pem"
    file.write_bytes(certificates.to_pem(chain))
    return describe_file(file, NOW + hours * HOUR, keys.no_passphrase)


def test_a_chain_that_is_well_has_nothing_to_mend(authority: Authority, tmp_path: Path) -> None:
    write_credentials(tmp_path, credentials(authority))
    found = describe_file(tmp_path / "cert-chain.pem", NOW, keys.no_passphrase)
    assert (found.problems, found.warnings) == ((), ())
    assert [one.kind for one in found.certificates] == ["workload", "intermediate"]


def test_in_a_rotation_too(authority: Authority) -> None:
    authority.rotate_root(NOW)
    for name in ("ca-cert.pem", "old-ca-cert.pem", "root-cert.pem"):
        found = describe_file(authority.directory / name, NOW, keys.no_passphrase)
        assert (found.problems, found.warnings) == ((), ()), name


@pytest.mark.parametrize(
    ("hours", "problem", "warning"),
    [
        (-1, "is not valid before", None),
        (0, None, None),
        (0.9, None, "expires soon: get a new one with `meshproxy ca issue`"),
        (1.1, "has expired on", None),
    ],
)
def test_its_time_is_told(tmp_path: Path, hours: float, problem: str | None, warning: str | None) -> None:
    found = described(tmp_path, leaf_certificate(ROOT, KEY), ROOT, hours=hours)
    for expected, told in ((problem, found.problems), (warning, found.warnings)):
        assert len(told) == (expected is not None)
        assert expected is None or expected in told[0]


def test_an_authority_that_expires_soon_is_to_be_rotated(tmp_path: Path) -> None:
    assert "`meshproxy ca rotate --root`" in described(tmp_path, ROOT, hours=24 * 350).warnings[0]


def test_a_chain_in_disorder_is_told(authority: Authority, tmp_path: Path) -> None:
    issued = credentials(authority).issued
    found = described(tmp_path, issued.leaf, ROOT)
    assert "is not issued by the certificate behind it" in found.problems[0]


def test_what_proves_nothing_to_a_sidecar_is_told(tmp_path: Path) -> None:
    found = described(tmp_path, leaf_certificate(ROOT, KEY, [x509.DNSName("web.test")]))
    assert found.certificates[0].kind == "server"
    assert "it is no SPIFFE certificate" in found.warnings[0]


def test_revocation_lists_beside_it_are_heeded(authority: Authority, tmp_path: Path) -> None:
    held = credentials(authority)
    write_credentials(tmp_path, held)
    authority.revoke(held.issued.leaf, NOW)
    (tmp_path / "crl.pem").write_bytes((authority.directory / "crl.pem").read_bytes())
    found = describe_file(tmp_path / "cert-chain.pem", NOW, keys.no_passphrase)
    assert found.problems == (f"the certificate {held.issued.leaf.serial_number:x} has been revoked",)


def test_the_words_end_with_what_is_wrong(tmp_path: Path) -> None:
    text = in_words(described(tmp_path, leaf_certificate(ROOT, KEY), hours=2), NOW + 2 * HOUR)
    assert "UTC, expired\n" in text
    assert text.splitlines()[-1].startswith("  PROBLEM: spiffe://cluster.local/ns/default/sa/reviews has expired on ")
