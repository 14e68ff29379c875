"""What all tests share.

- How Hypothesis runs: `HYPOTHESIS_PROFILE=thorough` looks a hundred times longer.
- How many processes share a run (`pytest -n auto`): tests wait for other processes as much as they compute.
- The line about the referee at the end of a run, also of one that several processes share (`pytest -n 2`).
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings

from .conformance.tally import TALLY
from .envoy.binary import ENVOY, MISSING

settings.register_profile("ci", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    return max(2, 3 * (os.cpu_count() or 1) // 2)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["pairs"] = TALLY.counts()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    TALLY.add(node.workeroutput["pairs"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = f"pairs of Envoy and meshproxy: skipped. {MISSING}" if ENVOY is None else str(TALLY)
    terminalreporter.write_line(told)
