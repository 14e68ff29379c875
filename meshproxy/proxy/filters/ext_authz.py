"""External authorization: another service decides about a request, asked by HTTP (Envoy's `ext_authz` filter).

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter

Rules:

1. What is not certain is not allowed: an answer 5xx, one that is too long or does not come in time, and nobody to ask
   are errors. Only where `failure_mode_allow` says so does the request pass then.
2. The question is a request of its own, and goes through a cluster as any other: limits, pools and health hold for it.
   No header goes with it that was not asked for.
3. No answer can change how a message is delimited.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence

from ...snapshot import BufferSettings, ExtAuthz, ValueMatcher
from ..http.failures import EXT_AUTHZ_DENIED, EXT_AUTHZ_ERROR, PAYLOAD_TOO_LARGE, RESPONSE_TIMEOUT, Failure
from ..http.message import Body, Headers, Request, Response, Service, header, remove_headers
from ..routing.matchers import value_test
from ..splice import Sink
from ..upstream.tries import TimeLimits, Tries
from .buffer import received
from .headers import request_change
from .jwt_authn import Refuse
from .rbac import Count, Engine, lowered

MAX_ANSWER = 1 << 20
"""The longest body of an answer, in bytes."""

Find = Callable[[Request], Service | None]
"""What a request goes to; None if there is no route for it."""


def ext_authz(config: ExtAuthz, ask: Service, find: Find, count: Count, refuse: Refuse, service: Service) -> Service:
    """`service` for the requests that meet no rule of `config`, and for those that `ask`, its cluster, allows."""
    engine = Engine(config.rules)
    shadow = Engine(config.shadow_rules) if config.shadow_rules else None
    question, answers = _Question(config), _Answers(config)

    def authorizing(request: Request) -> Awaitable[Response]:
        request.cached_route = None
        if shadow is not None and shadow.find(request) is not None:
            count("ext_authz_shadow_matched")
        if engine.find(request) is None:
            count("ext_authz_disabled")
            return service(request)
        route = find(request)
        return service(request) if route is None else decided(request, route)

    async def decided(request: Request, route: Service) -> Response:
        seen = await _seen(request, config.with_request_body)
        if seen is None:
            return await refuse(request, Failure(PAYLOAD_TOO_LARGE))
        if not config.clear_route_cache:
            request.cached_route = route
        try:
            answer, body = await _answer(question.about(request, *seen), config.timeout_s, ask)
        except Failure:
            count("ext_authz_error")
            if not config.failure_mode_allow:
                return await refuse(request, Failure(EXT_AUTHZ_ERROR._replace(status=config.status_on_error)))
            count("ext_authz_failure_mode_allowed")
            return await service(request)
        if answer.status == 200:
            count("ext_authz_ok")
            answers.change(request, answer.headers)
            return await _with_headers(answers.for_client(answer.headers), request, service)
        count("ext_authz_denied")
        return await refuse(request, answers.denial(answer, body))

    return authorizing


class _Question:
    """What the service is asked."""

    def __init__(self, config: ExtAuthz) -> None:
        self._prefix = config.path_prefix.encode()
        self._goes = _names(config.allowed_headers)
        self._add = request_change([config.check_headers])
        self._own = [
            (b"x-envoy-internal", b"true"),
            (b"x-envoy-expected-rq-timeout-ms", b"%d" % (config.timeout_s * 1000)),
        ]

    def about(self, request: Request, body: bytes, partial: bool | None) -> Request:
        """The question about a request, of whose body so much is seen; `partial` is None if it has none."""
        question = copy.copy(request)
        question.path = self._prefix + request.path
        question.headers = self._headers(request, body, partial)
        question.body = body
        question.upgrade = b""
        question.downstream = _NOBODY
        question.nursery = None
        question.hash_key = _no_hash
        question.retry_rules = question.tries = None
        question.informed = False
        question.flags = question.details = ""
        return question

    def _headers(self, request: Request, body: bytes, partial: bool | None) -> Headers:
        # Several fields of one name are one here, as in Envoy.
        told: dict[bytes, bytes] = {}
        for name, value in request.headers:
            if name not in _NOT_ASKED and (name == b"authorization" or self._goes(name)):
                told[name] = b"%b,%b" % (told[name], value) if name in told else value
        told[b"content-length"] = b"%d" % len(body)
        if partial is not None:
            told[_PARTIAL] = b"true" if partial else b"false"
        headers = list(told.items())
        if self._add:
            headers = self._add(headers, request)
        return [*headers, *self._own]


class _Answers:
    """What becomes of what the service answers."""

    def __init__(self, config: ExtAuthz) -> None:
        self._upstream = _names(config.allowed_upstream_headers)
        self._client = _names(config.allowed_client_headers) if config.allowed_client_headers else None
        self._client_on_success = _names(config.allowed_client_headers_on_success)

    def change(self, request: Request, headers: Headers) -> None:
        """Give a request that is allowed the headers that it is to have, and take those away that it is not."""
        new = {name: value for name, value in headers if name not in _FRAMING and self._upstream(name)}
        if (host := new.pop(b"host", None)) is not None:
            request.authority = host
        removed = {one.strip().lower() for name, value in headers if name == _TO_REMOVE for one in value.split(b",")}
        if new or removed:
            kept = remove_headers(request.headers, frozenset(new))
            request.headers = remove_headers([*kept, *new.items()], frozenset(removed - _FRAMING))

    def for_client(self, headers: Headers) -> Headers:
        """What the response to an allowed request has besides its own headers."""
        return [one for one in headers if one[0] not in _FRAMING and self._client_on_success(one[0])]

    def denial(self, answer: Response, body: bytes) -> Failure:
        """What the client of a request that is not allowed is told."""
        goes = self._client
        headers = tuple(
            one
            for one in answer.headers
            if one[0] not in _NOT_FOR_CLIENTS and (goes is None or one[0] in _ALWAYS_FOR_CLIENTS or goes(one[0]))
        )
        text = body.decode("utf-8", "surrogateescape")
        return Failure(EXT_AUTHZ_DENIED._replace(status=answer.status, body=text, headers=headers))


_PARTIAL = b"x-envoy-auth-partial-body"
_TO_REMOVE = b"x-envoy-auth-headers-to-remove"
_FRAMING = frozenset((b"connection", b"content-length", b"transfer-encoding", b"upgrade"))
# Only we say these of a question.
_NOT_ASKED = _FRAMING | {_PARTIAL, b"x-envoy-internal", b"x-envoy-expected-rq-timeout-ms"}
_NOT_FOR_CLIENTS = _FRAMING | {_TO_REMOVE}
_ALWAYS_FOR_CLIENTS = frozenset((b"location", b"www-authenticate"))


def _names(matchers: Sequence[ValueMatcher]) -> Callable[[bytes], bool]:
    """Whether a header's name meets one of some matchers."""
    tests = [value_test(lowered(one)) for one in matchers]
    return lambda name: any(test(name) for test in tests)


