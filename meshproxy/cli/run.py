"""`meshproxy run`: an ingress gateway."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..mesh import Trust, gateway_ports, gateway_snapshot
from ..snapshot import UNKNOWN_LOCALITY, Locality, Snapshot, SocketAddress
from .configuration import (
    EXIT_PROBLEMS,
    EXIT_UNUSABLE,
    Configuration,
    files_root_option,
    locality_option,
    namespace_option,
    read,
    rooted,
)
from .identity import ca_options, identified, identity_options, open_ca, refuse_other_trust_domain
from .parameters import Labels, Publish
from .serving import fail, open_access_log, prepare, prepared, refuse_problems, serve, serving_options

GATEWAY_SERVICE_ACCOUNT = "istio-ingressgateway-service-account"
"""What Istio calls that of its ingress gateway."""


@click.command()
@click.option(
    "-f", "paths", multiple=True, required=True, metavar="PATH", help="A file, a folder, or - for stdin. Repeatable."
)
@click.option(
    "--selector", type=Labels(), help="Run the Gateways that select a workload with these labels; without it, all."
)
@namespace_option
@locality_option
@click.option(
    "--publish", type=Publish(), multiple=True, help="Listen for a Gateway's port on another local one. Repeatable."
)
@click.option(
    "--service-account",
    default=GATEWAY_SERVICE_ACCOUNT,
    show_default=True,
    help="Who the gateway is in the mesh, together with --namespace, where there is a CA.",
)
@files_root_option
@identity_options
@serving_options
def run(
    paths: tuple[str, ...],
    selector: dict[str, str] | None,
    namespace: str,
    locality: Locality | None,
    publish: tuple[tuple[int, SocketAddress], ...],
    service_account: str,
    files_root: Path | None,
    admin: SocketAddress | None,
    access_log: str | None,
    drain_time: float,
    **http: Any,
) -> None:
    """Run a gateway: a listener for every Gateway port, until SIGTERM or Ctrl-C.

    A configuration that `meshproxy check` finds fault with does not start.

    \b
    Example:
      meshproxy run -f policies/quickstart --publish 80:8080 --admin 127.0.0.1:15000
    """
    prepare()
    ca = open_ca(ca_options(http))
    trust = ca.trust if ca is not None else None
    snapshot = gateway(read(paths, namespace, selector), selector, namespace, locality, publish, http, trust)
    snapshot = rooted(snapshot, files_root)
    identity = identified(ca, snapshot, namespace, service_account)
    with open_access_log(access_log or "-") as log:
        sys.exit(serve(prepared(snapshot, admin=admin, access_log=log, drain_time_s=drain_time, identity=identity)))


def gateway(
    configuration: Configuration,
    selector: dict[str, str] | None,
    namespace: str,
    locality: Locality | None,
    publish: tuple[tuple[int, SocketAddress], ...],
    http: dict[str, Any],
    trust: Trust | None = None,
) -> Snapshot:
    """The snapshot that these options ask for. Exits, and says why, where there is none."""
    refuse_problems(configuration)
    refuse_other_trust_domain(configuration.mesh, trust)
    ports = gateway_ports(configuration.mesh, selector)
    if not ports:
        wanted = "" if selector is None else f" selects {','.join(f'{k}={v}' for k, v in selector.items())}"
        fail(f"no Gateway{wanted or ' found'}: there is nothing to listen on", EXIT_PROBLEMS)
    _refuse_useless(publish, ports)
    return gateway_snapshot(
        configuration.mesh,
        selector=selector,
        namespace=namespace,
        publish=dict(publish),
        locality=locality or UNKNOWN_LOCALITY,
        trust=trust,
        **http,
    )


def _refuse_useless(publish: tuple[tuple[int, SocketAddress], ...], ports: frozenset[int]) -> None:
    published = [port for port, _ in publish]
    for port in published:
        if published.count(port) > 1:
            fail(f"--publish {port} is given twice; a Gateway's port is published once", EXIT_UNUSABLE)
        if port not in ports:
            known = ", ".join(map(str, sorted(ports)))
            fail(f"--publish {port}: no Gateway that is run has port {port}; they have {known}", EXIT_UNUSABLE)
