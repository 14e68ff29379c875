"""New paths from old ones: what a route's `prefix_rewrite` and `regex_rewrite` do to a path and leave of its query."""

from __future__ import annotations

import re
from collections.abc import Callable

from ...snapshot import Exact, Prefix, RegexRewrite, StringMatcher
from .matchers import compile_regex

Rewrite = Callable[[bytes], bytes]
"""From a path with its query to another."""


def rewrite(match: StringMatcher, prefix_rewrite: str | None, regex_rewrite: RegexRewrite | None) -> Rewrite | None:
    """What a route that matched by `match` does to a path; None when it leaves it alone."""
    if prefix_rewrite is not None:
        return prefix(match, prefix_rewrite)
    return None if regex_rewrite is None else regex(regex_rewrite)


def prefix(match: StringMatcher, replacement: str) -> Rewrite:
    """`replacement` in the place of what matched: the prefix, or for other matches the whole path."""
    new = replacement.encode()
    if isinstance(match, Prefix | Exact):
        length = len(match.value.encode())
        return lambda path: new + path[length:]

    def whole(path: bytes) -> bytes:
        _, mark, query = path.partition(b"?")
        return new + mark + query

    return whole


_REFERENCE = re.compile(rb"\\([0-9\\])")


def regex(regex_rewrite: RegexRewrite) -> Rewrite:
    """Every match in the path, replaced; `\\1` in the substitution stands for a group, `\\\\` for a backslash (RE2)."""
    pattern = compile_regex(regex_rewrite.pattern)
    # Literal text and references alternate.
    literals_and_references = _REFERENCE.split(regex_rewrite.substitution.encode())
    if any(text != b"\\" and int(text) > pattern.groups for text in literals_and_references[1::2]):
        return lambda path: path  # as RE2 does when there is no such group

    def replace(path: bytes) -> bytes:
        path, mark, query = path.partition(b"?")
        rewritten: list[bytes] = []
        copied = 0
        for found in pattern.finditer(path):
            if found.end() == copied and rewritten:
                continue  # RE2 replaces no empty match where another match ended
            rewritten.append(path[copied : found.start()])
            for index, text in enumerate(literals_and_references):
                if index % 2 == 0:
                    rewritten.append(text)
                else:
                    rewritten.append(b"\\" if text == b"\\" else found.group(int(text)) or b"")
            copied = found.end()
        rewritten.append(path[copied:])
        return b"".join(rewritten) + mark + query

    return replace
