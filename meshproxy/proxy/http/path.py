"""Normalisation of a request's path, as Istio's default (`pathNormalization: BASE`) has Envoy do it.

Before anything matches on it, a path is brought to one spelling (RFC 3986, section 6.2.2): `\\` is read as `/`, escapes
of unreserved characters are undone, characters that may not stand bare are escaped, and dot segments are resolved.
`//` stays, and so do `%2F` and `%5C`. The query is left as it is.
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes

from .failures import PATH_NORMALIZATION_FAILED, Failure

_UNUSUAL = re.compile(rb'[%\\"<>^`{|}]|/\.')
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_LONE_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NEW_ESCAPE = re.compile(rb"\x00([0-9A-Fa-f]{2})")
_TO_ESCAPE = re.compile(rb'["<>^`{|}]')
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# `/..;x/` is a dot segment with a parameter (RFC 3986, section 3.3), which some servers take for `/../`.
_DOT_SEGMENT_PARAMETERS = re.compile(rb"(/\.\.?+);[^/]*+")


def normalize(path: bytes) -> bytes:
    """The one spelling of `path`, which may have a query. Raises `Failure` (400) for an escaped NUL."""
    if _UNUSUAL.search(path) is None:
        return path
    path, mark, query = path.partition(b"?")
    path = _DOT_SEGMENT_PARAMETERS.sub(rb"\1", path)
    path = path.replace(b"\\", b"/")
    path = _unescape_unreserved(path)
    path = _TO_ESCAPE.sub(lambda match: quote_from_bytes(match[0], safe=b"").encode(), path)
    return resolve_dot_segments(path) + mark + query


def _unescape_unreserved(path: bytes) -> bytes:
    # A percent sign that begins no escape must not begin one when what follows it has been unescaped. No path holds
    # a NUL, so it can stand for such a sign meanwhile.
    path = _ESCAPE.sub(_unescape, _LONE_PERCENT.sub(b"\0", path))
    return _NEW_ESCAPE.sub(rb"%25\1", path).replace(b"\0", b"%")


def _unescape(escape: re.Match[bytes]) -> bytes:
    code = int(escape[1], 16)
    if code == 0:
        raise Failure(PATH_NORMALIZATION_FAILED)
    return bytes((code,)) if code in _UNRESERVED else escape[0]


def resolve_dot_segments(path: bytes) -> bytes:
    """RFC 3986, section 5.2.4. An empty segment is a segment; above the root there is the root."""
    if b"/." not in path:
        return path
    segments = path.split(b"/")[1:]
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)
