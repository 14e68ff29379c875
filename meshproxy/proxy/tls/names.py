"""Names: which server a request is for, and whether a certificate has a name that will do.

Envoy's rules (source/common/tls/utility.cc, `dnsNameMatch`; router.cc, automatic SNI). A DNS name is compared without
regard to case; a `*` in a certificate stands for anything within the first label of a name, if there are others.
Everything else is compared letter by letter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, NamedTuple

import re2

from ...snapshot import Exact, Prefix, Regex, Suffix, ValueMatcher

MAX_SERVER_NAME = 255


class ServerName(NamedTuple):
    """The server that a request is for: `host` as its certificate has to call it, `sni` as TLS can ask for it.

    There is no asking for an IP address (RFC 6066, section 3), nor for what is no name: `sni` is then empty. All that
    have the same `key` are one server.
    """

    host: str
    sni: str
    key: str


@lru_cache(maxsize=1024)
def server_name(authority: bytes) -> ServerName:
    """The server that an authority names: without its port, and without brackets."""
    text = authority.decode("latin-1")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or not (port.isdigit() or not port):
        host = text
    host = host.removeprefix("[").removesuffix("]")
    return ServerName(host, host if _can_be_asked_for(host) else "", host.lower())


def _can_be_asked_for(host: str) -> bool:
    if not 0 < len(host) <= MAX_SERVER_NAME or not host.isascii() or not host.isprintable() or host.startswith("."):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


class AlternativeName(NamedTuple):
    """A name in a certificate; `kind` is `DNS`, `URI`, `IP Address` or `email`."""

    kind: str
    value: str


KINDS = frozenset(("DNS", "URI", "IP Address", "email"))


def alternative_names(certificate: dict[str, Any] | None) -> Sequence[AlternativeName]:
    """The names of a certificate, as `ssl.SSLSocket.getpeercert` tells of it."""
    names = (certificate or {}).get("subjectAltName", ())
    return [AlternativeName(kind, value) for kind, value in names if kind in KINDS]


def has_name(names: Iterable[AlternativeName], wanted: str) -> bool:
    """Whether one of a certificate's names is `wanted`, the name of a server, an IP address or a URI."""
    return any(_is(name, wanted) for name in names)


def meets(names: Collection[AlternativeName], matchers: Iterable[ValueMatcher]) -> bool:
    """Whether one of a certificate's names meets one of the matchers."""
    return any(_meets(name, matcher) for matcher in matchers for name in names)


def _is(name: AlternativeName, wanted: str) -> bool:
    if name.kind == "DNS":
        return dns_name_matches(wanted, name.value)
    if name.kind == "IP Address":
        return _same_address(name.value, wanted)
    return name.value == wanted


def _meets(name: AlternativeName, matcher: ValueMatcher) -> bool:
    match matcher:
        case Exact(value):
            return _is(name, value)
        case Prefix(value):
            return name.value.startswith(value)
        case Suffix(value):
            return name.value.endswith(value)
        case Regex(value):
            return re2.fullmatch(value, name.value) is not None


def _same_address(one: str, other: str) -> bool:
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return False


def dns_name_matches(name: str, pattern: str) -> bool:
    """Whether a certificate for `pattern` is one for `name`."""
    name, pattern = name.lower(), pattern.lower()
    if name == pattern:
        return True
    label, dot, rest = name.partition(".")
    wild, dotted, domain = pattern.partition(".")
    if not (dot and dotted) or rest != domain or "*" in domain or wild.startswith("xn--"):
        return False
    before, star, after = wild.partition("*")
    return (
        bool(star)
        and ("*" not in after)
        and len(label) >= len(before) + len(after)
        and label.startswith(before)
        and label.endswith(after)
    )
