"""x-forwarded-client-cert, by table; what Envoy writes for the same certificates is compared in tests/conformance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.identity import keys
from meshproxy.proxy.http.client_cert import client_cert_element, rfc2253, told_on
from meshproxy.proxy.http.connection_manager import ConnectionManager
from meshproxy.proxy.http.departures import Departures
from meshproxy.proxy.http.failures import Failure
from meshproxy.proxy.http.message import Request, Response
from meshproxy.proxy.tls.server import principal_names
from meshproxy.snapshot import ClientCertDetails, ForwardClientCert, HttpConnectionManager, RouteConfiguration

from ..identity.support import needs_openssl, openssl
from .made import CONNECTION, Backend, made_request

KEY = keys.generate()
SPIFFE = "spiffe://cluster.local/ns/default/sa/web"
OWN = ("spiffe://cluster.local/ns/default/sa/shop",)
ALL = ClientCertDetails(subject=True, cert=True, uri=True, dns=True)


def certificate(subject: x509.Name, *names: x509.GeneralName) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(KEY, hashes.SHA256())


def attribute(oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(oid, value)


def told(cert: x509.Certificate, details: ClientCertDetails, own: tuple[str, ...] = OWN) -> str:
    """The element, with the sum of the certificate as `#` and its text as `PEM`."""
    element = client_cert_element(cert, own, details).decode()
    pem = element.partition('Cert="')[2].partition('"')[0]
    digest = cert.fingerprint(hashes.SHA256()).hex()
    return element.replace(digest, "#").replace(pem, "PEM") if pem else element.replace(digest, "#")


def test_an_element_tells_what_it_is_asked_to() -> None:
    cert = certificate(x509.Name([attribute(NameOID.COMMON_NAME, "web")]), x509.UniformResourceIdentifier(SPIFFE))

    assert told(cert, ClientCertDetails()) == f"By={OWN[0]};Hash=#"
    assert told(cert, ClientCertDetails(subject=True, uri=True)) == f'By={OWN[0]};Hash=#;Subject="CN=web";URI={SPIFFE}'
    assert told(cert, ALL, ()) == f'Hash=#;Cert="PEM";Subject="CN=web";URI={SPIFFE}'


def test_subject_and_uri_stand_there_also_when_they_are_empty() -> None:
    assert told(certificate(x509.Name([])), ALL, ()) == 'Hash=#;Cert="PEM";Subject="";URI='


def test_each_name_has_a_field_of_its_own() -> None:
    names = [x509.UniformResourceIdentifier(name) for name in ("spiffe://a/b", "https://c")]
    cert = certificate(x509.Name([]), *names, x509.DNSName("d.test"), x509.DNSName("e.test"))

    assert told(cert, ALL, ("spiffe://x/1", "spiffe://x/2")) == (
        'By=spiffe://x/1;By=spiffe://x/2;Hash=#;Cert="PEM";Subject="";URI=spiffe://a/b;URI=https://c;DNS=d.test;DNS=e.test'
    )


def test_the_certificate_is_encoded_so_that_it_is_one_word() -> None:
    element = client_cert_element(certificate(x509.Name([])), (), ClientCertDetails(cert=True)).decode()

    pem = element.partition('Cert="')[2].removesuffix('"')
    assert pem.startswith("-----BEGIN%20CERTIFICATE-----%0A")
    assert pem.endswith("%0A-----END%20CERTIFICATE-----%0A")
    assert not set(pem) & set(' \n+/="')


ELEMENT = b"By=a;Hash=b"
FORGED = [b"By=forged", b"By=again"]


@pytest.mark.parametrize(
    ("mode", "element", "expected"),
    [
        ("SANITIZE", ELEMENT, []),
        ("SANITIZE", b"", []),
        ("FORWARD_ONLY", ELEMENT, [b"By=forged", b"By=again"]),
        ("FORWARD_ONLY", b"", []),
        ("APPEND_FORWARD", ELEMENT, [b"By=forged,By=again,By=a;Hash=b"]),
        ("APPEND_FORWARD", b"", []),
        ("SANITIZE_SET", ELEMENT, [ELEMENT]),
        ("SANITIZE_SET", b"", []),
        ("ALWAYS_FORWARD_ONLY", b"", [b"By=forged", b"By=again"]),
    ],
)
def test_a_client_without_a_certificate_is_believed_by_no_mode_but_the_last(
    mode: ForwardClientCert, element: bytes, expected: list[bytes]
) -> None:
    assert list(told_on(mode, FORGED, element)) == expected


def test_a_request_that_tells_nothing_gets_an_element() -> None:
    assert told_on("APPEND_FORWARD", [], ELEMENT) == [ELEMENT]
    assert told_on("SANITIZE_SET", [], ELEMENT) == [ELEMENT]
    assert told_on("FORWARD_ONLY", [], ELEMENT) == []


@pytest.mark.parametrize("at_the_edge", [True, False])
async def test_a_listener_tells_of_the_connection_that_a_request_came_by(at_the_edge: bool) -> None:
    forged = [(b"x-forwarded-client-cert", b"By=forged"), (b"accept", b"*/*")]
    mode: ForwardClientCert = "SANITIZE_SET" if at_the_edge else "APPEND_FORWARD"
    manager = HttpConnectionManager(
        RouteConfiguration("r", ()), use_remote_address=at_the_edge, forward_client_cert=mode
    )

    async def seen(client_cert: bytes) -> list[bytes]:
        backend = Backend()
        connection = replace(CONNECTION, client_cert=client_cert)
        service = ConnectionManager(manager, backend, _Nobody(), Departures())
        await service(made_request(headers=list(forged), connection=connection))
        return [value for name, value in backend.request.headers if name == b"x-forwarded-client-cert"]

    assert await seen(b"") == []
    assert await seen(ELEMENT) == [ELEMENT if at_the_edge else b"By=forged," + ELEMENT]


class _Nobody:
    """Who is told of requests."""

    def request_finished(self, request: Request) -> None:
        pass

    def head_refused(self, failure: Failure, response: Response, peer: bytes) -> None:
        pass


NAMES = [
    x509.Name([attribute(NameOID.COUNTRY_NAME, "DE"), attribute(NameOID.COMMON_NAME, "a")]),
    x509.Name([attribute(NameOID.COMMON_NAME, ' a,b+c"d\\e<f>g;h=i#j ')]),
    x509.Name([attribute(NameOID.COMMON_NAME, "#x")]),
    x509.Name([attribute(NameOID.COMMON_NAME, "Zoë\t\x7f")]),
    x509.Name([attribute(NameOID.EMAIL_ADDRESS, "a@b.test"), attribute(NameOID.USER_ID, "u")]),
    x509.Name([attribute(x509.ObjectIdentifier("1.2.3.4.5"), "x" * 200)]),
    x509.Name(
        [
            x509.RelativeDistinguishedName([attribute(NameOID.COMMON_NAME, "a")]),
            x509.RelativeDistinguishedName(
                [attribute(NameOID.ORGANIZATION_NAME, "o"), attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "u")]
            ),
        ]
    ),
]


def by_openssl(name: x509.Name, folder: Path) -> str:
    file = folder / "cert.pem"
    file.write_bytes(certificate(name).public_bytes(Encoding.PEM))
    said = openssl("x509", "-in", file, "-noout", "-subject", "-nameopt", "RFC2253")
    return said.removeprefix("subject=").removesuffix("\n")


@needs_openssl
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.rfc4514_string()[:30])
def test_names_are_written_as_openssl_writes_them(name: x509.Name, tmp_path: Path) -> None:
    assert rfc2253(name) == by_openssl(name, tmp_path)


@given(st.text(st.characters(min_codepoint=1, max_codepoint=0x2FF), min_size=1, max_size=32))
@settings(max_examples=200)
def test_no_name_gets_out_of_its_quotes(value: str) -> None:
    written = rfc2253(x509.Name([attribute(NameOID.COMMON_NAME, value)]))

    assert written.isascii()
    assert written.isprintable()
    assert '"' not in written.replace("\\\\", "").replace('\\"', "")


def test_a_certificate_without_names_is_known_by_its_subject_in_the_same_words() -> None:
    assert principal_names(certificate(NAMES[1])) == (rfc2253(NAMES[1]).encode(),)
    assert principal_names(certificate(NAMES[1], x509.DNSName("a.test"))) == (b"a.test",)
