"""`meshproxy ca`: the CA of the mesh, and the certificates that it issues."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import trio

from ..identity import authority, certificates, description, keys, spiffe
from ..identity.authority import Authority, Signer
from ..identity.certificates import Name
from ..identity.credentials import Credentials, write_credentials
from ..identity.errors import IdentityError, Unusable
from ..identity.keys import KeyType
from ..identity.server import CaServer
from ..identity.spiffe import SpiffeId
from ..mesh import UnknownWorkload, find_workload, service_account_of
from ..resources import DEFAULT_NAMESPACE
from ..snapshot import SocketAddress
from .configuration import EXIT_PROBLEMS, EXIT_UNUSABLE, read
from .keys import File, Lifetime, Passphrase, passphrase_file_option
from .parameters import Address
from .serving import fail, prepare


class _Ca(click.Group):
    """Tells what goes wrong with identities, whichever command it goes wrong in."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Unusable as error:
            fail(str(error), EXIT_UNUSABLE)
        except IdentityError as error:
            fail(str(error), EXIT_PROBLEMS)


_dir = click.option(
    "--dir", "directory", type=File(), default="certs", show_default=True, help="Where the CA keeps its files."
)
_root_cert = click.option("--root-cert", type=File(), metavar="FILE", help="The certificate of a root of your own.")
_root_key = click.option("--root-key", type=File(), metavar="FILE", help="Its key; it is used, and not copied.")
_resources = click.option(
    "-f",
    "paths",
    multiple=True,
    metavar="PATH",
    help="Resources: WORKLOAD is then a WorkloadEntry there, and its serviceAccount who it is. Repeatable.",
)


@click.group(cls=_Ca)
def ca() -> None:
    """Run the certificate authority of the mesh.

    \b
    Example:
      meshproxy ca init
      meshproxy ca issue reviews.prod
      meshproxy ca show certs/workloads/ns/prod/sa/reviews/cert-chain.pem
    """


@ca.command()
@_dir
@click.option("--trust-domain", default="cluster.local", show_default=True, help="What all its identities begin with.")
@click.option("--key-type", type=click.Choice(["ecdsa", "rsa"]), default="ecdsa", show_default=True)
@_root_cert
@_root_key
@click.option("--encrypt", is_flag=True, help="Encrypt the keys, as a passphrase file or variable does too.")
@passphrase_file_option
def init(
    directory: Path,
    trust_domain: str,
    key_type: KeyType,
    root_cert: Path | None,
    root_key: Path | None,
    encrypt: bool,
    passphrase_file: Path | None,
) -> None:
    """Make a CA: a root, and an intermediate that signs."""
    passphrase = Passphrase(passphrase_file)
    own = _own_root(root_cert, root_key, passphrase)
    authority.create(
        directory,
        trust_domain=trust_domain,
        key_type=key_type,
        now=_now(),
        own=own,
        passphrase=passphrase.new() if encrypt or passphrase.given else None,
    )
    click.echo(f"{directory} is now the CA of {trust_domain}; whoever trusts {directory / authority.ROOTS} trusts it")


