"""What `--fail-over` allows."""

from __future__ import annotations

import pytest

from bench.load import Outcome
from bench.thresholds import parse


def outcome(*latencies_us: int, errors: int = 0) -> Outcome:
    made = Outcome(rate=100.0)
    for latency in latencies_us:
        made.latencies.record(latency)
    made.requests = len(latencies_us) + errors
    made.errors["reset"] = errors
    return made


@pytest.mark.parametrize(
    ("threshold", "exceeded"),
    [
        ("p50=200us", None),
        ("p50=199us", "0.2 ms"),
        ("p99.9=250ms", None),
        ("p99.9=0.1s", "250 ms"),
        ("max=249ms", "250 ms"),
        ("mean=83ms", "83.4333 ms"),
        ("errors=1", None),
        ("errors=0", "1 errors"),
        ("errors=25%", None),
        ("errors=24.9%", "25 % errors"),
    ],
)
def test_a_figure_is_told_when_it_is_over_its_limit(threshold: str, exceeded: str | None) -> None:
    assert parse(threshold).exceeded_by(outcome(100, 200, 250_000, errors=1)) == exceeded


def test_where_nothing_was_answered_no_latency_is_good_enough() -> None:
    assert parse("p99=1s").exceeded_by(outcome(errors=3)) == "there was no answer"


@pytest.mark.parametrize("text", ["", "p99", "p99=", "p99=50", "p100=1ms", "p99=5m", "errors=1ms", "errors=%", "q=1ms"])
def test_what_is_no_threshold_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write p99=50ms"):
        parse(text)
