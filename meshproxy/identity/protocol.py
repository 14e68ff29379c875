"""What a CA and a workload say to each other over HTTPS: `docs/identity.md` has it for people.

One request: `POST /v1/certificates` with a signing request in PEM. A join token (`Authorization: Bearer TOKEN`) admits
a workload's first, its present certificate (mutual TLS) every later one. The answer is JSON: what was issued, or why
nothing was.
"""

from __future__ import annotations

import json

from . import certificates, revocation
from .credentials import Issued
from .errors import Unusable

PATH = "/v1/certificates"
CONTENT_TYPE = "application/pkcs10"
DEFAULT_PORT = 15012
MAX_ANSWER = 4 * 1024 * 1024
TIMEOUT_S = 20.0
"""Within this time a connection's whole exchange is over, handshake included."""


def issued_body(identity: str, issued: Issued) -> bytes:
    """The answer to a signing request that is granted."""
    return _json(
        {
            "identity": identity,
            "notAfter": issued.leaf.not_valid_after_utc.isoformat(),
            "certificateChain": certificates.to_pem(issued.chain).decode(),
            "roots": certificates.to_pem(issued.roots).decode(),
            "crl": revocation.to_pem(issued.crls).decode(),
        }
    )


def refused_body(reason: str) -> bytes:
    """The answer to a request that is refused."""
    return _json({"error": reason})


def parse_issued(body: bytes) -> Issued:
    """Read what a CA has issued. Raises `Unusable`."""
    where = "the CA's answer"
    try:
        fields = json.loads(body)
        chain, roots, crl = (fields[name].encode() for name in ("certificateChain", "roots", "crl"))
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Unusable(f"cannot use {where}: it is not the JSON of a meshproxy CA") from None
    return Issued(
        tuple(certificates.parse_certificates(chain, where)),
        tuple(certificates.parse_certificates(roots, where)),
        tuple(revocation.parse_crls(crl, where)),
    )


def parse_refused(body: bytes) -> str:
    """The reason in an answer that refuses, or what there is in its place."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError):
        return "it gives no reason that a meshproxy CA would"


def _json(fields: dict[str, str]) -> bytes:
    return json.dumps(fields, indent=1).encode() + b"\n"