@ca.command()
@click.argument("workload")
@_dir
@_resources
@click.option("--ttl", type=Lifetime(), default="24h", show_default=True, help="How long the certificate is good for.")
@click.option("--name", "names", multiple=True, help="A name or IP address for clients without SPIFFE. Repeatable.")
@click.option("--out", type=File(), metavar="DIR", help="Where to write; workloads/ in the CA's directory otherwise.")
@passphrase_file_option
def issue(
    workload: str,
    directory: Path,
    paths: tuple[str, ...],
    ttl: float,
    names: tuple[str, ...],
    out: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Issue a key and a certificate for a workload.

    WORKLOAD is a service account, NAME[.NAMESPACE], as Istio identifies workloads; or a SPIFFE ID in full. With -f it
    is a WorkloadEntry. With --name it is also for a server that browsers and curl call, such as a gateway's.
    """
    opened = Authority(directory, Passphrase(passphrase_file))
    identity = _identity(workload, opened.trust_domain, paths)
    key = keys.generate(opened.key_type)
    issued = opened.issue(key.public_key(), identity, _now(), timedelta(seconds=ttl), _names(names))
    folder = out or directory / "workloads" / identity.path.removeprefix("/")
    write_credentials(folder, Credentials(key, issued))
    click.echo(f"{folder} proves {identity} until {issued.leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")


@ca.command()
@click.argument("files", nargs=-1, type=File(), metavar="[FILE]...")
@_dir
@click.option("--json", "as_json", is_flag=True, help="Write one JSON array, for programs.")
@passphrase_file_option
def show(files: tuple[Path, ...], directory: Path, as_json: bool, passphrase_file: Path | None) -> None:
    """Tell what certificates say, and what is wrong with them; without FILE those of the CA.

    A key beside a file, and the revocation lists there and of the CA, are held against it. Exits with 1 when there is
    something to mend.
    """
    now = _now()
    if not files:
        present = [directory / name for name in (authority.CHAIN, authority.OLD_CHAIN, authority.ROOTS)]
        files = tuple(one for one in present if one.exists())
        if not files:
            raise Unusable(f"{directory} is no CA; make one with `meshproxy ca init --dir {directory}`")
    passphrase = Passphrase(passphrase_file, ask=False)
    found = [description.describe_file(file, now, passphrase, directory) for file in files]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in found], indent=1, default=datetime.isoformat))
    else:
        click.echo("\n".join(description.in_words(one, now) for one in found), nl=False)
    sys.exit(EXIT_PROBLEMS if any(one.problems for one in found) else 0)


@ca.command()
@_dir
@click.option("--root", is_flag=True, help="Replace the root too.")
@click.option("--finish", is_flag=True, help="End the rotation: the old authority is trusted no more.")
@click.option("--force", is_flag=True, help="Finish though certificates of the old authority are in use.")
@_root_cert
@_root_key
@click.option("--current-root-key", type=File(), metavar="FILE", help="The present root's key, if kept elsewhere.")
@passphrase_file_option
def rotate(
    directory: Path,
    root: bool,
    finish: bool,
    force: bool,
    root_cert: Path | None,
    root_key: Path | None,
    current_root_key: Path | None,
    passphrase_file: Path | None,
) -> None:
    """Bring in a new intermediate, or with --root a new root.

    Old and new are trusted until --finish, which comes when the last certificate of the old one has expired.
    """
    if finish and (root or root_cert):
        raise click.UsageError("--finish ends a rotation, and --root begins one: give one of them")
    if force and not finish:
        raise click.UsageError("--force is for --finish")
    if root_cert and not root:
        raise click.UsageError("--root-cert is for --root")
    passphrase = Passphrase(passphrase_file)
    own = _own_root(root_cert, root_key, passphrase)
    opened = Authority(directory, passphrase)
    if finish:
        opened.finish_rotation(_now(), force=force, root_key=current_root_key)
        click.echo(f"the rotation in {directory} has ended; the old authority is trusted no more")
        return
    if root:
        opened.rotate_root(_now(), own=own, root_key=current_root_key)
    else:
        opened.rotate(_now(), root_key=current_root_key)
    what = "root and intermediate are" if root else "intermediate is"
    click.echo(f"a new {what} in {directory}; old and new are trusted until `meshproxy ca rotate --finish`")


@ca.command()
@click.argument("certificate", metavar="SERIAL|FILE")
@_dir
@passphrase_file_option
def revoke(certificate: str, directory: Path, passphrase_file: Path | None) -> None:
    """Revoke a workload's certificate before its time is over."""
    path = Path(certificate)
    which = certificates.read_certificates(path)[0] if path.exists() else _serial(certificate)
    identity = Authority(directory, Passphrase(passphrase_file)).revoke(which, _now())
    click.echo(f"revoked a certificate of {identity}; {directory / authority.CRLS} says so")


@ca.command()
@click.argument("workload")
@_dir
@_resources
@click.option("--ttl", type=Lifetime(), default="1h", show_default=True, help="How long the token may be used.")
@passphrase_file_option
def token(workload: str, directory: Path, paths: tuple[str, ...], ttl: float, passphrase_file: Path | None) -> None:
    """Make a join token, which admits a workload on another machine to `ca serve`, once. Written to stdout."""
    opened = Authority(directory, Passphrase(passphrase_file))
    identity = _identity(workload, opened.trust_domain, paths)
    opened.check_identity(identity)
    made = opened.tokens.make(identity, _now(), timedelta(seconds=ttl))
    click.echo(made)
    click.echo(f"for {identity}, once, within {timedelta(seconds=ttl)}; only its hash is kept", err=True)


@ca.command()
@_dir
@click.option("--listen", type=Address(), default="0.0.0.0:15012", show_default=True, help="Where to listen.")
@click.option("--name", "names", multiple=True, help="A name or an IP address that curl calls it by. Repeatable.")
@click.option(
    "--ttl", type=Lifetime(), default="24h", show_default=True, help="How long the certificates are good for."
)
@passphrase_file_option
def serve(
    directory: Path, listen: SocketAddress, names: tuple[str, ...], ttl: float, passphrase_file: Path | None
) -> None:
    """Sign the requests of sidecars on other machines, over HTTPS. docs/identity.md has the protocol."""
    prepare()
    opened = Authority(directory, Passphrase(passphrase_file))
    server = CaServer(opened, _server_names(listen, names), _now, timedelta(seconds=ttl))
    server.prepare()
    trio.run(_serve, server, opened, listen)


async def _serve(server: CaServer, opened: Authority, listen: SocketAddress) -> None:
    try:
        listeners = await trio.open_tcp_listeners(listen.port, host=listen.host)
    except OSError as error:
        fail(f"cannot listen on {listen}: {error.strerror}", EXIT_PROBLEMS)
    stopped = trio.Event()
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signals, signals, stopped, nursery.cancel_scope)
            port = listeners[0].socket.getsockname()[1]
            click.echo(f"listening on {SocketAddress(listen.host, port)} for the CA of {opened.trust_domain}", err=True)
            click.echo("ready", err=True)
            await server.serve(listeners, stopped)
            nursery.cancel_scope.cancel()


