"""Processes that run the command without the half second in which Python imports it.

An interpreter that has imported everything waits for orders at a socket. For each it forks, and the new process is what
`python -m meshproxy` is once its imports are done: with arguments, environment, folder and standard streams of its own.

    with forking() as fork:
        assert fork(["check", "policies"], stdin, stdout, stderr).wait(20.0) == 0

An order is a line of JSON, with file descriptors beside it. By the last of those the process's id comes back, and when
it has ended, its exit code, as `subprocess` tells it.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib import import_module
from typing import IO, NoReturn, Protocol

import meshproxy

_AT_ONCE = 65536


class Fork(Protocol):
    """Runs the command in a process of its own."""

    def __call__(self, arguments: Sequence[str], stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> Forked: ...


class Forked:
    """A process that is the child of another."""

    def __init__(self, told: IO[str]) -> None:
        self._told = told
        self.pid = int(told.readline())

    def wait(self, timeout_s: float) -> int:
        """Wait for its end: the exit code, or minus the signal that ended it. After so long it is killed: raises
        `TimeoutError`.
        """
        with self._told:
            if not select.select([self._told], [], [], timeout_s)[0]:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} did not end within {timeout_s:g} s")
            return int(self._told.readline())


@contextmanager
def forking() -> Iterator[Fork]:
    """What forks, until it is no longer needed."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])

    def fork(arguments: Sequence[str], stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> Forked:
        order = json.dumps([list(arguments), dict(os.environ), os.getcwd()]).encode() + b"\n"
        told, telling = os.pipe()
        try:
            socket.send_fds(ours, [order], [stdin.fileno(), stdout.fileno(), stderr.fileno(), telling])
        finally:
            os.close(telling)
        return Forked(open(told))

    with process, closing(ours):
        yield fork


def _serve(orders: socket.socket) -> None:
    """Carry out orders until nobody is left who gives them."""
    for module in pkgutil.walk_packages(meshproxy.__path__, "meshproxy."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    gc.collect()
    gc.freeze()  # what all processes share stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the keepers are waited for by nobody
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, _AT_ONCE, 4)
        if not order:
            return
        while not order.endswith(b"\n"):
            order += orders.recv(_AT_ONCE)
        if os.fork() == 0:
            orders.close()
            _keep(order, descriptors)
        for one in descriptors:
            os.close(one)


def _keep(order: bytes, descriptors: Sequence[int]) -> NoReturn:
    """Start what was ordered, tell its id, wait for it, tell its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, telling = descriptors
    process = os.fork()
    if process == 0:
        os.close(telling)
        _become(order, streams)
    for one in streams:
        os.close(one)
    os.write(telling, b"%d\n" % process)
    _, status = os.waitpid(process, 0)
    os.write(telling, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(order: bytes, streams: Sequence[int]) -> NoReturn:
    """Be the command. Ends as the interpreter does, with all that is registered for its end."""
    arguments, environment, folder = json.loads(order)
    for number, one in enumerate(streams):
        os.dup2(one, number)
        os.close(one)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["meshproxy", *arguments]
    runpy.run_module("meshproxy", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as given:
        _serve(given)
