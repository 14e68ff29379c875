"""The words in which services speak: a request, a response, and the bodies that may still be on their way.

A service never learns the protocol of either side. Header names are lower case, in the order received; `host` is
no header but `Request.authority`, and what belongs to one connection alone (`connection`, `transfer-encoding` and
their like) is not here at all: each codec writes its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import trio

    from ..splice import Sink
    from ..upstream.retry_rules import RetryRules
    from ..upstream.tries import Tries

Headers = list[tuple[bytes, bytes]]
"""Fields as (lower-case name, value without surrounding white space), in order, repeated names kept apart."""


Claims = Mapping[str, Any]
"""The claims of a JSON Web Token (RFC 7519, section 4), by name, as JSON has them."""


class Body(Protocol):
    """A body that has not all arrived. Whoever holds it reads it to its end or closes it."""

    length: int | None
    """Its bytes, when announced; None when only its end will tell."""

    trailers: Headers
    """The fields that came after it; complete once `receive` has returned `b""`."""

    finished: bool
    """All of it has been handed out."""

    async def receive(self) -> bytes:
        """The next piece, `b""` at the end. Raises `Failure` when the other side breaks off or breaks the protocol."""

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None:
        """Hand as much of what comes next straight to `sink` as pays, perhaps nothing; `receive` has the rest.

        `sent` is told how many bytes were sent. Raises as `receive` does, and what sending raises. A body that is
        changed on its way hands on nothing, and inherits this.
        """

    def receive_nowait(self) -> bytes:
        """What has arrived already, perhaps nothing. Raises as `receive` does."""

    def close(self) -> None:
        """Want no more of it. Harmless at any time, any number of times."""


class Downstream(Protocol):
    """The side a request came from, as far as the far end of the stack needs it."""

    async def send_informational(self, status: int, headers: Headers) -> None:
        """Pass on an interim (1xx) response."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection that requests come by, as far as it says who sends them.

    `peer` is the IP address at its other end, empty for a Unix socket; `peer_address` is that as `ip:port`, and
    `local_address` our own. `peer_names` are what the client's certificate calls it, such as a SPIFFE ID, once that has
    been verified: none without TLS. `server_name` is the one that it asked for (SNI). `client_cert` is what a listener
    that forwards such things tells servers of the client's certificate, if it has shown one. `scheme` is `https` where
    there is TLS.
    """

    peer: bytes
    peer_address: str
    local_address: str
    peer_names: tuple[bytes, ...] = ()
    server_name: bytes = b""
    client_cert: bytes = b""
    scheme: bytes = b"http"


class Request:
    """One request on its way through the services, and what is learnt of it on the way (Envoy's stream info).

    `path` holds the query too, as Envoy's `:path` does. `body` is the bytes themselves when all of them had arrived
    with the head; otherwise a `Body`, and then `nursery` is where a task may send it on while the response comes
    back: it lives until the response has been sent.
    """

    __slots__ = (
        "arrived",
        "authority",
        "body",
        "bytes_received",
        "bytes_sent",
        "cached_route",
        "claims",
        "connection",
        "details",
        "downstream",
        "flags",
        "hash_key",
        "headers",
        "http10",
        "informed",
        "local_address",
        "method",
        "nursery",
        "original_path",
        "path",
        "peer",
        "peer_address",
        "protocol",
        "response_code",
        "retry_rules",
        "route_name",
        "scheme",
        "service_time_ms",
        "started",
        "tries",
        "upgrade",
        "upstream_cluster",
        "upstream_host",
    )

    method: bytes
    path: bytes
    authority: bytes
    scheme: bytes
    headers: Headers
    body: bytes | Body
    nursery: trio.Nursery | None
    downstream: Downstream

    cached_route: Service | None
    """What it goes to, found out before it was changed; not set but where external authorization decides."""
    hash_key: Callable[[], int | None]
    """Its hash, for clusters that balance by it; not set but by a route that has hash policies."""
    upgrade: bytes
    """The protocol the client wants to go on in, such as `websocket`; empty when it does not. Its `body` then is
    whatever it says in that protocol, and must not be sent on before the upgrade was agreed to."""
    http10: bool
    """The client spoke HTTP/1.0."""
    connection: Connection
    peer: bytes
    """The client's IP address, which may not be the connection's; empty for a Unix socket."""
    protocol: bytes
    """What the client spoke, such as `HTTP/1.1`, for those who only tell of it."""
    peer_address: str
    """The client's address, as `ip:port`."""
    local_address: str
    """The address it reached us at, as `ip:port`."""
    claims: Claims | None
    """What its token says, once that has been verified: all of these claims can be relied on."""
    arrived: float
    """When the head was complete, in seconds since the epoch."""
    started: float
    """The same moment on the clock that measures durations, in seconds."""
    original_path: bytes | None
    """The path as it was before a route rewrote it."""
    informed: bool
    """An interim response went to the client: another try could not begin anew."""
    retry_rules: RetryRules | None
    """When it is to be tried again; None for never."""
    tries: Tries | None
    """Its time limits, and the hosts that have had their turn; None while there are none."""
    bytes_received: int
    """Of the request's body, so far."""
    bytes_sent: int
    """Of the response's body, so far."""
    response_code: int
    """The status sent to the client; 0 while there is none."""
    service_time_ms: int
    """From sending the request upstream to the head of the response; -1 when there was none."""
    route_name: str
    upstream_cluster: str
    upstream_host: str
    flags: str
    """Envoy's response flags, such as `NR`; empty when all went well."""
    details: str
    """Envoy's response code details, such as `route_not_found`: why the response is what it is."""

    def __repr__(self) -> str:
        return f"<Request {self.method.decode()} {self.authority.decode()}{self.path.decode()}>"


class Response:
    """The answer to a request. A streaming `body` belongs to whoever holds the response: read it out, or close it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers, body: bytes | Body = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


Service = Callable[[Request], Awaitable[Response]]
"""A server is a function. It answers, or raises `Failure`, at once or when awaited.

One that has nothing to do with the response can be a plain function that returns what the next service returns: a
coroutine less for every request.
"""


name_of = itemgetter(0)
"""A field's name. With `map` it costs a third of a comprehension."""


def header(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first field of that name."""
    for field_name, value in headers:
        if field_name == name:
            return value
    return None


def set_header(headers: Headers, name: bytes, value: bytes) -> None:
    """Give the field `value`: in the place of the first of its name, the others gone; at the end if there is none."""
    if name not in map(name_of, headers):
        headers.append((name, value))
        return
    for index, (field_name, _) in enumerate(headers):
        if field_name == name:
            headers[index] = (name, value)
            headers[index + 1 :] = [field for field in headers[index + 1 :] if field[0] != name]
            return


def remove_headers(headers: Headers, names: frozenset[bytes]) -> Headers:
    """The fields whose names are not among `names`."""
    return [field for field in headers if field[0] not in names]


def claim_at(claims: Any, path: Sequence[str]) -> Any:
    """The claim that `path` leads to, None if there is none."""
    for name in path:
        if not isinstance(claims, dict) or name not in claims:
            return None
        claims = claims[name]
    return claims