async def _answer(question: Request, timeout_s: float, ask: Service) -> tuple[Response, bytes]:
    """An answer that decides, and its body. Raises `Failure` where there is none."""
    question.tries = tries = Tries(TimeLimits(timeout_s))
    answer = await ask(question)
    body = answer.body
    if not isinstance(body, bytes):
        try:
            with tries.new_scope() as scope:
                read = await _whole(body)
            if scope.cancelled_caught:
                raise Failure(RESPONSE_TIMEOUT)
        finally:
            body.close()
        body = read
    if answer.status >= 500:
        raise Failure(EXT_AUTHZ_ERROR)
    return answer, body


async def _whole(body: Body) -> bytes:
    pieces, size = [], 0
    while piece := await body.receive():
        size += len(piece)
        if size > MAX_ANSWER:
            raise Failure(EXT_AUTHZ_ERROR)
        pieces.append(piece)
    return b"".join(pieces)


async def _with_headers(headers: Headers, request: Request, service: Service) -> Response:
    """What `service` answers, with some headers more."""
    try:
        response = await service(request)
    except Failure as failure:
        return failure.respond(request, headers)
    response.headers += headers
    return response


_Seen = tuple[bytes, bool | None]


async def _seen(request: Request, settings: BufferSettings | None) -> _Seen | None:
    """As much of a request's body as is to be seen, and whether there is more; None if there is more than may be."""
    body = request.body
    if settings is None or request.upgrade or body == b"":
        return b"", None
    limit = settings.max_request_bytes
    if isinstance(body, bytes):
        if len(body) > limit and not settings.allow_partial_message:
            return None
        return body[:limit], len(body) > limit
    if body.length is not None and body.length > limit and not settings.allow_partial_message:
        return None
    if header(request.headers, b"expect") is not None:
        # The client waits for a word before it sends what is to be seen.
        await request.downstream.send_informational(100, [])
        request.headers = remove_headers(request.headers, _EXPECT)
    return await _collected(request, body, limit, settings.allow_partial_message)


_EXPECT = frozenset((b"expect",))


async def _collected(request: Request, body: Body, limit: int, partial: bool) -> _Seen | None:
    pieces: list[bytes] = []
    size = 0
    while (size < limit if partial else size <= limit) and (piece := await received(body)):
        pieces.append(piece)
        size += len(piece)
    if size > limit and not partial:
        return None
    whole = b"".join(pieces)
    # Where the length is not told, only the end of the body can tell it to the upstream.
    request.body = whole if body.finished and body.length is not None else _Resumed(whole, body)
    return whole[:limit], size > limit


class _Resumed(Body):
    """A body of which the `beginning` has been read already."""

    def __init__(self, beginning: bytes, rest: Body) -> None:
        self._beginning = beginning
        self._rest = rest
        self.length = rest.length
        self.trailers = rest.trailers
        self.finished = False

    async def receive(self) -> bytes:
        return self._taken() or self._noted(await self._rest.receive())

    def receive_nowait(self) -> bytes:
        return self._taken() or self._noted(self._rest.receive_nowait())

    async def splice_to(self, sink: Sink, sent: Callable[[int], None]) -> None:
        if not self._beginning:
            await self._rest.splice_to(sink, sent)
            self._noted(b"")

    def close(self) -> None:
        self._rest.close()

    def _taken(self) -> bytes:
        beginning, self._beginning = self._beginning, b""
        return self._noted(beginning)

    def _noted(self, piece: bytes) -> bytes:
        self.finished = self._rest.finished
        self.trailers = self._rest.trailers
        return piece


class _Nobody:
    """The side that interim answers go to."""

    async def send_informational(self, status: int, headers: Headers) -> None: ...


_NOBODY = _Nobody()


def _no_hash() -> None:
    """A question balances by nothing that is in it."""
