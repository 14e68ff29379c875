"""Heads of requests, well-formed and damaged, sent byte for byte to both: what one refuses, the other refuses.

How many are tried is told as in `test_generated`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st

from ..envoy.binary import needs_envoy
from ..proxy.heads import request_heads
from .compare import Pair, compare
from .exchanges import OK, Answer, Case, Exchange, routed
from .referee import judge
from .tally import TALLY

CASES_EACH = 8
HEADS_EACH = 5
EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "20")) // 2
ALWAYS_THE_SAME = "CONFORMANCE_EXAMPLES" not in os.environ


def _exchange(head: bytes) -> Exchange:
    """An empty line behind it ends a head that was damaged at its end. The backend does not wait for a body."""
    return Exchange("head", (head + b"\r\n\r\n",), Answer((OK,), early=True), ("GET",))


cases = st.lists(request_heads.map(_exchange), min_size=HEADS_EACH, max_size=HEADS_EACH).map(
    lambda exchanges: Case("heads", routed(), tuple(exchanges))
)


def _both_refuse(pair: Pair) -> bool:
    """Of several faults in a request each may tell another one, and a faulty body's head may have been passed on."""
    return all(
        [one.status >= 400 for one in seen.responses] == [True] and seen.end == "closed"
        for seen in (pair.envoy, pair.ours)
    )


@needs_envoy
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # which nobody is shown
@settings(
    max_examples=EXAMPLES,
    derandomize=ALWAYS_THE_SAME,
    verbosity=Verbosity.quiet,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(cases, min_size=CASES_EACH, max_size=CASES_EACH))
def test_both_read_and_refuse_the_same_heads(tmp_path: Path, generated: list[Case]) -> None:
    for _, pairs in judge(generated, tmp_path):
        for pair in pairs:
            findings = [] if _both_refuse(pair) else compare(pair.envoy, pair.ours)
            left = TALLY.count("of damaged heads", pair, findings)
            told = "\n".join(map(str, left))
            assert not left, f"sent {pair.exchange.pieces!r}\n{told}"
