"""Sets, adds and removes headers, on the way in and on the way out.

As in Envoy, a header that is set loses all its former values and moves to the end; levels are applied one after the
other, the destination's before the route's, so that the route has the last word
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#custom-request-response-headers).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime

from ...snapshot import HEADER_OPERATORS, HeaderMutations, HeaderValue
from ..http.failures import Failure
from ..http.message import Headers, Request, Response, Service, header, remove_headers

Value = Callable[[Request], bytes]
Change = Callable[[Headers, Request], Headers]


def request_headers(levels: Sequence[HeaderMutations], service: Service) -> Service:
    """`service`, given requests with changed headers."""
    changes = _changes(levels)
    if not changes:
        return service

    def changing(request: Request) -> Awaitable[Response]:
        # Values quote the request as the changes before them have left it.
        for change in changes:
            request.headers = change(request.headers, request)
        return service(request)

    return changing


def request_change(levels: Sequence[HeaderMutations]) -> Change | None:
    """All levels' changes to a request as one; None when there are none."""
    return _one(_changes(levels))


def response_headers(levels: Sequence[HeaderMutations], service: Service) -> Service:
    """`service`, its responses with changed headers; a failure's response is changed as any other.

    A failure's own headers come after the changes, which can neither remove them nor falsify them, as in Envoy.
    """
    change = response_change(levels)
    if change is None:
        return service

    async def changing(request: Request) -> Response:
        try:
            response = await service(request)
        except Failure as failure:
            return failure.respond(request, change([], request))
        response.headers = change(response.headers, request)
        return response

    return changing


def refusal_headers(levels: Sequence[HeaderMutations], service: Service) -> Service:
    """`service`, which changes the headers of its responses itself: of a failure's as well, those here change them."""
    change = response_change(levels)
    if change is None:
        return service

    async def changing(request: Request) -> Response:
        try:
            return await service(request)
        except Failure as failure:
            return failure.respond(request, change([], request))

    return changing


# How a response is delimited is the connection's affair: a configuration could only break it.
_NOT_FOR_RESPONSES = frozenset(("connection", "transfer-encoding"))


def response_change(levels: Sequence[HeaderMutations]) -> Change | None:
    """All levels' changes to a response as one, without those that Envoy undoes again; None when there are none."""
    changes = _changes(
        HeaderMutations(level.remove, tuple(one for one in level.add if one.name not in _NOT_FOR_RESPONSES))
        for level in levels
    )
    return _one(changes)


def _one(changes: Sequence[Change]) -> Change | None:
    if not changes:
        return None

    def change(headers: Headers, request: Request) -> Headers:
        for one in changes:
            headers = one(headers, request)
        return headers

    return change


def _changes(levels: Iterable[HeaderMutations]) -> list[Change]:
    """What all levels do, in order. Within a level Envoy removes first, then sets, then adds."""
    changes: list[Change] = []
    for level in levels:
        if level.remove:
            changes.append(_removal(level.remove))
        if level.add:
            changes.append(_addition(level.add))
    return changes


def _removal(names: Sequence[str]) -> Change:
    removed = frozenset(name.encode() for name in names)
    return lambda headers, request: remove_headers(headers, removed)


def _addition(values: Sequence[HeaderValue]) -> Change:
    sets = [(one.name.encode(), value(one.value)) for one in values if not one.append]
    adds = [(one.name.encode(), value(one.value)) for one in values if one.append]

    def change(headers: Headers, request: Request) -> Headers:
        # In Envoy a value that comes out empty changes nothing: what it was to replace stays.
        new = {name: text for name, of in sets if (text := of(request))}
        added = [(name, text) for name, of in adds if (text := of(request))]
        return [*(field for field in headers if field[0] not in new), *new.items(), *added]

    return change


_OPERATOR = re.compile(r"%(?:%|([A-Z_]+)(?:\(([^)]*)\))?%)")


def value(text: str) -> Value:
    """A header's value, its command operators replaced at each request."""
    parts: list[Value] = []
    copied = 0
    for found in _OPERATOR.finditer(text):
        parts.append(_constant(text[copied : found.start()]))
        parts.append(_constant("%") if found[1] is None else _operator(found[1], found[2]))
        copied = found.end()
    parts.append(_constant(text[copied:]))
    if copied == 0:
        return parts[-1]
    return lambda request: b"".join([part(request) for part in parts])


def _constant(text: str) -> Value:
    encoded = text.encode()
    return lambda request: encoded


def _operator(name: str, argument: str | None) -> Value:
    if name == "REQ":
        return _request_header((argument or "").lower())
    return _OPERATORS[name]


def _request_header(name: str) -> Value:
    part = _REQUEST_PARTS.get(name)
    if part is not None:
        return part
    key = name.encode()
    return lambda request: header(request.headers, key) or b""


_REQUEST_PARTS: dict[str, Value] = {
    ":method": lambda request: request.method,
    ":authority": lambda request: request.authority,
    "host": lambda request: request.authority,
    ":path": lambda request: request.path,
    ":scheme": lambda request: request.scheme,
}

_HOSTNAME = socket.gethostname().encode()

_OPERATORS: dict[str, Value] = {
    "DOWNSTREAM_LOCAL_ADDRESS": lambda request: request.local_address.encode(),
    "DOWNSTREAM_REMOTE_ADDRESS": lambda request: request.peer_address.encode(),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": lambda request: request.peer,
    "HOSTNAME": lambda request: _HOSTNAME,
    "PROTOCOL": lambda request: request.protocol,
    "ROUTE_NAME": lambda request: request.route_name.encode(),
    "START_TIME": lambda request: _timestamp(request.arrived),
    "UPSTREAM_CLUSTER": lambda request: request.upstream_cluster.encode(),
    "UPSTREAM_HOST": lambda request: request.upstream_host.encode(),
}
assert _OPERATORS.keys() | {"REQ"} == HEADER_OPERATORS


def _timestamp(seconds: float) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()
