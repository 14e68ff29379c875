"""Each command that measures, run once, for as short a time as it can be."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bench.peers import PEERS
from bench.usage import family

pytestmark = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

_PATIENCE_S = 300  # `pair` takes half a minute of CPU time, and the machine may be busy


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            told = process.communicate(timeout=_PATIENCE_S)
        except BaseException:
            process.terminate()  # not killed: it has to end what it has started
            raise
    return subprocess.CompletedProcess(command, process.returncode, *told)


def test_proxies_compares_those_that_are_here(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    options = ["--only", "meshproxy,nginx", "--rounds", "1", "--seconds", "0.3", "--python", sys.executable]
    finished = bench("proxies", "--cases", "get-32", *options, "--json", file)
    assert finished.returncode == 0, finished.stderr
    case = json.loads(file.read_text())["parts"]["get-32"]["data"]
    [measured] = case["rounds"]["meshproxy"]
    assert measured["requests_per_s"] > 0
    assert measured["user_us"] > 0
    assert measured["errors"] == 0
    assert ("nginx" in case["rounds"]) == bool(shutil.which("nginx"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_started_is_ended_when_a_run_is_broken_off(number: signal.Signals) -> None:
    options = ["--cases", "get-32", "--only", "meshproxy", "--python", sys.executable]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", "proxies", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        started = wait_for_wrk(process.pid)
        process.send_signal(number)
        assert process.wait(_PATIENCE_S) == 1
        wait_for_end(started)
    finally:
        process.kill()
        process.wait()


def wait_for_wrk(process: int) -> list[int]:
    """All processes of a run, once it loads a proxy: itself, the origin, the proxy, wrk, in any order."""
    give_up = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up:
        with suppress(OSError):
            found = list(family(process))
            if "wrk" in [Path("/proc", str(pid), "comm").read_text().strip() for pid in found]:
                return found[1:]
        time.sleep(0.01)
    raise AssertionError("the run has not begun")


def wait_for_end(processes: list[int]) -> None:
    """Until none of them is left; what was orphaned on its way out is collected by somebody else, in his own time."""
    give_up = time.monotonic() + _PATIENCE_S
    while left := [pid for pid in processes if Path("/proc", str(pid)).exists()]:
        assert time.monotonic() < give_up, f"still running: {left}"
        time.sleep(0.01)


def test_scale_measures_a_dimension(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    finished = bench("scale", "--of", "start", "--rounds", "1", "--python", sys.executable, "--json", file)
    assert finished.returncode == 0, finished.stderr
    assert "From start to ready" in finished.stdout
    [seconds] = json.loads(file.read_text())["parts"]["start"]["data"]["start_s"]
    assert seconds > 0


def test_profile_tells_where_the_time_goes(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    finished = bench("profile", "--seconds", "1", "--python", sys.executable, "--json", file)
    assert finished.returncode == 0, finished.stderr
    found = {part["name"]: part["share"] for part in json.loads(file.read_text())}
    assert sum(found.values()) == pytest.approx(1)
    assert "HTTP/1.1 without I/O" in found


def test_a_name_that_is_not_known_is_refused_with_those_that_are() -> None:
    finished = bench("proxies", "--only", "squid")
    assert finished.returncode == 2
    assert all(peer.name.lower() in finished.stderr for peer in PEERS)


@pytest.mark.parametrize("option", ["--json", "--chart"])
def test_that_a_result_cannot_be_written_is_told_before_anything_is_measured(tmp_path: Path, option: str) -> None:
    finished = bench("proxies", option, tmp_path / "missing" / "out")
    assert finished.returncode == 2
    assert "is no folder" in finished.stderr


def test_balancers_are_timed_by_the_interpreter_that_is_given(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    finished = bench("balancers", "--python", sys.executable, "--json", file)
    assert finished.returncode == 0, finished.stderr
    rows = json.loads(file.read_text())["parts"]["balancers"]["data"]["rows"]
    assert {policy.split()[0] for policy, *_ in rows} >= {"ring", "Maglev"}
    assert all(chosen_us > 0 for *_, chosen_us in rows)
