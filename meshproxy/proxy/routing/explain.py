"""What a listener would do with a request, told without sending anything.

It is found by doing it: the request's bytes go through the codec, the connection manager, the router and the route's
own service, as they would in a worker. Only two things stand in for what does I/O. A cluster is a service that keeps
what it is sent, and answers with the headers that the route might change; chance is told which destination to choose,
and each of them gets its turn. Nothing waits then, so that each run is one step of a coroutine and needs no event loop.
A filter's own chance lets happen only what happens to every request; sleeping takes no time, copies go nowhere, and
what filters do otherwise is told in words.

What is not known before it happens is made up: the time is the epoch, the request's id `REQUEST_ID`, and where a
cluster has several endpoints to pick from, a header that quotes the one it picks says `ANY_ENDPOINT`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from ...identity import spiffe
from ...snapshot import (
    Cluster,
    DiscoveryType,
    Endpoint,
    FilterChain,
    Listener,
    Route,
    RouteAction,
    Snapshot,
    SocketAddress,
    VirtualHost,
)
from ...snapshot import WeightedCluster as Weighted
from ..filter_chains import chain_for
from ..filters.context import FilterContext
from ..http.connection_manager import ConnectionManager
from ..http.departures import Departures
from ..http.failures import LOOP_DETECTED, NO_HEALTHY_UPSTREAM, Failure
from ..http.http1_codec import HeadLimits, RequestHead, RequestHeads
from ..http.http1_server import request_of
from ..http.message import Connection, Headers, Request, Response, Service
from ..upstream.forward_proxy import destination_of, leads_back, reached
from .access import authenticated, authorized, refusal
from .actions import cluster_not_found, router
from .decisions import Decision, access_decisions, asked_decisions, explained_keys, token_decisions
from .matchers import conditions
from .policies import policies
from .router import TO_TLS, CompiledRoute, Domain, without_port

CLIENT = SocketAddress("192.0.2.1", 49152)
"""Where a request comes from unless it is said: an address for documentation (RFC 5737)."""

REQUEST_ID = b"00000000-0000-4000-8000-000000000000"
"""Every request's x-request-id, which otherwise is a random one."""

ANY_ENDPOINT = "(any endpoint)"

_LONG_S = 1e9  # between two requests: whatever the one before took, such as tokens, is there again

_PASSING_ON: DiscoveryType = "DYNAMIC_FORWARD_PROXY"

Field = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Head:
    """A request at one place on its way."""

    method: str
    scheme: str
    authority: str
    path: str
    headers: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class HeaderChange:
    """What becomes of a header: `values` take the place of all it had (`set`), or come after them (`append`)."""

    name: str
    operation: Literal["set", "append", "remove"]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule that the request does not meet: the first of its conditions that fails, and what the request has there."""

    route: Route
    failed: str
    given: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A response from the proxy itself. `flags` and `details` are those of the access log; `date` is left out."""

    status: int
    headers: tuple[Field, ...]
    body: str
    flags: str
    details: str


@dataclass(frozen=True, slots=True)
class Destination:
    """One of a route's destinations, which gets `share` of its requests, a number up to 1.

    `request` is what an endpoint receives, after `request_changes`; `response_changes` are made to what it answers. If
    nothing can be sent, `request` is None and `answer` is the client's.
    """

    name: str
    cluster: Cluster | None
    share: float
    endpoints: tuple[Endpoint, ...]
    request: Head | None
    request_changes: tuple[HeaderChange, ...]
    response_changes: tuple[HeaderChange, ...]
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a listener does with a request.

    `received` is what the client says, None if it is no request. `request` is the same as routes see it, after
    `header_changes`; None if it does not get that far. `access` is what tokens and policies decided. `domain` is the
    one of `virtual_host` that the request's host found. `route` is the rule that it meets, after those `tried` in vain;
    then it goes to one of `destinations`, unless `policies`, told in words, have it otherwise. If there are none,
    `answer` is the client's. `closed` says why the connection is closed: nothing is received then.
    """

    listener: Listener
    received: Head | None = None
    request: Head | None = None
    header_changes: tuple[HeaderChange, ...] = ()
    virtual_host: VirtualHost | None = None
    domain: str = ""
    tried: tuple[Tried, ...] = ()
    route: Route | None = None
    access: tuple[Decision, ...] = ()
    policies: tuple[str, ...] = ()
    destinations: tuple[Destination, ...] = ()
    answer: Answer | None = None
    closed: str = ""

    @property
    def refused(self) -> bool:
        """Whether it is answered before anybody looks for its route."""
        return bool(self.access) and self.virtual_host is None and self.answer is not None and self.answer.flags != "NR"

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the rule asks of a request."""
        return () if self.route is None else tuple(condition.text for condition in conditions(self.route.match))


