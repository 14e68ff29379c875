"""What is explained is what happens: generated requests to generated meshes, explained and sent.

A running worker is between clients and backends that keep what they receive. `explain` has to foresee which rule a
request meets, what arrives at one of its destinations, to the order of the headers, and what the client gets.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshproxy.mesh import Mesh, OutboundPolicy, find_workload, gateway_snapshot, sidecar_snapshot
from meshproxy.mesh.gateway import considered_by_gateway, merge_servers
from meshproxy.mesh.routes import ConsideredRoute
from meshproxy.mesh.sidecar import PASSTHROUGH_CLUSTER, considered_by_sidecar
from meshproxy.proxy.routing.explain import (
    ANY_ENDPOINT,
    REQUEST_ID,
    Answer,
    Destination,
    Explainer,
    Explanation,
    HeaderChange,
)
from meshproxy.snapshot import Listener, Route, Snapshot, SocketAddress

from ..mesh.support import mesh_of
from .support import LOCALHOST, Gateway, Peer, Script, backend, gateway, unused_address
from .support import Answer as Received

EXAMPLES = 100
REQUESTS_EACH = 25

Json = dict[str, Any]
Fields = list[tuple[str, str]]

UPSTREAM_FIELDS: Fields = [
    ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("server", "upstream"),
    ("x-user", "upstream"),
    ("x-shared", "1"),
    ("x-shared", "2"),
]
# Written by the codecs and by the running cluster, whatever the route does.
NOT_FORESEEN = {"connection", "content-length", "date", "x-envoy-upstream-service-time"}


def _maybe(key: str, value: st.SearchStrategy[Any], among: int = 3) -> st.SearchStrategy[Json]:
    """An object with `key`, once in `among` times."""
    there: st.SearchStrategy[Json] = value.map(lambda one: {key: one})
    missing: st.SearchStrategy[Json] = st.just({})
    return st.sampled_from(range(among)).flatmap(lambda n: there if n == among - 1 else missing)


def _merged(*parts: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


PATHS = ("/", "/a", "/a/", "/a/b", "/a/b/c", "/A", "/ab", "/b", "/a/7", "/a%20b")
URIS = st.one_of(
    st.sampled_from(PATHS).map(lambda path: {"prefix": path}),
    st.sampled_from(PATHS).map(lambda path: {"exact": path}),
    st.sampled_from(["/a.*", "/[ab]/b", ".*b", r"/a/\d+", "/"]).map(lambda pattern: {"regex": pattern}),
)
TEXTS = st.sampled_from([{"exact": "u"}, {"exact": "us"}, {"exact": "u,v"}, {"prefix": "u"}, {"regex": "u+"}])
PRESENT: st.SearchStrategy[Json] = st.just({})
MATCHES = _merged(
    st.one_of(_maybe("uri", URIS, among=1), _maybe("uri", URIS)),
    _maybe("ignoreUriCase", st.just(True), among=5),
    _maybe("headers", (TEXTS | PRESENT).map(lambda text: {"x-user": text})),
    _maybe("withoutHeaders", (TEXTS | PRESENT).map(lambda text: {"x-new": text}), among=5),
    _maybe("method", st.sampled_from(["GET", "POST"]).map(lambda method: {"exact": method}), among=5),
    _maybe("authority", st.just({"prefix": "a"}), among=6),
    _maybe("queryParams", TEXTS.map(lambda text: {"q": text}), among=4),
    _maybe("sourceLabels", st.sampled_from(["client", "batch"]).map(lambda app: {"app": app}), among=6),
    _maybe("sourceNamespace", st.sampled_from(["default", "jobs"]), among=6),
    _maybe("port", st.sampled_from([80, 8080]), among=6),
)
VALUES = st.sampled_from(
    [
        *("1", "50%%", "%REQ(x-user)%", "%REQ(:path)%", "%REQ(:authority)%", "%PROTOCOL%", "%ROUTE_NAME%"),
        *("%UPSTREAM_CLUSTER%", "%UPSTREAM_HOST%", "%DOWNSTREAM_REMOTE_ADDRESS%", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ]
)
NAMES = st.sampled_from(["x-user", "x-new", "x-shared", "x-envoy-original-path"])
CHANGES = _merged(
    _maybe("set", st.dictionaries(NAMES, VALUES, min_size=1, max_size=2), among=2),
    _maybe("add", st.dictionaries(NAMES, VALUES, min_size=1, max_size=2), among=2),
    _maybe("remove", st.lists(NAMES, min_size=1, max_size=2, unique=True)),
)
HEADERS = _merged(_maybe("request", CHANGES, among=1), _maybe("response", CHANGES, among=1))
DESTINATIONS = st.sampled_from(
    [
        *({"host": "a", "subset": "v1"}, {"host": "a", "subset": "v2"}, {"host": "a"}, {"host": "b"}),
        *({"host": "a", "subset": "nobody"}, {"host": "a", "subset": "unknown"}),
    ]
)


def _forwards(headers: st.SearchStrategy[Json], rewrites: Sequence[Json]) -> st.SearchStrategy[Json]:
    weighted = _merged(
        _maybe("destination", DESTINATIONS, among=1),
        _maybe("weight", st.integers(1, 100), among=1),
        _maybe("headers", headers, among=2),
    )
    return _merged(
        _maybe("route", st.lists(weighted, min_size=1, max_size=3), among=1),
        _maybe("rewrite", st.sampled_from(rewrites), among=2),
    )


# Of all that can change the authority, a rule may have one.
PATH_REWRITES: list[Json] = [
    {"uri": "/new"},
    {"uri": "/"},
    {"uriRegexRewrite": {"match": "/a(.*)", "rewrite": r"/z\1"}},
]
FORWARDS = st.one_of(
    _forwards(HEADERS, [*PATH_REWRITES, {"authority": "rewritten.test"}, {"uri": "/x/", "authority": "other.test"}]),
    _forwards(st.just({"request": {"set": {"host": "changed.test"}}}), PATH_REWRITES),
)
REDIRECTS = st.sampled_from(
    [
        *({"uri": "/new"}, {"uri": "/new?q=1", "redirectCode": 308}, {"authority": "other.test"}),
        *({"scheme": "https"}, {"port": 8443, "redirectCode": 302}, {"derivePort": "FROM_REQUEST_PORT", "uri": "/n"}),
    ]
).map(lambda redirect: {"redirect": redirect})
DIRECT_RESPONSES = st.sampled_from([{"status": 200, "body": {"string": "here"}}, {"status": 503}, {"status": 204}]).map(
    lambda answer: {"directResponse": answer}
)
RULES = _merged(
    st.one_of(FORWARDS, FORWARDS, REDIRECTS, DIRECT_RESPONSES),
    _maybe("match", st.lists(MATCHES, min_size=1, max_size=3), among=1),
    _maybe("headers", HEADERS, among=1),
)
HOSTS = ("*.test", "*.test", "a.test", "a.test", "b.test", "*", "a.test.example", "b", "*.default.svc.cluster.local")
SERVICES = st.tuples(st.sampled_from(HOSTS), st.lists(RULES, min_size=2, max_size=6))


def _resource(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _virtual_service(number: int, host: str, rules: Sequence[Json]) -> Json:
    """A VirtualService in which every route has a name of its own; a response header tells it, and the cluster."""
    gateways = ["gw"] if host == "*" else ["gw", "mesh"]
    http = []
    for place, rule in enumerate(rules):
        headers = rule.get("headers", {})
        response = headers.get("response", {})
        response = response | {"set": response.get("set", {}) | {"x-rule": "%ROUTE_NAME%/%UPSTREAM_CLUSTER%"}}
        matches = [match | {"name": f"m{index}"} for index, match in enumerate(rule["match"])]
        http.append(
            rule | {"name": f"v{number}-r{place}", "match": matches, "headers": headers | {"response": response}}
        )
    return _resource("VirtualService", f"v{number}", {"hosts": [host], "gateways": gateways, "http": http})


def _world(backends: Sequence[SocketAddress]) -> list[Json]:
    """A Gateway, a service in two versions and another, and a workload that sends requests."""
    v1, v2, other = backends

    def service(name: str, endpoints: list[tuple[SocketAddress, Json]]) -> Json:
        spec = {
            "hosts": [f"{name}.default.svc.cluster.local"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [
                {"address": at.host, "ports": {"http": at.port}, "labels": labels} for at, labels in endpoints
            ],
        }
        return _resource("ServiceEntry", name, spec)

    subsets = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "nobody")]
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    return [
        _resource("Gateway", "gw", {"selector": {"istio": "ingressgateway"}, "servers": [server]}),
        service("a", [(v1, {"version": "v1"}), (v2, {"version": "v2"})]),
        service("b", [(other, {})]),
        _resource("DestinationRule", "a", {"host": "a", "subsets": subsets}),
        _resource("WorkloadEntry", "client", {"address": "127.0.0.1", "labels": {"app": "client"}}),
    ]


HEAD_LINES = st.sampled_from(
    [
        *("x-user: u", "x-user: us", "x-user: v", "X-User: u", "x-user:", "x-new: u", "x-new: v", "x-shared: u,v"),
        *("x-forwarded-proto: https", "x-forwarded-for: 203.0.113.9", "x-envoy-original-path: /forged"),
        *("x-envoy-internal: true", "x-request-id: mine", "connection: x-user", "te: trailers"),
    ]
)
AUTHORITIES = (
    *("a.test", "a.test", "a.test", "b.test", "A.test:80", "c.test", "a.test.example"),
    *("a.test:8080", "b", "nobody", "BACKEND", "LISTENER"),
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A request's head: mostly a good one, and near to what rules ask for."""
    if draw(st.sampled_from(range(15))) == 14:
        return draw(st.sampled_from(ODD_HEADS))
    method = draw(st.sampled_from(["GET", "GET", "GET", "POST", "DELETE", "HEAD"]))
    path = draw(st.sampled_from((*PATHS, "/a/../b", "/%61/b", "/a/b/", "//a", "/a\\b", "/new", "/aa")))
    query = draw(st.sampled_from(["", "", "?", "?q=u", "?q=us&q=u", "?p=u", "?q"]))
    authority = draw(st.sampled_from(AUTHORITIES))
    lines = draw(st.lists(HEAD_LINES, max_size=3))
    return "\r\n".join([f"{method} {path}{query} HTTP/1.1", f"host: {authority}", *lines, "", ""]).encode()


