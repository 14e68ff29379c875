"""Which requests a route is for (Envoy's `config.route.v3.RouteMatch`)."""

from __future__ import annotations

from dataclasses import dataclass

from .values import Prefix, StringMatcher, ValueMatcher


@dataclass(frozen=True, slots=True)
class HeaderMatcher:
    """One condition on one header; `match=None` asks only that it is present.

    `:method`, `:authority` and `:scheme` name the parts of the request line. Of several fields of one name, one that
    matches is enough. A missing header matches nothing, not even inverted, except that `present` can be inverted
    and that `treat_missing_header_as_empty` makes it an empty one (Envoy's `HeaderMatcher`).
    """

    name: str
    match: StringMatcher | None = None
    invert: bool = False
    treat_missing_header_as_empty: bool = False


@dataclass(frozen=True, slots=True)
class QueryParameterMatcher:
    """One condition on one query parameter; `match=None` asks only that it is present.

    The first parameter of that name counts; neither name nor value is percent-decoded (as in Envoy).
    """

    name: str
    match: StringMatcher | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of the request's verified token: a text that meets one of `values`, or a list with such a text.

    `path` leads to it from the outside in (Envoy: `MetadataMatcher` of what `jwt_authn` leaves).
    """

    path: tuple[str, ...]
    values: tuple[ValueMatcher, ...]


@dataclass(frozen=True, slots=True)
class ClaimMatcher:
    """One condition on a claim. Inverted, it holds where the claim is missing (Envoy's `dynamic_metadata`)."""

    claim: Claim
    invert: bool = False


ANY_PATH = Prefix("/")


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """All conditions must hold. `path` is matched without its query."""

    path: StringMatcher = ANY_PATH
    case_sensitive: bool = True
    headers: tuple[HeaderMatcher, ...] = ()
    query_parameters: tuple[QueryParameterMatcher, ...] = ()
    claims: tuple[ClaimMatcher, ...] = ()
