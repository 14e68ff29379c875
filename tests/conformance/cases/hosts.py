"""Which virtual host a request's authority means."""

from __future__ import annotations

from meshproxy.snapshot import DirectResponseAction, Route, RouteMatch, VirtualHost

from ...mesh.support import virtual_service
from ..exchanges import Case, exchange, get, of_hosts, resources


def _host(*domains: str) -> VirtualHost:
    """A virtual host that answers with its first domain."""
    answer = DirectResponseAction(200, domains[0].encode())
    return VirtualHost(domains[0], domains, (Route("", RouteMatch(), answer),))


_DOMAINS = ("example.com", "*.example.com", "*.com", "*-x.example.com", "example.*", "api.*", "api.example.*")
_NAMES = (
    *("example.com", "EXAMPLE.com", "a.example.com", "a.b.example.com", "a-x.example.com", "-x.example.com"),
    *(".example.com", "xexample.com", "other.com", "com", ".com", "example.org", "example.", "example", "api.org"),
    *("api.example.org", "api.example.com", "api.", "example.com.", "example.com:80", "example.com:99999"),
    *("a.example.com:80", "[::1]", "[::1]:80", "10.0.0.1", "user@example.com", "example.com:", "a:b:c", ""),
)

CASES = (
    Case("domains", of_hosts(*map(_host, _DOMAINS)), tuple(get("/", host=name) for name in _NAMES)),
    Case(
        "domains and a last resort",
        of_hosts(_host("example.com"), _host("*")),
        tuple(get("/", host=name) for name in ("example.com", "other", "[::1]:80")),
    ),
    Case(
        "domains with ports",
        of_hosts(
            _host("a.test", "a.test:80"), _host("b.test:81"), _host("*.c.test:80"), _host("d.*"), ignore_port=False
        ),
        tuple(
            get("/", host=name)
            for name in (
                *("a.test", "a.test:80", "a.test:81", "b.test", "b.test:81", "x.c.test:80", "x.c.test", "d.x:99"),
                *("B.TEST:81", "a.test:080"),
            )
        ),
    ),
    Case(
        "hosts of several VirtualServices",
        resources(
            virtual_service("- route: [{destination: {host: a}}]", name="exact", hosts="www.example.com"),
            virtual_service("- route: [{destination: {host: b}}]", name="wild", hosts="'*.example.com'"),
            virtual_service("- route: [{destination: {host: c}}]", name="all", hosts="'*'"),
        ),
        tuple(
            get("/", host=name) for name in ("www.example.com", "x.example.com", "example.com", "www.example.com:8080")
        ),
    ),
    Case(
        "absolute targets",
        of_hosts(_host("example.com"), _host("other.test")),
        (
            exchange("names its own host", b"GET http://example.com/x HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("without Host", b"GET http://example.com/x HTTP/1.1\r\n\r\n"),
            exchange("without Host in HTTP/1.0", b"GET http://example.com/x HTTP/1.0\r\n\r\n"),
            exchange("scheme in upper case", b"GET HTTP://example.com/ HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("without a path", b"GET http://example.com HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("with a query only", b"GET http://example.com?q HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("with a port", b"GET http://example.com:80/ HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("with a user", b"GET http://u:p@example.com/ HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("https", b"GET https://example.com/ HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("ftp", b"GET ftp://example.com/ HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("no host", b"GET http:///x HTTP/1.1\r\nhost: other.test\r\n\r\n"),
            exchange("asterisk", b"OPTIONS * HTTP/1.1\r\nhost: example.com\r\n\r\n"),
            exchange("asterisk for GET", b"GET * HTTP/1.1\r\nhost: example.com\r\n\r\n"),
            exchange("authority for CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n"),
        ),
    ),
)
