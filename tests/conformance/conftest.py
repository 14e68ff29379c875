"""The line about the referee at the end of a run."""

from __future__ import annotations

import pytest

from ..envoy.binary import ENVOY, MISSING
from .tally import TALLY


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = f"pairs of Envoy and meshproxy: skipped. {MISSING}" if ENVOY is None else str(TALLY)
    terminalreporter.write_line(told)
