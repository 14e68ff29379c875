"""What a route finds in a request to hash, for clusters that send requests of one hash to one host.

The values and their hashes are Envoy's, so that a request meets the same host there: xxHash64 with seed 0, the hashes
of several policies rotated and xored
(https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto, "HashPolicy").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xxhash import xxh64_digest, xxh64_intdigest

from ...snapshot import HashCookie, HashHeader, HashPolicy, HashQueryParameter, HashSourceIp
from ..http.message import Request, Response, Service
from .matchers import header_values, query_parameter

_Hash = Callable[["HashKey"], int | None]
"""The hash of one policy; None where a request has nothing that it could be made of."""


def hashing(policies: Sequence[HashPolicy], service: Service) -> Service:
    """`service`, given requests with a `hash_key`; its responses tell clients the cookies that they are given."""
    hashes = [_hash(policy) for policy in policies]

    async def hashed(request: Request) -> Response:
        request.hash_key = key = HashKey(request, hashes)
        response = await service(request)
        response.headers += [(b"set-cookie", cookie) for cookie in key.cookies]
        return response

    return hashed


class HashKey:
    """The hash of a request, made when it is first asked for: only some clusters balance by it.

    Cookies for those clients that lack one are made then, too.
    """

    __slots__ = ("_hashes", "_known", "_value", "cookies", "request")

    def __init__(self, request: Request, hashes: Sequence[_Hash]) -> None:
        self.request = request
        self.cookies: list[bytes] = []
        self._hashes = hashes
        self._known = False
        self._value: int | None = None

    def __call__(self) -> int | None:
        if not self._known:
            self._known = True
            for hash_of in self._hashes:
                one = hash_of(self)
                if one is not None:
                    before = self._value or 0
                    self._value = (before << 1 & _64_BITS | before >> 63) ^ one
        return self._value


_64_BITS = 2**64 - 1


def _hash(policy: HashPolicy) -> _Hash:
    match policy:
        case HashHeader(name):
            return _header(name)
        case HashCookie():
            return _cookie(policy)
        case HashSourceIp():
            return lambda key: xxh64_intdigest(key.request.peer) if key.request.peer else None
        case HashQueryParameter(name):
            return _query_parameter(name)


def _header(name: str) -> _Hash:
    """Of several fields of one name all count, in whatever order they come: each hash is the seed of the next."""
    values = header_values(name)

    def hashed(key: HashKey) -> int | None:
        found = values(key.request)
        if not found:
            return None
        seed = 0
        for value in sorted(found):
            seed = xxh64_intdigest(value, seed)
        return seed

    return hashed


def _query_parameter(name: str) -> _Hash:
    encoded = name.encode()

    def hashed(key: HashKey) -> int | None:
        value = query_parameter(key.request.path, encoded)
        return None if value is None else xxh64_intdigest(value)

    return hashed


def _cookie(policy: HashCookie) -> _Hash:
    name, ttl_s = policy.name.encode(), policy.ttl_s
    told = b"".join(
        [
            b"; Max-Age=%d" % ttl_s if ttl_s else b"",
            b"; Path=%b" % policy.path.encode() if policy.path else b"",
            *(f"; {name}={value}".encode() if value else f"; {name}".encode() for name, value in policy.attributes),
            b"; HttpOnly",
        ]
    )

    def hashed(key: HashKey) -> int | None:
        value = cookie(key.request, name)
        if value:
            return xxh64_intdigest(value)
        if ttl_s is None:
            return None
        # Of the two ends of the connection: a client that keeps its connection keeps its host, cookies or not.
        ends = (key.request.peer_address + key.request.local_address).encode()
        value = xxh64_digest(ends).hex().encode()
        key.cookies.append(b'%b="%b"%b' % (name, value, told))
        return xxh64_intdigest(value)

    return hashed


def cookie(request: Request, name: bytes) -> bytes:
    """The value of the first cookie of that name, without quotes around it; empty if there is none."""
    for field, value in request.headers:
        if field == b"cookie":
            for pair in value.split(b";"):
                found, equals, text = pair.lstrip(b" ").partition(b"=")
                if equals and found == name:
                    return text[1:-1] if len(text) > 1 and text[:1] == text[-1:] == b'"' else text
    return b""
