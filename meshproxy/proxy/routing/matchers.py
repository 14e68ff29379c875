"""A snapshot's conditions, compiled to functions, each with the words that tell a person of it.

A route's test is made of its conditions' own tests, so that what is told of a request and what is done with it cannot
differ. Regular expressions are RE2's, as in Envoy: whoever writes one cannot make it slow
(https://github.com/google/re2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import re2

from ...snapshot import (
    Claim,
    ClaimMatcher,
    Exact,
    HeaderMatcher,
    Prefix,
    QueryParameterMatcher,
    Regex,
    RouteMatch,
    StringMatcher,
    Suffix,
    ValueMatcher,
)
from ..http.message import Request, claim_at

StringTest = Callable[[bytes], bool]
RequestTest = Callable[[Request, bytes], bool]
"""Given a request and its path without the query."""


class Condition(NamedTuple):
    """One thing that a route asks of a request.

    `text` says what, such as `header end-user is "a"`; `given` says what a request has there, such as `the request has
    none`.
    """

    text: str
    test: RequestTest
    given: Callable[[Request, bytes], str]


def route_test(match: RouteMatch) -> RequestTest:
    """Whether a request meets all of a route's conditions."""
    return _all(conditions(match))


def beyond_path_test(match: RouteMatch) -> RequestTest | None:
    """Whether a request meets a route's conditions on other things than its path; None if there are none."""
    _, *others = conditions(match)
    return _all(others) if others else None


def _all(wanted: Sequence[Condition]) -> RequestTest:
    tests = [condition.test for condition in wanted]
    if len(tests) == 1:
        return tests[0]

    def hold(request: Request, path: bytes) -> bool:
        for test in tests:  # noqa: SIM110 - a generator for `all` costs as much as two tests
            if not test(request, path):
                return False
        return True

    return hold


def conditions(match: RouteMatch) -> tuple[Condition, ...]:
    """All that a route asks of a request; first of its path."""
    return (
        _path_condition(match),
        *map(_header_condition, match.headers),
        *map(_query_parameter_condition, match.query_parameters),
        *map(_claim_condition, match.claims),
    )


def _path_condition(match: RouteMatch) -> Condition:
    test = path_test(match.path, match.case_sensitive)
    text = f"path {_verb(match.path)} {match.path.value}"
    if not match.case_sensitive and not isinstance(match.path, Regex):
        text += " in upper or lower case"
    return Condition(text, lambda request, path: test(path), lambda request, path: f"it is {_text(path)}")


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


def value_test(match: ValueMatcher) -> StringTest:
    """Whether a text is like this."""
    if isinstance(match, Suffix):
        suffix = match.value.encode()
        return lambda text: text.endswith(suffix)
    return string_test(match)


def compile_regex(pattern: str) -> re2._Regexp[bytes]:
    """A compiled RE2 expression for bytes. Raises `re2.error`; a checked configuration has no such expression.

    As in Envoy, `.` is one byte: what a client sends need not be UTF-8.
    """
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return re2.compile(pattern.encode(), options)


_REQUEST_PARTS: dict[str, tuple[str, Callable[[Request], bytes]]] = {
    ":method": ("method", lambda request: request.method),
    ":authority": ("authority", lambda request: request.authority),
    "host": ("authority", lambda request: request.authority),
    ":scheme": ("scheme", lambda request: request.scheme),
    ":path": ("path with query", lambda request: request.path),
}


def _header_condition(matcher: HeaderMatcher) -> Condition:
    values = header_values(matcher.name)
    part, _ = _REQUEST_PARTS.get(matcher.name, (f"header {matcher.name}", None))
    test = _header_test(matcher, values)
    return Condition(
        f"{part} {_verb(matcher.match, matcher.invert)}{_quoted(matcher.match)}",
        lambda request, path: test(request),
        lambda request, path: _given(values(request)),
    )


def _header_test(matcher: HeaderMatcher, values: Callable[[Request], list[bytes]]) -> Callable[[Request], bool]:
    invert = matcher.invert
    if matcher.match is None:
        return lambda request: bool(values(request)) != invert
    test = string_test(matcher.match)
    if_missing: list[bytes] = [b""] if matcher.treat_missing_header_as_empty else []

    def matches(request: Request) -> bool:
        found = values(request) or if_missing
        return bool(found) and any(map(test, found)) != invert

    return matches


