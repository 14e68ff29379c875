"""What the commands that serve have in common: their options, the access log, signals, and the worker's run."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, NoReturn, TypeVar

import click
import trio

from ..identity.errors import IdentityError, Unusable
from ..proxy.admin import State
from ..proxy.worker import Worker
from ..snapshot import Snapshot
from ..telemetry.access_log import AccessLog
from .app import PASSED_ON, AppProbe, Child
from .configuration import EXIT_PROBLEMS, EXIT_UNUSABLE, Configuration, count
from .parameters import Address, Duration

_SHOWN_DOMAINS = 5
_DRAINING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Command = TypeVar("Command", bound=Callable[..., object])

admin_option = click.option(
    "--admin", type=Address(), help="Where to serve /ready, /stats/prometheus, /config_dump, /clusters."
)
_PROCESS_OPTIONS = (
    admin_option,
    click.option("--access-log", metavar="FILE|-|off", help="Where to write a line a request; - is stdout."),
    click.option(
        "--drain-time",
        type=Duration(),
        default="5s",
        show_default=True,
        help="How long running requests may take to finish.",
    ),
)
_HTTP_OPTIONS = (
    click.option(
        "--max-request-headers-kb",
        type=click.IntRange(1, 8192),
        default=60,
        show_default=True,
        help="Answer larger heads with 431.",
    ),
    click.option(
        "--max-headers-count",
        type=click.IntRange(1),
        default=100,
        show_default=True,
        help="Answer heads of more fields with 431.",
    ),
    click.option(
        "--request-headers-timeout",
        "request_headers_timeout_s",
        type=Duration(),
        default="60s",
        show_default=True,
        help="Answer slower heads with 408.",
    ),
)


def serving_options(command: Command) -> Command:
    """The options of every command that serves."""
    command = http_options(command)
    for option in reversed(_PROCESS_OPTIONS):
        command = option(command)
    return command


def http_options(command: Command) -> Command:
    """The options that say how listeners speak HTTP: those of `mesh.HttpOptions`."""
    for option in reversed(_HTTP_OPTIONS):
        command = option(command)
    return command


def fail(message: str, code: int) -> NoReturn:
    """Say why the command cannot go on, and exit."""
    click.echo(f"meshproxy: {message}", err=True)
    sys.exit(code)


def refuse_problems(configuration: Configuration) -> None:
    """Tell what is wrong with a configuration, and exit if there is anything."""
    for note in configuration.notes:
        click.echo(note, err=True)
    for problem in configuration.problems:
        click.echo(problem, err=True)
    if configuration.problems:
        fail(f"not started: {count(len(configuration.problems), 'problem')} to mend first", EXIT_PROBLEMS)


def prepare() -> None:
    """What a serving process needs of its surroundings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # each fetch of keys would be a line
    # Every proxied connection takes two descriptors, and shells start with 1024.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def open_access_log(where: str) -> Iterator[AccessLog | None]:
    """The access log that `--access-log` asks for."""
    if where == "off":
        yield None
    elif where == "-":
        yield AccessLog(_writer(sys.stdout.fileno()))
    else:
        try:
            descriptor = os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            fail(f"cannot write the access log {where}: {error.strerror}", EXIT_UNUSABLE)
        try:
            yield AccessLog(_writer(descriptor))
        finally:
            os.close(descriptor)


def _writer(descriptor: int) -> Callable[[str], None]:
    """Writes whole lines to a descriptor; nobody reads them any more when that fails, and the proxy goes on."""

    def write(lines: str) -> None:
        data = lines.encode()
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(descriptor, data) :]

    return write


def prepared(snapshot: Snapshot, **options: Any) -> Worker:
    """A worker for a snapshot. Exits, and says why, where the key material that it takes is of no use."""
    try:
        return Worker(snapshot, **options)
    except Unusable as error:
        fail(f"not started: {error}", EXIT_UNUSABLE)


def serve(worker: Worker, *, probe: AppProbe | None = None, child: Child | None = None) -> int:
    """Run a worker until a signal; the first makes it drain, the second ends it at once. Returns the exit code.

    With a child, signals are passed on to it; when it ends, the worker drains, and the child's exit code is returned.
    Exits when an address cannot be listened on, or the worker is refused its identity.
    """
    try:
        return trio.run(_serve, worker, probe, child)
    except* (OSError, IdentityError) as group:
        fail(_reason(group), EXIT_PROBLEMS)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, IdentityError):
        return f"no identity: {error}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


async def _serve(worker: Worker, probe: AppProbe | None, child: Child | None) -> int:
    code = 0
    with trio.open_signal_receiver(*_heeded(_DRAINING if child is None else PASSED_ON)) as signals:
        async with trio.open_nursery() as nursery:
            if probe is not None:
                nursery.start_soon(probe.run)
            heeding = _Heeding(worker, nursery.cancel_scope)
            nursery.start_soon(heeding.run, signals)
            async with trio.open_nursery() as serving:
                await serving.start(worker.run)
                if worker.state is State.LIVE:
                    _collect_garbage()
                    _tell_where(worker)
                    if child is not None:
                        heeding.child = child
                        code = await child.run()
                        worker.stop()
            nursery.cancel_scope.cancel()
    return code


def _collect_garbage() -> None:
    """Begin to collect what serving leaves, and never look again at what was made to serve.

    A request leaves no cycles, so there is little to find; but a few hundred requests that wait at once look to the
    collector like growth. Measured on 256 connections, it took 10 µs of a request's 70, 28 of 90 with a thousand
    VirtualServices (and stopped all for 0.2 s now and then), 15 of 70 beside 5,000 idle ones. Freezing alone left
    5, 10 and 12 µs; with the threshold raised from 700 objects it is at most 0.4, as good as no collector. On 32
    connections it took next to nothing but for the stops.
    """
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def _heeded(signals: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those of the signals that we were not started to ignore, as `nohup` has a program ignore SIGHUP."""
    return [one for one in signals if signal.getsignal(one) is not signal.SIG_IGN]


def _tell_where(worker: Worker) -> None:
    for listener in worker.snapshot.listeners:
        hosts = [host for chain in listener.filter_chains for host in chain.http.route_config.virtual_hosts]
        domains = list(dict.fromkeys(domain for host in hosts for domain in host.domains))
        shown = ", ".join(domains[:_SHOWN_DOMAINS]) or "no host yet"
        more = len(domains) - _SHOWN_DOMAINS
        rest = f" and {more} more" if more > 0 else ""
        click.echo(f"listening on {worker.addresses[listener.name]} ({listener.name}) for {shown}{rest}", err=True)
    click.echo("ready", err=True)


class _Heeding:
    """What signals do: the first makes the worker drain, the second ends it; a child that runs gets them all."""

    def __init__(self, worker: Worker, scope: trio.CancelScope) -> None:
        self.child: Child | None = None
        self._worker = worker
        self._scope = scope
        self._stopping = False

    async def run(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if self.child is not None:
                self.child.signalled(number)
            elif self._stopping:
                self._scope.cancel()
            elif number in _DRAINING:
                self._stopping = True
                click.echo(f"{signal.Signals(number).name}: draining; once more to end at once", err=True)
                self._worker.stop()
