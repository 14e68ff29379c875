"""Field lines, which heads and trailers have in common (RFC 9110, section 5; RFC 9112, section 5)."""

from __future__ import annotations

import re

from .message import Headers

# RFC 9110, section 5.6.2:
#   token = 1*tchar
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"

# RFC 9110, section 5.5:
#   field-value = *field-content, of VCHAR, obs-text, SP and HTAB; leading and trailing white space is not part of it
# The white space is taken off afterwards: an expression that looks for it at both ends would have to backtrack.
FIELD_LINE = TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n"

_FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")


def fields_of(block: bytes) -> Headers:
    """The fields of whole field lines, each of which `FIELD_LINE` has matched."""
    fields = _FIELD.findall(block)
    if b" \r\n" in block or b"\t\r\n" in block:
        return [(name.lower(), value.rstrip(b" \t")) for name, value in fields]
    return [(name.lower(), value) for name, value in fields]


# RFC 9110, section 6.5.1: what frames, routes or authenticates a message, or says how to process it, is no trailer; by
# the time it comes, all that has been decided. Nor is what proxies tell each other: the edge has put the head right.
_NOT_IN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect "
    b"forwarded host if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive max-forwards "
    b"proxy-authenticate proxy-authorization proxy-connection range set-cookie te trailer transfer-encoding upgrade "
    b"www-authenticate x-real-ip x-request-id".split()
)


def trailers_of(block: bytes) -> Headers:
    """The fields of a trailer section that may be passed on."""
    return [
        (name, value)
        for name, value in fields_of(block)
        if name not in _NOT_IN_TRAILERS and not name.startswith((b"x-forwarded-", b"x-envoy-"))
    ]