def explain(
    snapshot: Snapshot,
    listener: Listener,
    head: bytes,
    client: SocketAddress = CLIENT,
    peer_names: tuple[str, ...] = (),
) -> Explanation:
    """What `listener` does with the request whose head, to the empty line, is `head`.

    `peer_names` are what the client's certificate calls it, where the connection lets it show one.
    """
    return Explainer(snapshot, listener).explain(head, client, peer_names)


class Explainer:
    """A listener's filter chains, to be asked about many requests.

    Where there are several, a request comes to the one for its host: that is the server that its client asks for.
    """

    def __init__(self, snapshot: Snapshot, listener: Listener) -> None:
        self._snapshot = snapshot
        self._listener = listener
        self._chains: dict[FilterChain, ChainExplainer] = {}

    def explain(self, head: bytes, client: SocketAddress = CLIENT, peer_names: tuple[str, ...] = ()) -> Explanation:
        """What becomes of a request; raises `ValueError` if `head` does not end with an empty line."""
        chain, closed = self._filter_chain(head, peer_names)
        if chain is None or closed:
            return Explanation(self._listener, closed=closed)
        shown = chain.tls is not None and chain.tls.common.validation_context is not None
        told = self._chain(chain).explain(head, client, peer_names if shown else ())
        if peer_names and not shown:
            told = replace(told, access=(Decision(_unknown(chain), chain.origin), *told.access))
        return told

    def _filter_chain(self, head: bytes, peer_names: tuple[str, ...]) -> tuple[FilterChain | None, str]:
        """The filter chain that a request comes to, and why the connection is closed, if it is."""
        first = self._listener.filter_chains[0]
        if len(self._listener.filter_chains) == 1 and first.tls is None:
            return first, ""
        limits = HeadLimits(first.http.max_request_headers_kb * 1024, first.http.max_headers_count)
        try:
            found = RequestHeads(limits).read(head)
        except Failure:
            found = None
        if found is None:
            return first, ""
        host = without_port(found[0].authority).decode("latin-1")
        chain = chain_for(self._listener, host, identified=bool(peer_names))
        return chain, f"no filter chain for the server {host!r}" if chain is None else _closed(chain, peer_names)

    def _chain(self, chain: FilterChain) -> ChainExplainer:
        if chain not in self._chains:
            self._chains[chain] = ChainExplainer(self._snapshot, self._listener, chain)
        return self._chains[chain]


def _closed(chain: FilterChain, peer_names: tuple[str, ...]) -> str:
    """Why a client that shows a certificate with these names, or none, is not let in; empty if it is."""
    validation = chain.tls.common.validation_context if chain.tls is not None else None
    if chain.tls is None or validation is None or not validation.trust_domains:
        return ""
    if not peer_names:
        required = chain.tls.require_client_certificate
        return "mutual TLS alone is taken, and no certificate is shown (--as)" if required else ""
    if any(spiffe.parse(name).trust_domain in validation.trust_domains for name in peer_names):
        return ""
    return f"{', '.join(peer_names)} is of another trust domain"


def _unknown(chain: FilterChain) -> str:
    how = "plain text" if chain.tls is None else "TLS that asks for no certificate"
    return f"the connection is {how}, by which nobody is known"


