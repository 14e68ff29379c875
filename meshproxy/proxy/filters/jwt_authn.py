"""JSON Web Tokens: those of a request are verified, and told of to whoever comes after (Envoy's `jwt_authn`).

A request without a token passes; one with a token that is not valid is answered with 401, or 403 where it is meant for
another audience. Headers that this filter writes are never believed when they come from outside.
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/jwt_authn_filter

Two things are stricter than in Envoy. Every token that stands where some provider looks has to be valid, also where a
parameter or a cookie stands twice; Envoy is content with one. And a token from the future (`iat`) is not valid yet.

Most requests bring a token that has been verified before: it is remembered, and costs a look-up. The memory is bounded,
and forgets when a token expires and when its issuer's keys change.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ...identity.issuers import Keys
from ...identity.jwt import LEEWAY_S, Refusal, Token, TokenRefused, parse
from ...snapshot import Jwks, JwtAuthentication, JwtProvider
from ..http.failures import JWT_DENIED, Failure
from ..http.message import Claims, Headers, Request, Response, Service, claim_at, header, name_of, remove_headers

if TYPE_CHECKING:
    from ...identity.jwks import KeySet

Refuse = Callable[[Request, Failure], Awaitable[Response]]
"""Answers a request that a listener's own filter does not let pass."""

_REMEMBERED_TOKENS = 1024  # for each place where tokens stand; a token has at most 16 KiB
_MAX_REALM = 256


def jwt_authn(
    config: JwtAuthentication, keys: Callable[[Jwks], Keys], now: Callable[[], float], refuse: Refuse, service: Service
) -> Service:
    """`service` for requests whose tokens are valid, with their claims. `now` is in seconds since the epoch."""
    providers = [_Provider(number, one, keys(one.jwks)) for number, one in enumerate(config.providers)]
    places = _Places(providers)
    hide = hiding(config)
    written = frozenset(one for provider in providers for name in provider.written for one in _spellings(name))

    def attempt(found: Sequence[_Found], waited_for: Collection[Keys]) -> list[_Verified]:
        moment = now()
        return [place.verified(value, moment, waited_for) for place, value in found]

    async def patient(request: Request, found: Sequence[_Found], missing: Keys) -> Response:
        waited_for: set[Keys] = set()
        while True:
            await missing.arrival()
            waited_for.add(missing)
            try:
                verified = attempt(found, waited_for)
            except _KeysMissing as another:
                missing = another.keys
            except TokenRefused as refused:
                return await refuse(request, _failure(request, found, refused.reason))
            else:
                return await service(_admitted(request, found, verified))

    def authenticating(request: Request) -> Awaitable[Response]:
        if written and not written.isdisjoint(map(name_of, request.headers)):
            request.headers = remove_headers(request.headers, written)
        found = places.find(request)
        if not found:
            return service(request)
        if _is_preflight(request):
            hide(request)
            return service(request)
        try:
            verified = attempt(found, ())
        except _KeysMissing as missing:
            return patient(request, found, missing.keys)
        except TokenRefused as refused:
            return refuse(request, _failure(request, found, refused.reason))
        return service(_admitted(request, found, verified))

    return authenticating


def _spellings(name: bytes) -> Iterator[bytes]:
    """A header's name, and those that an app may take for it: CGI, and with it WSGI, tells no '_' from a '-'."""
    parts = name.split(b"-")
    if len(parts) > _MAX_PARTS:
        yield from (name, name.replace(b"-", b"_"))
        return
    for marks in product((b"-", b"_"), repeat=len(parts) - 1):
        yield parts[0] + b"".join(mark + part for mark, part in zip(marks, parts[1:], strict=True))


_MAX_PARTS = 8  # of which there are 128 spellings


class _KeysMissing(Exception):
    """Keys that are worth waiting for."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys


def hiding(config: JwtAuthentication) -> Callable[[Request], None]:
    """Has the access log show a request's path without the parameters that bring tokens."""
    parameters = {name.encode() for provider in config.providers for name in provider.from_params}

    def hide(request: Request) -> None:
        if _QUERY in request.path:
            for parameter in parameters:
                request.original_path = _without(request.original_path or request.path, parameter)

    return hide


def tokens_of(config: JwtAuthentication, request: Request) -> list[tuple[bytes, list[JwtProvider]]]:
    """The tokens that a request brings, each with the providers that look where it stands."""
    places = _Places(_Provider(number, one, Keys()) for number, one in enumerate(config.providers))
    return [
        (place.token_in(value), [provider.config for provider in place.providers])
        for place, value in places.find(request)
    ]


