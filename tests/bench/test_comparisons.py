"""Each command that compares one gateway with another, run once, for as short a time as it can be."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from bench.cases import TLS_CASES
from bench.policies import NONE, POLICIES, Costs

from ..envoy.binary import needs_envoy
from .test_commands import bench

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def test_policies_are_compared_with_none(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    finished = bench("policies", "--rounds", "1", "--seconds", "0.2", "--python", sys.executable, "--json", str(file))
    assert finished.returncode == 0, finished.stderr
    rounds = json.loads(file.read_text())["parts"]["policies"]["data"]["rounds"]
    assert list(rounds) == [NONE.name, *(policy.name for policy in POLICIES)]
    # None before and after each of the others.
    assert [len(figures) for figures in rounds.values()] == [len(POLICIES) + 1, *[1] * len(POLICIES)]


def test_a_policy_is_compared_with_none_just_before_and_after() -> None:
    first, *others = (policy.name for policy in POLICIES)
    none = [*([10.0] * len(POLICIES)), 40.0, 20.0, 30.0, *([10.0] * (len(POLICIES) - 1))]
    costs = Costs({NONE.name: none, first: [10.0, 50.0], **{name: [1.0, 1.0] for name in others}})

    assert costs.ratio(first) == (1.5, 1.0, 2.0)
    assert costs.ratio(others[-1]) == (0.07, 0.04, 0.1)


def test_tls_tells_what_requests_to_endpoints_by_tls_cost(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    finished = bench("tls", "--rounds", "1", "--seconds", "0.2", "--python", sys.executable, "--json", str(file))
    assert finished.returncode == 0, finished.stderr
    cases = json.loads(file.read_text())["parts"]["tls"]["data"]["cases"]
    assert [one["case"]["name"] for one in cases] == [case.name for case in TLS_CASES]
    rounds = [one for case in cases for several in case["rounds"].values() for one in several]
    assert all(one["requests_per_s"] > 0 and one["errors"] == 0 for one in rounds)


@needs_envoy
def test_pair_compares_two_sidecars_with_two_envoys(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    finished = bench("pair", "--rounds", "1", "--seconds", "0.3", "--python", sys.executable, "--json", str(file))
    assert finished.returncode == 0, finished.stderr
    for case in json.loads(file.read_text())["parts"]["pair"]["data"]["cases"]:
        for rounds in case["rounds"].values():
            assert [one["errors"] for one in rounds] == [0], case["case"]["name"]
            assert rounds[0]["user_us"] > 0


def test_access_times_decisions_and_requests_with_tokens_and_behind_policies(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    finished = bench("access", "--rounds", "1", "--seconds", "0.2", "--python", sys.executable, "--json", str(file))
    assert finished.returncode == 0, finished.stderr
    parts = json.loads(file.read_text())["parts"]
    assert all(microseconds > 0 for _, _, microseconds in parts["decisions"]["data"]["rows"])
    cases = parts["beside-envoy"]["data"]["cases"]
    assert [one["case"]["name"] for one in cases] == ["plain", "token", "policies"]
    assert all(one["errors"] == 0 for case in cases for rounds in case["rounds"].values() for one in rounds)
