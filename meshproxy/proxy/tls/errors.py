"""What goes wrong with TLS, in Envoy's words for access logs, and in words for people.

Envoy tells of a handshake that failed by what BoringSSL says, its error numbers included, so that whoever looks for
those in logs finds ours as well. OpenSSL has most of the names, and other numbers.
"""

from __future__ import annotations

import os
import ssl
from typing import Literal

from ...identity.errors import IdentityError
from .secrets import MissingSecret

Counter = Literal["connection_error", "fail_verify_error", "fail_verify_san", "secrets_not_ready"]
"""What a failure counts for, of `UpstreamTlsStats`."""


class TlsFailed(Exception):
    """A connection could not be secured. `reason` is Envoy's transport failure reason; the text is for people."""

    def __init__(self, reason: str, text: str, counter: Counter = "connection_error") -> None:
        super().__init__(text)
        self.reason = reason
        self.counter = counter


def not_verified(why: str, text: str, counter: Counter = "fail_verify_error") -> TlsFailed:
    """The peer's certificate is refused; `why` is what Envoy says of it."""
    return TlsFailed(_of_boringssl("CERTIFICATE_VERIFY_FAILED", f":verify cert failed: {why}"), text, counter)


def no_secret(error: MissingSecret) -> TlsFailed:
    """Key material that the connection takes is not there."""
    text = f"{error}, and without it no connection is made"
    return TlsFailed("TLS_error:Secret is not supplied by SDS", text, "secrets_not_ready")


def failed(error: OSError | IdentityError) -> TlsFailed:
    """What a handshake raised, as that."""
    if isinstance(error, IdentityError):
        return not_verified(str(error), f"the peer does not prove an identity of the mesh: {error}")
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.removesuffix(".")
        hint = _HINTS.get(error.verify_code, "")
        return not_verified(f"X509_verify_cert: {why}", f"the peer's certificate is refused: {why}{hint}")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) or not isinstance(error, ssl.SSLError):
        errno = None if isinstance(error, ssl.SSLError) else error.errno
        said = os.strerror(errno) if errno else "Connection reset by peer"
        told = "the peer closed the connection" if errno is None else f"the connection broke: {said}"
        return TlsFailed(f"TLS_error:|33554536:system library:OPENSSL_internal:{said}:TLS_error_end", told)
    name = error.reason or "unknown"
    return TlsFailed(_of_boringssl(name), _TEXTS.get(name, f"TLS failed: {name.lower().replace('_', ' ')}"))


def _of_boringssl(name: str, more: str = "") -> str:
    code = _CODES.get(name)
    number = "" if code is None else f"{_LIBRARY + code}:"
    return f"TLS_error:|{number}SSL routines:OPENSSL_internal:{name}{more}:TLS_error_end"


_LIBRARY = 16 << 24  # errors of SSL, not of what it is made of

# BoringSSL's numbers (include/openssl/ssl.h): those of alerts are the alert's and 1000.
_CODES = {
    "CERTIFICATE_VERIFY_FAILED": 125,
    "NO_SHARED_CIPHER": 184,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": 192,
    "UNSUPPORTED_PROTOCOL": 240,
    "WRONG_VERSION_NUMBER": 247,
    "SSLV3_ALERT_UNEXPECTED_MESSAGE": 1010,
    "SSLV3_ALERT_BAD_RECORD_MAC": 1020,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": 1040,
    "SSLV3_ALERT_BAD_CERTIFICATE": 1042,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": 1043,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": 1044,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": 1045,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": 1046,
    "SSLV3_ALERT_ILLEGAL_PARAMETER": 1047,
    "TLSV1_ALERT_UNKNOWN_CA": 1048,
    "TLSV1_ALERT_ACCESS_DENIED": 1049,
    "TLSV1_ALERT_DECODE_ERROR": 1050,
    "TLSV1_ALERT_DECRYPT_ERROR": 1051,
    "TLSV1_ALERT_PROTOCOL_VERSION": 1070,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": 1071,
    "TLSV1_ALERT_INTERNAL_ERROR": 1080,
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": 1120,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": 1116,
}

_TEXTS = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS; is this the port where it does?",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know who signed our certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refused the handshake: it may want a certificate, or other versions",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer and we have no version of TLS in common",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer wants a certificate, and there is none to show",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer says that our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the peer says that our certificate has been revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer says that our certificate is bad",
}

# By X509_V_ERR of openssl/x509_vfy.h.
_NO_ROOT = "; none of the authorities that are trusted here has signed it"
_HINTS = {
    2: _NO_ROOT,
    3: "; there is no revocation list of the authority that signed it",
    12: "; get a new revocation list",
    18: "; it is signed by itself, and not among the authorities that are trusted here",
    19: _NO_ROOT,
    20: _NO_ROOT,
    21: _NO_ROOT,
    26: "; its extended key usage is not that of a server",
}