def _is_preflight(request: Request) -> bool:
    headers = request.headers
    return bool(
        request.method == b"OPTIONS"
        and header(headers, b"origin")
        and header(headers, b"access-control-request-method")
    )


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that `provider` has found valid, by `keys`, until `expires`. `headers` are what it adds to requests."""

    provider: _Provider
    keys: KeySet | None
    expires: float
    claims: Claims
    headers: Headers


class _Provider:
    """A provider, compiled."""

    def __init__(self, number: int, config: JwtProvider, keys: Keys) -> None:
        self.number = number
        self.config = config
        self.keys = keys
        payload = config.forward_payload_header
        self.written = [
            *([payload.encode()] if payload else []),
            *(one.header.encode() for one in config.claim_to_headers),
        ]
        """The headers that it writes."""
        self._audiences = frozenset(map(_audience, config.audiences))

    def check(self, token: Token, now: float) -> _Verified:
        """Raises `TokenRefused`."""
        config = self.config
        if config.issuer and token.issuer != config.issuer:
            raise TokenRefused(Refusal.ISSUER)
        token.check_times(now)
        if self._audiences and self._audiences.isdisjoint(map(_audience, token.audiences)):
            raise TokenRefused(Refusal.AUDIENCE)
        keys = self.keys.current
        if keys is None:
            raise TokenRefused(Refusal.FETCH)
        keys.verify(token)
        expires = token.expires + LEEWAY_S if token.expires else float("inf")
        return _Verified(self, keys, expires, self._normalized(token), list(self._headers(token)))

    def _normalized(self, token: Token) -> Claims:
        claims = dict(token.claims)
        for name in self.config.space_delimited_claims:
            if isinstance(words := claims.get(name), str):
                claims[name] = words.split()
        return claims

    def _headers(self, token: Token) -> Iterator[tuple[bytes, bytes]]:
        if self.config.forward_payload_header:
            yield self.config.forward_payload_header.encode(), token.payload
        for one in self.config.claim_to_headers:
            if value := _header_value(claim_at(token.claims, one.claim.split("."))):
                yield one.header.encode(), value


def _audience(name: str) -> str:
    """An audience without scheme and last slash, in which Envoy sees no difference."""
    return name.removeprefix("http://").removeprefix("https://").removesuffix("/")


def _header_value(claim: Any) -> bytes:
    """A claim as Envoy writes it; nothing for what cannot stand in a header."""
    match claim:
        case str():
            value = claim
        case bool():
            value = "true" if claim else "false"
        case int() | float():
            try:
                number = float(claim)
            except OverflowError:
                return b""
            value = str(int(number)) if 0 <= number < 2**64 and number.is_integer() else f"{number:f}"
        case dict() | list():
            text = json.dumps(claim, separators=(",", ":"), ensure_ascii=False)
            text = text.replace("<", "\\u003c").replace(">", "\\u003e")  # as protobuf writes JSON
            value = base64.b64encode(text.encode("utf-8", "ignore")).decode()
        case _:
            return b""
    encoded = value.encode("utf-8", "ignore")
    # A claim may be what a user calls himself: it must not end the line.
    return b"" if any(byte < 0x20 or byte == 0x7F for byte in encoded) else encoded


@dataclass(slots=True, eq=False)
class _Place:
    """Where tokens stand in requests, and the providers that look there, in their order.

    It is a header, with what stands before the token, or a query parameter, or a cookie.
    """

    header: bytes = b""
    prefix: bytes = b""
    parameter: bytes = b""
    cookie: bytes = b""
    providers: list[_Provider] = field(default_factory=list)
    _memory: dict[bytes, _Verified] = field(default_factory=dict)

    def token_in(self, value: bytes) -> bytes:
        """The token in what stands here."""
        if not self.prefix:
            return value
        # Envoy takes what looks like a token from there on; where nothing does, all of the value.
        begins = _TOKEN_BEGINS.search(value, value.find(self.prefix) + len(self.prefix))
        return value[begins.start() :] if begins else value

    def verified(self, value: bytes, now: float, waited_for: Collection[Keys]) -> _Verified:
        """The token in what stands here, valid at `now`. Raises `TokenRefused`, or `_KeysMissing` unless they were
        `waited_for`."""
        known = self._memory.get(value)
        if known is not None:
            if now <= known.expires and known.keys is known.provider.keys.current:
                return known
            del self._memory[value]
        token = parse(self.token_in(value))
        refusals = []
        for provider in self.providers:
            try:
                found = provider.check(token, now)
            except TokenRefused as refused:
                if refused.reason in _FOR_WANT_OF_KEYS and provider.keys not in waited_for and provider.keys.may_come():
                    raise _KeysMissing(provider.keys) from None
                refusals.append(refused)
            else:
                self._remember(value, found)
                return found
        # That it is another issuer's is the least that can be said of a token.
        raise next((one for one in refusals if one.reason is not Refusal.ISSUER), refusals[0])

    def _remember(self, value: bytes, verified: _Verified) -> None:
        if len(self._memory) >= _REMEMBERED_TOKENS:
            del self._memory[next(iter(self._memory))]
        self._memory[value] = verified


_FOR_WANT_OF_KEYS = (Refusal.FETCH, Refusal.NO_KEY)

_Found = tuple[_Place, bytes]
"""A token with what stands around it, and where that is."""

# RFC 7515, section 3.1: base64url, and the dots between its parts.
_TOKEN_BEGINS = re.compile(rb"[A-Za-z0-9_.-]")


class _Places:
    """Every place where tokens may stand."""

    def __init__(self, providers: Iterable[_Provider]) -> None:
        places: dict[tuple[bytes, bytes, bytes, bytes], _Place] = {}
        for provider in providers:
            config = provider.config
            for one in config.from_headers:
                _add(places, provider, header=one.name.encode(), prefix=one.value_prefix.encode())
            for parameter in config.from_params:
                _add(places, provider, parameter=parameter.encode())
            for cookie in config.from_cookies:
                _add(places, provider, cookie=cookie.encode())
        self._headers: dict[bytes, list[_Place]] = {}
        for place in sorted(places.values(), key=lambda one: one.header + one.prefix):
            if place.header:
                self._headers.setdefault(place.header, []).append(place)
        self._parameters = {place.parameter: place for place in places.values() if place.parameter}
        self._cookies = {place.cookie: place for place in places.values() if place.cookie}

    def find(self, request: Request) -> list[_Found]:
        """The tokens of a request: those of headers first, then of parameters and of cookies."""
        found: list[_Found] = []
        headers = self._headers
        for name, value in request.headers:
            if name in headers:
                for place in headers[name]:
                    if place.prefix in value:
                        found.append((place, value))
        if len(found) > 1:
            found.sort(key=lambda one: one[0].header + one[0].prefix)
        if self._parameters and _QUERY in request.path:
            found += self._in_query(request.path)
        if self._cookies:
            found += self._in_cookies(request.headers)
        return found

    def _in_query(self, path: bytes) -> Iterator[_Found]:
        for parameter in path.partition(b"?")[2].split(b"&"):
            name, _, value = parameter.partition(b"=")
            place = self._parameters.get(unquote_to_bytes(name))
            if place is not None:
                yield place, unquote_to_bytes(value)

    def _in_cookies(self, headers: Headers) -> Iterator[_Found]:
        for name, value in headers:
            if name == b"cookie":
                for cookie in value.split(b";"):
                    key, equals, text = cookie.strip(b" \t").partition(b"=")
                    if equals and (place := self._cookies.get(key)) is not None:
                        yield place, text.strip(b'"')


_QUERY = ord("?")


def _add(
    places: dict[tuple[bytes, bytes, bytes, bytes], _Place],
    provider: _Provider,
    header: bytes = b"",
    prefix: bytes = b"",
    parameter: bytes = b"",
    cookie: bytes = b"",
) -> None:
    place = places.setdefault((header, prefix, parameter, cookie), _Place(header, prefix, parameter, cookie))
    place.providers.append(provider)


def _admitted(request: Request, found: Sequence[_Found], verified: Sequence[_Verified]) -> Request:
    """The request with what its tokens are worth, and without those that are not to be forwarded."""
    first = verified[0] if len(verified) == 1 else min(verified, key=lambda one: one.provider.number)
    provider = first.provider
    forward = provider.config.forward
    headers = request.headers
    for (place, _), one in zip(found, verified, strict=True):
        if place.parameter:
            bare = _without(request.path, place.parameter)
            if forward:
                request.original_path = bare  # which the access log shows: no token stands there
            elif one.provider is provider:
                request.path = bare
        elif place.header and not forward and one.provider is provider:
            headers = [field for field in headers if field[0] != place.header]
    request.headers = [*headers, *first.headers] if first.headers else headers
    request.claims = first.claims
    return request


def _without(path: bytes, parameter: bytes) -> bytes:
    """A path without a query parameter."""
    path, _, query = path.partition(b"?")
    kept = [one for one in query.split(b"&") if unquote_to_bytes(one.partition(b"=")[0]) != parameter]
    return path + b"?" + b"&".join(kept) if kept else path


def _failure(request: Request, found: Iterable[_Found], reason: Refusal) -> Failure:
    """What a client with a bad token is told (RFC 6750, section 3)."""
    uri = b"%b://%b%b" % (request.scheme, request.authority, request.path[:_MAX_REALM])
    for place, _ in found:
        if place.parameter:
            request.original_path = _without(request.original_path or request.path, place.parameter)
    details = f"{JWT_DENIED.details}{{{reason.replace(' ', '_')}}}"
    challenge = (b"www-authenticate", b'Bearer realm="%b", error="invalid_token"' % uri)
    status = 403 if reason is Refusal.AUDIENCE else JWT_DENIED.status
    return Failure(JWT_DENIED._replace(status=status, body=reason.value, headers=(challenge,)), details)
