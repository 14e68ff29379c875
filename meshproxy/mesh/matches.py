"""Match conditions of a VirtualService as Envoy's route match (Istio's `TranslateRouteMatch`).

What depends on the proxy and not on the request (gateways, port, sourceLabels, sourceNamespace) is not here:
`routes` decides it before a route exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..resources import HTTPMatchRequest, StringMatch, claim_path, is_jwt_claim
from ..snapshot import (
    Claim,
    ClaimMatcher,
    Exact,
    HeaderMatcher,
    Prefix,
    QueryParameterMatcher,
    Regex,
    RouteMatch,
    StringMatcher,
)

PRESENCE_REGEX = "*"
"""Not an expression of RE2, but how Istio writes that a header or parameter only has to be there."""


def route_match(request: HTTPMatchRequest) -> RouteMatch:
    """The route match that holds for the requests which meet `request`.

    Conditions on headers are ordered by name, those on the request line follow.
    """
    with_claims, with_headers = _told_apart(request.headers)
    without_claims, without_headers = _told_apart(request.without_headers)
    by_name = [HeaderMatcher(name.lower(), string_matcher(match)) for name, match in with_headers]
    by_name += [_without(name.lower(), match) for name, match in without_headers]
    by_name.sort(key=lambda header: header.name)
    claims = [_claim(name, match, False) for name, match in with_claims]
    claims += [_claim(name, match, True) for name, match in without_claims]
    line = ((":method", request.method), (":authority", request.authority), (":scheme", request.scheme))
    return RouteMatch(
        path=(string_matcher(request.uri) if request.uri else None) or Prefix("/"),
        case_sensitive=not request.ignore_uri_case,
        headers=(*by_name, *(HeaderMatcher(name, string_matcher(match)) for name, match in line if match)),
        query_parameters=tuple(_query(request.query_params.items())),
        claims=tuple(sorted(claims, key=lambda one: one.claim.path)),
    )


Named = list[tuple[str, StringMatch]]


def _told_apart(conditions: Mapping[str, StringMatch]) -> tuple[Named, Named]:
    """Conditions on claims, and those on headers."""
    claims: Named = []
    headers: Named = []
    for name, match in conditions.items():
        (claims if is_jwt_claim(name) else headers).append((name, match))
    return claims, headers


def _claim(name: str, match: StringMatch, invert: bool) -> ClaimMatcher:
    """A claim that only has to be there has to be a text, or a list with one."""
    return ClaimMatcher(Claim(claim_path(name), (string_matcher(match) or Prefix(""),)), invert)


def string_matcher(match: StringMatch) -> StringMatcher | None:
    """The matcher of a text, or None where the text only has to be there."""
    if match.exact is not None:
        return Exact(match.exact)
    if match.prefix is not None:
        return Prefix(match.prefix)
    if match.regex is not None and match.regex != PRESENCE_REGEX:
        return Regex(match.regex)
    return None


def _without(name: str, match: StringMatch) -> HeaderMatcher:
    """A header that must not match; a missing one counts as empty, unless it is presence that must not be."""
    matcher = string_matcher(match)
    return HeaderMatcher(name, matcher, invert=True, treat_missing_header_as_empty=matcher is not None)


def _query(parameters: Iterable[tuple[str, StringMatch]]) -> Iterable[QueryParameterMatcher]:
    return (
        QueryParameterMatcher(name, string_matcher(match)) for name, match in sorted(parameters, key=lambda p: p[0])
    )
