"""One run of wrk, and what it reports.

wrk's text is for people: it rounds, and changes its units. A script of ours makes it tell the same in JSON.
https://github.com/wg/wrk/blob/master/SCRIPTING
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

import click

from .usage import catches

_MARK = "report: "
_SCRIPT = """
wrk.method = "{method}"
{body}
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '\\n{mark}{{"requests": %d, "bytes": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}}\\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Report(NamedTuple):
    """What wrk saw. `requests` have been answered in full; `bytes` counts what has come of the others too."""

    requests: int
    bytes: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    """Connections that failed or broke, timeouts, and statuses of 400 and more."""


def run(
    url: str,
    *,
    seconds: float,
    connections: int,
    method: str = "GET",
    headers: Sequence[str] = (),
    body_bytes: int = 0,
) -> Report:
    """Load `url` from one thread. `headers` are lines such as `accept: */*`."""
    # wrk knows whole seconds only; when it is interrupted it ends, and reports of the time that it had.
    whole = math.ceil(seconds)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(script_of(method, body_bytes))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "10s", "-s", script.name]
        for header in headers:
            command += ["-H", header]
        with subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                if seconds < whole:
                    _interrupt(process, seconds)
                output, complaints = process.communicate()
            except BaseException:
                process.kill()
                raise
    return parse(output, complaints)


def _interrupt(process: subprocess.Popen[str], seconds: float) -> None:
    """End it when it has loaded for so long, which it does from when it takes an interruption for that."""
    while process.poll() is None and not catches(process.pid, signal.SIGINT):
        time.sleep(0.001)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGINT)


def script_of(method: str, body_bytes: int) -> str:
    """The Lua script that makes wrk send such requests, and report in a line of JSON."""
    body = f'wrk.body = string.rep("x", {body_bytes})' if body_bytes else ""
    return _SCRIPT.format(method=method, body=body, mark=_MARK)


def parse(output: str, complaints: str = "") -> Report:
    """The report in what wrk wrote. Raises `ClickException` where there is none."""
    for line in output.splitlines():
        if line.startswith(_MARK):
            return Report(**json.loads(line.removeprefix(_MARK)))
    raise click.ClickException(f"wrk did not report: {complaints or output}".strip())


def require() -> None:
    """Raises `ClickException` where there is no wrk."""
    if shutil.which("wrk") is None:
        raise click.ClickException("this needs wrk: apt-get install wrk, or https://github.com/wg/wrk")
