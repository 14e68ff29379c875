"""Every exchange of every case, carried out by both proxies, which must do the same, or differ as the table says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from ..envoy.binary import needs_envoy
from .cases import CASES, SHOWN
from .compare import Pair, compare
from .differences import DIFFERENCES, explanations
from .referee import judge
from .tally import TALLY

NAMES = [f"{case.name} / {exchange.name}" for case in CASES for exchange in case.exchanges]
EXPECTED = {name: frozenset(difference for difference, names in SHOWN.items() if name in names) for name in NAMES}


@pytest.fixture(scope="session")
def pairs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """The pairs of all exchanges that are wanted in this run, by name: one Envoy carries them all out."""
    parametrized = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {one.params["name"] for one in parametrized if one is not None and "name" in one.params}
    cases = [
        replace(one, exchanges=tuple(e for e in one.exchanges if f"{one.name} / {e.name}" in wanted)) for one in CASES
    ]
    cases = [case for case in cases if case.exchanges]
    judged = judge(cases, tmp_path_factory.mktemp("referee"))
    return {f"{case.name} / {pair.exchange.name}": pair for case, pairs in judged for pair in pairs}


@needs_envoy
@pytest.mark.parametrize("name", NAMES)
def test_both_do_the_same(name: str, pairs: dict[str, Pair]) -> None:
    pair = pairs[name]
    findings = compare(pair.envoy, pair.ours)
    told = "\n".join(map(str, TALLY.count("written", pair, findings)))
    assert not told, f"{pair.exchange.pieces!r}\n{told}"
    assert explanations(pair, findings) == EXPECTED[name]


def test_every_exchange_has_a_name_of_its_own() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


def test_there_are_enough_of_them() -> None:
    assert len(NAMES) >= 300


def test_every_difference_that_a_pair_can_show_is_shown_by_one() -> None:
    assert {row.id for row in DIFFERENCES if row.explains} == SHOWN.keys()
    assert {name for names in SHOWN.values() for name in names} <= set(NAMES)
