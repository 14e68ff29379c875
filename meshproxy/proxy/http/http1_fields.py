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
