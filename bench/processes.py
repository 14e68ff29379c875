"""Starts programs, waits until they answer, and ends them: each by its own handle, whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import click

_READY_S = 30.0
_END_S = 5.0


@dataclass(frozen=True)
class Launch:
    """How a program is started; `env` is added to our own environment."""

    command: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def started(launch: Launch, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program as a process, its output in `log`. In a session of its own: Ctrl-C reaches it through us, once."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            launch.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(launch),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(launch: Launch) -> dict[str, str]:
    """Ours, but that Python keeps what it has compiled: users' do, and it is half of what a start costs."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | dict(launch.env)


def wait_until_answering(
    process: subprocess.Popen[bytes],
    port: int,
    path: str,
    log: Path,
    host: str | None = None,
    by_tls: bool = False,
) -> None:
    """Wait until a GET is answered with 200. Raises `ClickException`, with the end of the log, if that does not happen.

    A process that has ended is not waited for.
    """
    give_up = time.monotonic() + _READY_S
    answer = "nothing"
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if (status := _status(port, path, host, by_tls)) == 200:
                return
            answer = f"status {status}"
        time.sleep(0.01)
    ending = "".join(log.read_text(errors="replace").splitlines(keepends=True)[-10:])
    state = "is running" if process.poll() is None else f"ended with exit code {process.returncode}"
    raise click.ClickException(f"{log.stem} {state}, and answered GET {path} with {answer}; it said:\n{ending}")


def _status(port: int, path: str, host: str | None, by_tls: bool) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    if by_tls:
        context = ssl._create_unverified_context()  # which certificate it shows is no matter here
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    try:
        connection.request("GET", path, headers={} if host is None else {"host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection is given meanwhile: those come from 32768 up."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Make SIGTERM end us as Ctrl-C does, so that what was started is ended too."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
