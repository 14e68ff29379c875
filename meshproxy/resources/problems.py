"""How this package speaks to people: where something is, what is wrong there, what would be right.

A path is a tuple of keys and indices from the top of a resource, `("spec", "http", 0, "match")`;
`format_path` writes it as people read it, `spec.http[0].match`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import re2

Path = tuple[str | int, ...]

# Keys outside this, label names such as `app.kubernetes.io/name`, are quoted inside a path. Every route has a path, and
# `re` is ten times as fast as RE2 on short texts; this cannot backtrack.
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*+")
# Control characters, and what else ends a line to Python's `splitlines`.
_UNPRINTABLE = re2.compile(r"[\x{00}-\x{1f}\x{7f}-\x{9f}\x{2028}\x{2029}]")


def one_line(text: str) -> str:
    """The text with its control characters escaped, as `\\n`, so that a message stays on its line."""
    return str(_UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text))


def format_path(path: Iterable[str | int]) -> str:
    """Write a path in the notation of messages: `spec.http[0].headers["x.y"]`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text


class Position(NamedTuple):
    """A place in a file as editors count: lines and columns from 1; columns count characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class Problem(NamedTuple):
    """Something the user has to change before the configuration can run.

    `resource` is `Kind/name.namespace`, or empty where the resource could not be told; `path` is
    formatted, and empty where the whole resource or file is meant.
    """

    position: Position
    resource: str
    path: str
    message: str

    def __str__(self) -> str:
        parts = (str(self.position), self.resource, self.path, self.message)
        return one_line(": ".join(part for part in parts if part))

    def as_dict(self) -> dict[str, str | int]:
        """The problem as plain JSON values."""
        return {
            "file": self.position.file,
            "line": self.position.line,
            "column": self.position.column,
            "resource": self.resource,
            "path": self.path,
            "message": self.message,
        }


class Note(NamedTuple):
    """Something worth telling that keeps nothing from running, such as a kind that was skipped."""

    position: Position
    message: str

    def __str__(self) -> str:
        return one_line(f"{self.position}: note: {self.message}")


class Unreadable(OSError):
    """Paths that could not be read. Every path was tried; `failures` pairs each with its reason."""

    def __init__(self, failures: Iterable[tuple[str, str]]) -> None:
        self.failures = tuple(failures)
        super().__init__("; ".join(f"cannot read {path}: {reason}" for path, reason in self.failures))
