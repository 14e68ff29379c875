"""What the tests of resources share: reading YAML that stands in the test."""

from __future__ import annotations

import io
from collections.abc import Callable
from textwrap import dedent

import pytest

from meshproxy.resources import KINDS, Loaded, load

Reader = Callable[[str], Loaded]
Complaints = Callable[[str, str], list[tuple[str, str]]]


@pytest.fixture
def read() -> Reader:
    """Load YAML text as if it came by stdin."""
    return lambda text: load(["-"], stdin=io.StringIO(dedent(text)))


@pytest.fixture
def complaints(read: Reader) -> Complaints:
    """The paths, without `spec.`, and the messages of all problems of a kind's spec, given as YAML."""

    def complain(kind: str, spec: str) -> list[tuple[str, str]]:
        head = f"apiVersion: {KINDS[kind].api_versions[0]}\nkind: {kind}\nmetadata: {{name: x}}\n"
        problems = read(f"{head}spec: {spec}\n").problems
        return [(problem.path.removeprefix("spec."), problem.message) for problem in problems]

    return complain