ODD_HEADS = [
    b"GET /a HTTP/1.1\r\n\r\n",
    b"GET /a HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n\r\n",
    b"GET /a#b HTTP/1.1\r\nhost: a.test\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nhost: a.test\r\n\r\n",
    b"BREW /a HTTP/1.1\r\nhost: a.test\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n",
    b"GET http://a.test/a HTTP/1.1\r\nhost: b.test\r\n\r\n",
    b"GET /a HTTP/1.0\r\nhost: a.test\r\n\r\n",
    b"GET /a HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
    b"GET /a HTTP/1.1\r\nhost: a.test\r\n\tfolded\r\n\r\n",
    b"GET /a HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/grpc\r\n\r\n",
]


class Arrived(NamedTuple):
    """What a backend received."""

    backend: SocketAddress
    line: str
    fields: Fields


@asynccontextmanager
async def _backends(count: int, arrived: list[Arrived]) -> AsyncIterator[list[SocketAddress]]:
    async with AsyncExitStack() as stack:
        found: list[SocketAddress] = []
        for _ in range(count):
            with socket.create_server(("127.0.0.1", 0)) as listening:
                address = SocketAddress(*listening.getsockname()[:2])
            await stack.enter_async_context(backend(_recording(address, arrived), address))
            found.append(address)
        yield found


