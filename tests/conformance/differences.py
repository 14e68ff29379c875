"""Where meshproxy differs from Istio and Envoy on purpose: the one table, from which `docs/differences.md` is written.

    python -m tests.conformance.differences > docs/differences.md

A row that a pair of observations can show has a predicate, which recognises the findings that come of exactly this
difference. A finding that no row recognises is a failure. The other rows are about what no pair can show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshproxy.proxy.filters.rbac import lenient_path

from .compare import Finding, Message, Pair

Explains = Callable[[Pair, Finding], bool]


@dataclass(frozen=True)
class Difference:
    """A row. `explains` tells whether a finding of a pair comes of it."""

    id: str
    what: str
    theirs: str
    ours: str
    why: str
    explains: Explains | None = None


def unexplained(pair: Pair, findings: Sequence[Finding]) -> list[Finding]:
    """The findings that come of no difference on purpose."""
    return [one for one in findings if not explanations(pair, [one])]


def explanations(pair: Pair, findings: Sequence[Finding]) -> frozenset[str]:
    """The ids of the differences that findings come of."""
    return frozenset(
        row.id for row in DIFFERENCES if row.explains and any(row.explains(pair, finding) for finding in findings)
    )


def _sent(pair: Pair) -> bytes:
    return b"".join(pair.exchange.pieces)


def _head(pair: Pair) -> bytes:
    """The first request's head, without the empty lines before it, nor that behind it."""
    return re.split(rb"\r\n\r\n|\n\n", _sent(pair).lstrip(b"\r\n"), maxsplit=1)[0]


def _request_line(pair: Pair) -> list[bytes]:
    """Method, target, version and more; empty where there is nothing."""
    return [*_head(pair).split(b"\r\n")[0].split(b" "), b"", b""]


def _target(pair: Pair) -> bytes:
    return _request_line(pair)[1]


def _answered(pair: Pair) -> bytes:
    return b"".join(pair.exchange.answer.pieces)


def _we_refuse(pair: Pair, status: int) -> bool:
    """We answered the only request with `status` and closed the connection, and no backend heard of it."""
    statuses = [one.status for one in pair.ours.responses]
    return statuses == [status] and pair.ours.end == "closed" and not pair.ours.received


def _refused_where(condition: Callable[[Pair], object], status: int = 400) -> Explains:
    """We refuse requests of which `condition` holds, and Envoy serves them."""

    def explains(pair: Pair, finding: Finding) -> bool:
        # A 404 was routed too, if in vain.
        served = any(one.status < 400 or one.status == 404 for one in pair.envoy.responses)
        return served and _we_refuse(pair, status) and bool(condition(pair))

    return explains


def _refused_in_other_words(condition: Callable[[Pair], object]) -> Explains:
    """Both refuse with 400 and close, Envoy without a body."""

    def explains(pair: Pair, finding: Finding) -> bool:
        return (
            bool(condition(pair))
            and [one.status for one in pair.envoy.responses] == [400]
            and [one.status for one in pair.ours.responses] == [400]
            and (finding.place, finding.envoy, finding.ours)
            in (
                ("response 0 line", "HTTP/1.0 400 Bad Request", "HTTP/1.1 400 Bad Request"),
                ("response 0 body", b"", b"Bad Request"),
                ("response 0 header content-length", ("0",), ("11",)),
                ("response 0 header content-type", None, ("text/plain",)),
            )
        )

    return explains


def _one_of(*rows: Explains) -> Explains:
    return lambda pair, finding: any(row(pair, finding) for row in rows)


def _version(pair: Pair) -> bytes:
    """What stands where a request line has its version."""
    return _request_line(pair)[2]


def _odd_spaces(pair: Pair) -> bool:
    """The request line would be one, were it not for its white space."""
    line = _head(pair).split(b"\r\n")[0]
    return re.fullmatch(rb"\S+ \S+ HTTP/1\.[01]", line) is None and len(line.split()) == 3


def _cut_off(pair: Pair, finding: Finding) -> bool:
    """The backend's answer had no length, and its connection by TLS ended without a word of it."""
    return (
        pair.exchange.answer.end == "cut"
        and not re.search(rb"content-length|transfer-encoding", _answered(pair))
        and (finding.place, finding.envoy, finding.ours)
        in (("response 0 whole", True, False), ("connection", "open", "closed"))
    )


