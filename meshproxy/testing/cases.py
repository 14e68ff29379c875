"""Test files: what people write, read as strictly as the resources themselves.

The format is that of istio-config-validator (`testCases` of `request` and `route`, `redirect`, `rewrite`, `fault`,
`headers`, `delegate`, `wantMatch`), and more: where the request enters, further hops, and what arrives at the other
end. A file may hold several YAML documents; their cases are one list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import re2
from pydantic import Field, ValidationError

from ..resources import (
    Delegate,
    Headers,
    HTTPDirectResponse,
    HTTPRedirect,
    HTTPRewrite,
    HTTPRouteDestination,
    Model,
    Position,
    Problem,
    Unreadable,
    format_path,
)
from ..resources.documents import Document, Place, read_documents
from ..resources.errors import describe, explain, is_unknown_field
from ..resources.model import Ruled, Wrong
from ..resources.problems import Path as Steps
from ..resources.types import Bool, PortNumber, Text
from ..resources.virtual_service import HTTPFaultInjection

Status = Annotated[int, Field(strict=True, ge=100, le=599)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1)]

# RFC 9110, sections 5.6.2 and 5.5
_TOKEN = re2.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL = re2.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class RequestPattern(Ruled):
    """The requests of a case: every combination of an authority, a method and a URI."""

    authority: Texts
    method: Texts = ("GET",)
    uri: Texts = ("/",)
    headers: dict[str, str] = Field(default_factory=dict)

    def broken_rules(self) -> Iterator[Wrong]:
        for index, uri in enumerate(self.uri):
            if not uri.startswith("/"):
                yield ("uri", index), f"{uri!r} is no path; begin it with '/'"
        for place, texts in (("authority", self.authority), ("method", self.method), ("uri", self.uri)):
            for index, text in enumerate(texts):
                if any(char.isspace() for char in text):
                    yield (place, index), f"{text!r} holds white space, which no request line can"
        for name, value in self.headers.items():
            if name.lower() == "host" or name.startswith(":"):
                yield ("headers", name), "no header but a part of the request line; use authority, method or uri"
            elif not _TOKEN.fullmatch(name):
                yield ("headers", name), f"{name!r} is not a header name; use letters, digits and '-'"
            elif _CONTROL.search(value):
                yield ("headers", name), "holds a control character; header values are one line of text"


class WantRequest(Model):
    """What the destination has to receive, which is something at least.

    A header that is null must not be there; others may be.
    """

    method: str | None = None
    authority: str | None = None
    path: str | None = None
    headers: dict[str, str | None] = Field(default_factory=dict)


class WantResponse(Ruled):
    """What the client has to receive. A header that is null must not be there; others may be.

    What an endpoint sends is not known: its status counts as 200, and a header of its that must not be there has to be
    removed by the rule.
    """

    status: Status | None = None
    headers: dict[str, str | None] = Field(default_factory=dict)

    def broken_rules(self) -> Iterator[Wrong]:
        if self.status is None and not self.headers:
            yield (), "expects nothing, so that it could not fail; give status or headers"


class Hop(Ruled):
    """One proxy on the way: where the request enters it, and what is expected to come of it there.

    `gateway` is `namespace/name`, or `mesh` for any sidecar; `workload` is `name.namespace`; `port` is the Gateway's.
    """

    gateway: Text | None = None
    workload: Text | None = None
    port: PortNumber | None = None
    route: tuple[HTTPRouteDestination, ...] | None = None
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    rewrite: HTTPRewrite | None = None
    fault: HTTPFaultInjection | None = None
    headers: Headers | None = None
    delegate: Delegate | None = None
    want_request: WantRequest | None = None
    want_response: WantResponse | None = None
    status: Status | None = None

    @property
    def expectations(self) -> tuple[str, ...]:
        """The names of the expectations that are given."""
        return tuple(name for name in EXPECTATIONS if getattr(self, name) is not None)

    def broken_rules(self) -> Iterator[Wrong]:
        if self.gateway is not None and self.workload is not None:
            yield (), "give one of gateway and workload, not both"


class ViaHop(Hop):
    """A further proxy, which the request reaches as the one before it has sent it on."""

    def broken_rules(self) -> Iterator[Wrong]:
        yield from super().broken_rules()
        if self.gateway is None and self.workload is None:
            yield (), "says not which proxy the request comes to; give gateway or workload"


class MeshTest(Hop):
    """Some requests, and what is expected of each; with `wantMatch: false`, nothing of it may come true."""

    description: str = ""
    want_match: Bool = True
    request: RequestPattern
    via: tuple[ViaHop, ...] = ()

    def broken_rules(self) -> Iterator[Wrong]:
        yield from super().broken_rules()
        if not any(hop.expectations for hop in (self, *self.via)):
            yield (), "expects nothing, so that it could not fail; give route, redirect, wantRequest, status, ..."


EXPECTATIONS = (
    *("route", "redirect", "direct_response", "rewrite", "fault", "headers", "delegate"),
    *("want_request", "want_response", "status"),
)


class MeshTestDocument(Model):
    """One YAML document of a test file. `resources` are paths beside the file."""

    resources: tuple[Text, ...] = ()
    test_cases: tuple[MeshTest, ...] = ()


@dataclass(frozen=True, slots=True)
class CraftedRequest:
    """One request; `uri` is its path and query."""

    method: str
    authority: str
    uri: str
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.authority}{self.uri}"


@dataclass(frozen=True, slots=True)
class Case:
    """A test case, and where it is written."""

    test: MeshTest
    file: str
    place: Place = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Its description, or else the line it stands in."""
        return " ".join(self.test.description.split()) or f"line {self.place.line}"

    def position(self, *path: str | int) -> Position:
        """Where the value at `path` stands, or else the nearest around it."""
        place, _ = self.place.find(path)
        return Position(self.file, place.line, place.column)

    def combinations(self) -> Iterator[Combination]:
        """Every request of the case: URIs outermost, methods innermost."""
        wanted = self.test.request
        for uri in wanted.uri:
            for authority in wanted.authority:
                for method in wanted.method:
                    yield Combination(self, CraftedRequest(method, authority, uri, tuple(wanted.headers.items())))