def _recording(address: SocketAddress, arrived: list[Arrived]) -> Script:
    head = "".join(f"{name}: {value}\r\n" for name, value in UPSTREAM_FIELDS)
    response = f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{head}\r\n".encode()

    async def script(connection: Peer) -> None:
        while True:
            line, *fields = (await connection.message()).decode().split("\r\n")[:-2]
            arrived.append(
                Arrived(address, line, [(name, value) for name, _, value in (f.partition(": ") for f in fields)])
            )
            await connection.send(response if line.startswith("HEAD ") else response + b"ok")

    return script


POLICIES: tuple[OutboundPolicy, ...] = ("REGISTRY_ONLY", "ALLOW_ANY")


def _snapshots(mesh: Mesh) -> list[Snapshot]:
    """What a gateway runs, and what a sidecar does with each policy."""
    client = find_workload(mesh, "client")
    sidecars = [
        sidecar_snapshot(mesh, workload=client, app=unused_address(), outbound=LOCALHOST, outbound_policy=policy)
        for policy in POLICIES
    ]
    return [replace(one, listeners=(_reachable(one.listeners[0]),)) for one in (gateway_snapshot(mesh), *sidecars)]


def _reachable(listener: Listener) -> Listener:
    return replace(listener, name="http", address=LOCALHOST)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(SERVICES, min_size=1, max_size=3),
    st.lists(heads(), min_size=REQUESTS_EACH, max_size=REQUESTS_EACH),
    st.sampled_from([0, 0, 1, 2]),
)
async def test_what_is_explained_is_what_happens(
    services: list[tuple[str, list[Json]]], requests: list[bytes], proxy: int
) -> None:
    arrived: list[Arrived] = []
    trio.socket.set_custom_hostname_resolver(_Nameless())
    async with _backends(3, arrived) as addresses:
        rules = [_virtual_service(number, host, rules) for number, (host, rules) in enumerate(services)]
        mesh = mesh_of(*map(json.dumps, [*_world(addresses), *rules]))
        snapshot = _snapshots(mesh)[proxy]
        async with gateway(snapshot) as running:
            explainer = Explainer(snapshot, replace(snapshot.listeners[0], address=running.address))
            for request in requests:
                arrived.clear()
                head = request.replace(b"BACKEND", str(addresses[0]).encode())
                head = head.replace(b"LISTENER", str(running.address).encode())
                explanation, received = await _explained_and_sent(explainer, running, head)
                _agree(explanation, arrived, received, head)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(SERVICES, min_size=1, max_size=4))