def _junk_behind_chunk(message: bytes) -> bool:
    """Behind a chunk's data there is something else than its line end."""
    head, _, body = message.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return False
    while found := re.match(rb"([0-9A-Fa-f]+)[^\r\n]*\r\n", body):
        size = int(found[1], 16)
        end = found.end() + size
        if not size or body[end : end + 2] != b"\r\n":
            return bool(size)
        body = body[end + 2 :]
    return False


def _broken_off(pair: Pair, finding: Finding) -> bool:
    """We answered with an upstream's head, and then no more than what was right of its body."""
    return (
        _junk_behind_chunk(_answered(pair))
        and len(pair.ours.responses) == 1
        and not pair.ours.responses[0].whole
        and finding.place in ("response 0 body", "response 0 whole", "connection")
    )


def _connection_kept(pair: Pair, finding: Finding) -> bool:
    """Envoy answered a request with a body by itself and closed; we did not close, having read the body."""
    theirs, ours = pair.envoy.responses, pair.ours.responses
    last = len(theirs) - 1
    if not (pair.envoy.end == "closed" and 0 <= last < len(ours) and _has_body(pair)):
        return False
    if "x-envoy-upstream-service-time" in theirs[last].headers or theirs[last].headers.get("connection") != ("close",):
        return False
    if finding.place == f"response {last} header connection":
        return (finding.envoy, finding.ours) == (("close",), None)
    more = len(ours) > len(theirs)
    return finding.place == "connection" or (more and finding.place in ("responses", "received by", "receiveds"))


def _has_body(pair: Pair) -> bool:
    return re.search(rb"\r\n(content-length: [1-9]|transfer-encoding:)", _sent(pair).lower()) is not None


def _bodiless_204(pair: Pair, finding: Finding) -> bool:
    theirs, ours = pair.envoy.responses, pair.ours.responses
    return (
        len(ours) > 0 < len(theirs)
        and ours[0].status == theirs[0].status == 204
        and "content-type" in theirs[0].headers
        and "x-envoy-upstream-service-time" not in theirs[0].headers
        and finding.place in ("response 0 header content-length", "response 0 header content-type", "stray bytes")
        and not finding.ours
    )


def _second_try(pair: Pair, finding: Finding) -> bool:
    again = pair.ours.received[1:]
    return finding.place in ("received by", "receiveds") and (
        len(again) == 1 == len(pair.envoy.received) and _told_alike(again[0][1], pair.ours.received[0][1])
    )


def _told_alike(one: Message, other: Message) -> bool:
    return (one.line, one.headers, one.body) == (other.line, other.headers, other.body)


def _joined(pair: Pair, finding: Finding) -> bool:
    """`a,b` for `a` and `b`; of empty ones nothing remains."""
    theirs, ours = finding.envoy, finding.ours
    if not (" header " in finding.place and isinstance(ours, tuple) and len(ours) > 1):
        return False
    return theirs in ((",".join(ours),), (",".join(filter(None, ours)),))


def _interim(messages: Sequence[Message]) -> list[Message]:
    return [one for one in messages if 100 <= one.status < 200]


def _interim_dropped(pair: Pair, finding: Finding) -> bool:
    theirs, ours = list(pair.envoy.responses), list(pair.ours.responses)
    return (
        finding.place.startswith("response")
        and len(_interim(ours)) > 1
        and _interim(theirs) == _interim(ours)[:1]
        and theirs[-1] == ours[-1]
    )


def _other_interim_dropped(pair: Pair, finding: Finding) -> bool:
    known = [one for one in pair.ours.responses if not 104 < one.status < 200]
    return finding.place.startswith("response") and list(pair.envoy.responses) == known


def _no_trailers(pair: Pair, finding: Finding) -> bool:
    """Those of a message that are none were left out."""
    theirs, ours = finding.envoy, finding.ours
    if not (finding.place.endswith(" trailers") and isinstance(theirs, tuple)):
        return False
    return tuple(one for one in theirs if one[0] not in _NO_TRAILERS) == ours


_NO_TRAILERS = ("content-length", "set-cookie", "x-request-id")


def _bare_cr_answered(pair: Pair, finding: Finding) -> bool:
    """We refused it."""
    return (
        re.search(rb"\r(?!\n)", _answered(pair).partition(b"\r\n\r\n")[0]) is not None
        and [one.status for one in pair.ours.responses] == [502]
        and finding.place.startswith("response 0")
    )


