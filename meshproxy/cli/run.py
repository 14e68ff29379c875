"""`meshproxy run`: an ingress gateway."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NoReturn

import click
import trio

from ..mesh import gateway_ports, gateway_snapshot
from ..proxy.worker import Worker
from ..snapshot import SocketAddress
from ..telemetry.access_log import AccessLog
from .configuration import EXIT_PROBLEMS, EXIT_UNUSABLE, Configuration, count, namespace_option, read
from .parameters import Address, Duration, Labels, Publish

_SHOWN_DOMAINS = 5


@click.command()
@click.option(
    "-f", "paths", multiple=True, required=True, metavar="PATH", help="A file, a folder, or - for stdin. Repeatable."
)
@click.option(
    "--selector", type=Labels(), help="Run the Gateways that select a workload with these labels; without it, all."
)
@namespace_option
@click.option(
    "--publish", type=Publish(), multiple=True, help="Listen for a Gateway's port on another local one. Repeatable."
)
@click.option("--admin", type=Address(), help="Where to serve /ready, /stats/prometheus, /config_dump and /clusters.")
@click.option(
    "--access-log", default="-", show_default=True, metavar="FILE|-|off", help="Where to write a line a request."
)
@click.option(
    "--drain-time",
    type=Duration(),
    default="5s",
    show_default=True,
    help="How long running requests may take to finish.",
)
@click.option(
    "--max-request-headers-kb",
    type=click.IntRange(1, 8192),
    default=60,
    show_default=True,
    help="Answer larger heads with 431.",
)
@click.option(
    "--max-headers-count",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Answer heads of more fields with 431.",
)
@click.option(
    "--request-headers-timeout", type=Duration(), default="60s", show_default=True, help="Answer slower heads with 408."
)
def run(
    paths: tuple[str, ...],
    selector: dict[str, str] | None,
    namespace: str,
    publish: tuple[tuple[int, SocketAddress], ...],
    admin: SocketAddress | None,
    access_log: str,
    drain_time: float,
    max_request_headers_kb: int,
    max_headers_count: int,
    request_headers_timeout: float,
) -> None:
    """Run a gateway: a listener for every Gateway port, until SIGTERM or Ctrl-C.

    A configuration that `meshproxy check` finds fault with does not start.

    \b
    Example:
      meshproxy run -f policies/quickstart --publish 80:8080 --admin 127.0.0.1:15000
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    configuration = read(paths, namespace)
    _refuse_problems(configuration)
    ports = gateway_ports(configuration.mesh, selector)
    if not ports:
        wanted = "" if selector is None else f" selects {','.join(f'{k}={v}' for k, v in selector.items())}"
        _fail(f"no Gateway{wanted or ' found'}: there is nothing to listen on", EXIT_PROBLEMS)
    _refuse_useless(publish, ports)
    snapshot = gateway_snapshot(
        configuration.mesh,
        selector=selector,
        namespace=namespace,
        publish=dict(publish),
        max_request_headers_kb=max_request_headers_kb,
        max_headers_count=max_headers_count,
        request_headers_timeout_s=request_headers_timeout,
    )
    _allow_many_connections()
    with _access_log(access_log) as log:
        worker = Worker(snapshot, admin=admin, access_log=log, drain_time_s=drain_time)
        try:
            trio.run(_serve, worker)
        except* OSError as group:
            _fail(_reason(group), EXIT_PROBLEMS)


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _refuse_problems(configuration: Configuration) -> None:
    for note in configuration.notes:
        click.echo(note, err=True)
    for problem in configuration.problems:
        click.echo(problem, err=True)
    if configuration.problems:
        _fail(f"not started: {count(len(configuration.problems), 'problem')} to mend first", EXIT_PROBLEMS)


def _refuse_useless(publish: tuple[tuple[int, SocketAddress], ...], ports: frozenset[int]) -> None:
    for port, _ in publish:
        if port not in ports:
            known = ", ".join(map(str, sorted(ports)))
            _fail(f"--publish {port}: no Gateway that is run has port {port}; they have {known}", EXIT_UNUSABLE)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"meshproxy: {message}", err=True)
    sys.exit(code)


def _allow_many_connections() -> None:
    """Every proxied connection takes two descriptors, and shells start with 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _access_log(where: str) -> Iterator[AccessLog | None]:
    if where == "off":
        yield None
    elif where == "-":
        yield AccessLog(_writer(sys.stdout.fileno()))
    else:
        try:
            descriptor = os.open(where, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            _fail(f"cannot write the access log {where}: {error.strerror}", EXIT_UNUSABLE)
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


async def _serve(worker: Worker) -> None:
    """Run the worker until a signal; the first makes it drain, the second ends it at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signals, worker, signals, nursery.cancel_scope)
            async with trio.open_nursery() as serving:
                await serving.start(worker.run)
                _tell_where(worker)
            nursery.cancel_scope.cancel()


def _tell_where(worker: Worker) -> None:
    for listener in worker.snapshot.listeners:
        domains = [domain for host in listener.http.route_config.virtual_hosts for domain in host.domains]
        address = worker.addresses[listener.name]
        shown = ", ".join(domains[:_SHOWN_DOMAINS]) or "no host yet"
        more = len(domains) - _SHOWN_DOMAINS
        click.echo(
            f"listening on {address} ({listener.name}) for {shown}{f' and {more} more' if more > 0 else ''}", err=True
        )
    click.echo("ready", err=True)


async def _stop_on_signals(worker: Worker, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    stopping = False
    async for number in signals:
        if stopping:
            scope.cancel()
            return
        stopping = True
        click.echo(f"{signal.Signals(number).name}: draining; once more to end at once", err=True)
        worker.stop()
