"""The texts that go into the head of a message: header names and values, paths, authorities.

Rule: whatever is written here may stand in a head as it is. None of it can end a line or a part of the request
line, so that no configuration makes one message into two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated
from urllib.parse import quote

import re2

from .model import Wrong
from .types import checked

# RFC 9110, section 5.6.2: token = 1*tchar
_TOKEN = re2.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PSEUDO_HEADERS = frozenset((":method", ":scheme", ":authority", ":path", ":status"))
_AUTHORITY = frozenset((":authority", "host"))
# Envoy's command operators: %NAME%, %NAME(arguments)%, %NAME(arguments):length%; %% is a percent sign.
_HEADER_VALUE = re2.compile(r"(?:[^%]|%%|%[A-Z0-9_]+(?:\([^)]*\))?(?::[0-9]+)?%)*")
_CONTROL = re2.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def is_authority(name: str) -> bool:
    """Whether a header name means the request's authority."""
    return name.lower() in _AUTHORITY


_CLAIMS = "@request.auth.claims"


def is_jwt_claim(name: str) -> bool:
    """Whether a header match is really one of a claim of the request's JWT."""
    return name.lower().startswith(_CLAIMS)


def claim_path(name: str) -> tuple[str, ...]:
    """The claim that such a name means, from the outside in; empty if it means none.

    `@request.auth.claims[a][b]` is `b` inside of `a`, and so is `@request.auth.claims.a.b`.
    """
    rest = name[len(_CLAIMS) :]
    if rest.startswith(".") and all(parts := rest[1:].split(".")):
        return tuple(parts)
    if rest.startswith("[") and rest.endswith("]") and all(parts := rest[1:-1].split("][")):
        return tuple(parts)
    return ()


def match_header_error(name: str) -> str | None:
    """Why no request could have a header of this name, pseudo-headers and JWT claims included."""
    if is_jwt_claim(name):
        return None if claim_path(name) else f"{name!r} names no claim; write it as {_CLAIMS}[groups]"
    if name in _PSEUDO_HEADERS or _TOKEN.fullmatch(name):
        return None
    return f"{name!r} is not a header name; use letters, digits and '-'"


def cors_header_error(name: str) -> str | None:
    """Why no CORS policy could name this header; `*` stands for all."""
    if name == "*" or _TOKEN.fullmatch(name):
        return None
    return f"{name!r} is not a header name; use letters, digits and '-', or '*' for all"


def hashed_header_error(name: str) -> str | None:
    """Why no request could be hashed by a header of this name, pseudo-headers included."""
    if name in _PSEUDO_HEADERS or _TOKEN.fullmatch(name):
        return None
    return f"{name!r} is not a header name; use letters, digits and '-'"


def limited_header_error(name: str) -> str | None:
    """Why no request could be told apart by a header of this name."""
    return None if _TOKEN.fullmatch(name) else f"{name!r} is not a header name; use letters, digits and '-'"


def cookie_name_error(name: str) -> str | None:
    """Why no cookie could have this name (RFC 6265, section 4.1.1)."""
    return None if _TOKEN.fullmatch(name) else f"{name!r} is not a cookie's name; use letters, digits, '-' and '_'"


def cookie_attribute_error(text: str) -> str | None:
    """Why the text cannot be part of a cookie's attribute (RFC 6265, section 4.1.1)."""
    if _CONTROL.search(text) or ";" in text:
        return f"{text!r} would end the cookie's attribute; leave out ';' and control characters"
    return None


def header_name_pattern_error(pattern: str) -> str | None:
    """Why no header could have a name like this, with `*` for anything at one of its ends."""
    if pattern == "*":
        return "'*' alone is every header; write the names, or what they begin or end with, as in 'x-*'"
    name = pattern[1:] if pattern.startswith("*") else pattern.removesuffix("*")
    if "*" in name:
        return f"{pattern!r} has a '*' inside; it can stand at the start or at the end, once"
    return None if _TOKEN.fullmatch(name) else f"{pattern!r} is not a header name; use letters, digits and '-'"


def header_value_error(value: str) -> str | None:
    """Why Envoy would refuse the value of a header that is set or added."""
    if _CONTROL.search(value):
        return f"{value!r} holds a control character; header values are one line of text"
    if not _HEADER_VALUE.fullmatch(value):
        return f"{value!r} has a '%' that begins no command such as %HOSTNAME%; write %% for a percent sign"
    return None


def _changed_header_error(name: str, authority: bool) -> str | None:
    if not name:
        return "a header name cannot be empty"
    if is_authority(name) and authority:
        return None
    if is_authority(name):
        return f"{name!r} can only be set in a request; use headers.request.set or rewrite.authority"
    if name.startswith(":"):
        return f"{name!r} is a pseudo-header, which cannot be changed here; rewrite the uri or authority instead"
    return None if _TOKEN.fullmatch(name) else f"{name!r} is not a header name; use letters, digits and '-'"


def header_errors(headers: dict[str, str], *, authority: bool) -> Iterable[Wrong]:
    """What is wrong with headers to set or add; `authority` says whether Host is among the allowed."""
    for name, value in headers.items():
        value_error = authority_error if is_authority(name) else header_value_error
        reason = _changed_header_error(name, authority) or value_error(value)
        if reason is not None:
            yield (name,), reason


def removed_header_errors(names: Iterable[str]) -> Iterable[Wrong]:
    """What is wrong with the names of headers to remove."""
    for index, name in enumerate(names):
        reason = _changed_header_error(name, False)
        if reason is not None:
            yield (index,), reason


# RFC 3986, section 2: a URI is written in visible ASCII; the rest is percent-encoded.
_NOT_IN_URIS = re2.compile(r"[^!-~]")
# RFC 3986, section 3.2, without userinfo, which RFC 9110, section 4.2.4, wants gone: host [ ":" port ], where
# host = IP-literal / IPv4address / reg-name and reg-name = *( unreserved / pct-encoded / sub-delims )
_AUTHORITY_TEXT = re2.compile(r"(?:\[[0-9A-Za-z:.%_~-]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")


def uri_error(uri: str) -> str | None:
    """Why the text cannot be, or be in, the path of a request line or of a Location header."""
    wrong = _NOT_IN_URIS.search(uri)
    if wrong is None:
        return None
    return f"{uri!r} holds {wrong[0]!r}, which cannot stand in a path; write it as {quote(wrong[0])}"


def authority_error(authority: str) -> str | None:
    """Why the text is no authority of a request: host and port, no user."""
    if _AUTHORITY_TEXT.fullmatch(authority):
        return None
    return f"{authority!r} is not an authority; write a host, or host:port, without spaces, as in example.com:8080"


UriText = Annotated[str, checked(uri_error)]
Authority = Annotated[str, checked(authority_error)]
