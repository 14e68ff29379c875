"""x-forwarded-client-cert: what a proxy tells the server of the client's certificate, as Envoy writes it.

    By=URI;Hash=SHA-256;Cert="PEM";Subject="NAME";URI=URI;DNS=NAME

Sources: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert
and Envoy's `mutateXfccRequestHeader`. Nothing is read out of such a header here: it is passed on or not, as a whole, so
that there is nothing in it to stumble over.

Rule: who showed no certificate that has been verified is not believed a word of the header.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ...snapshot import ClientCertDetails, ForwardClientCert
from .message import Headers, Request

NAME = b"x-forwarded-client-cert"

Forwarding = Callable[[Request, bytes], Headers]
"""What makes a request's headers what they shall be upstream; it takes this one away (`forwarded`)."""


def telling_client_cert(mode: ForwardClientCert, forwarding: Forwarding) -> Forwarding:
    """The same, with what goes on to the server of the client's certificate."""
    if mode == "SANITIZE":
        return forwarding

    def forward(request: Request, request_id: bytes) -> Headers:
        told = [value for name, value in request.headers if name == NAME]
        headers = forwarding(request, request_id)
        headers += [(NAME, value) for value in told_on(mode, told, request.connection.client_cert)]
        return headers

    return forward


def told_on(mode: ForwardClientCert, told: Sequence[bytes], element: bytes) -> Sequence[bytes]:
    """The values of the header that go on to the server, of those that a client has `told`.

    `element` tells of the client's certificate; it is empty when none was shown.
    """
    if mode == "ALWAYS_FORWARD_ONLY":
        return told
    if not element or mode == "SANITIZE":
        return ()
    if mode == "FORWARD_ONLY":
        return told
    return [b",".join([*told, element]) if mode == "APPEND_FORWARD" else element]


def client_cert_element(peer: x509.Certificate, local_uris: Sequence[str], details: ClientCertDetails) -> bytes:
    """What is told of a client that showed the certificate `peer` to a proxy whose own has the names `local_uris`."""
    parts = [*(f"By={uri}" for uri in local_uris), f"Hash={peer.fingerprint(hashes.SHA256()).hex()}"]
    if details.cert:
        parts.append(f'Cert="{_encoded(peer.public_bytes(Encoding.PEM).decode())}"')
    if details.subject:
        parts.append(f'Subject="{rfc2253(peer.subject)}"')
    if details.uri:
        parts += [f"URI={uri}" for uri in alternative_names(peer, x509.UniformResourceIdentifier)] or ["URI="]
    if details.dns:
        parts += [f"DNS={name}" for name in alternative_names(peer, x509.DNSName)]
    return ";".join(parts).encode("utf-8", "replace")


def alternative_names(
    certificate: x509.Certificate, kind: type[x509.UniformResourceIdentifier] | type[x509.DNSName]
) -> list[str]:
    """The subject alternative names of one kind; none where they cannot be read."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return list(names.get_values_for_type(kind))


def _encoded(pem: str) -> str:
    for character, escape in (("\n", "%0A"), (" ", "%20"), ("+", "%2B"), ("/", "%2F"), ("=", "%3D")):
        pem = pem.replace(character, escape)
    return pem


# What OpenSSL calls them; any other attribute is written as its OID and the bytes of its value.
_SHORT_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.COUNTRY_NAME: "C",
    NameOID.LOCALITY_NAME: "L",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.STREET_ADDRESS: "street",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.SERIAL_NUMBER: "serialNumber",
    NameOID.SURNAME: "SN",
    NameOID.GIVEN_NAME: "GN",
    NameOID.TITLE: "title",
    NameOID.INITIALS: "initials",
    NameOID.GENERATION_QUALIFIER: "generationQualifier",
    NameOID.DN_QUALIFIER: "dnQualifier",
    NameOID.PSEUDONYM: "pseudonym",
    NameOID.USER_ID: "UID",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.EMAIL_ADDRESS: "emailAddress",
    NameOID.POSTAL_CODE: "postalCode",
}


def rfc2253(name: x509.Name) -> str:
    """A distinguished name as RFC 2253 has it, the last part first, in OpenSSL's way (`XN_FLAG_RFC2253`)."""
    return ",".join("+".join(map(_attribute, reversed(list(part)))) for part in reversed(name.rdns))


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> str:
    short = _SHORT_NAMES.get(attribute.oid)
    value = attribute.value
    if short is None or isinstance(value, bytes):
        # Only a name of a single attribute gives its encoding away: SEQUENCE, SET, SEQUENCE, OID, and then the value.
        return f"{short or attribute.oid.dotted_string}=#{_value_der(attribute).hex().upper()}"
    return f"{short}={_escaped(value)}"


def _value_der(attribute: x509.NameAttribute[str | bytes]) -> bytes:
    inner = x509.Name([attribute]).public_bytes()
    for _ in range(3):
        inner = _content(inner)[0]
    return _content(inner)[1]


def _content(der: bytes) -> tuple[bytes, bytes]:
    """What is in the first element, and what stands behind it."""
    length, start = der[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(der[2:start], "big")
    return der[start : start + length], der[start + length :]


def _escaped(value: str) -> str:
    data = value.encode("utf-8", "replace")
    return "".join(_escapes(data))


def _escapes(data: bytes) -> Iterator[str]:
    for place, byte in enumerate(data):
        first, last = place == 0, place == len(data) - 1
        if byte < 0x20 or byte >= 0x7F:
            yield f"\\{byte:02X}"
        elif byte in b',+"\\<>;' or (byte == 0x20 and (first or last)) or (byte == 0x23 and first):
            yield f"\\{chr(byte)}"
        else:
            yield chr(byte)
