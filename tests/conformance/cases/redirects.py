"""Redirects and direct responses."""

from __future__ import annotations

from meshproxy.snapshot import HeaderMutations, HeaderValue, Prefix, RedirectAction, Route, RouteMatch, VirtualHost

from ..exchanges import Case, Exchange, exchange, forward, get, head, of_hosts, request, routed, rules


def _redirect(fields: str, *exchanges: Exchange, match: str = "{uri: {prefix: /a}}") -> Case:
    return Case(f"redirect {fields}", rules(f"- match: [{match}]\n  redirect: {fields}"), exchanges)


def _answer(fields: str, *exchanges: Exchange) -> Case:
    return Case(f"answer {fields}", rules(f"- directResponse: {fields}"), exchanges)


_GRPC = "content-type: application/grpc"

_SECURED = VirtualHost("secured", ("example.com",), (forward("a"),), require_tls=True)
_TO_TLS = (
    get("/"),
    get("/a/../b?c=d"),
    get("/", host="example.com:8080"),
    get("/", host="EXAMPLE.com:80"),
    get("/", "x-forwarded-proto: https", name="x-forwarded-proto says https"),
    get("/", "x-forwarded-proto: http"),
    get("/", _GRPC),
    request("HEAD", "/a"),
    request("POST", "/a", "content-length: 0"),
)

CASES = (
    Case("TLS required at the edge", of_hosts(_SECURED), _TO_TLS),
    Case("TLS required inside", of_hosts(_SECURED, use_remote_address=False), _TO_TLS),
    Case(
        "TLS required without a route",
        of_hosts(VirtualHost("secured", ("example.com",), (), require_tls=True)),
        (get("/"), get("/a", host="other.test")),
    ),
    _redirect(
        "{uri: /new}",
        *map(get, ("/a", "/a?q=1", "/ab", "/a/../a//x?y#", "/b")),
        get("/a", host="example.com:8080"),
        get("/a", host="EXAMPLE.com"),
        get("/a", "x-forwarded-proto: https", name="x-forwarded-proto is not believed"),
        request("POST", "/a", "content-length: 0"),
        get("/a", _GRPC),
    ),
    _redirect("{uri: '/new?z=1'}", get("/a"), get("/a?q=1")),
    _redirect("{uri: /new}", get("/a", "connection: close"), match="{uri: {exact: /a}}"),
    _redirect("{uri: '%PREFIX()%/x'}", get("/a/b"), get("/a"), get("/a?q=1"), match="{uri: {prefix: /a/}}"),
    _redirect("{authority: other.test}", get("/a/b?q=1"), get("/a", host="example.com:81")),
    _redirect("{authority: 'other.test:81'}", get("/a/b?q=1")),
    _redirect("{scheme: https}", get("/a"), get("/a", host="example.com:80"), get("/a", host="example.com:8080")),
    _redirect("{port: 8443}", get("/a"), get("/a", host="example.com:8080")),
    _redirect("{port: 80}", get("/a")),
    _redirect("{port: 443, scheme: https}", get("/a")),
    _redirect("{derivePort: FROM_REQUEST_PORT, authority: other.test}", get("/a"), get("/a", host="example.com:8080")),
    _redirect("{derivePort: FROM_PROTOCOL_DEFAULT, scheme: https}", get("/a", host="example.com:8080")),
    *(_redirect(f"{{uri: /new, redirectCode: {code}}}", get("/a")) for code in (301, 302, 303, 307, 308)),
    _answer(
        "{status: 200, body: {string: 'here'}}",
        get("/"),
        request("DELETE", "/"),
        request("HEAD", "/"),
        get("/", "connection: close"),
        get("/", _GRPC),
    ),
    _answer("{status: 503}", get("/"), get("/", _GRPC)),
    _answer("{status: 204}", get("/")),
    _answer("{status: 204, body: {string: 'here'}}", get("/")),
    _answer("{status: 404}", get("/", _GRPC, _GRPC), get("/", "content-type: application/grpc+json")),
    _answer("{status: 404, body: {string: 'caf\u00e9'}}", get("/")),
    Case(
        "answer with headers",
        rules("""
- directResponse: {status: 200, body: {string: '{}'}}
  headers:
    response:
      set: {content-type: application/json, x-set: '1', server: me}
      add: {x-add: '2', x-set: '3'}
      remove: [date, x-none]
"""),
        (get("/"),),
    ),
    Case(
        "redirect that quotes the path",
        routed(
            Route(
                "",
                RouteMatch(Prefix("/a")),
                RedirectAction(prefix_rewrite="/new"),
                response_headers=HeaderMutations((), (HeaderValue("x-path", "%REQ(:path)%"),)),
            )
        ),
        (get("/a/b?q=1"),),
    ),
    Case(
        "redirect with headers",
        rules("""
- redirect: {uri: /new}
  headers: {response: {set: {x-set: '1', location: /mine}, add: {location: /third}}}
"""),
        (get("/"), exchange("pipelined", head("/1") + head("/2"), methods=("GET", "GET"))),
    ),
)
