"""TrafficLimit: how many requests may come, and how large their bodies may be.

It is a kind of meshproxy's own, for Istio has no field for either: there, people write an EnvoyFilter. Its words are
those of Envoy's local rate limit and buffer filters, and of Istio's resources for where it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field

from .heads import limited_header_error
from .model import Model, Ruled, Wrong
from .targets import WorkloadLabels
from .types import HostOrIP, PositiveDuration, Text, checked
from .virtual_service import GatewayNames

_MAX = 2**32 - 1
_LEAST_FILL_INTERVAL_S = 0.05  # Envoy's

Count = Annotated[int, Field(strict=True, ge=1, le=_MAX)]


def _slow_enough(interval: float) -> float:
    if interval < _LEAST_FILL_INTERVAL_S:
        raise ValueError("a bucket is filled every 50ms at most; let more tokens come at a time")
    return interval


class TokenBucket(Model):
    """Holds `max_tokens` at first and at most. `tokens_per_fill`, 1 if not given, come in each `fill_interval`,
    spread evenly over it. A request takes one."""

    max_tokens: Count
    tokens_per_fill: Count | None = None
    fill_interval: Annotated[PositiveDuration, AfterValidator(_slow_enough)]


class HeaderLimit(Model):
    """A bucket for the requests whose header has this value; without `value`, one for each value that comes."""

    name: Annotated[str, checked(limited_header_error), AfterValidator(str.lower)]
    value: Text | None = None
    token_bucket: TokenBucket


class RateLimit(Ruled):
    """How many requests may pass: each takes a token of `token_bucket`, and of one for each header that it has."""

    token_bucket: TokenBucket
    headers: tuple[HeaderLimit, ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        seen: set[tuple[str, str | None]] = set()
        for index, header in enumerate(self.headers):
            if (header.name, header.value) in seen:
                which = f"value {header.value!r}" if header.value else "each value"
                yield ("headers", index), f"there is already a bucket for {which} of {header.name}; keep one"
            seen.add((header.name, header.value))


class RequestBuffer(Model):
    """Collect the body of a request before it is sent on; one of more bytes than these is refused."""

    max_request_bytes: Count


class TrafficLimit(Ruled):
    """Bounds what comes by some gateways (`mesh` means sidecars, for what their apps send) or, with `selector`, to some
    workloads. `hosts` and `routes` narrow it to requests for these hosts, and to routes of these names.

    Each listener, virtual host or route that it is for has buckets of its own. Of several limits, only the most
    specific holds: that of the route, else of the host, else of the listener; and of equals the oldest.
    """

    gateways: GatewayNames = ()
    selector: WorkloadLabels | None = None
    hosts: tuple[HostOrIP, ...] = ()
    routes: tuple[Text, ...] = ()
    rate_limit: RateLimit | None = None
    buffer: RequestBuffer | None = None

    def broken_rules(self) -> Iterator[Wrong]:
        if not (self.gateways or self.selector):
            yield (), "says not whom it is for; give gateways, or a selector of workloads"
        if self.rate_limit is None and self.buffer is None:
            yield (), "limits nothing; give rateLimit or buffer"
        if self.selector and not self.gateways:
            for name, given in (("hosts", self.hosts), ("routes", self.routes)):
                if given:
                    yield (name,), f"{name} narrow what comes by gateways; to a workload there is one route only"
