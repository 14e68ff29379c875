"""What was seen of an exchange, and how two observations differ."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Literal

from .exchanges import Exchange

Headers = dict[str, tuple[str, ...]]
"""By name; the fields of one name in their order. The order of the names is nobody's business (RFC 9110, 5.3)."""
End = Literal["open", "closed", "silent"]


@dataclass(frozen=True)
class Message:
    """A request or a response. `whole` tells that its body was complete."""

    line: str
    headers: Headers
    body: bytes = b""
    trailers: tuple[tuple[str, str], ...] = ()
    whole: bool = True

    @property
    def status(self) -> int:
        """A response's."""
        return int(self.line.split(" ")[1])


@dataclass(frozen=True)
class Observation:
    """What one proxy made of an exchange.

    `responses` holds interim ones too. `received` is every complete request that reached a backend, with the backend's
    name: how far one came that was broken off is a matter of time. `end` is what became of the client's connection: it
    was `open` and answered another request, it was `closed`, or nothing more came.
    """

    responses: tuple[Message, ...]
    received: tuple[tuple[str, Message], ...]
    tunnel: bytes
    stray: bytes
    end: End


@dataclass(frozen=True)
class Pair:
    """An exchange, as Envoy and as meshproxy carried it out."""

    exchange: Exchange
    envoy: Observation
    ours: Observation


@dataclass(frozen=True)
class Finding:
    """One thing that differs, by its place, such as `response 0 header server`; None where there is nothing."""

    place: str
    envoy: object
    ours: object

    def __str__(self) -> str:
        return f"{self.place}\n    Envoy     {self.envoy!r}\n    meshproxy {self.ours!r}"


_MISSING = Message("", {})


def compare(envoy: Observation, ours: Observation) -> list[Finding]:
    """Everything in which they differ."""
    return [
        *_messages("response", envoy.responses, ours.responses),
        *_value("received by", [name for name, _ in envoy.received], [name for name, _ in ours.received]),
        *_messages("received", [one for _, one in envoy.received], [one for _, one in ours.received]),
        *_value("tunnel", envoy.tunnel, ours.tunnel),
        *_value("stray bytes", envoy.stray, ours.stray),
        *_value("connection", envoy.end, ours.end),
    ]


def _value(place: str, envoy: object, ours: object) -> Iterator[Finding]:
    if envoy != ours:
        yield Finding(place, envoy, ours)


def _messages(kind: str, envoy: Iterable[Message], ours: Iterable[Message]) -> Iterator[Finding]:
    envoy, ours = list(envoy), list(ours)
    yield from _value(f"{kind}s", len(envoy), len(ours))
    for number, (theirs, own) in enumerate(zip(envoy, ours, strict=False)):
        place = f"{kind} {number}"
        for field in fields(Message):
            # How much of a body came that was broken off is a matter of time.
            if field.name != "headers" and (field.name != "body" or theirs.whole or own.whole):
                yield from _value(f"{place} {field.name}", getattr(theirs, field.name), getattr(own, field.name))
        for name in sorted(theirs.headers.keys() | own.headers.keys()):
            yield from _value(f"{place} header {name}", theirs.headers.get(name), own.headers.get(name))


_VARYING = (
    (re.compile(r"^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$"), "<DATE>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "<UUID>"),
)


def headers_of(pairs: Iterable[tuple[str, str]], here: dict[str, str]) -> Headers:
    """Headers by name, with what differs from run to run replaced; `here` are addresses that do."""
    found: Headers = {}
    for name, value in pairs:
        found[name] = (*found.get(name, ()), _stable(name, value, here))
    return found


def _stable(name: str, value: str, here: dict[str, str]) -> str:
    if name == "x-envoy-upstream-service-time" and value.isdigit():
        return "<MS>"
    for address, label in here.items():
        value = value.replace(address, label)
    for pattern, label in _VARYING:
        value = pattern.sub(label, value)
    return value
