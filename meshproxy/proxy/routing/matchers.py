"""A snapshot's conditions, compiled to functions.

Regular expressions are RE2's, as in Envoy: whoever writes one cannot make it slow (https://github.com/google/re2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import re2

from ...snapshot import Exact, HeaderMatcher, Prefix, QueryParameterMatcher, RouteMatch, StringMatcher
from ..http.message import Request

StringTest = Callable[[bytes], bool]
RequestTest = Callable[[Request, bytes], bool]
"""Given a request and its path without the query."""


def route_test(match: RouteMatch) -> RequestTest:
    """Whether a request meets all of a route's conditions."""
    path = path_test(match.path, match.case_sensitive)
    others: Sequence[Callable[[Request], bool]] = [
        *map(_header_test, match.headers),
        *map(_query_parameter_test, match.query_parameters),
    ]
    if not others:
        return lambda request, request_path: path(request_path)
    return lambda request, request_path: path(request_path) and all([test(request) for test in others])


def path_test(match: StringMatcher, case_sensitive: bool = True) -> StringTest:
    """`case_sensitive` does not concern regular expressions, which say so themselves."""
    if case_sensitive or not isinstance(match, Exact | Prefix):
        return string_test(match)
    test = string_test(type(match)(match.value.lower()))
    return lambda path: test(path.lower())


def string_test(match: StringMatcher) -> StringTest:
    value = match.value.encode()
    if isinstance(match, Exact):
        return lambda text: text == value
    if isinstance(match, Prefix):
        return lambda text: text.startswith(value)
    fullmatch = compile_regex(match.value).fullmatch
    return lambda text: fullmatch(text) is not None


def compile_regex(pattern: str) -> re2._Regexp[bytes]:
    """A compiled RE2 expression for bytes. Raises `re2.error`; a checked configuration has no such expression."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern.encode(), options)


_REQUEST_PARTS: dict[str, Callable[[Request], bytes]] = {
    ":method": lambda request: request.method,
    ":authority": lambda request: request.authority,
    "host": lambda request: request.authority,
    ":scheme": lambda request: request.scheme,
    ":path": lambda request: request.path,
}


def _header_test(matcher: HeaderMatcher) -> Callable[[Request], bool]:
    values = _values(matcher.name)
    invert = matcher.invert
    if matcher.match is None:
        return lambda request: bool(values(request)) != invert
    test = string_test(matcher.match)
    if_missing: list[bytes] = [b""] if matcher.treat_missing_header_as_empty else []

    def matches(request: Request) -> bool:
        found = values(request) or if_missing
        return bool(found) and any(map(test, found)) != invert

    return matches


def _values(name: str) -> Callable[[Request], list[bytes]]:
    part = _REQUEST_PARTS.get(name)
    if part is not None:
        return lambda request: [part(request)]
    key = name.encode()
    return lambda request: [value for field, value in request.headers if field == key]


def _query_parameter_test(matcher: QueryParameterMatcher) -> Callable[[Request], bool]:
    key = matcher.name.encode()
    if matcher.match is None:
        return lambda request: query_parameter(request.path, key) is not None
    test = string_test(matcher.match)

    def matches(request: Request) -> bool:
        value = query_parameter(request.path, key)
        return value is not None and test(value)

    return matches


def query_parameter(path: bytes, key: bytes) -> bytes | None:
    """The first value of a query parameter, not decoded; `?a` and `?a=` are both empty."""
    for parameter in path.partition(b"?")[2].split(b"&"):
        name, _, value = parameter.partition(b"=")
        if name == key:
            return value
    return None
