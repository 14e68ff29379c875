"""Generated resources and requests together: most requests are made to meet a rule that was generated, or nearly so.

Resources are data as YAML has it, and go the way that a user's take: loader, mesh, snapshot. The strategies say nothing
that the loader refuses, and nothing whose outcome is left to chance: of several destinations, one has all the weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from hypothesis import strategies as st

from meshproxy.mesh import find_workload, gateway_snapshot, sidecar_snapshot
from meshproxy.snapshot import Snapshot, SocketAddress

from ..mesh.support import OUTBOUND, mesh_of
from .exchanges import OK, Answer, Backends, Case, Exchange

EXCHANGES_EACH = 5

Document = dict[str, Any]
Fields = dict[str, Any]


def _resource(kind: str, name: str, spec: Fields, **metadata: Any) -> Document:
    version = "v1" if kind == "Service" else "networking.istio.io/v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


_HTTP_PORT = {"number": 80, "name": "http", "protocol": "HTTP"}
# `plain` has one endpoint, `versions` one for each subset, `picked` those that its selector picks, `nobody` none.
_SERVICES = (
    _resource(
        "ServiceEntry",
        "plain",
        {
            "hosts": ["plain.default.svc.cluster.local"],
            "ports": [_HTTP_PORT],
            "resolution": "STATIC",
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": "<a>"}}],
        },
    ),
    _resource(
        "ServiceEntry",
        "versions",
        {
            "hosts": ["versions.test"],
            "ports": [_HTTP_PORT, {"number": 81, "name": "http-more", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [
                {"address": "127.0.0.1", "ports": {"http": "<b>", "http-more": "<b>"}, "labels": {"version": "v1"}},
                {"address": "127.0.0.1", "ports": {"http": "<c>", "http-more": "<c>"}, "labels": {"version": "v2"}},
            ],
        },
    ),
    _resource(
        "WorkloadEntry", "picked", {"address": "127.0.0.1", "ports": {"web": "<c>"}, "labels": {"app": "picked"}}
    ),
    _resource(
        "Service",
        "picked",
        {"selector": {"app": "picked"}, "ports": [{"name": "http", "port": 8080, "targetPort": "web"}]},
    ),
    _resource(
        "Service", "nobody", {"selector": {"app": "nobody"}, "ports": [{"name": "http", "port": 80, "targetPort": 1}]}
    ),
    _resource("WorkloadEntry", "caller", {"address": "10.0.0.9", "labels": {"app": "caller"}}),
    _resource("Service", "caller", {"selector": {"app": "caller"}, "ports": [{"name": "http", "port": 80}]}),
)
_DESTINATIONS: tuple[Fields, ...] = (
    {"host": "plain"},
    {"host": "plain.default.svc.cluster.local", "port": {"number": 80}},
    {"host": "versions.test", "subset": "v1", "port": {"number": 80}},
    {"host": "versions.test", "subset": "v2", "port": {"number": 81}},
    {"host": "versions.test", "subset": "v2", "port": {"number": 80}},
    {"host": "picked"},
    {"host": "picked.default"},
)
_LOST: tuple[Fields, ...] = (
    {"host": "nobody"},
    {"host": "unknown"},
    {"host": "versions.test", "subset": "v3", "port": {"number": 80}},
    {"host": "versions.test", "subset": "v4", "port": {"number": 80}},
    {"host": "plain", "port": {"number": 99}},
)

_PATHS = ("/", "/a", "/a/", "/a/b", "/A", "/ab", "/b", "/a/7", "/a%20b")
_PATH_EXPRESSIONS = {"/a.*": "/a/b/c", "/[ab]/b": "/b/b", ".*b": "/x/b", r"/a/\d+": "/a/77", "/": "/", "(?i)/A": "/a"}
_TEXTS = ("u", "us", "u,v", "U")
_TEXT_EXPRESSIONS = {"u+": "uu", "u|v": "v", ".*": "", "[^,]*": "x"}
"""Expressions, each with a text that matches."""


def _matches(texts: Sequence[str], expressions: Mapping[str, str]) -> st.SearchStrategy[Fields]:
    """A `StringMatch`."""
    return st.one_of(
        st.sampled_from(texts).map(lambda text: {"exact": text}),
        st.sampled_from(texts).map(lambda text: {"prefix": text}),
        st.sampled_from(list(expressions)).map(lambda text: {"regex": text}),
    )


_uris = _matches(_PATHS, _PATH_EXPRESSIONS)
_texts = _matches(_TEXTS, _TEXT_EXPRESSIONS)
_texts_or_presence: st.SearchStrategy[Fields] = st.one_of(_texts, _texts, st.just({}))
_header_names = st.sampled_from(["x-user", "x-new", "accept"])
_labels = st.sampled_from([{"app": "caller"}, {"app": "other"}, {"istio": "ingressgateway"}])


def _mostly(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(value, value, st.none())


def _rarely(value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), st.none(), st.none(), st.none(), value)


def _given(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Fields]:
    """Those of some fields that are drawn to be something."""
    return st.fixed_dictionaries(strategies).map(
        lambda fields: {name: value for name, value in fields.items() if value is not None}
    )


_conditions = _given(
    uri=_mostly(_uris),
    ignoreUriCase=_rarely(st.just(True)),
    method=_rarely(st.sampled_from([{"exact": "GET"}, {"exact": "POST"}, {"regex": "P.*"}])),
    authority=_rarely(st.sampled_from([{"prefix": "a"}, {"exact": "a.test"}, {"regex": ".*:80"}])),
    scheme=_rarely(st.sampled_from([{"exact": "http"}, {"exact": "https"}])),
    headers=_rarely(st.dictionaries(_header_names, _texts_or_presence, min_size=1, max_size=2)),
    withoutHeaders=_rarely(st.dictionaries(_header_names, _texts_or_presence, min_size=1, max_size=1)),
    queryParams=_rarely(st.dictionaries(st.sampled_from(["q", "Q"]), _texts_or_presence, min_size=1, max_size=1)),
    port=_rarely(st.sampled_from([80, 81])),
    sourceLabels=_rarely(_labels),
    name=_rarely(st.just("m")),
)

_changed_names = st.sampled_from(["x-user", "X-New", "x-shared", "x-envoy-original-path", "accept"])
_values = st.sampled_from(
    [
        *("1", "", "50%%", "%REQ(x-user)%", "%REQ(:path)%", "%REQ(:authority)%", "%PROTOCOL%", "%ROUTE_NAME%"),
        *("%UPSTREAM_CLUSTER%", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "a%REQ(:method)%b"),
    ]
)


def _changes(**more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    values = st.dictionaries(_changed_names, _values, min_size=1, max_size=2)
    removed = st.lists(_changed_names, min_size=1, max_size=2, unique=True)
    return _rarely(_given(set=_rarely(values) | values, add=_rarely(values), remove=_rarely(removed)))


_headers = _rarely(_given(request=_changes(), response=_changes()))
_rewrites = _given(
    uri=_mostly(st.sampled_from(["/new", "/", "/new?z=1"])),
    authority=_rarely(st.just("route.test")),
) | st.sampled_from(
    [
        {"uriRegexRewrite": {"match": "/a(.*)", "rewrite": r"/z\1"}},
        {"uriRegexRewrite": {"match": "[ab]", "rewrite": r"<\0\\>"}, "authority": "route.test"},
    ]
)
_redirects = _given(
    uri=_mostly(st.sampled_from(["/new", "/new?q=1", "new"])),
    authority=_rarely(st.sampled_from(["other.test", "other.test:81"])),
    port=_rarely(st.sampled_from([80, 8443])),
    scheme=_rarely(st.sampled_from(["http", "https"])),
    redirectCode=_rarely(st.sampled_from([301, 302, 303, 307, 308])),
).filter(lambda fields: not fields.keys() <= {"redirectCode"})
# Envoy sends a 204's body, and whatever follows it on the connection cannot be read any more: none is made with one.
_answers_from_here = st.just({"status": 204}) | _given(
    status=st.sampled_from([200, 404, 503]),
    body=st.sampled_from([None, {"string": "here"}, {"string": "\u00e9"}, {"bytes": "/w=="}]),
)


@st.composite
def _destinations(draw: st.DrawFn) -> list[Fields]:
    """One destination, or two of which one has all the weight."""
    one, other = (
        {"destination": dict(draw(st.sampled_from(_DESTINATIONS * 3 + _LOST)))} | _only(headers=draw(_headers))
        for _ in range(2)
    )
    return draw(st.sampled_from([[one], [one], [one | {"weight": 100}, other | {"weight": 0}]]))


def _only(**fields: Any) -> Fields:
    return {name: value for name, value in fields.items() if value}


@st.composite
def _rules(draw: st.DrawFn) -> Fields:
    """An `HTTPRoute`."""
    match = draw(st.lists(_conditions, max_size=2))
    rule = _only(match=match, name=draw(_rarely(st.just("r.1"))), headers=draw(_headers))
    match draw(st.sampled_from(["route", "route", "route", "route", "redirect", "answer"])):
        case "redirect":
            rule["redirect"] = draw(_redirects)
            if match and all("prefix" in one.get("uri", {}) for one in match) and draw(st.booleans()):
                rule["redirect"] = rule["redirect"] | {"prefixRewrite": draw(st.sampled_from(["/z", "/z/"]))}
                rule["redirect"].pop("uri", None)
        case "answer":
            rule["directResponse"] = draw(_answers_from_here)
        case _:
            rule["route"] = draw(_destinations())
            rule |= _only(rewrite=draw(_rarely(_rewrites)))
    return rule


_destination_rules = _given(
    trafficPolicy=_rarely(
        st.sampled_from(
            [
                {"loadBalancer": {"simple": "ROUND_ROBIN"}},
                {"connectionPool": {"tcp": {"connectTimeout": "3s"}}},
                {"portLevelSettings": [{"port": {"number": 81}, "loadBalancer": {"simple": "RANDOM"}}]},
            ]
        )
    )
).map(
    lambda policy: _resource(
        "DestinationRule",
        "versions",
        {
            "host": "versions.test",
            "subsets": [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v3")],
            **policy,
        },
    )
)

_GATEWAY_HOSTS = (("a.test",), ("*.test",), ("a.test", "b.test"), ("*.x.test", "a.test"), ("*",))
_MESH_HOSTS = (("plain",), ("versions.test",), ("picked.default.svc.cluster.local", "plain"), ("*.test",), ("nobody",))


# What a sidecar's app calls without a subset would be left to chance: these routes hold where no others do.
_CALLED_AT_LAST = _resource(
    "VirtualService", "zz", {"hosts": ["versions.test"], "http": [{"route": [{"destination": _DESTINATIONS[2]}]}]}
)


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


@dataclass(frozen=True)
class Resources:
    """Resources for a gateway, or for the sidecar of `caller`, and what requests to it may say."""

    documents: tuple[Document, ...]
    sidecar: bool
    rules: tuple[tuple[str, Fields], ...] = field(default=())
    """A host of a VirtualService, and a rule of it."""

    @property
    def text(self) -> str:
        """In YAML, with `<a>` where the port of backend `a` has to stand."""
        return yaml.dump_all(self.documents, Dumper=_Dumper, sort_keys=False)

    def configuration(self, backends: Backends) -> Snapshot:
        """What the proxy runs."""
        text = self.text
        for name, address in backends.items():
            if isinstance(address, SocketAddress):
                text = text.replace(f"<{name}>", str(address.port)).replace(f"'{address.port}'", str(address.port))
        mesh = mesh_of(text)
        if not self.sidecar:
            return gateway_snapshot(mesh)
        workload = find_workload(mesh, "caller")
        return sidecar_snapshot(
            mesh, workload=workload, app=backends["a"], outbound=OUTBOUND, outbound_policy="REGISTRY_ONLY"
        )


@st.composite
def resources(draw: st.DrawFn) -> Resources:
    """VirtualServices between services, at a gateway or at a sidecar."""
    sidecar = draw(st.sampled_from([False, False, True]))
    documents = [*_SERVICES, draw(_destination_rules)]
    if sidecar:
        documents.append(_CALLED_AT_LAST)
    else:
        hosts = draw(st.sampled_from([["*"], ["*"], ["*.test", "a.test"], ["a.test", "./b.test", "other/*"]]))
        server = {"port": _HTTP_PORT, "hosts": hosts}
        documents.append(_resource("Gateway", "gw", {"selector": {"istio": "ingressgateway"}, "servers": [server]}))
    rules = []
    for number in range(draw(st.integers(1, 3))):
        known = _MESH_HOSTS if sidecar else _GATEWAY_HOSTS
        spec: Fields = {"hosts": list(draw(st.sampled_from(known)))}
        if not sidecar:
            spec["gateways"] = ["gw"] if "*" in spec["hosts"] else draw(st.sampled_from([["gw"], ["gw", "mesh"]]))
        spec["http"] = draw(st.lists(_rules(), min_size=1, max_size=4))
        documents.append(_resource("VirtualService", f"vs{number}", spec))
        rules += [(host, rule) for host in spec["hosts"] for rule in spec["http"]]
    return Resources(tuple(documents), sidecar, tuple(rules))


@dataclass
class _Request:
    method: str
    path: str
    query: str
    host: str
    lines: list[str]


_METHODS = ("GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH")
_ODD_PATHS = ("/a/../b", "/%61/b", "//a", "/a\\b", "/new", "/aa", "/a;x", "/.", "/a%2fb")
_QUERIES = ("", "", "", "?", "?q", "?q=u", "?q=us&q=u", "?Q=u", "?q=%75", "?x=1&q=U", "?q=u,v")
_LINES = (
    *("x-user: u", "x-user: us", "x-user: u,v", "X-User: U", "x-user:", "x-new: u", "x-new: v", "x-shared: 1"),
    *("accept: u", "accept: us", "x-envoy-original-path: /forged", "x-envoy-internal: true", "x-request-id: mine"),
    *("x-forwarded-for: 203.0.113.9", "x-forwarded-proto: https", "connection: x-user", "connection: close"),
    *("te: trailers", "te: gzip", "content-type: application/grpc", "cookie: a=1", "expect: 100-continue"),
    *("x-bytes: \xe9", "x-tab: a\tb", "x-user: u\xe9", "proxy-connection: close", "keep-alive: 5", "via: 1.1 x"),
)
_OTHER_HOSTS = (
    "a.test",
    "A.test",
    "a.test:8080",
    "b.test:80",
    "c.test",
    "z.x.test",
    "10.0.0.1:80",
    "nobody",
    "",
    "[::1]:80",
)
_OTHER_CALLED = (
    "plain:80",
    "plain.default",
    "plain:81",
    "PLAIN",
    "versions.test:81",
    "picked",
    "picked:8080",
    "a.test.",
)


@st.composite
def _requests(draw: st.DrawFn, resources: Resources) -> tuple[str, bytes]:
    """A method, and a request on the wire: one that meets a rule, nearly does so, or has to find its own way."""
    request = _Request(
        draw(st.sampled_from(_METHODS)),
        draw(st.sampled_from(_PATHS + _ODD_PATHS)),
        draw(st.sampled_from(_QUERIES)),
        draw(st.sampled_from(_OTHER_HOSTS + _OTHER_CALLED * resources.sidecar)),
        draw(st.lists(st.sampled_from(_LINES), max_size=3)),
    )
    aim = draw(st.sampled_from(["hit", "hit", "miss", "miss", "any"]))
    if aim != "any":
        host, rule = draw(st.sampled_from(resources.rules))
        request.host = host.replace("*", "x")
        _aim(draw, request, draw(st.sampled_from(rule.get("match") or [{}])))
        if aim == "miss":
            draw(st.sampled_from(_MISSES))(request)
    return request.method, draw(_wires(request))


def _aim(draw: st.DrawFn, request: _Request, conditions: Fields) -> None:
    """Have the request meet conditions; what they do not speak of stays as it is."""
    if uri := conditions.get("uri"):
        request.path = _example(draw, uri, _PATH_EXPRESSIONS)
    if method := conditions.get("method"):
        request.method = method.get("exact", "PUT")
    if authority := conditions.get("authority"):
        request.host = authority.get("exact", request.host)
    unwanted = conditions.get("withoutHeaders", {})
    wanted = conditions.get("headers", {})
    request.lines = [line for line in request.lines if line.partition(":")[0].lower() not in {*unwanted, *wanted}]
    request.lines += [f"{name}: {_example(draw, match, _TEXT_EXPRESSIONS)}" for name, match in wanted.items()]
    for name, match in conditions.get("queryParams", {}).items():
        request.query = f"?{name}={_example(draw, match, _TEXT_EXPRESSIONS)}"


def _example(draw: st.DrawFn, match: Fields, expressions: Mapping[str, str]) -> str:
    """A text that meets a `StringMatch`."""
    if "regex" in match:
        return expressions[match["regex"]]
    if "exact" in match:
        return str(match["exact"])
    return str(match.get("prefix", "")) + draw(st.sampled_from(["", "x", "/x"]))


def _changed_path(change: Callable[[str], str]) -> Callable[[_Request], None]:
    def miss(request: _Request) -> None:
        request.path = change(request.path)

    return miss


def _changed_lines(change: Callable[[str], list[str]]) -> Callable[[_Request], None]:
    """Change the last line."""

    def miss(request: _Request) -> None:
        request.lines[-1:] = [new for line in request.lines[-1:] for new in change(line)]

    return miss


def _changed_host(change: Callable[[str], str]) -> Callable[[_Request], None]:
    def miss(request: _Request) -> None:
        request.host = change(request.host)

    return miss


def _other_query(request: _Request) -> None:
    request.query = request.query.swapcase()


def _other_method(request: _Request) -> None:
    request.method = "PUT" if request.method == "GET" else "GET"


_MISSES: tuple[Callable[[_Request], None], ...] = (
    _changed_path(lambda path: path + "x"),
    _changed_path(lambda path: path + "/"),
    _changed_path(lambda path: path[:-1] or "/"),
    _changed_path(lambda path: path.swapcase()),
    _changed_path(lambda path: path.replace("a", "%61", 1)),
    _changed_path(lambda path: "/x/.." + path),
    _changed_lines(lambda line: []),
    _changed_lines(lambda line: [line + "x"]),
    _changed_lines(lambda line: [line.partition(":")[0] + ":"]),
    _changed_lines(lambda line: [line, line + "x"]),
    _changed_lines(lambda line: [line.partition(":")[0] + ": other", line]),
    _changed_host(lambda host: host + ":80"),
    _changed_host(lambda host: host + ":81"),
    _changed_host(lambda host: host.upper()),
    _changed_host(lambda host: "x" + host),
    _other_query,
    _other_method,
)


@st.composite
def _wires(draw: st.DrawFn, request: _Request) -> bytes:
    lines = [f"{request.method} {request.path}{request.query} HTTP/1.1", f"host: {request.host}", *request.lines]
    match draw(st.sampled_from(["none", "none", "none", "length", "chunks", "trailers"])):
        case "length":
            return _wire([*lines, "content-length: 5"]) + b"hello"
        case "chunks":
            return _wire([*lines, "transfer-encoding: chunked"]) + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
        case "trailers":
            return _wire([*lines, "transfer-encoding: chunked"]) + b"2\r\nhe\r\n0\r\nx-trailer: 1\r\n\r\n"
    return _wire(lines)


def _wire(lines: Sequence[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_ANSWER_LINES = (
    *("x-user: up", "x-shared: 1", "X-Shared: 2", "set-cookie: a=1", "server: up", "date: never", "vary: a"),
    *("x-envoy-upstream-service-time: 9", "x-envoy-foo: 1", "location: /x", "cache-control: no-store", "etag: x"),
    *("connection: close", "keep-alive: 5", "content-type: text/html", "x-new: 1"),
)


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
def _exchanges(draw: st.DrawFn, resources: Resources) -> Exchange:
    """One request, or two of them pipelined."""
    requests = draw(st.lists(_requests(resources), min_size=1, max_size=draw(st.sampled_from([1, 1, 1, 2]))))
    answer = draw(_answers())
    if any(method == "HEAD" for method, _ in requests):  # whose answer's body would be taken for another answer
        answer = (
            Answer((answer.pieces[0].partition(b"\r\n\r\n")[0] + b"\r\n\r\n",))
            if len(requests) == 1
            else Answer((b"HTTP/1.1 204 No Content\r\n\r\n",))
        )
    return Exchange(
        "generated",
        (b"".join(wire for _, wire in requests),),
        answer,
        tuple(one for one, _ in requests),
        listener=draw(st.sampled_from([0, 0, 0, 1])) if resources.sidecar else 0,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Some resources, and requests that may meet their rules."""
    drawn = draw(resources())
    exchanges = draw(st.lists(_exchanges(drawn), min_size=EXCHANGES_EACH, max_size=EXCHANGES_EACH))
    return Case("generated", drawn.configuration, tuple(exchanges), drawn.text)
