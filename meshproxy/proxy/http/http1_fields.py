"""Field lines, which heads and trailers have in common (RFC 9110, section 5; RFC 9112, section 5)."""

from __future__ import annotations

import re

from .message import Headers

Field = tuple[bytes, bytes]
"""A lower-case name, and a value without the white space around it."""

# RFC 9110, section 5.6.2:
#   token = 1*tchar
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"

# RFC 9110, section 5.5:
#   field-value = *field-content, of VCHAR, obs-text, SP and HTAB; leading and trailing white space is not part of it
# That at its end is taken off afterwards: an expression that looks for it at both ends would have to backtrack.
_FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)\Z")


def field(line: bytes) -> Field:
    """What a field line, without its CRLF, says. Raises `ValueError` when it is none."""
    match = _FIELD.match(line)
    if match is None:
        raise ValueError("not a field line")
    name, value = match.groups()
    return name.lower(), value.rstrip(b" \t")


# Fields that say the same in message after message; no other is kept, least of all one that may hold a secret.
_RECURRING = frozenset(
    b"accept accept-charset accept-encoding accept-language accept-ranges access-control-allow-credentials "
    b"access-control-allow-headers access-control-allow-methods access-control-allow-origin access-control-max-age "
    b"cache-control connection content-encoding content-language content-length content-security-policy content-type "
    b"date dnt host keep-alive origin pragma priority referrer-policy sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
    b"sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc server strict-transport-security te "
    b"transfer-encoding upgrade-insecure-requests user-agent vary via x-content-type-options x-forwarded-proto "
    b"x-frame-options x-powered-by x-requested-with".split()
)
_MAX_KNOWN = 1024
_MAX_KNOWN_LINE = 256


class KnownFields(dict[bytes, Field]):
    """Field lines met before, and what each says: the lines of a head are mostly those of the head before it.

    Looking one up costs a quarter of reading it. (HPACK's dynamic table is the same thought: RFC 7541, section 2.3.2.)
    """

    def __missing__(self, line: bytes) -> Field:
        said = field(line)
        if said[0] in _RECURRING and len(line) <= _MAX_KNOWN_LINE:
            if len(self) >= _MAX_KNOWN:
                self.clear()
            self[line] = said
        return said


# RFC 9110, section 6.5.1: what frames, routes or authenticates a message, or says how to process it, is no trailer; by
# the time it comes, all that has been decided. Nor is what proxies tell each other: the edge has put the head right.
_NOT_IN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect "
    b"forwarded host if-match if-modified-since if-none-match if-range if-unmodified-since keep-alive max-forwards "
    b"proxy-authenticate proxy-authorization proxy-connection range set-cookie te trailer transfer-encoding upgrade "
    b"www-authenticate x-real-ip x-request-id".split()
)


def trailers_of(block: bytes) -> Headers:
    """The fields of a trailer section that may be passed on. Raises `ValueError` when a line of it is no field line."""
    return [
        (name, value)
        for name, value in map(field, block.split(b"\r\n")[:-1])
        if name not in _NOT_IN_TRAILERS and not name.startswith((b"x-forwarded-", b"x-envoy-"))
    ]
