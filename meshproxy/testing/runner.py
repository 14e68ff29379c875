"""Runs test files: each combination goes through its proxies, and what came of it is compared with what is expected."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from ..mesh import ROOT_NAMESPACE, Mesh, analyse, build_mesh
from ..resources import Note, Position, Problem, load
from ..snapshot import Origin
from .cases import Combination, CraftedRequest, Hop, ViaHop
from .completing import complete
from .entrances import Entrance, Entrances, NoEntrance
from .expectations import Difference, differences, outcome
from .passage import Arrival, Passage, Proxy, Rules

_NOT_YET = "not supported yet"


class Unusable(Exception):
    """Nothing can be tested: `problems` are to be mended first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Failing:
    """One thing that is not as expected: at which proxy, where the expectation is written, and by which rule.

    `rule` is None where the request met none; `tried` are the rules before it, each with why it was not met.
    """

    difference: Difference
    proxy: str
    expectation: Position
    rule: Origin | None
    tried: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a combination. It passed if nothing is failing; `came` says in a line what happened to it."""

    combination: Combination
    failing: tuple[Failing, ...]
    came: str
    duration_s: float

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.failing


class Bench:
    """A mesh under test. `notes` are what people should know of it."""

    def __init__(
        self,
        mesh: Mesh,
        namespace: str = ROOT_NAMESPACE,
        notes: Iterable[Note] = (),
    ) -> None:
        self.notes = tuple(notes)
        self._entrances = Entrances(mesh, namespace)
        self._rules = Rules(mesh)
        self._proxies: dict[int, Proxy] = {}

    def run(self, combination: Combination) -> Outcome:
        """Send a combination's request through its proxies, without sending anything."""
        started = time.perf_counter()
        failing: list[Failing] = []
        came = ""
        for path, hop, passage in self._passages(combination):
            if isinstance(passage, NoEntrance):
                failing.append(_lost(combination, path, str(passage)))
                came = str(passage)
            else:
                failing += _failing(combination, path, hop, passage)
                came = outcome(passage)
        return Outcome(combination, tuple(failing), came, time.perf_counter() - started)

    def _passages(self, combination: Combination) -> Iterator[tuple[tuple[str | int, ...], Hop, Passage | NoEntrance]]:
        """The request's way through each proxy, up to where there is no way on."""
        test, request = combination.case.test, combination.request
        try:
            entrance = self._entrances.find(test, request.authority)
        except NoEntrance as error:
            yield (), test, error
            return
        passage = self._proxy(entrance).passage(request)
        yield (), test, passage
        for index, hop in enumerate(test.via):
            try:
                arrival, entrance = self._next(hop, passage)
            except NoEntrance as error:
                yield ("via", index), hop, error
                return
            head = arrival.request
            passage = self._proxy(entrance).passage(
                CraftedRequest(head.method, head.authority, head.path, head.headers)
            )
            yield ("via", index), hop, passage

    def _next(self, hop: ViaHop, passage: Passage) -> tuple[Arrival, Entrance]:
        """The destination that leads to the next proxy, and where it leads to."""
        reason = NoEntrance(f"the request gets no further than {passage.entrance.name}: {outcome(passage)}")
        for arrival in passage.arrivals:
            try:
                return arrival, self._entrances.following(hop, arrival.endpoints)
            except NoEntrance as error:
                reason = error
        raise reason

    def _proxy(self, entrance: Entrance) -> Proxy:
        key = id(entrance.listener)  # which lives as long as the entrances; names may be shared
        if key not in self._proxies:
            self._proxies[key] = Proxy(entrance, self._rules)
        return self._proxies[key]


def _lost(combination: Combination, path: tuple[str | int, ...], reason: str) -> Failing:
    difference = Difference(("via",) if path else ("gateway",), "a way in", reason)
    return Failing(difference, "", combination.case.position(*path), None, ())


def _failing(combination: Combination, path: tuple[str | int, ...], hop: Hop, passage: Passage) -> Iterator[Failing]:
    found = list(differences(hop, passage, combination.case.test.want_match))
    tried = tuple(f"{one.route.origin}: {one.failed}, but {one.given}" for one in passage.tried()) if found else ()
    for difference in found:
        position = combination.case.position(*path, *difference.path)
        yield Failing(difference, passage.entrance.name, position, passage.origin, tried)


def bench(
    paths: Iterable[str],
    *,
    namespace: str = ROOT_NAMESPACE,
    tests: Iterable[str] = (),
    stdin: IO[bytes] | IO[str] | None = None,
) -> Bench:
    """A mesh of the resources in `paths`, ready for tests. Raises `Unreadable`, and `Unusable` if they have problems.

    `tests` are files that may lie among the resources and are none. What rules refer to need not be there, see
    `completing`; and what is not supported yet, and keeps a rule from running, does not keep it from being tested.
    """
    loaded = load(paths, stdin=stdin)
    own = {os.path.realpath(test) for test in tests}
    problems = [problem for problem in loaded.problems if os.path.realpath(problem.position.file) not in own]
    tolerable = [one for one in problems if one.message.startswith(_NOT_YET) and one.resource not in loaded.invalid]
    if len(tolerable) < len(problems):
        raise Unusable([problem for problem in problems if problem not in tolerable])
    resources, notes = complete(loaded.resources)
    mesh = build_mesh(resources)
    found = analyse(mesh, namespace=namespace, invalid=loaded.invalid, partial=loaded.partial)
    if unknown := [one for one in found if one.message.startswith(_NOT_YET) and one.path.startswith("spec.http[")]:
        raise Unusable(unknown)  # commands in header values, which the proxy can neither carry out nor pass over
    notes += (Note(one.position, f"{one.resource}: {one.path}: {one.message}") for one in (*tolerable, *found))
    return Bench(mesh, namespace, notes)
