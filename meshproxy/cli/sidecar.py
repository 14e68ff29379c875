"""`meshproxy sidecar`: a proxy beside one app, for the requests that come to it and for those that it makes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ..mesh import (
    OutboundPolicy,
    Trust,
    UnknownWorkload,
    find_workload,
    service_account_of,
    sidecar_notes,
    sidecar_problems,
    sidecar_snapshot,
)
from ..snapshot import Locality, Snapshot, SocketAddress
from . import app as apps
from .configuration import EXIT_PROBLEMS, Configuration, files_root_option, locality_option, read, rooted
from .identity import ca_options, identified, identity_options, open_ca, refuse_other_trust_domain
from .parameters import Address, AppAddress
from .serving import fail, open_access_log, prepare, prepared, refuse_problems, serve, serving_options


@click.command()
@click.option(
    "-f", "paths", multiple=True, required=True, metavar="PATH", help="A file, a folder, or - for stdin. Repeatable."
)
@click.option("--workload", required=True, metavar="NAME[.NAMESPACE]", help="The WorkloadEntry that the app is.")
@click.option("--app", type=AppAddress(), required=True, help="Where the app listens.")
@click.option(
    "--outbound",
    type=Address(),
    default="127.0.0.1:15001",
    show_default=True,
    help="Where the app finds the mesh: its HTTP proxy.",
)
@click.option(
    "--outbound-policy",
    type=click.Choice(["ALLOW_ANY", "REGISTRY_ONLY"]),
    default="ALLOW_ANY",
    show_default=True,
    help="What happens to requests for hosts that no resource names: passed on, or refused.",
)
@locality_option
@files_root_option
@identity_options
@serving_options
@click.argument("command", nargs=-1, metavar="[-- CMD ...]")
def sidecar(
    paths: tuple[str, ...],
    workload: str,
    app: SocketAddress,
    outbound: SocketAddress,
    outbound_policy: OutboundPolicy,
    locality: Locality | None,
    files_root: Path | None,
    admin: SocketAddress | None,
    access_log: str | None,
    drain_time: float,
    command: tuple[str, ...],
    **http: Any,
) -> None:
    """Run a sidecar beside an app.

    Requests to the workload's address and ports reach the app; what the app sends to its HTTP proxy is routed by the
    mesh's policies. With CMD the app is started as a child, with HTTP_PROXY, NO_PROXY and PORT set; signals are passed
    on to it, its exit code is returned, and there is no access log unless --access-log asks for one.

    \b
    Example:
      meshproxy sidecar -f policies/canary --workload reviews-v1 --app 127.0.0.1:9001 -- \\
        python -m http.server 9001
    """
    prepare()
    ca = open_ca(ca_options(http))
    configuration = read(paths)
    trust = ca.trust if ca is not None else None
    snapshot = sidecar_of(configuration, workload, app, outbound, outbound_policy, locality, http, trust)
    snapshot = rooted(snapshot, files_root)
    identity = identified(ca, snapshot, *service_account_of(find_workload(configuration.mesh, workload)))
    probe = apps.AppProbe(app)
    with open_access_log(access_log or ("off" if command else "-")) as log:
        worker = prepared(
            snapshot,
            admin=admin,
            access_log=log,
            drain_time_s=drain_time,
            trouble=lambda: probe.trouble,
            identity=identity,
        )
        child = None
        if command:
            # The outbound listener is the first; its port may be whatever was free.
            listener = snapshot.listeners[0].name
            child = apps.Child(command, lambda: apps.environment(app, worker.addresses[listener]))
        sys.exit(serve(worker, probe=probe, child=child))


def sidecar_of(
    configuration: Configuration,
    workload: str,
    app: SocketAddress,
    outbound: SocketAddress,
    outbound_policy: OutboundPolicy,
    locality: Locality | None,
    http: dict[str, Any],
    trust: Trust | None = None,
) -> Snapshot:
    """The snapshot that these options ask for. Exits, and says why, where there is none."""
    try:
        entry = find_workload(configuration.mesh, workload)
    except UnknownWorkload as error:
        refuse_problems(configuration)
        fail(str(error), EXIT_PROBLEMS)
    refuse_problems(
        configuration.with_more(
            sidecar_problems(configuration.mesh, entry, app=app, outbound=outbound),
            sidecar_notes(configuration.mesh, entry),
        )
    )
    refuse_other_trust_domain(configuration.mesh, trust)
    return sidecar_snapshot(
        configuration.mesh,
        workload=entry,
        app=app,
        outbound=outbound,
        outbound_policy=outbound_policy,
        locality=locality,
        trust=trust,
        **http,
    )
