"""The cases, by what they are about. Each module has `CASES`."""

from __future__ import annotations

from ..exchanges import Case
from . import (
    access,
    circuit_breakers,
    endpoints,
    failures,
    filters,
    framing,
    headers,
    hosts,
    matching,
    messages,
    outliers,
    paths,
    redirects,
    retries,
    sidecars,
)

CASES: tuple[Case, ...] = (
    *matching.CASES,
    *hosts.CASES,
    *paths.CASES,
    *headers.CASES,
    *redirects.CASES,
    *framing.CASES,
    *messages.CASES,
    *failures.CASES,
    *circuit_breakers.CASES,
    *endpoints.CASES,
    *sidecars.CASES,
    *filters.CASES,
    *outliers.CASES,
    *retries.CASES,
    *access.CASES,
)

SHOWN: dict[str, tuple[str, ...]] = {
    "deny-readings": (
        "DENY, spelled otherwise / GET //admin",
        "DENY, spelled otherwise / GET /x/..%2fadmin",
        "DENY, spelled otherwise / GET /Admin",
        "DENY, spelled otherwise / GET /admin;x=1",
    ),
    "claim-header": ("tokens told upstream / a claim that would end the line",),
    "line-ends": (
        "request lines / bare line feed before",
        "field lines / folded line",
        "field lines / folded line with a tab",
        "field lines / bare line feed",
        "field lines / bare carriage return in the value",
        "field lines / two carriage returns",
        "field lines / only line feeds",
    ),
    "request-line-spaces": (
        "request lines / two spaces",
        "request lines / a tab",
        "request lines / space behind",
    ),
    "two-hosts": (
        "field lines / two Hosts",
        "field lines / two Hosts that differ",
    ),
    "absolute-target-without-host": ("absolute targets / without Host",),
    "fragment": (
        "query parameter exact / GET /?q=1#",
        "redirect {uri: /new} / GET /a/../a//x?y#",
        "request lines / fragment",
    ),
    "method-query": ("request lines / method QUERY",),
    "version": (
        "request lines / version 1.2",
        "request lines / version 2.0",
        "request lines / version 0.9",
        "request lines / no version",
    ),
    "http10-chunked": (
        "field lines / HTTP/1.0 with chunks",
        "field lines / HTTP/1.0 with gzip",
    ),
    "http10-refused": ("field lines / HTTP/1.0 without a Host",),
    "chunk-junk": ("chunks / longer than its size", "broken responses / longer than its chunk"),
    "trailers": ("chunks / a trailer that is none", "response bodies / trailer set-cookie"),
    "empty-lines": ("request lines / nine empty lines before",),
    "other-interim": ("interim responses / 199",),
    "response-bare-cr": ("broken responses / bare carriage return",),
    "connection-kept": (
        "pipelining / answered here with a body",
        "no endpoint / POST",
        "no cluster / POST",
        "no pending requests / POST",
        "no active requests / POST",
        "rule fault: {abort: {httpStatus: 503, percentage: {value: 100}}} / POST",
        "a buffer of ten bytes / eleven",
        "a buffer of ten bytes / eleven, gRPC",
        "a buffer of ten bytes / too many chunks",
        "a listener's buffer / four",
        "a host's buffer / six",
        "a buffer behind CORS / four",
    ),
    "bodiless-204": (
        "answer {status: 204, body: {string: 'here'}} / GET /",
        "rule fault: {abort: {httpStatus: 204, percentage: {value: 100}}} / GET /",
    ),
    "copy-address": (
        "rule mirror: {host: b} / GET",
        "rule mirror: {host: b} / with fields",
        "rule mirror: {host: b} / with a port",
        "rule mirror: {host: b} / a body",
        "rule mirror: {host: b} / no body",
        "rule mirror: {host: b} / chunks",
        "rule mirror: {host: b} / trailers",
        "rule mirror: {host: b} / a large body",
        "rule mirrors: [{destination: {host: b}}, {destination: {host: c}}] / GET",
        "rule mirror: {host: b}, mirror_percent: 100 / GET",
        "rule mirror: {host: b}, rewrite: {uri: /new, authority: 'other.test:81'}, "
        "headers: {request: {set: {x-q: '1'}}} / GET",
    ),
    "second-try": ("broken responses / reset before the head",),
    "joined-fields": (
        "two fields of accept, a / GET / | accept: a | accept: b",
        "two fields of accept, a / GET / | accept: b | accept: a",
        "two fields of accept, a,b / GET / | accept: a | accept: b",
        "two fields of accept, a,b / GET / | accept: b | accept: a",
        "what Envoy knows / GET /",
        "what Envoy knows / GET / | accept: */* | user-agent: you",
        "what Envoy knows / cache-control",
        "a request's own / GET / | accept: a | accept: b",
        "a request's own / GET / | user-agent: a | user-agent: b",
        "a response's own / vary",
        "redirect with headers / GET /",
        "redirect with headers / pipelined",
    ),
    "second-interim": (
        "interim responses / 103 twice",
        "interim responses / two 100s",
    ),
    "unsolicited-101": ("websocket / unasked",),
    "impossible-status": (
        "broken responses / status 99",
        "broken responses / status 000",
        "broken responses / status of four digits",
    ),
    "websocket-half-close": ("websocket / half-closed",),
    "head-framing": (
        "response bodies / HEAD with chunked",
        "response bodies / HEAD with nothing",
        "no cluster / HEAD /",
        *(
            f"{case} / HEAD / | content-type: application/grpc"
            for case in ("refused", "connect timeout", "no endpoint", "no cluster")
        ),
    ),
    "escaped-nul": ("request lines / escaped NUL",),
    "behind-own-answer": (
        "pipelining / after an unrouted target",
        "pipelining / after an answer from here",
    ),
    "nominated-upstream": ("a response's own / nominated",),
    "own-address": ("a request's own / from 127.0.0.1",),
}
"""Which exchanges show which difference on purpose: these, and no others."""