@dataclass(frozen=True, slots=True)
class Combination:
    """A case with one of its requests: what passes or fails."""

    case: Case
    request: CraftedRequest

    @property
    def name(self) -> str:
        """How reports call it."""
        return f"{self.case.name} [{self.request}]"


@dataclass(frozen=True, slots=True)
class MeshTestFile:
    """A test file as far as it could be read; its cases can be run if there are no `problems`.

    `resources` are the paths that it names, made absolute or relative as its own is.
    """

    path: str
    cases: tuple[Case, ...]
    resources: tuple[str, ...]
    problems: tuple[Problem, ...]

    def combinations(self) -> Iterator[Combination]:
        """Every combination of every case, in order."""
        return (combination for case in self.cases for combination in case.combinations())


def read_tests(path: str) -> MeshTestFile:
    """Read a test file, with everything that is wrong with it. Raises `Unreadable`."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise Unreadable([(path, error.strerror or str(error))]) from None
    cases: list[Case] = []
    resources: list[str] = []
    problems: list[Problem] = []
    for document in read_documents(raw):
        problems += _flaws(path, document)
        if document.broken:
            continue
        read = _read(path, document, problems)
        if read is not None:
            places = document.place.find(("testCases",))[0]
            cases += (Case(test, path, places.children[index]) for index, test in enumerate(read.test_cases))
            resources += read.resources
    if not cases and not problems:
        problems.append(Problem(Position(path, 1, 1), "", "", "there is no test here; give testCases"))
    beside = Path(path).parent
    named = tuple(str(beside / name) for name in resources) or (str(beside),)
    return MeshTestFile(path, tuple(cases), named, tuple(sorted(problems, key=lambda problem: problem.position)))


def _flaws(path: str, document: Document) -> Iterator[Problem]:
    for flaw in document.flaws:
        yield Problem(Position(path, flaw.line, flaw.column), "", format_path(flaw.path), flaw.message)
    for steps in document.nulls:
        if not _may_be_null(steps):
            place, _ = document.place.find(steps)
            message = "has no value; give one, or remove the key"
            yield Problem(Position(path, place.line, place.column), "", format_path(steps), message)


def _may_be_null(steps: Steps) -> bool:
    """Whether null has a meaning here: a header that must be absent."""
    return len(steps) > 2 and steps[-2] == "headers" and steps[-3] in ("wantRequest", "wantResponse")


def _read(path: str, document: Document, problems: list[Problem]) -> MeshTestDocument | None:
    if not isinstance(document.value, dict):
        position = Position(path, document.place.line, document.place.column)
        message = f"expected a mapping with testCases, got {describe(document.value)}"
        problems.append(Problem(position, "", "", message))
        return None
    try:
        return MeshTestDocument.model_validate(_without_nulls(document.value))
    except ValidationError as error:
        problems += (_problem(path, document.place, steps, wrong) for steps, wrong in explain(error, MeshTestDocument))
        return None


def _problem(path: str, root: Place, steps: Steps, message: str) -> Problem:
    place, exact = root.find(steps)
    at_key = exact and is_unknown_field(message)
    line, column = (place.key_line, place.key_column) if at_key else (place.line, place.column)
    return Problem(Position(path, line, column), "", format_path(steps), message)


def _without_nulls(value: Any, steps: Steps = ()) -> Any:
    """`value` without the nulls that have been told of, so that each is told of once."""
    if isinstance(value, dict):
        kept = {key: item for key, item in value.items() if item is not None or _may_be_null((*steps, key))}
        return {key: _without_nulls(item, (*steps, key)) for key, item in kept.items()}
    if isinstance(value, list):
        return [_without_nulls(item, (*steps, index)) for index, item in enumerate(value)]
    return value
