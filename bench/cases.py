"""What the proxies are asked to do, and how cheaply meshproxy should do it."""

from __future__ import annotations

from dataclasses import dataclass

from .meshes import AT_GATEWAY, BY_TLS, BY_TLS_EACH, POLICIES, TOKENS, TWO_ROUTES
from .wrk import Report

MB = 1_000_000
SMALL = "/small"
LARGE = "/large"
"""The origin answers here with as many MB as its folder `large` has files for: see `RESPONSES_MB`."""
UPLOAD = "/upload"
RESPONSES_MB = (1, 100)

# What Firefox sends, and a cookie: as Host is wrk's own, ten.
_BROWSER = (
    "user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "accept-language: en-GB,en;q=0.7,de;q=0.3",
    "accept-encoding: gzip, deflate, br, zstd",
    "referer: http://example.com/catalogue?page=2",
    "cookie: session=5f2b1c9e8a7d4e3f9b0c1d2e3f4a5b6c; theme=dark; consent=1",
    "upgrade-insecure-requests: 1",
    "sec-fetch-dest: document",
    "sec-fetch-mode: navigate",
    "priority: u=0, i",
)


@dataclass(frozen=True)
class Case:
    """One kind of load."""

    name: str
    what: str
    """For people, in a few words."""
    connections: int = 32
    path: str = SMALL
    method: str = "GET"
    headers: tuple[str, ...] = ()
    body_bytes: int = 0
    """Of each request."""
    response_bytes: int = 0
    """Of each response, where it is so large that a part of one counts."""
    access_log: bool = False
    mesh: str = TWO_ROUTES
    """What the proxies are configured by, of `meshes.MESHES`."""
    goal: float | None = None
    """The CPU time a request should cost at most, as a ratio to Envoy's."""

    def answered(self, report: Report) -> float:
        """How many requests were answered; of a large response that was not over yet, what had come of it."""
        return report.bytes / self.response_bytes if self.response_bytes else report.requests


ACCESS_CASES = (
    Case("plain", "small GET that nothing is decided about"),
    Case("token", "the same with a token that has been seen", headers=("authorization: Bearer {token}",), mesh=TOKENS),
    Case("policies", "the same behind 1,000 rules of which one allows it", mesh=POLICIES),
)
"""What access control costs. `{token}` stands for a token."""

TLS_CASES = (
    Case("plain", "small GET, endpoints asked in plain text"),
    Case("tls", "the same by TLS, connections kept", mesh=BY_TLS),
    Case("tls-large", "response of 1 MB by TLS", connections=8, path=f"{LARGE}/1", response_bytes=MB, mesh=BY_TLS),
    Case("handshake", "small GET, a full handshake with the endpoint for each", mesh=BY_TLS_EACH),
    Case("gateway", "small GET by TLS, the endpoints in plain text", mesh=AT_GATEWAY, goal=1.3),
    Case(
        "gateway-large",
        "response of 1 MB by TLS, the endpoints in plain text",
        connections=8,
        path=f"{LARGE}/1",
        response_bytes=MB,
        mesh=AT_GATEWAY,
    ),
    Case(
        "gateway-handshake",
        "small GET, a full handshake with the client for each",
        headers=("connection: close",),
        mesh=AT_GATEWAY,
        goal=2.0,
    ),
)
"""What TLS costs, to the endpoints and to the clients."""

CASES = (
    Case("get-32", "small GET, 32 connections", goal=1.0),
    Case("get-256", "small GET, 256 connections", connections=256, goal=1.1),
    Case("headers", "small GET with ten headers of a browser", headers=_BROWSER, goal=1.1),
    Case("post-1k", "POST of 1 kB", path=UPLOAD, method="POST", body_bytes=1000, goal=1.1),
    Case("response-1m", "response of 1 MB", connections=8, path=f"{LARGE}/1", response_bytes=MB, goal=0.8),
    Case("response-100m", "response of 100 MB", connections=4, path=f"{LARGE}/100", response_bytes=100 * MB, goal=0.4),
    Case("upload-1m", "upload of 1 MB", connections=8, path=UPLOAD, method="POST", body_bytes=MB, goal=0.8),
    Case("connect", "small GET, a new connection for each", headers=("connection: close",)),
    Case("access-log", "small GET, access log to a file", access_log=True, goal=1.2),
)
