"""The headers by which proxies tell each other of a request: who sent it, how it came, what it is called.

At the edge of the mesh nothing that a client says of itself is believed; inside it, what the edge has said is kept. The
two functions do to which header what Envoy does as Istio sets it up, with `use_remote_address: true` at a gateway and
`false` at a sidecar (no trusted hops, every client external):
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6, inet_ntop

from ...snapshot import SocketAddress
from .message import Headers, Request, header, name_of, remove_headers, set_header

# What steers Envoy, set for itself by the proxy that is asked; from a client it is a forgery, inside the mesh too.
_STEERING = frozenset(
    (
        b"x-envoy-expected-rq-timeout-ms",
        b"x-envoy-force-trace",
        b"x-envoy-hedge-on-per-try-timeout",
        b"x-envoy-internal",
        b"x-envoy-ip-tags",
        b"x-envoy-max-retries",
        b"x-envoy-retriable-header-names",
        b"x-envoy-retriable-status-codes",
        b"x-envoy-retry-grpc-on",
        b"x-envoy-retry-on",
        b"x-envoy-upstream-alt-stat-name",
        b"x-envoy-upstream-rq-per-try-timeout-ms",
        b"x-envoy-upstream-rq-timeout-alt-response",
        b"x-envoy-upstream-rq-timeout-ms",
        b"x-envoy-upstream-stream-duration-ms",
        b"x-forwarded-client-cert",
    )
)
# What one proxy of the mesh tells the next.
_TOLD_INSIDE = frozenset(
    (
        b"x-envoy-decorator-operation",
        b"x-envoy-downstream-service-cluster",
        b"x-envoy-downstream-service-node",
        b"x-envoy-original-host",
        b"x-envoy-original-path",
    )
)
_FORGED_AT_EDGE = _STEERING | _TOLD_INSIDE
_SET_AT_EDGE = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-envoy-external-address", b"x-request-id"))
_CHANGED_AT_EDGE = _FORGED_AT_EDGE | _SET_AT_EDGE


def at_edge(request: Request, request_id: bytes) -> Headers:
    """The headers of a request from outside the mesh, as the mesh shall see them."""
    headers, peer = request.headers, request.peer
    if _CHANGED_AT_EDGE.isdisjoint(map(name_of, headers)):
        return [
            *headers,
            (b"x-forwarded-for", peer),
            (b"x-forwarded-proto", request.scheme),
            (b"x-envoy-external-address", peer),
            (b"x-request-id", request_id),
        ]
    forwarded_for = [value for name, value in headers if name == b"x-forwarded-for" and value]
    headers = remove_headers(headers, _FORGED_AT_EDGE)
    set_header(headers, b"x-forwarded-for", b",".join([*forwarded_for, peer]))
    set_header(headers, b"x-forwarded-proto", request.scheme)
    set_header(headers, b"x-envoy-external-address", peer)
    set_header(headers, b"x-request-id", request_id)
    return headers


def inside(request: Request, request_id: bytes) -> Headers:
    """The headers of a request that an app or another proxy of the mesh sent: only what is missing is added.

    The request's scheme is what x-forwarded-proto says, if it names one, and its client the last address of
    x-forwarded-for, if it ends in one.
    """
    _believe_forwarded_for(request)
    headers = remove_headers(request.headers, _STEERING)
    schemes = [value for name, value in headers if name == b"x-forwarded-proto"]
    if not schemes:
        headers.append((b"x-forwarded-proto", request.scheme))
    elif schemes in ([b"http"], [b"https"]):
        [request.scheme] = schemes
    if header(headers, b"x-request-id") is None:
        headers.append((b"x-request-id", request_id))
    return headers


def _believe_forwarded_for(request: Request) -> None:
    told = [value for name, value in request.headers if name == b"x-forwarded-for"]
    if told:
        try:
            client = ip_address(told[-1].rpartition(b",")[2].strip().decode("ascii", "replace"))
        except ValueError:
            return
        text = _written(client)
        request.peer = text.encode()
        request.peer_address = str(SocketAddress(text, 0))


def _written(address: IPv4Address | IPv6Address) -> str:
    """An address as the system writes it, and Envoy. Python writes an IPv4 address inside an IPv6 one in its own way,
    and since 3.13 in another."""
    if isinstance(address, IPv4Address):
        return inet_ntop(AF_INET, address.packed)
    scope = f"%{address.scope_id}" if address.scope_id else ""
    return inet_ntop(AF_INET6, address.packed) + scope
