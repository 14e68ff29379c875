"""The options by which a serving command gets its identity: which CA issues it, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click

from ..identity import spiffe
from ..identity.errors import IdentityError, Unusable
from ..mesh import Mesh, Trust, needs_of_identity
from ..resources import MeshConfig
from ..snapshot import Snapshot
from .ca_options import CaOptions, RemoteAddress
from .configuration import EXIT_PROBLEMS, EXIT_UNUSABLE
from .keys import File, Lifetime, passphrase_file_option
from .serving import fail

if TYPE_CHECKING:
    from ..identity import WorkloadIdentity
    from .authorities import Ca

Command = TypeVar("Command", bound=Callable[..., object])


class CaLocation(click.ParamType[Path | RemoteAddress]):
    """The directory of a CA, or the URL of one that is served."""

    name = "dir|https://host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | RemoteAddress:
        text = str(value)
        scheme, colon, _ = text.partition("://")
        if not colon:
            return Path(text)
        try:
            parts = urlsplit(text)
            if scheme.lower() == "https" and parts.hostname and parts.path in ("", "/") and not parts.query:
                return RemoteAddress(parts.hostname, parts.port)
        except ValueError:
            pass
        self.fail(f"{text!r} is not where a CA is; write certs/, or https://ca.example.com:15012", param, ctx)


_OPTIONS = (
    click.option(
        "--ca",
        type=CaLocation(),
        help="The CA that says who this proxy is: its directory, or the URL of `meshproxy ca serve`.",
    ),
    click.option(
        "--join-token-file", type=File(), help="A file with the join token by which a CA elsewhere admits this proxy."
    ),
    click.option("--ca-root", type=File(), help="The root certificates by which a CA elsewhere is known."),
    click.option(
        "--credentials",
        type=File(),
        metavar="DIR",
        help="Where to keep key and certificate, so that a restart needs no other join token.",
    ),
    click.option(
        "--trust-domain",
        help="The mesh's trust domain, where the CA's certificates do not say: cluster.local if not told.",
    ),
    click.option(
        "--trust-domain-alias",
        "trust_domain_aliases",
        multiple=True,
        help="Another name of the trust domain, whose identities are believed as well. Repeatable.",
    ),
    click.option(
        "--certificate-ttl",
        "certificate_ttl_s",
        type=Lifetime(),
        default="24h",
        show_default=True,
        help="How long a certificate of a CA in a directory is good for; it is renewed at half of that.",
    ),
    passphrase_file_option,
)


def identity_options(command: Command) -> Command:
    """The options of every command that has an identity; `ca_options` takes them out of what click hands over."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def ca_options(given: dict[str, Any]) -> CaOptions:
    """What of a command's options is about the CA, taken out of them. Exits where it makes no sense."""
    location = given.pop("ca")
    options = CaOptions(
        location, **{name: given.pop(name) for name in list(CaOptions.__annotations__) if name != "location"}
    )
    for alias in (*options.trust_domain_aliases, *filter(None, [options.trust_domain])):
        if (error := spiffe.trust_domain_error(alias)) is not None:
            raise click.UsageError(error)
    elsewhere = isinstance(location, RemoteAddress)
    if elsewhere and options.ca_root is None:
        raise click.UsageError("a CA elsewhere is known by its root certificate: give it by --ca-root")
    for name, value in (("--join-token-file", options.join_token_file), ("--ca-root", options.ca_root)):
        if value is not None and not elsewhere:
            raise click.UsageError(f"{name} is for a CA elsewhere: --ca https://HOST")
    if location is None and options.credentials is not None:
        raise click.UsageError("--credentials keeps what a CA has issued: say which, by --ca")
    return options


def open_ca(options: CaOptions) -> Ca | None:
    """The CA that the options name; None if they name none. Exits, and says why, where it cannot be used."""
    if options.location is None:
        return None
    from . import authorities  # a mesh without identities does not wait for what reads certificates

    try:
        if isinstance(options.location, Path):
            return authorities.local(options.location, options)
        return authorities.remote(options.location, options)
    except IdentityError as error:
        no_identity(error)


def no_identity(error: IdentityError) -> NoReturn:
    """Say why there is no identity, and exit: nothing is served without the one that was asked for."""
    fail(f"no identity: {error}", EXIT_UNUSABLE if isinstance(error, Unusable) else EXIT_PROBLEMS)


def refuse_other_trust_domain(mesh: Mesh, trust: Trust | None) -> None:
    """Exit, and say why, where the MeshConfig knows the mesh by another trust domain than the CA does."""
    for config in mesh.of(MeshConfig)[:1] if trust is not None else ():
        written = config.spec.trust_domain
        if trust is None or written is None or trust.domain in config.spec.trust_domain_aliases:
            continue
        if written not in trust.domains:
            where = config.position("spec", "trustDomain")
            fail(
                f"{where}: the trust domain is {written!r} here, and that of the CA is {trust.domain!r}; make one of "
                f"them an alias (trustDomainAliases, or --trust-domain-alias), or use another CA",
                EXIT_PROBLEMS,
            )


def identified(ca: Ca | None, snapshot: Snapshot, namespace: str, service_account: str) -> WorkloadIdentity | None:
    """The identity of a proxy that runs `snapshot`, by its service account; None without a CA.

    Exits, and says why, where the snapshot has no use without one: plain text takes the place of nothing.
    """
    if ca is None:
        needs = list(needs_of_identity(snapshot))
        if needs:
            fail(f"no identity: {needs[0]}; say which CA gives one, by --ca", EXIT_PROBLEMS)
        return None
    try:
        return ca.identify(spiffe.of_service_account(ca.trust.domain, namespace, service_account))
    except ValueError as error:
        fail(f"no identity: {error}", EXIT_PROBLEMS)
