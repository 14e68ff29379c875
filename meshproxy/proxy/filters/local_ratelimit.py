"""Rate limits by token buckets of this proxy's own.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/local_rate_limit_filter
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from ...snapshot import LocalRateLimit, RateLimitDescriptor, TokenBucket
from ..http.failures import LOCAL_RATE_LIMITED, Failure
from ..http.message import Request, Response, Service, header
from .context import FilterContext
from .headers import Change


class Bucket:
    """A token bucket in use: it fills evenly, not in steps, as Envoy's does. `now` is in seconds, on any clock."""

    __slots__ = ("_full_at", "_s_per_token", "max_tokens")

    def __init__(self, config: TokenBucket) -> None:
        self.max_tokens = config.max_tokens
        self._s_per_token = config.fill_interval_s / config.tokens_per_fill
        # All of a bucket's state is when it will be full again: whoever has not been here for long is no special case.
        self._full_at = -math.inf

    def __repr__(self) -> str:
        return f"<Bucket of {self.max_tokens}, a token every {self._s_per_token:g} s>"

    def remaining(self, now: float) -> int:
        """The whole tokens in it."""
        return math.floor(self._tokens(now) + _ROUNDING)

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        full_at = max(self._full_at, now) + self._s_per_token
        if (full_at - now) / self._s_per_token > self.max_tokens + _ROUNDING:
            return False
        self._full_at = full_at
        return True

    def reset_s(self, now: float) -> int:
        """The seconds until the next token, a begun one as a whole; 0 if there is a token."""
        return max(0, math.ceil((1 - self._tokens(now)) * self._s_per_token - _ROUNDING))

    def _tokens(self, now: float) -> float:
        return self.max_tokens - max(0.0, self._full_at - now) / self._s_per_token


_ROUNDING = 1e-3
"""Of a token or a second: one that is due counts as there, whatever binary fractions make of the time."""


class RateLimiter:
    """A limit's buckets."""

    def __init__(self, config: LocalRateLimit) -> None:
        self._default = Bucket(config.token_bucket)
        # The strictest first, so that a request that is refused there takes no token elsewhere.
        descriptors = sorted(config.descriptors, key=_tokens_per_s)
        self._descriptors = [
            _Descriptor(one, [other.value for other in descriptors if other.header == one.header], config)
            for one in descriptors
        ]

    def admit(self, request: Request, now: float) -> tuple[bool, Bucket]:
        """Whether a request may pass, and the bucket that its client is told of."""
        found = [bucket for one in self._descriptors if (bucket := one.bucket(request)) is not None]
        for bucket in (*found, self._default):
            if not bucket.take(now):
                return False, bucket
        return True, found[0] if found else self._default


def _tokens_per_s(descriptor: RateLimitDescriptor) -> float:
    return descriptor.token_bucket.tokens_per_fill / descriptor.token_bucket.fill_interval_s


class _Descriptor:
    """The buckets of the values of a header: of one, or of those that were seen last, for which there is no other."""

    def __init__(self, descriptor: RateLimitDescriptor, values: Sequence[str | None], limit: LocalRateLimit) -> None:
        """`values` are those of all descriptors of the same header."""
        self._header = descriptor.header.encode()
        self._value = None if descriptor.value is None else descriptor.value.encode()
        self._others = frozenset(value.encode() for value in values if value is not None)
        self._config = descriptor.token_bucket
        self._max_buckets = limit.max_dynamic_descriptors
        # By the values' hashes, which nobody outside can foretell: a client may make its values long.
        self._buckets: OrderedDict[int, Bucket] = OrderedDict()

    def bucket(self, request: Request) -> Bucket | None:
        value = header(request.headers, self._header)
        if value is None or (value in self._others if self._value is None else value != self._value):
            return None
        key = hash(value)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._config)
            if len(self._buckets) > self._max_buckets:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket


def local_ratelimit(
    limiter: RateLimiter, context: FilterContext, service: Service, change: Change | None = None
) -> Service:
    """`service`, for as many requests as the limiter admits. Every response tells what is left.

    `change` is made to the answers of those that are refused.
    """

    async def limited(request: Request) -> Response:
        admitted, bucket = limiter.admit(request, context.clock())
        if admitted:
            try:
                response = await service(request)
            except Failure as failure:
                response = failure.respond(request)
        else:
            response = Failure(LOCAL_RATE_LIMITED).respond(request, change([], request) if change else None)
        now = context.clock()
        response.headers += (
            (b"x-ratelimit-limit", b"%d" % bucket.max_tokens),
            (b"x-ratelimit-remaining", b"%d" % bucket.remaining(now)),
            (b"x-ratelimit-reset", b"%d" % bucket.reset_s(now)),
        )
        return response

    return limited
