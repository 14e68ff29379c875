"""When one route's match holds for every request that another's holds for.

Rules:

1. Sound, not complete. `covers(a, b)` is said only where it follows from the two matches for *every* request,
   so whoever reports a hidden rule never raises a false alarm. What would take reasoning about two different
   regular expressions, or about several matches together, is answered with no.
2. A path begins with `/`, and no value holds a line break: what HTTP promises is assumed. (`OPTIONS *`, whose
   path is `*`, meets no route of Istio's making but one with an expression.)
"""

from __future__ import annotations

import functools
import string
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import re2

from ..snapshot import Exact, HeaderMatcher, Prefix, Regex, RouteMatch, StringMatcher

T = TypeVar("T")

ANYTHING = Regex(".*")
"""The one expression that is known, without looking into it, to match every path and every value."""

ANY_PATH = Prefix("/")


def covers(wide: RouteMatch, narrow: RouteMatch) -> bool:
    """Whether every request that meets `narrow` also meets `wide`."""
    return (
        _path_covers(wide, narrow)
        and all(any(_header_follows(h, given) for given in narrow.headers) for h in wide.headers)
        and all(
            any(q.name == given.name and _value_covers(q.match, given.match) for given in narrow.query_parameters)
            for q in wide.query_parameters
        )
        and all(claim in narrow.claims for claim in wide.claims)
    )


def is_catch_all(match: RouteMatch) -> bool:
    """Whether Istio takes a match for one that always holds, which it moves behind all others of its host."""
    beyond_path = match.headers or match.query_parameters or match.claims
    return match.path in (ANY_PATH, ANYTHING) and not beyond_path


class CoverIndex(Generic[T]):
    """Matches with something known of each, to be asked which of them cover another match.

    They are filed by path: for a host with a thousand prefixes, the few that begin a path are looked up and
    the rest never tried.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[RouteMatch, T]] = []
        self._exact: defaultdict[str, list[int]] = defaultdict(list)
        self._prefix: defaultdict[str, list[int]] = defaultdict(list)
        self._lengths: set[int] = set()  # of the prefixes
        self._regex: list[int] = []

    def add(self, match: RouteMatch, known: T) -> None:
        """File `match` under its path."""
        place = len(self._entries)
        self._entries.append((match, known))
        match match.path:
            case Exact(value):
                self._exact[_fold(value)].append(place)
            case Prefix(value):
                self._prefix[_fold(value)].append(place)
                self._lengths.add(len(value))
            case Regex():
                self._regex.append(place)

    def covering(self, narrow: RouteMatch) -> Iterator[T]:
        """What is known of each match that covers `narrow`, in the order in which they were added."""
        for place in sorted(self._candidates(narrow.path)):
            wide, known = self._entries[place]
            if covers(wide, narrow):
                yield known

    def _candidates(self, path: StringMatcher) -> Iterator[int]:
        yield from self._regex
        if isinstance(path, Regex):
            yield from self._prefix.get("/", ())
            return
        text = _fold(path.value)
        yield from self._exact.get(text, ())
        for length in self._lengths:
            if length <= len(text):
                yield from self._prefix.get(text[:length], ())


def _path_covers(wide: RouteMatch, narrow: RouteMatch) -> bool:
    if wide.path in (ANY_PATH, ANYTHING):
        return True
    if isinstance(wide.path, Regex):  # Envoy matches expressions by case whatever `case_sensitive` says
        return wide.path == narrow.path or (narrow.case_sensitive and _value_covers(wide.path, narrow.path))
    if isinstance(narrow.path, Regex):
        return False
    if not wide.case_sensitive:
        return _value_covers(_folded(wide.path), _folded(narrow.path))
    return narrow.case_sensitive and _value_covers(wide.path, narrow.path)


def _header_follows(wanted: HeaderMatcher, given: HeaderMatcher) -> bool:
    """Whether a request that meets `given` also meets `wanted`."""
    if wanted.name != given.name or wanted.invert != given.invert:
        return False
    if not wanted.invert:
        return _value_covers(wanted.match, given.match)
    if given.match is None and wanted.match is not None:
        # The header is absent, and stands for an empty value where a value must not match.
        return not isinstance(wanted.match, Regex) and wanted.match.value != ""
    return _value_covers(given.match, wanted.match)


def _value_covers(wide: StringMatcher | None, narrow: StringMatcher | None) -> bool:
    """Whether each value that meets `narrow` meets `wide`; None is met by every value."""
    match wide, narrow:
        case (None, _) | (Regex(".*"), _) | (Prefix(""), _):
            return True
        case Prefix(prefix), Exact(text) | Prefix(text):
            return text.startswith(prefix)
        case Regex(expression), Exact(text):
            return _full_match(expression, text)
        case _:
            return wide == narrow


@functools.lru_cache(maxsize=4096)
def _compiled(expression: str) -> Any:
    try:
        return re2.compile(expression)
    except re2.error:
        return None


def _full_match(expression: str, text: str) -> bool:
    compiled = _compiled(expression)
    return compiled is not None and compiled.fullmatch(text) is not None


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _fold(text: str) -> str:
    """`text` without case, as Envoy compares it: ASCII letters only."""
    return text.translate(_LOWER)


def _folded(path: Exact | Prefix) -> Exact | Prefix:
    return type(path)(_fold(path.value))