def _unsolicited_101(pair: Pair, finding: Finding) -> bool:
    return (
        finding.place.startswith("response 0")
        and _answered(pair).startswith(b"HTTP/1.1 101")
        and b"\r\nupgrade:" not in _sent(pair).lower()
        and pair.ours.responses[0].status == 502
    )


def _head_without_framing(pair: Pair, finding: Finding) -> bool:
    found = re.fullmatch(r"response (\d+) header transfer-encoding", finding.place)
    return (
        found is not None
        and pair.exchange.methods[int(found[1])] == "HEAD"
        and (finding.envoy, finding.ours) == (("chunked",), None)
    )


def _escaped_nul(pair: Pair, finding: Finding) -> bool:
    return (
        b"%00" in _target(pair).partition(b"?")[0]
        and [one.status for one in pair.ours.responses] == [400]
        and (finding.place, finding.envoy, finding.ours)
        in (("response 0 header connection", ("close",), None), ("connection", "closed", "open"))
    )


def _nominated(pair: Pair, finding: Finding) -> bool:
    found = re.fullmatch(r"response \d+ header (\S+)", finding.place)
    nominations = re.findall(rb"\r\nconnection: ([^\r]*)", _answered(pair).lower())
    return (
        found is not None
        and finding.ours is None
        and found[1] in [one.strip().decode() for line in nominations for one in line.split(b",")]
    )


def _own_address(pair: Pair, finding: Finding) -> bool:
    return (
        pair.exchange.client == "127.0.0.1"
        and finding.place.endswith("header x-forwarded-for")
        and finding.ours == ("127.0.0.1",)
    )


def _half_closed(pair: Pair, finding: Finding) -> bool:
    theirs, ours = pair.envoy.tunnel, pair.ours.tunnel
    return finding.place == "tunnel" and pair.exchange.half_close and ours.startswith(theirs)


def _address_of_copy(pair: Pair, finding: Finding) -> bool:
    """Both add an address of their own to what they forward; ours is the one that the client came to."""
    found = re.fullmatch(r"received (\d+) header x-forwarded-for", finding.place)
    if found is None:
        return False
    _, received = pair.ours.received[int(found[1])]
    theirs, ours = (",".join(one) if isinstance(one, tuple) else "" for one in (finding.envoy, finding.ours))
    is_copy = "-shadow" in received.headers["host"][0]
    return is_copy and theirs.rpartition(",")[0] == ours.rpartition(",")[0] and ours.endswith(",127.0.0.1")


def _coded_in_http10(pair: Pair) -> bool:
    return _version(pair) == b"HTTP/1.0" and b"\r\ntransfer-encoding:" in _head(pair).lower()


def _not_implemented_in_http10(pair: Pair, finding: Finding) -> bool:
    """Both refuse."""
    return (
        _coded_in_http10(pair)
        and [one.status for one in pair.envoy.responses] == [501]
        and _we_refuse(pair, 400)
        and finding.place.startswith("response 0")
    )


def _impossible_status(pair: Pair, finding: Finding) -> bool:
    found = re.match(rb"HTTP/1\.1 (\d+) ", _answered(pair))
    return (
        found is not None
        and not (len(found[1]) == 3 and int(found[1]) >= 100)
        and [one.status for one in pair.ours.responses] == [502]
        and (finding.place.startswith("response 0") or finding.place == "connection")
    )


def _behind_own_answer(pair: Pair, finding: Finding) -> bool:
    """Envoy answered a pipelined request by itself, and closed without a word; we answered those behind it too."""
    theirs, ours = pair.envoy.responses, pair.ours.responses
    return (
        finding.place in ("responses", "received by", "receiveds", "connection")
        and pair.ours.end == "open"
        and pair.envoy.end == "closed"
        and 1 < len(theirs) < len(ours)
        and not {"connection", "x-envoy-upstream-service-time"} & theirs[-1].headers.keys()
    )


def _claim_is_no_header(pair: Pair, finding: Finding) -> bool:
    return any(one.body.startswith(b"invalid header value for: ") for one in pair.envoy.responses)


def _read_otherwise(pair: Pair, finding: Finding) -> bool:
    """We denied a path or a host that Envoy let pass, and that can be read in another way."""
    path = _target(pair).partition(b"?")[0]
    denied = [(one.status, one.body) for one in pair.ours.responses] == [(403, b"RBAC: access denied")]
    otherwise = lenient_path(path) != path or b"host: example.com:80" in _head(pair)
    return denied and bool(pair.envoy.received) and otherwise


