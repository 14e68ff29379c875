"""How messages name what would be right: the nearest name, or those that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

MAX_LISTED = 6


def advice(name: str, known: Iterable[str], nothing: str, likely: Iterable[str] = ()) -> str:
    """What would be right in place of `name`: what is likely, else the nearest name, else all there are.

    Of `namespace/name`, the names are compared; they are what is mistyped.
    """
    names = sorted(set(known))
    found = next((candidate for candidate in likely if candidate in names), None)
    close = found or nearest(name, {other.rpartition("/")[2]: other for other in names})
    if close:
        return f"did you mean {close!r}?"
    return f"known are {listed(names)}" if names else nothing


def nearest(name: str, known: Mapping[str, str]) -> str | None:
    """What is known under the name that is most like `name`, if one is; of `namespace/name`, the names count."""
    close = difflib.get_close_matches(name.rpartition("/")[2], known, n=1, cutoff=0.7)
    return known[close[0]] if close else None


def listed(names: Iterable[object], unit: str = "") -> str:
    """Some names for a sentence; of many, only the first few."""
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:MAX_LISTED])
    more = len(texts) - MAX_LISTED
    return f"{shown} and {more} more{unit}" if more > 0 else shown
