"""`meshproxy token`: an issuer of tokens for development, and a look into any token."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..identity.jwks import KeySet
from ..identity.jwt import Token, TokenRefused, parse
from ..identity.minting import SigningKey
from .configuration import EXIT_PROBLEMS, EXIT_UNUSABLE
from .parameters import Duration
from .serving import fail


@click.group()
def token() -> None:
    """Make tokens (JWTs) to try policies with, and look into them."""


_key_option = click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("certs/issuer.pem"),
    show_default=True,
    help="The issuer's private key; made if it is not there.",
)


class Claim(click.ParamType[tuple[str, Any]]):
    """`name=value`, where the value may be JSON."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f'{value!r} is not a claim; write it as group=dev, or as groups=["dev"]', param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


@token.command()
@_key_option
@click.option("--issuer", required=True, help="The claim iss.")
@click.option("--subject", help="The claim sub.")
@click.option("--audience", "audiences", multiple=True, help="The claim aud. Repeatable.")
@click.option("--claim", "claims", type=Claim(), multiple=True, help="Any other claim. Repeatable.")
@click.option("--expires-in", type=Duration(), default="1h", show_default=True, help="How long it is valid.")
def mint(
    key: Path,
    issuer: str,
    subject: str | None,
    audiences: tuple[str, ...],
    claims: tuple[tuple[str, Any], ...],
    expires_in: float,
) -> None:
    """Write a token to stdout, signed by the key. For development: whoever has the key can be anybody.

    \b
    Example:
      meshproxy token mint --issuer test --subject alice --claim groups='["dev"]'
    """
    now = int(time.time())
    told = {"iss": issuer, "sub": subject, "iat": now, "exp": now + int(expires_in), **dict(claims)}
    if audiences:
        told["aud"] = audiences[0] if len(audiences) == 1 else list(audiences)
    click.echo(_signing_key(key).sign({name: value for name, value in told.items() if value is not None}))


@token.command()
@_key_option
def jwks(key: Path) -> None:
    """Write the key set by which the tokens are verified: the `jwks` of a RequestAuthentication."""
    click.echo(_signing_key(key).jwks())


def _signing_key(path: Path) -> SigningKey:
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            made = SigningKey.generate()
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(made.pem())
            click.echo(f"made the key {path}", err=True)
            return made
        return SigningKey.read(path.read_bytes())
    except OSError as error:
        fail(f"cannot use the key {path}: {error.strerror}", EXIT_UNUSABLE)
    except ValueError as error:
        fail(f"cannot use the key {path}: {error}", EXIT_UNUSABLE)


@token.command()
@click.argument("text", metavar="JWT|-", default="-")
@click.option(
    "--jwks",
    "key_set",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="Verify the signature by this key set.",
)
def inspect(text: str, key_set: Path | None) -> None:
    """Tell what a token says, from stdin or an argument, which others on this machine can see.

    Exits with 1 when the token is not valid; without --jwks the signature is not looked at.

    \b
    Example:
      meshproxy token mint --issuer test --subject alice | meshproxy token inspect
    """
    raw = sys.stdin.read() if text == "-" else text
    try:
        found = parse(raw.strip().encode())
        for line in _lines(found):
            click.echo(line)
        found.check_times(time.time())
        if key_set is None:
            click.echo("signature not looked at: give --jwks")
        else:
            _read_keys(key_set).verify(found)
            click.echo(f"signature verified by {key_set}")
    except TokenRefused as refused:
        fail(str(refused), EXIT_PROBLEMS)


def _read_keys(path: Path) -> KeySet:
    try:
        return KeySet.parse(path.read_text())
    except (OSError, ValueError) as error:
        fail(f"cannot use the key set {path}: {error}", EXIT_UNUSABLE)


def _lines(found: Token) -> Iterator[str]:
    yield f"signed by {found.algorithm}" + (f", key {found.key_id}" if found.key_id else "")
    for name, value in found.claims.items():
        yield f"{name}: {_told(name, value)}"
    if not found.expires:
        yield "it never expires"


_TIMES: Sequence[str] = ("iat", "nbf", "exp", "auth_time")


def _told(name: str, value: Any) -> str:
    if name in _TIMES and isinstance(value, int) and 0 <= value < 2**35:
        return f"{value} ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC)"
    return value if isinstance(value, str) else json.dumps(value)
