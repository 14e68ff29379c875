"""What a load run must not exceed: `p99=50ms`, `max=1s`, `mean=5ms`, `errors=0`, `errors=0.1%`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from .load import Outcome

_UNITS_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_LATENCY = re.compile(r"(p\d{1,2}(?:\.\d+)?|max|mean)=(\d+(?:\.\d+)?)(us|ms|s)")
_OF_ERRORS = {"errors": " errors", "%": " % errors"}
_ERRORS = re.compile(r"errors=(\d+(?:\.\d+)?)(%?)")


@dataclass(frozen=True)
class Threshold:
    """A figure and its limit: microseconds, a number of errors, or their percentage."""

    text: str
    figure: str
    limit: float

    def exceeded_by(self, outcome: Outcome) -> str | None:
        """What the figure was, if it was over the limit."""
        value = _value(self.figure, outcome)
        if value <= self.limit:
            return None
        if math.isinf(value):
            return "there was no answer"
        if self.figure in _OF_ERRORS:
            return f"{value:g}{_OF_ERRORS[self.figure]}"
        return f"{value / 1e3:g} ms"


def parse(text: str) -> Threshold:
    """Raises `ValueError`."""
    if latency := _LATENCY.fullmatch(text):
        return Threshold(text, latency[1], float(latency[2]) * _UNITS_US[latency[3]])
    if errors := _ERRORS.fullmatch(text):
        return Threshold(text, errors[2] or "errors", float(errors[1]))
    raise ValueError(f"{text!r} is no threshold; write p99=50ms, p99.9=1s, max=2s, mean=5ms, errors=0 or errors=0.1%")


def _value(figure: str, outcome: Outcome) -> float:
    latencies = outcome.latencies
    if figure == "errors":
        return outcome.error_count
    if figure == "%":
        return 100 * outcome.error_count / max(outcome.requests, 1)
    if not latencies.count:
        return math.inf
    if figure == "max":
        return latencies.max
    if figure == "mean":
        return latencies.sum / latencies.count
    return latencies.percentile(float(figure.removeprefix("p")))