def header_values(name: str) -> Callable[[Request], list[bytes]]:
    """From a request to the values of a header, or of a part of the request line that is named as one."""
    if name in _REQUEST_PARTS:
        _, part = _REQUEST_PARTS[name]
        return lambda request: [part(request)]
    key = name.encode()
    if key in _JOINED:
        return lambda request: _joined([value for field, value in request.headers if field == key])
    return lambda request: [value for field, value in request.headers if field == key]


# Of these Envoy keeps a single value each (its inline headers), and a condition is on that; measured.
_JOINED = frozenset(
    b"accept accept-encoding access-control-request-headers access-control-request-method authentication "
    b"authorization cache-control cdn-loop connection content-encoding content-type expect grpc-accept-encoding "
    b"grpc-timeout if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma proxy-status "
    b"referer upgrade user-agent via x-client-trace-id x-envoy-attempt-count x-envoy-decorator-operation "
    b"x-envoy-downstream-service-cluster x-envoy-downstream-service-node x-envoy-external-address "
    b"x-envoy-is-timeout-retry x-envoy-original-host x-envoy-original-path x-forwarded-for x-forwarded-host "
    b"x-forwarded-port x-forwarded-proto x-request-id".split()
)


def _joined(values: list[bytes]) -> list[bytes]:
    return values if len(values) < 2 else [b",".join(filter(None, values))]


def _query_parameter_condition(matcher: QueryParameterMatcher) -> Condition:
    key = matcher.name.encode()
    test = _query_parameter_test(matcher.match)

    def given(request: Request, path: bytes) -> str:
        value = query_parameter(request.path, key)
        return _given(() if value is None else (value,))

    return Condition(
        f"query parameter {matcher.name} {_verb(matcher.match)}{_quoted(matcher.match)}",
        lambda request, path: test(query_parameter(request.path, key)),
        given,
    )


def _query_parameter_test(match: StringMatcher | None) -> Callable[[bytes | None], bool]:
    if match is None:
        return lambda value: value is not None
    test = string_test(match)
    return lambda value: value is not None and test(value)


def query_parameter(path: bytes, key: bytes) -> bytes | None:
    """The first value of a query parameter, not decoded; `?a` and `?a=` are both empty."""
    for parameter in path.partition(b"?")[2].split(b"&"):
        name, _, value = parameter.partition(b"=")
        if name == key:
            return value
    return None


_VERBS: dict[type[ValueMatcher] | None, tuple[str, str]] = {
    Exact: ("is", "is not"),
    Suffix: ("ends with", "does not end with"),
    Prefix: ("begins with", "does not begin with"),
    Regex: ("matches", "does not match"),
    None: ("is present", "is absent"),
}


def _verb(match: ValueMatcher | None, invert: bool = False) -> str:
    return _VERBS[None if match is None else type(match)][invert]


def string_condition(match: StringMatcher) -> str:
    """What a matcher asks of a text, such as `is "a"`."""
    return f"{_verb(match)}{_quoted(match)}"


def _quoted(match: ValueMatcher | None) -> str:
    return "" if match is None else f' "{match.value}"'


def _given(values: Iterable[bytes]) -> str:
    found = " and ".join(f'"{_text(value)}"' for value in values)
    return f"the request has {found or 'none'}"


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _claim_condition(matcher: ClaimMatcher) -> Condition:
    claim, invert = matcher.claim, matcher.invert
    test = claim_test(claim)
    wanted = " or ".join(f"{_verb(match, invert)}{_quoted(match)}" for match in claim.values)
    return Condition(
        f"claim {'.'.join(claim.path)} {wanted}",
        lambda request, path: test(request) != invert,
        lambda request, path: _given(claimed(request, claim.path)),
    )


def claim_test(rule: Claim) -> Callable[[Request], bool]:
    """Whether a request's token has a claim like this."""
    path, tests = rule.path, [value_test(match) for match in rule.values]
    return lambda request: any(test(text) for text in claimed(request, path) for test in tests)


def claimed(request: Request, path: Sequence[str]) -> Iterable[bytes]:
    """A claim that is a text, or the texts of one that is a list."""
    claim = claim_at(request.claims, path)
    if isinstance(claim, str):
        return (claim.encode("utf-8", "surrogatepass"),)
    if isinstance(claim, list):
        return [one.encode("utf-8", "surrogatepass") for one in claim if isinstance(one, str)]
    return ()