def test_what_is_considered_is_what_there_is_and_in_its_place_what_there_is_not(
    services: list[tuple[str, list[Json]]],
) -> None:
    rules = [_virtual_service(number, host, rules) for number, (host, rules) in enumerate(services)]
    mesh = mesh_of(*map(json.dumps, [*_world([SocketAddress("127.0.0.1", 9000)] * 3), *rules]))
    managers = (one.listeners[0].filter_chains[0].http for one in _snapshots(mesh))
    at_gateway, at_sidecar, _ = (manager.route_config.virtual_hosts for manager in managers)
    ((_, servers),) = merge_servers(mesh.gateways.values()).items()

    for host in at_gateway:
        for domain in host.domains:
            assert _existing(considered_by_gateway(mesh, servers, _within(domain))) == host.routes
    for host in at_sidecar[:-1]:
        name, _, port = host.name.rpartition(":")
        found = _existing(considered_by_sidecar(mesh, find_workload(mesh, "client"), _within(name), int(port)))
        assert found == (() if host.routes[0].name == "default" else host.routes)


def _within(domain: str) -> str:
    return domain.replace("*", "other")


def _existing(considered: Iterable[ConsideredRoute]) -> tuple[Route, ...]:
    return tuple(route for route, unmet in considered if unmet is None)


class _Nameless(trio.abc.HostnameResolver):
    """A world in which no name has an address."""

    async def getaddrinfo(self, host: bytes | None, *_: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, f"{host!r} is unknown")

    async def getnameinfo(self, *_: object) -> NoReturn:
        raise NotImplementedError


async def _explained_and_sent(explainer: Explainer, running: Gateway, head: bytes) -> tuple[Explanation, Received]:
    client = await running.client()
    explanation = explainer.explain(head, SocketAddress(*client.socket.getsockname()[:2]))
    received = await client.request(head, head.partition(b" ")[0].decode())
    client.close()
    return explanation, received


def _agree(explanation: Explanation, arrived: list[Arrived], received: Received, head: bytes) -> None:
    rule = explanation.route.name if explanation.route else ""
    told = [value.partition("/")[0] for name, value in received.headers if name == "x-rule"]
    assert told == ([rule] if _RULE.match(rule) else [])
    if not arrived:
        answers = [explanation.answer, *(destination.answer for destination in explanation.destinations)]
        unknown = any(one.name == PASSTHROUGH_CLUSTER and not one.answer for one in explanation.destinations)
        # No name is looked up by explain. A gRPC request is told of the failure in gRPC's way.
        unresolved = unknown and (received.status == 503 or received.header("grpc-status") == "14")
        assert unresolved or any(answer and _is(received, answer, head) for answer in answers), (explanation, received)
        return
    (request,) = arrived
    assert any(_is_sent(request, received, one) for one in explanation.destinations), (explanation, request, received)


_RULE = re.compile(r"v\d-r\d")  # the other rules are the sidecar's own, which tell nobody


def _is(received: Received, answer: Answer, head: bytes) -> bool:
    body = "" if head.startswith(b"HEAD") else answer.body
    return (received.status, received.body.decode(), _foreseen(received.headers)) == (
        answer.status,
        body,
        _foreseen(answer.headers),
    )


def _is_sent(request: Arrived, received: Received, destination: Destination) -> bool:
    """Whether this is what `destination` is sent, and what becomes of its response."""
    if destination.request is None or request.backend not in [one.address for one in destination.endpoints]:
        return False
    sent = destination.request
    return (
        request.line == f"{sent.method} {sent.path} HTTP/1.1"
        and _in_order(request.fields) == _in_order([("host", sent.authority), *sent.headers])
        and received.status == 200
        and _foreseen(received.headers) == _foreseen(_changed(destination.response_changes, request.backend))
    )


def _changed(changes: Sequence[HeaderChange], picked: SocketAddress) -> Fields:
    """What a client gets of a backend's response."""
    fields = list(UPSTREAM_FIELDS)
    for change in changes:
        if change.operation != "append":
            fields = [field for field in fields if field[0] != change.name]
        fields += [(change.name, value.replace(ANY_ENDPOINT, str(picked))) for value in change.values]
    return fields


def _foreseen(fields: Iterable[tuple[str, str]]) -> Fields:
    return sorted(field for field in fields if field[0] not in NOT_FORESEEN)


def _in_order(fields: Iterable[tuple[str, str]]) -> Fields:
    """Fields without what the codec writes, and with the request id that explanations have."""
    return [(name, _RANDOM_ID.sub(REQUEST_ID.decode(), value)) for name, value in fields if name != "content-length"]


_RANDOM_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