class ChainExplainer:
    """A filter chain's stack with stand-ins, compiled once for many requests."""

    def __init__(self, snapshot: Snapshot, listener: Listener, chain: FilterChain) -> None:
        self._listener = listener
        self._scheme = b"http" if chain.tls is None else b"https"
        self._http = http = chain.http
        self._clusters = {cluster.name: cluster for cluster in snapshot.clusters}
        context = FilterContext(_only_what_is_certain, _in_no_background, lambda: self._now, _in_no_time)
        self._router = router(http, self._stand_in, lambda: self._chance, context)
        refuse = refusal(self._router, context)
        allowed = authorized(http, _uncounted, refuse, self._observed)
        self._service = authenticated(http, context, explained_keys, refuse, self._decided(allowed))
        self._manager = ConnectionManager(http, self._arrived, _Unheard(), Departures(), request_id=lambda: REQUEST_ID)
        self._asked = asked_decisions(http)
        self._chance = 0.0
        self._now = 0.0
        self._run = _Run()

    def explain(self, head: bytes, client: SocketAddress = CLIENT, peer_names: tuple[str, ...] = ()) -> Explanation:
        """What becomes of a request; raises `ValueError` if `head` does not end with an empty line."""
        try:
            found = RequestHeads(self._manager.limits).read(head)
        except Failure as failure:
            response = self._manager.refuse(failure, client.host.encode())
            return Explanation(self._listener, answer=_answer(response, failure.kind.flags, failure.details))
        if found is None:
            raise ValueError("the head of a request ends with an empty line")
        received, _ = found
        names = tuple(name.encode() for name in peer_names)
        address = str(self._listener.address)
        connection = Connection(client.host.encode(), str(client), address, names, scheme=self._scheme)
        run = self._run_with(0.0, received, connection)
        route = run.found.route if run.found else None
        forwards = isinstance(route.action, RouteAction) if route else False
        return Explanation(
            self._listener,
            received=_head(self._request(received, connection)),
            request=run.seen,
            header_changes=_changes(received.headers, run.headers_seen),
            virtual_host=run.domain.host if run.domain else None,
            domain=run.domain.name if run.domain else "",
            tried=run.tried,
            route=route,
            access=run.access,
            policies=tuple(policies(self._http, run.domain.host, route)) if run.domain and route else (),
            destinations=tuple(self._destinations(received, connection, route)) if route else (),
            answer=None if forwards else run.answer,
        )

    def _destinations(self, received: RequestHead, connection: Connection, route: Route) -> Iterator[Destination]:
        if not isinstance(route.action, RouteAction):
            return
        total = sum(weighted.weight for weighted in route.action.clusters)
        before = 0
        for weighted in route.action.clusters:
            run = self._run_with((before + weighted.weight / 2) / total, received, connection)
            before += weighted.weight
            yield self._destination(weighted, total, run)

    def _destination(self, weighted: Weighted, total: int, run: _Run) -> Destination:
        sent = run.sent is not None
        return Destination(
            name=weighted.cluster,
            cluster=self._clusters.get(weighted.cluster),
            share=weighted.weight / total,
            endpoints=run.endpoints,
            request=run.sent,
            request_changes=_changes(run.headers_seen, run.headers_sent) if sent else (),
            response_changes=_changes(run.upstream_headers, run.response.headers) if sent else (),
            answer=None if sent else run.answer,
        )

    def _run_with(self, chance: float, received: RequestHead, connection: Connection) -> _Run:
        self._chance = chance
        self._now += _LONG_S
        run = self._run = _Run()
        request = self._request(received, connection)
        run.response = _completed(self._manager(request))
        run.answer = _answer(run.response, request.flags, request.details)
        return run

    def _request(self, head: RequestHead, connection: Connection) -> Request:
        request = request_of(head, connection)
        request.headers = list(head.headers)  # a head is read once, and its request made for each destination
        return request

    def _arrived(self, request: Request) -> Awaitable[Response]:
        run = self._run
        run.seen, run.headers_seen = _head(request), list(request.headers)
        run.access = (*self._asked(request), *token_decisions(self._http, request))
        return self._service(request)

    def _decided(self, service: Service) -> Service:
        """`service`, when a request's tokens have been looked at."""
        engines = access_decisions(self._http)

        def decided(request: Request) -> Awaitable[Response]:
            run = self._run
            run.seen, run.headers_seen = _head(request), list(request.headers)
            run.access = (*run.access, *engines(request))
            return service(request)

        return decided

    async def _observed(self, request: Request) -> Response:
        """The router, which is asked twice: for what it finds, and for what comes of it."""
        run = self._run
        run.domain, run.found = self._router.domains.find(request.authority), self._router.find(request)
        run.tried = tuple(_tried(run.domain, run.found, request))
        return await self._router(request)

    def _stand_in(self, name: str) -> Service:
        """A cluster that sends nothing."""
        cluster = self._clusters.get(name)

        async def stand_in(request: Request) -> Response:
            if cluster is None:
                return await cluster_not_found(request)
            request.upstream_cluster = name
            run = self._run
            run.endpoints = _endpoints(cluster, request)
            if not run.endpoints:
                raise Failure(NO_HEALTHY_UPSTREAM)
            if cluster.type == _PASSING_ON and leads_back(run.endpoints[0].address, request):
                raise Failure(LOOP_DETECTED)
            request.upstream_host = str(run.endpoints[0].address) if len(run.endpoints) == 1 else ANY_ENDPOINT
            run.sent, run.headers_sent = _head(request), list(request.headers)
            run.upstream_headers = [(name.encode(), b"-") for name in _changeable(run.found)]
            return Response(200, list(run.upstream_headers))

        return stand_in