async def _stop_on_signals(signals: AsyncIterator[int], stopped: trio.Event, scope: trio.CancelScope) -> None:
    """The first makes the server finish what it has begun, the second ends it at once."""
    async for _ in signals:
        if stopped.is_set():
            scope.cancel()
        stopped.set()


def _now() -> datetime:
    return datetime.now(UTC)


def _own_root(certificate: Path | None, key: Path | None, passphrase: Callable[[Path], bytes]) -> Signer | None:
    if (certificate is None) != (key is None):
        raise click.UsageError("--root-cert and --root-key go together: the CA signs its intermediate with that root")
    if certificate is None or key is None:
        return None
    return authority.read_root(certificate, key, passphrase)


def _identity(workload: str, trust_domain: str, paths: tuple[str, ...]) -> SpiffeId:
    """Whom a person means. Exits, and says why, when that is nobody."""
    try:
        if workload.startswith(spiffe.SCHEME):
            return spiffe.parse(workload)
        if paths:
            entry = find_workload(read(paths).mesh, workload)
            return spiffe.of_service_account(trust_domain, *service_account_of(entry))
        # A service account may have dots in its name, a namespace may not.
        name, dot, namespace = workload.rpartition(".")
        account, namespace = (name, namespace) if dot else (workload, DEFAULT_NAMESPACE)
        return spiffe.of_service_account(trust_domain, namespace, account)
    except UnknownWorkload as error:
        fail(str(error), EXIT_PROBLEMS)
    except ValueError as error:
        raise click.UsageError(f"{error}. WORKLOAD is NAME, NAME.NAMESPACE or a SPIFFE ID") from None


def _serial(text: str) -> int:
    try:
        return int(text.replace(":", ""), 16)
    except ValueError:
        raise click.UsageError(
            f"{text!r} is neither a file nor a serial number, which is as `meshproxy ca show` tells it"
        ) from None


def _server_names(listen: SocketAddress, more: tuple[str, ...]) -> list[Name]:
    """What a server is called: its host's name, the address that it listens on, and what its operator says."""
    return _names(("localhost", "127.0.0.1", "::1", socket.gethostname(), listen.host, *more))


def _names(texts: Iterable[str]) -> list[Name]:
    """Names and addresses as certificates have them, each once; the unspecified address is nobody's."""
    names: dict[Name, None] = {}
    for text in texts:
        try:
            address = ipaddress.ip_address(text)
            if not address.is_unspecified:
                names[address] = None
        except ValueError:
            if not text.isascii() or not text:
                raise click.UsageError(f"{text!r} is no name as DNS has it; write it in ASCII, xn--...") from None
            names[text] = None
    return list(names)
