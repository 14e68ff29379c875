"""Cross-origin resource sharing: preflights are answered here, and responses tell browsers what scripts may read.

It is Envoy's filter, which asks nothing but the origin: whether method and headers of a preflight are allowed, the
browser finds out from the answer (https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/cors_filter,
https://fetch.spec.whatwg.org/#http-cors-protocol).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...snapshot import CorsPolicy
from ..http.failures import Failure
from ..http.message import Headers, Request, Response, Service, set_header
from ..routing.matchers import string_test

_ANY = b"*"


def cors(policy: CorsPolicy, service: Service) -> Service:
    """`service` as scripts of the allowed origins may call it."""
    tests = [string_test(origin) for origin in policy.allow_origins]
    allows_any = any(test(_ANY) for test in tests)
    permission = _permission(policy)
    decoration = _decoration(policy)

    async def preflight(request: Request, origin: bytes, allowed: bool) -> Response:
        request.details = "cors_response"
        headers = permission(request)
        if allowed:
            headers.insert(0, (b"access-control-allow-origin", origin))
            for name, value in decoration:
                set_header(headers, name, value)
        return Response(200, headers)

    async def decorated(request: Request, origin: bytes) -> Response:
        try:
            response = await service(request)
        except Failure as failure:
            response = failure.respond(request)
        set_header(response.headers, b"access-control-allow-origin", origin)
        for name, value in decoration:
            set_header(response.headers, name, value)
        return response

    def sharing(request: Request) -> Awaitable[Response]:
        origin = _joined(request.headers, b"origin")
        if not origin:
            return service(request)
        allowed = allows_any or any(test(origin) for test in tests)
        is_preflight = request.method == b"OPTIONS" and _joined(request.headers, b"access-control-request-method")
        if is_preflight and (allowed or not policy.forward_not_matching_preflights):
            return preflight(request, origin, allowed)
        return decorated(request, origin) if allowed else service(request)

    return sharing


def _decoration(policy: CorsPolicy) -> Headers:
    """What responses say to scripts of any allowed origin."""
    headers: Headers = []
    if policy.allow_credentials:
        headers.append((b"access-control-allow-credentials", b"true"))
    if policy.expose_headers:
        headers.append((b"access-control-expose-headers", ",".join(policy.expose_headers).encode()))
    return headers


def _permission(policy: CorsPolicy) -> Callable[[Request], Headers]:
    """What the answer to a preflight says of requests to come, whatever their origin."""
    parts: list[_Part] = []
    if policy.allow_credentials:
        parts.append(_fixed(b"access-control-allow-credentials", b"true"))
    for name, asked, allowed in (
        (b"access-control-allow-methods", b"access-control-request-method", policy.allow_methods),
        (b"access-control-allow-headers", b"access-control-request-headers", policy.allow_headers),
    ):
        if allowed:
            parts.append(_repeated(name, asked) if allowed == ("*",) else _fixed(name, ",".join(allowed).encode()))
    if policy.max_age_s is not None:
        parts.append(_fixed(b"access-control-max-age", b"%d" % policy.max_age_s))
    return lambda request: [part(request) for part in parts]


_Part = Callable[[Request], tuple[bytes, bytes]]


def _fixed(name: bytes, value: bytes) -> _Part:
    return lambda request: (name, value)


def _repeated(name: bytes, asked: bytes) -> _Part:
    return lambda request: (name, _joined(request.headers, asked))


def _joined(headers: Headers, name: bytes) -> bytes:
    """The value of a field, several of that name joined as Envoy joins them."""
    return b",".join([value for field_name, value in headers if field_name == name])
