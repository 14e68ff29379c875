"""Generated configurations and requests together: near to each other, so that most requests meet some rule.

`make test` tries the same 500 pairs every time, `make conformance` others, and more of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from meshproxy.snapshot import SocketAddress, VirtualHost

from ..envoy.binary import needs_envoy
from ..envoy.snapshots import PATHS, routes
from .compare import Pair, compare
from .differences import unexplained
from .exchanges import BACKENDS, OK, Answer, Case, Exchange, of_hosts
from .referee import judge

CASES_EACH = 5
EXCHANGES_EACH = 5
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "20"))
ALWAYS_THE_SAME = "CONFORMANCE_EXAMPLES" not in os.environ

_HOSTS = ("a.test", "*.test", "a.*", "*", "b.test", "*-x.test", "10.0.0.1", "a.test.example")
_AUTHORITIES = (
    *("a.test", "a.test", "b.test", "A.test", "a.test:8080", "c.test", "a.x", "z-x.test", "10.0.0.1:80", "nobody"),
    *("a.test.example", "route.test", "[::1]:80", ""),
)
_TARGETS = (
    *PATHS,
    *("/a/../b", "/%61/b", "/a/b/", "//a", "/a\\b", "/new", "/aa", "/a/7/", "/A/B", "/a;x", "/.", "/a%2fb"),
)
_QUERIES = ("", "", "", "?", "?q", "?q=u", "?q=us&q=u", "?Q=u", "?q=%75", "?x=1&q=U", "?q=u,v")
_LINES = (
    *("x-user: u", "x-user: us", "x-user: u,v", "X-User: U", "x-user:", "x-new: u", "x-new: v", "x-shared: 1"),
    *("accept: u", "accept: us", "x-envoy-original-path: /forged", "x-envoy-internal: true", "x-request-id: mine"),
    *("x-forwarded-for: 203.0.113.9", "x-forwarded-proto: https", "connection: x-user", "connection: close"),
    *("te: trailers", "te: gzip", "content-type: application/grpc", "cookie: a=1", "expect: 100-continue"),
    *("x-bytes: \xe9", "x-tab: a\tb", "x-user: u\xe9", "proxy-connection: close", "keep-alive: 5", "via: 1.1 x"),
)
_ANSWER_LINES = (
    *("x-user: up", "x-shared: 1", "X-Shared: 2", "set-cookie: a=1", "server: up", "date: never", "vary: a"),
    *("x-envoy-upstream-service-time: 9", "x-envoy-foo: 1", "location: /x", "cache-control: no-store", "etag: x"),
    *("connection: close", "keep-alive: 5", "content-type: text/html", "x-new: 1"),
)


@st.composite
def _requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method, and a request on the wire."""
    method = draw(st.sampled_from(["GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]))
    target = draw(st.sampled_from(_TARGETS)) + draw(st.sampled_from(_QUERIES))
    lines = [f"{method} {target} HTTP/1.1", f"host: {draw(st.sampled_from(_AUTHORITIES))}"]
    lines += draw(st.lists(st.sampled_from(_LINES), max_size=4))
    match draw(st.sampled_from(["none", "none", "none", "length", "chunks", "trailers"])):
        case "length":
            return method, _wire([*lines, "content-length: 5"]) + b"hello"
        case "chunks":
            return method, _wire([*lines, "transfer-encoding: chunked"]) + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        case "trailers":
            return method, _wire([*lines, "transfer-encoding: chunked"]) + b"2\r\nhe\r\n0\r\nx-trailer: 1\r\n\r\n"
    return method, _wire(lines)


def _wire(lines: Sequence[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@st.composite
def _answers(draw: st.DrawFn) -> Answer:
    """What a backend answers: mostly something with a body."""
    status = draw(st.sampled_from([200, 200, 200, 201, 204, 304, 404, 418, 500, 503]))
    lines = [f"HTTP/1.1 {status} Told", *draw(st.lists(st.sampled_from(_ANSWER_LINES), max_size=4))]
    match draw(st.sampled_from(["length", "length", "chunks", "trailers", "plain"])):
        case _ if status in (204, 304):
            return Answer((_wire(lines),))
        case "length":
            return Answer((_wire([*lines, "content-length: 2"]) + b"ok",))
        case "chunks":
            return Answer((_wire([*lines, "transfer-encoding: chunked"]) + b"2\r\nok\r\n0\r\n\r\n",))
        case "trailers":
            return Answer((_wire([*lines, "transfer-encoding: chunked"]) + b"2\r\nok\r\n0\r\nx-t: 1\r\n\r\n",))
    return Answer((OK,))


@st.composite
def _exchanges(draw: st.DrawFn) -> Exchange:
    """One request, or two of them pipelined."""
    requests = draw(st.lists(_requests(), min_size=1, max_size=draw(st.sampled_from([1, 1, 1, 2]))))
    answer = draw(_answers())
    if any(method == "HEAD" for method, _ in requests):  # whose answer's body would be taken for another answer
        answer = (
            Answer((answer.pieces[0].partition(b"\r\n\r\n")[0] + b"\r\n\r\n",))
            if len(requests) == 1
            else Answer((b"HTTP/1.1 204 No Content\r\n\r\n",))
        )
    return Exchange("generated", (b"".join(wire for _, wire in requests),), answer, tuple(one for one, _ in requests))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A configuration of some virtual hosts, and requests that may meet them."""
    rules = st.lists(routes(["a", "b", "c", "a", "b", "c", "empty", "unknown"], split=False), min_size=1, max_size=4)
    domains = draw(st.lists(st.sampled_from(_HOSTS), unique=True, min_size=1, max_size=4))
    hosts = [VirtualHost(domain, (domain,), tuple(draw(rules))) for domain in domains]
    configuration = of_hosts(*hosts, ignore_port=draw(st.booleans()), use_remote_address=draw(st.booleans()))
    exchanges = draw(st.lists(_exchanges(), min_size=EXCHANGES_EACH, max_size=EXCHANGES_EACH))
    return Case("generated", configuration, tuple(exchanges))


@needs_envoy
@settings(
    max_examples=EXAMPLES,
    derandomize=ALWAYS_THE_SAME,
    # A pair that differs is told alone, small enough to read; each attempt to shrink it would start Envoy again.
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(cases(), min_size=CASES_EACH, max_size=CASES_EACH))
def test_both_do_the_same_with_what_is_generated(tmp_path: Path, generated: list[Case]) -> None:
    for case, pairs in judge(generated, tmp_path):
        for pair in pairs:
            _assert_the_same(case, pair, tmp_path)


def _assert_the_same(case: Case, pair: Pair, folder: Path) -> None:
    left = unexplained(pair, compare(pair.envoy, pair.ours))
    if left:
        told = "\n".join(map(str, left))
        answered = pair.exchange.answer.pieces
        [listener] = case.configuration(dict.fromkeys(BACKENDS, SocketAddress("127.0.0.1", 0))).listeners
        hosts = "\n".join(map(repr, listener.http.route_config.virtual_hosts))
        sent = pair.exchange.pieces
        pytest.fail(
            f"{hosts}\nsent {sent!r}\nanswered {answered!r}\n{told}\nEnvoy ran {folder}/bootstrap.json", pytrace=False
        )
