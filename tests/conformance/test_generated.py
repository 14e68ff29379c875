"""Generated resources and requests, carried out by both proxies, which must do the same, or differ as the table says.

`make test` tries the same 500 pairs every time, `make conformance` others, and more of them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

from ..envoy.binary import needs_envoy
from .compare import compare
from .exchanges import Case
from .generated import cases
from .referee import judge
from .tally import TALLY

CASES_EACH = 5
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "20"))
ALWAYS_THE_SAME = "CONFORMANCE_EXAMPLES" not in os.environ


@needs_envoy
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # which nobody is shown
@settings(
    max_examples=EXAMPLES,
    derandomize=ALWAYS_THE_SAME,
    verbosity=Verbosity.quiet,
    # A pair that differs is told alone, small enough to read; each attempt to shrink it would start Envoy again.
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(cases(), min_size=CASES_EACH, max_size=CASES_EACH))
def test_both_do_the_same_with_what_is_generated(tmp_path: Path, generated: list[Case]) -> None:
    for case, pairs in judge(generated, tmp_path):
        for pair in pairs:
            left = TALLY.count("generated", pair, compare(pair.envoy, pair.ours))
            told = "\n".join(map(str, left))
            sent, answered = pair.exchange.pieces, pair.exchange.answer.pieces
            assert not left, (
                f"{case.yaml}\nsent {sent!r}\nanswered {answered!r}\n{told}\nEnvoy ran {tmp_path}/0/bootstrap.json"
            )
