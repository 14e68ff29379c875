"""`meshproxy export`: what a proxy would run, as the configuration of another one."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import yaml
from click.core import ParameterSource

from ..envoy import Inexpressible, Message, bootstrap
from ..mesh import OutboundPolicy, Trust
from ..snapshot import (
    FileSource,
    Locality,
    SecretSource,
    Snapshot,
    SocketAddress,
    TlsCertificate,
    TrustedCa,
    WorkloadCertificate,
    WorkloadRoots,
)
from .configuration import (
    EXIT_PROBLEMS,
    EXIT_UNUSABLE,
    files_root_option,
    locality_option,
    namespace_option,
    read,
    rooted,
)
from .keys import File
from .parameters import Address, AppAddress, Labels, Publish
from .run import gateway
from .serving import admin_option, fail, http_options
from .sidecar import sidecar_of


@click.group()
def export() -> None:
    """Write what a proxy would run as the configuration of another proxy."""


@export.command()
@click.option(
    "-f", "paths", multiple=True, required=True, metavar="PATH", help="A file, a folder, or - for stdin. Repeatable."
)
@click.option("--selector", type=Labels(), help="As in run: the Gateways that select a workload with these labels.")
@namespace_option
@click.option("--publish", type=Publish(), multiple=True, help="As in run: where to listen for a Gateway's port.")
@click.option("--workload", metavar="NAME[.NAMESPACE]", help="A sidecar, of this WorkloadEntry, in place of a gateway.")
@click.option("--app", type=AppAddress(), help="As in sidecar: where the app listens.")
@click.option("--outbound", type=Address(), default="127.0.0.1:15001", show_default=True, help="As in sidecar.")
@click.option(
    "--outbound-policy",
    type=click.Choice(["ALLOW_ANY", "REGISTRY_ONLY"]),
    default="ALLOW_ANY",
    show_default=True,
    help="As in sidecar.",
)
@locality_option
@files_root_option
@click.option(
    "--credentials",
    type=File(),
    metavar="DIR",
    help="The proxy's identity in the mesh, as `meshproxy ca issue --out DIR` writes it: mutual TLS with it.",
)
@admin_option
@http_options
@click.option("--json", "as_json", is_flag=True, help="Write JSON in place of YAML.")
def envoy(
    paths: tuple[str, ...],
    selector: dict[str, str] | None,
    namespace: str,
    publish: tuple[tuple[int, SocketAddress], ...],
    workload: str | None,
    app: SocketAddress | None,
    outbound: SocketAddress,
    outbound_policy: OutboundPolicy,
    locality: Locality | None,
    files_root: Path | None,
    credentials: Path | None,
    admin: SocketAddress | None,
    as_json: bool,
    **http: Any,
) -> None:
    """Write a bootstrap that Envoy 1.40 runs as meshproxy would run it: a gateway, or with --workload a sidecar.

    Nothing is left out: what Envoy cannot express is told, and nothing is written.

    \b
    Example:
      meshproxy export envoy -f policies/quickstart --publish 80:8080 > bootstrap.yaml
      envoy -c bootstrap.yaml
    """
    _refuse_mixture(click.get_current_context(), workload, app)
    trust = None if credentials is None else _trust(credentials)
    if workload is None:
        snapshot = gateway(read(paths, namespace, selector), selector, namespace, locality, publish, http, trust)
    else:
        assert app is not None
        snapshot = sidecar_of(read(paths), workload, app, outbound, outbound_policy, locality, http, trust)
    snapshot = rooted(snapshot, files_root)
    if credentials is not None:
        snapshot = with_credentials(snapshot, credentials)
    try:
        message = bootstrap(snapshot, admin=admin)
    except Inexpressible as error:
        fail(f"Envoy cannot express this: {error}", EXIT_PROBLEMS)
    click.echo(json.dumps(message, indent=1) if as_json else _yaml(message), nl=as_json)


def _trust(credentials: Path) -> Trust:
    """Whose identities a proxy with these credentials believes. Exits where they are of no use."""
    from ..identity import IdentityError, certificates, read_credentials

    try:
        return Trust(certificates.spiffe_id(read_credentials(credentials).issued.leaf).trust_domain)
    except (IdentityError, ValueError) as error:
        fail(f"no identity: {error}", EXIT_UNUSABLE)


_GATEWAY_ONLY = ("selector", "namespace", "publish")
_SIDECAR_ONLY = ("app", "outbound", "outbound_policy")


def _refuse_mixture(context: click.Context, workload: str | None, app: SocketAddress | None) -> None:
    """A gateway's options and a sidecar's do not go together. Raises `UsageError`."""
    for name in _GATEWAY_ONLY if workload else _SIDECAR_ONLY:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            other = "a gateway's option, and --workload asks for a sidecar" if workload else "for --workload only"
            raise click.UsageError(f"{option} is {other}")
    if workload and app is None:
        raise click.UsageError("--workload needs --app: where the app listens")


def with_credentials(snapshot: Snapshot, directory: Path) -> Snapshot:
    """The snapshot, with the workload's own identity taken from files as `ca issue` writes them.

    Envoy gets no identity from a CA by itself; whoever issues the files anew restarts it.
    """
    from ..identity.credentials import CHAIN, CRLS, KEY, ROOTS

    chain, key, roots, crls = (FileSource(str(directory / name)) for name in (CHAIN, KEY, ROOTS, CRLS))
    sources: dict[type, SecretSource] = {
        WorkloadCertificate: TlsCertificate(chain, key),
        WorkloadRoots: TrustedCa(roots, crls),
    }
    secrets = (replace(one, source=sources.get(type(one.source), one.source)) for one in snapshot.secrets)
    return replace(snapshot, secrets=tuple(secrets))


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice: an alias would leave the reader to look for it."""

    def ignore_aliases(self, data: object) -> bool:
        return True


# To the parser that Envoy has, these are booleans and numbers too, and \N and \_ no characters of UTF-8.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]$"), list("yYnN"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?0X"), list("-+0"))
_Dumper.ESCAPE_REPLACEMENTS = {  # type: ignore[misc]
    character: escape for character, escape in _Dumper.ESCAPE_REPLACEMENTS.items() if escape not in "N_"
}


def _yaml(message: Message) -> str:
    return yaml.dump(message, Dumper=_Dumper, sort_keys=False, width=120)