DIFFERENCES = (
    Difference(
        "line-ends",
        "folded field lines (obs-fold), bare CR, bare LF in a request's head",
        "accepted",
        "400",
        "they are the stuff of request smuggling; no client of today sends them",
        _refused_where(lambda pair: re.search(rb"\r\n[ \t]|\r(?!\n)|(?<!\r)\n", _sent(pair))),
    ),
    Difference(
        "request-line-spaces",
        "tabs, several spaces or a space at the end in a request line",
        "accepted",
        "400",
        "RFC 9112, section 3: to forgive is the stuff of request smuggling where several read one request",
        _refused_where(_odd_spaces),
    ),
    Difference(
        "two-hosts",
        "two `Host` fields",
        "joined by a comma",
        "400",
        "RFC 9112, section 3.2",
        _refused_where(lambda pair: len(re.findall(rb"\r\nhost:", _head(pair).lower())) > 1),
    ),
    Difference(
        "absolute-target-without-host",
        "a URL as request target, without a `Host` field, in HTTP/1.1",
        "served",
        "400",
        "RFC 9112, section 3.2: a server must; in HTTP/1.0 it is served",
        _refused_where(lambda pair: _target(pair).startswith(b"http://") and b"\r\nhost:" not in _head(pair).lower()),
    ),
    Difference(
        "fragment",
        "a fragment in the request target",
        "cut off (Istio), or 400 without a body (Envoy's default)",
        "400",
        "RFC 9112, section 3.2: it does not belong there",
        _refused_in_other_words(lambda pair: b"#" in _target(pair)),
    ),
    Difference(
        "method-query",
        "the body of the 400 for the method `QUERY`",
        "none",
        "`Bad Request`",
        "it is refused as any other unknown method is",
        _refused_in_other_words(lambda pair: _head(pair).startswith(b"QUERY ")),
    ),
    Difference(
        "version",
        "an HTTP version other than 1.0 and 1.1, or none",
        "426; taken for HTTP/1.0 where that is allowed",
        "426; 400 for none",
        "HTTP/1.2 is not HTTP/1.0, and where Istio does not allow that it answers the same",
        _one_of(
            _refused_where(lambda pair: re.fullmatch(rb"HTTP/(?!1\.[01])\d\.\d", _version(pair)), 426),
            _refused_in_other_words(lambda pair: _version(pair) == b""),
        ),
    ),
    Difference("http10", "HTTP/1.0", "426, unless allowed", "served", "`ab` and old health checks speak it"),
    Difference(
        "http10-chunked",
        "`Transfer-Encoding` in an HTTP/1.0 request",
        "served where HTTP/1.0 is allowed, 501 if it is not `chunked`",
        "400",
        "RFC 9112, section 6.1: a server must take its framing for faulty",
        _one_of(_refused_where(_coded_in_http10), _not_implemented_in_http10),
    ),
    Difference(
        "http10-refused",
        "the status line of the answer to an HTTP/1.0 request that cannot be read",
        "`HTTP/1.0 400`",
        "`HTTP/1.1 400`",
        "RFC 9110, section 6.2: a server tells the highest version that it speaks",
        lambda pair, finding: (
            _version(pair) == b"HTTP/1.0"
            and (finding.place, finding.envoy, finding.ours)
            == ("response 0 line", "HTTP/1.0 400 Bad Request", "HTTP/1.1 400 Bad Request")
        ),
    ),
    Difference(
        "chunk-junk",
        "bytes between a chunk's data and its CRLF",
        "skipped",
        "400; an upstream's response is broken off",
        "request smuggling",
        _one_of(_refused_where(lambda pair: _junk_behind_chunk(_sent(pair))), _broken_off),
    ),
    Difference(
        "connection-kept",
        "a request whose body has arrived whole, answered without an upstream",
        "connection closed",
        "connection kept",
        "nothing is left unread",
        _connection_kept,
    ),
    Difference(
        "bodiless-204",
        "an answer of the proxy's own, such as a direct response or an injected fault, with status 204 and a body",
        "sent with its body",
        "sent without",
        "RFC 9110, section 15.3.5: a client takes such a body for its next response",
        _bodiless_204,
    ),
    Difference(
        "second-try",
        "an idle upstream connection that its endpoint closes while it is used",
        "503 UC, unless a retry policy says otherwise",
        "an idempotent request is sent once more on a new connection",
        "nothing had been answered; RFC 9112, section 9.3.1",
        _second_try,
    ),
    Difference(
        "grpc-not-post",
        "`grpc-timeout` of a request that is no POST, and `grpc-status` of the answer to one",
        "heeded where its content type is gRPC's, the status by outlier detection",
        "passed on",
        "gRPC is POST; no other request is looked at for it",
    ),
    Difference(
        "panic-and-probes",
        "endpoints that fail their probe, where fewer are healthy than `minHealthPercent`",
        "left out by Istio; Envoy, where it probes itself, has them serve with the rest",
        "left out",
        "who is not ready is never asked",
    ),
    Difference(
        "inbound-grpc-timeout",
        "`grpc-timeout` at the sidecar of the workload that is called",
        "ends the stream by Envoy's `max_stream_duration`",
        "504 UT, as anywhere else",
        "one way to run out of time is enough",
    ),
    Difference(
        "retry-overrun",
        "a body that outgrows what is kept while a retry waits",
        "507, though the upstream could have had it",
        "nothing more is read meanwhile",
        "the client waits instead",
    ),
    Difference(
        "kept-together",
        "bodies that are kept for retries, of all requests together",
        "as much as comes",
        "256 MiB at most; what comes beyond is sent once",
        "there is a bound, however many clients send slowly",
    ),
    Difference(
        "trailers",
        "trailers",
        "dropped unless enabled",
        "passed on both ways, but for fields that frame, route or authenticate, or that proxies set",
        "gRPC-Web and checksums need them; RFC 9110, section 6.5.1, names what cannot be one",
        _no_trailers,
    ),
    Difference(
        "empty-lines",
        "empty lines before a request",
        "skipped, any number",
        "eight are skipped, more are 400",
        "RFC 9112, section 2.2: at least one",
        _refused_where(lambda pair: re.match(rb"(\r\n){9}", _sent(pair))),
    ),
    Difference(
        "log-escapes",
        "quotes, backslashes and what is not printable ASCII in an access log's field; its length",
        "as it came",
        "escaped, and cut at 2,048 bytes",
        "no request writes a line of its own, or a long one",
    ),
    Difference(
        "joined-fields",
        "several fields of one name that Envoy knows (`accept`, `user-agent`, `location`, ...)",
        "joined by commas",
        "passed on as they came",
        "RFC 9110, section 5.3: a recipient may, and need not; conditions see them joined",
        _joined,
    ),
    Difference(
        "second-interim",
        "an upstream's second interim response, such as 100 Continue",
        "dropped",
        "passed on",
        "it was sent",
        _interim_dropped,
    ),
    Difference(
        "other-interim",
        "an upstream's interim response other than 100 and 102 to 104",
        "dropped",
        "passed on",
        "RFC 9110, section 15.2: a proxy must",
        _other_interim_dropped,
    ),
    Difference(
        "response-bare-cr",
        "a bare CR in a response's head",
        "left out",
        "502",
        "as in a request's",
        _bare_cr_answered,
    ),
    Difference(
        "unsolicited-101",
        "an unsolicited 101 from an upstream",
        "passed on",
        "502",
        "nobody asked to switch",
        _unsolicited_101,
    ),
    Difference(
        "impossible-status",
        "an upstream's status that is not a number of three digits from 100 up",
        "passed on",
        "502",
        "RFC 9112, section 4; a client could not read it, or not the next response",
        _impossible_status,
    ),
    Difference(
        "websocket-half-close",
        "a client's half-close on a WebSocket",
        "the end of both directions",
        "the end of one",
        "what the upstream has left to say still arrives",
        _half_closed,
    ),
    Difference(
        "head-framing",
        "`HEAD`, where the answer has no `content-length`",
        "`transfer-encoding: chunked`",
        "no framing field",
        "there is no body to frame",
        _head_without_framing,
    ),
    Difference(
        "escaped-nul",
        "400 for a path with an escaped NUL",
        "connection closed",
        "connection kept",
        "nothing is left unread",
        _escaped_nul,
    ),
    Difference(
        "behind-own-answer",
        "requests pipelined behind one that was itself pipelined and was answered without an upstream",
        "dropped, and the connection closed unannounced",
        "answered",
        "nothing is wrong with them",
        _behind_own_answer,
    ),
    Difference(
        "nominated-upstream",
        "fields nominated by an upstream's `Connection`",
        "passed on",
        "removed",
        "RFC 9110, section 7.6.1",
        _nominated,
    ),
    Difference(
        "own-address",
        "`x-forwarded-for` of a client at 127.0.0.1",
        "the machine's own address",
        "`127.0.0.1`",
        "it is the client's address",
        _own_address,
    ),
    Difference(
        "copy-address",
        "the proxy in a mirrored request's `x-forwarded-for`",
        "the machine's own address",
        "the address that the request came to",
        "it is the proxy's, whichever the machine has besides",
        _address_of_copy,
    ),
    Difference(
        "copy-slow",
        "a mirror that reads a request's body more slowly than it comes",
        "slows the request down to its own pace",
        "is broken off once it is 1 MiB behind",
        "a mirror never slows what it mirrors",
    ),
    Difference(
        "copy-bounds",
        "a mirror that hangs",
        "holds its copies for as long as the route's timeout, and as many as its cluster's circuit breakers let",
        "holds each for 60 s, 1,024 and 64 MiB of bodies at most",
        "there is a bound whatever the policy says",
    ),
    Difference(
        "copy-unserved",
        "a mirrored request for which there is no healthy endpoint",
        "not copied",
        "copied",
        "the mirror's endpoints are others",
    ),
    Difference(
        "copy-upgrade",
        "a WebSocket's handshake on a route with a mirror",
        "copied, and nothing of what follows",
        "not copied",
        "a handshake alone tells nobody anything",
    ),
    Difference(
        "buffered-upgrade",
        "a WebSocket's handshake on a route that buffers",
        "hangs",
        "passed on",
        "what follows it is no body",
    ),
    Difference(
        "buffered-expect",
        "`Expect: 100-continue` on a route that buffers",
        "passed on once the body is there, for which the client waits",
        "answered with 100, or with 413 if the announced length is too large",
        "otherwise both wait for each other",
    ),
    Difference(
        "buffered-length",
        "an announced length beyond what a route buffers",
        "413 once so much has come",
        "413 at once",
        "it will not become shorter",
    ),
    Difference("server-name", "`server`", "`istio-envoy`", "`meshproxy`", "it is what it is"),
    Difference(
        "access-log",
        "the access log's default format",
        "without response code details (Envoy)",
        "with them, at the end",
        "a refused request's reason has to be somewhere",
    ),
    Difference(
        "warnings",
        "a problem that `istioctl analyze` calls a warning",
        "runs",
        "does not start",
        "`check` and `run` agree, and what cannot work should not look as if it did",
    ),
    Difference(
        "target-port",
        "a Gateway port and the `targetPort` of the gateway's Service",
        "translated",
        "not translated: `--publish` says where to listen",
        "there is no Service in front of the gateway",
    ),
    Difference(
        "dns-refresh",
        "names in a DNS cluster",
        "looked up again as their time to live says",
        "every 5 s",
        "the system's resolver does not tell the time to live",
    ),
    Difference(
        "selector",
        "a Service's selector",
        "picks WorkloadEntries, but not of a headless Service, nor with a DNS name or a Unix socket as address",
        "picks them all",
        "without Kubernetes there are no pods that it could mean instead",
    ),
    Difference(
        "external-name",
        "an ExternalName whose target is no service of the mesh",
        "resolved by DNS under the target's name, outside the mesh",
        "a cluster of its own, STRICT_DNS",
        "the same requests arrive, with no DNS proxy",
    ),
    Difference(
        "export-to",
        "a DestinationRule that joins an older one of its host, because it is exported at least as far",
        "where it is exported further, or the other is for single workloads, it counts no more",
        "it still holds where the older one does not",
        "no rule is lost without a word",
    ),
    Difference(
        "framing-changes",
        "header changes to `content-length`, `transfer-encoding`, `connection`, `keep-alive`, `te`, `upgrade`",
        "written as told; requests hang",
        "refused by `check`",
        "where a message ends is not a policy",
    ),
    Difference(
        "deny-readings",
        "paths and hosts of DENY and CUSTOM that a server may read otherwise: `//admin`, `/x/..%2fadmin`, `/admin;x`, "
        "`/Admin`; `example.com:80`",
        "matched as normalised by `BASE`: the request passes",
        "denied, or asked about, by any of these readings as well",
        "whoever denies `/admin` means what the server takes for it; ALLOW goes by what is written, as in Istio",
        _read_otherwise,
    ),
    Difference(
        "claim-header",
        "`outputClaimToHeaders` of a claim with a line's end in it, or another control character",
        "503 `invalid header value`",
        "the header is left out",
        "a user's name must not decide whether his requests fail",
        _claim_is_no_header,
    ),
    Difference(
        "every-token",
        "several tokens in one request",
        "one good one is enough, if it stands before the others",
        "each has to be valid where it stands",
        "the app may read the one that nobody has verified",
    ),
    Difference(
        "claim-headers-of-others",
        "a client's own header of a name in `outputClaimToHeaders` or `outputPayloadToHeader`",
        "taken away by the rules that are tried, until one finds the token valid; not from preflights",
        "always taken away, also as an app in CGI's tradition reads it: `x_user` for `x-user`",
        "such a header comes from a verified token or from nobody",
    ),
    Difference(
        "token-bounds",
        "tokens longer than 16 KiB, with an `iat` in the future, or with `crit` in their header",
        "taken",
        "401",
        "there is a bound whatever the issuer does; nobody has issued a token of tomorrow; what `crit` names has to be "
        "understood (RFC 7515, section 4.1.11)",
    ),
    Difference(
        "unenforced-policies",
        "an AuthorizationPolicy or RequestAuthentication whose namespace, selector or reference fits nothing",
        "without effect",
        "refused by `check`",
        "who wrote it believes that it holds",
    ),
    Difference(
        "custom-framing",
        "`content-length`, `connection` and their like, in a provider's lists of headers",
        "written into the request or the response, which break",
        "left out",
        "where a message ends is not for others to decide",
    ),
    Difference(
        "custom-providers",
        "CUSTOM with a provider that is not there, or with several for one proxy",
        "denies what it is about",
        "refused by `check`",
        "nothing starts that could only deny; in a snapshot made without `check` it denies too",
    ),
    Difference(
        "custom-clear-route-cache",
        "`clearRouteCache` of an extension provider",
        "documented, and without effect",
        "routes are found anew with the headers that the provider has set",
        "as documented, and as Envoy does it when told",
    ),
    Difference(
        "custom-dry-run",
        "CUSTOM with `istio.io/dry-run`",
        "its rules deny",
        "nobody is asked; `envoy_http_ext_authz_shadow_matched_total` counts what would be",
        "a dry run changes nothing",
    ),
    Difference(
        "service-policies",
        "a policy's `targetRefs` to a Service or ServiceEntry",
        "enforced by a waypoint",
        "enforced by the sidecars of its workloads, on its ports",
        "there are no waypoints, and nothing is let pass for that",
    ),
    Difference(
        "policy-ports",
        "`ports` and `destination.port` of policies, at a gateway",
        "the port that the gateway's pod listens on",
        "the Gateway's own port, wherever `--publish` has it listen",
        "it is the port in the YAML",
    ),
    Difference(
        "tls-cut",
        "a response by TLS that ends with its connection, when that ends without `close_notify`",
        "whole",
        "broken off: the client's connection is cut",
        "anybody on the way could shorten it (RFC 9112, section 9.8)",
        _cut_off,
    ),
    Difference(
        "tls-without-effect",
        "fields of a DestinationRule's `tls` that its mode has no use for",
        "passed over",
        "problems",
        "with `mode: SIMPLE` no certificate is shown, with DISABLE or no mode nothing is secured: whoever sets them "
        "believes otherwise",
    ),
    Difference(
        "tls-credentials-at-sidecars",
        "`credentialName` of a DestinationRule without a `workloadSelector`, at sidecars",
        "plain text",
        "503 UF, and `check` notes it",
        "whoever asks for TLS does not mean plain text",
    ),
    Difference(
        "tls-identities",
        "ISTIO_MUTUAL to endpoints whose service accounts nobody has told",
        "any certificate of the mesh's authorities will do",
        "it has to be a workload's, with a SPIFFE ID of the trust domain",
        "a chain alone proves no identity",
    ),
    Difference(
        "mtls-trust-domain",
        "clients of a sidecar whose certificate is of another trust domain, without `trustDomainAliases`",
        "let in, where one of the mesh's authorities has signed it",
        "refused",
        "a chain alone proves no identity; `caCertificates` of other meshes are not read either",
    ),
    Difference(
        "mtls-without-ca",
        "a sidecar without a CA",
        "there is none",
        "PERMISSIVE takes plain text alone, and plain text is sent to whatever does not ask for more; where STRICT or "
        "ISTIO_MUTUAL asks for an identity, nothing starts",
        "a mesh on a laptop need have no CA, and nothing that is to be secret is sent in plain text",
    ),
    Difference(
        "mtls-disable",
        "TLS at a port where PeerAuthentication says DISABLE",
        "closed",
        "400, as to all that is no HTTP",
        "nobody has to look at what comes first",
    ),
    Difference(
        "mtls-unknown-protocol",
        "TLS that is not the mesh's, at a PERMISSIVE port whose Service does not say what it speaks",
        "passed on to the app as it is",
        "closed, as at ports that say HTTP",
        "all is taken for HTTP",
    ),
    Difference(
        "auto-mtls-namespace",
        "automatic mutual TLS to a workload that takes it, in a namespace whose PeerAuthentication says DISABLE",
        "plain text, which fails where the workload's own policy is STRICT",
        "mutual TLS",
        "what holds for the workload is known",
    ),
    Difference(
        "peer-authentication-without-effect",
        "a PeerAuthentication that holds for nobody: with a selector in `istio-system`, for ports that no service has, "
        "the younger of two",
        "passed over",
        "a problem; a note, where an older one selects the same workload too",
        "whoever wrote it believes that it holds",
    ),
    Difference(
        "gateway-tls-mixed-port",
        "servers of HTTP and of HTTPS on one port of a gateway",
        "the later left out, or both served, by which is the first",
        "a problem",
        "whoever wrote the later one believes that it is served",
    ),
    Difference(
        "gateway-tls-without-effect",
        "fields of a Gateway's `tls` that its mode has no use for, and cipher suites that nobody knows",
        "passed over",
        "problems",
        "with `mode: SIMPLE` no client is verified, whatever is asked: whoever sets it believes otherwise",
    ),
    Difference(
        "gateway-tls-unverified",
        "`insecureSkipVerify` of a Gateway's `tls`",
        "clients show a certificate that nobody has to have signed",
        "refused",
        "Python's TLS library verifies every certificate that it asks for",
    ),
    Difference(
        "gateway-tls-pins",
        "`verifyCertificateHash` and `verifyCertificateSpki` beside certificates in files",
        "passed over",
        "hold",
        "they say whom to let in",
    ),
    Difference(
        "gateway-tls-late-refusal",
        "a client by TLS 1.3 whose certificate has none of the names or sums that are asked for",
        "an alert",
        "its connection is reset when the handshake is over, before anything is answered",
        "OpenSSL's interface in Python has no say in the handshake",
    ),
    Difference(
        "gateway-tls-capitals",
        "a client that asks in capitals for a server with several certificates",
        "is shown the first of all",
        "is shown the one for the server",
        "names of servers have no case (RFC 6066, section 3)",
    ),
    Difference(
        "gateway-alpn",
        "what HTTPS servers of a gateway offer (ALPN)",
        "HTTP/2 and HTTP/1.1",
        "HTTP/1.1",
        "HTTP/2 is not there yet",
    ),
    Difference(
        "outbound-listeners",
        "a sidecar's outbound listeners",
        "one a port, reached by redirection",
        "one HTTP proxy, reached by `HTTP_PROXY`",
        "no privileges, no iptables",
    ),
    Difference(
        "pass-through",
        "what a sidecar passes on",
        "to the address that the connection was for",
        "to where the URL says, names looked up here",
        "there was no connection to anywhere else",
    ),
    Difference(
        "pass-through-at-gateways",
        "`loadBalancer.simple: PASSTHROUGH`, of a service that a gateway routes to",
        "the gateway connects to itself",
        "503 NC",
        "what came to the gateway was sent to the gateway; going by the URL instead would let clients reach anything",
    ),
)

_PREFACE = """\
# Where meshproxy differs from Istio and Envoy on purpose

The reference is Envoy 1.40 as Istio sets it up at a gateway. The same requests are sent to both (`make conformance`),
and whatever differs and is not told here is a failure. This page is written by
`python -m tests.conformance.differences > docs/differences.md`.

| what | Istio and Envoy | meshproxy | why |
|---|---|---|---|"""


def page() -> str:
    """`docs/differences.md`"""
    rows = (f"| {row.what} | {row.theirs} | {row.ours} | {row.why} |" for row in DIFFERENCES)
    return "\n".join([_PREFACE, *rows, ""])


if __name__ == "__main__":
    print(page(), end="")
