"""What many messages hold: addresses, durations, string matchers; and the error for what Envoy has no words for."""

from __future__ import annotations

import ipaddress
from typing import Any

from ..snapshot import Address, Exact, Pipe, Prefix, Regex, StringMatcher, Suffix, ValueMatcher

Message = dict[str, Any]
"""An Envoy message as JSON-ready data."""

UINT32_MAX = 2**32 - 1

SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
"""The authorities that the machine trusts, where Debian, and so Envoy's own image, has them."""


class Inexpressible(ValueError):
    """Envoy has no words for something in the snapshot. The message names it, and says why."""


def typed(name: str, **fields: Any) -> Message:
    """A message in a `google.protobuf.Any`; `name` is its type's, without the package that all share."""
    return {"@type": f"type.googleapis.com/envoy.{name}", **fields}


def address(where: Address) -> Message:
    """`core.v3.Address`"""
    if isinstance(where, Pipe):
        return {"pipe": {"path": where.path}}
    return {"socket_address": {"address": where.host, "port_value": where.port}}


def is_ip_address(host: str) -> bool:
    """Whether this is an IP address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def duration(seconds: float) -> str:
    """`google.protobuf.Duration`"""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def limit(seconds: float, what: str) -> str:
    """A duration where Envoy takes 0 for "without limit", which a snapshot does not mean by it."""
    if seconds <= 0:
        raise Inexpressible(f"{what} of {seconds:g} s: Envoy takes 0 for no limit at all; it has to be more")
    return duration(seconds)


def string_matcher(match: StringMatcher) -> Message:
    """`type.matcher.v3.StringMatcher`"""
    if isinstance(match, Exact):
        return {"exact": match.value}
    if isinstance(match, Prefix) and match.value:
        return {"prefix": match.value}
    return {"safe_regex": regex_matcher(match)}


def value_matcher(match: ValueMatcher, ignore_case: bool = False) -> Message:
    """`type.matcher.v3.StringMatcher`, of any kind of matcher."""
    told: Message = {"suffix": match.value} if isinstance(match, Suffix) else string_matcher(match)
    return {**told, "ignore_case": True} if ignore_case else told


def regex_matcher(match: Prefix | Regex) -> Message:
    r"""`type.matcher.v3.RegexMatcher`; also for an empty prefix, which Envoy refuses to read as one.

    Neither may a regular expression be empty. `\C` is any byte at all: values need not be UTF-8.
    """
    if isinstance(match, Prefix):
        assert not match.value
        return {"regex": r"\C*"}
    return {"regex": match.value or "(?:)"}