class _Run:
    """What is seen of one request on its way."""

    response: Response
    answer: Answer

    def __init__(self) -> None:
        self.seen: Head | None = None
        self.headers_seen: Headers = []
        self.access: tuple[Decision, ...] = ()
        self.domain: Domain | None = None
        self.found: CompiledRoute | None = None
        self.tried: tuple[Tried, ...] = ()
        self.endpoints: tuple[Endpoint, ...] = ()
        self.sent: Head | None = None
        self.headers_sent: Headers = []
        self.upstream_headers: Headers = []


def _uncounted(decision: str) -> None:
    """Count nothing of what has not happened."""


class _Unheard:
    """Telemetry of what has not happened."""

    def request_finished(self, request: Request) -> None: ...

    def head_refused(self, failure: Failure, response: Response, peer: bytes) -> None: ...


def _only_what_is_certain() -> float:
    """A chance by which nothing happens but what happens to every request."""
    return math.nextafter(1.0, 0.0)


async def _in_no_time(seconds: float) -> None:
    """Sleep, without an event loop."""


def _in_no_background(task: Callable[[], Awaitable[None]]) -> None:
    """A task that no request waits for does not matter here."""


T = TypeVar("T")


def _completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of what could wait, but does not."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError(f"{coroutine!r} waits for something outside")


def _tried(domain: Domain | None, found: CompiledRoute | None, request: Request) -> Iterator[Tried]:
    path = request.path.partition(b"?")[0]
    for route in domain.host.routes if domain and found is not TO_TLS else ():
        if found is not None and route is found.route:
            return
        failed = next(one for one in conditions(route.match) if not one.test(request, path))
        yield Tried(route, failed.text, failed.given(request, path))


def _endpoints(cluster: Cluster, request: Request) -> tuple[Endpoint, ...]:
    if cluster.type != _PASSING_ON:
        return cluster.endpoints
    address = destination_of(request.authority)
    with suppress(ValueError):  # a name, which nobody looks up here
        address = reached(address)
    return (Endpoint(address),)


def _changeable(found: CompiledRoute | None) -> dict[str, None]:
    """The response headers that a route or its listener may change."""
    assert found is not None and isinstance(found.route.action, RouteAction)
    levels = [found.route.response_headers, *(one.response_headers for one in found.route.action.clusters)]
    named = (name for level in levels for name in (*level.remove, *(change.name for change in level.add)))
    return dict.fromkeys((*named, "date", "server"))


def _changes(before: Headers, after: Headers) -> tuple[HeaderChange, ...]:
    old, new = _by_name(before), _by_name(after)
    return tuple(
        _change(name, old.get(name, ()), new.get(name, ()))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    )


def _change(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> HeaderChange:
    if not new:
        return HeaderChange(name, "remove")
    if old and new[: len(old)] == old:
        return HeaderChange(name, "append", new[len(old) :])
    return HeaderChange(name, "set", new)


def _by_name(headers: Headers) -> dict[str, tuple[str, ...]]:
    grouped: dict[str, tuple[str, ...]] = {}
    for name, value in _texts(headers):
        grouped[name] = (*grouped.get(name, ()), value)
    return grouped


def _head(request: Request) -> Head:
    method, scheme, authority, path = map(_text, (request.method, request.scheme, request.authority, request.path))
    return Head(method, scheme, authority, path, _texts(request.headers))


def _answer(response: Response, flags: str, details: str) -> Answer:
    assert isinstance(response.body, bytes)
    headers = tuple(field for field in _texts(response.headers) if field[0] != "date")
    return Answer(response.status, headers, _text(response.body), flags, details)


def _texts(headers: Headers) -> tuple[Field, ...]:
    return tuple((_text(name), _text(value)) for name, value in headers)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
