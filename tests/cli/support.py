"""Runs the command as people do: as a process.

What serves is started as it is by them. What comes to an end by itself is forked, for there are hundreds of those: see
`forks`.
"""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from .forks import Fork, forking

_PATIENCE_S = 20.0


def meshproxy(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = list(map(str, arguments))
    with TemporaryFile("w+") as given, TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
        given.write(stdin)
        given.seek(0)
        code = _fork()(command, given, stdout, stderr).wait(_PATIENCE_S)
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(command, code, stdout.read(), stderr.read())


@cache
def _fork() -> Fork:
    """One for all tests of this process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(forking())


@dataclass
class Gateway:
    """A running `meshproxy run`; `ports` are those of its listeners, in the order in which it tells of them."""

    process: subprocess.Popen[str]
    ports: list[int]
    errors: Path
    access_log: Path

    def get(self, path: str, *, port: int = 0, **headers: str) -> Answer:
        """GET a path from the `port`-th listener; `host` among the headers names the virtual host."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[port]}{path}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_S) as response:
                return Answer(response.status, response.read().decode())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read().decode())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, wait for its end, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE_S)


@dataclass(frozen=True)
class Answer:
    status: int
    body: str


@contextmanager
def running(tmp_path: Path, *arguments: str | Path, prefix: Sequence[str] = ()) -> Iterator[Gateway]:
    """`meshproxy run` with `arguments`, from the moment it listens; `prefix` is a command that runs it."""
    errors = tmp_path / "stderr.txt"
    log = tmp_path / "access.log"
    command = [*prefix, sys.executable, "-m", "meshproxy", "run", *map(str, arguments)]
    with errors.open("w") as stderr, log.open("w") as stdout:
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    try:
        yield Gateway(process, until_ready(process, errors), errors, log)
    finally:
        process.kill()
        process.wait()


def until_ready(process: subprocess.Popen[str], errors: Path) -> list[int]:
    """Wait until a serving process says that it is ready; the ports that it listens on."""
    give_up = time.monotonic() + _PATIENCE_S
    while time.monotonic() < give_up and process.poll() is None:
        told = errors.read_text()
        if "\nready\n" in told:
            return list(map(int, re.findall(r"^listening on \S*:(\d+) ", told, re.MULTILINE)))
        time.sleep(0.01)
    raise AssertionError(f"it did not start:\n{errors.read_text()}")
