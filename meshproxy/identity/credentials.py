"""What a workload proves its identity with, in memory and in files.

The files have the names that Istio gives them on virtual machines
(https://istio.io/latest/docs/setup/install/virtual-machine/).
"""

from __future__ import annotations

import os
import secrets
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import files
from .errors import Unusable

if TYPE_CHECKING:
    from cryptography import x509

    from .keys import Passphrase, PrivateKey

CHAIN = "cert-chain.pem"
KEY = "key.pem"
ROOTS = "root-cert.pem"
CRLS = "crl.pem"

_OWN_FILES = "/proc/self/fd"


@dataclass(frozen=True, slots=True)
class Issued:
    """What a CA answers to a signing request: the chain, leaf first, and what to verify others by."""

    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...] = ()

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A key, and what a CA has issued for it."""

    key: PrivateKey = field(repr=False)
    issued: Issued


def write_credentials(directory: Path, credentials: Credentials) -> None:
    """Write the four files, all or none. Raises `Unusable`."""
    from . import (  # bring cryptography, for which whoever only knows of these need not wait
        certificates,
        keys,
        revocation,
    )

    files.make_directory(directory)
    issued = credentials.issued
    with files.locked(directory):
        files.replace_together(
            directory,
            {
                KEY: (keys.to_pem(credentials.key), files.SECRET),
                CHAIN: (certificates.to_pem(issued.chain), files.PUBLIC),
                ROOTS: (certificates.to_pem(issued.roots), files.PUBLIC),
                CRLS: (revocation.to_pem(issued.crls), files.PUBLIC),
            },
        )


def read_credentials(directory: Path, passphrase: Passphrase | None = None) -> Credentials:
    """What `write_credentials` wrote; without revocation lists where there is no file of them.

    Raises:
        Unusable: a file cannot be read, or the key does not fit the certificate.
    """
    from . import certificates, keys, revocation  # as above

    if not directory.is_dir():
        raise Unusable(f"there is no directory {directory}; `meshproxy ca issue` makes one")
    with files.locked(directory):
        key, _ = keys.read_key(directory / KEY, passphrase or keys.no_passphrase)
        chain = certificates.read_certificates(directory / CHAIN)
        roots = certificates.read_certificates(directory / ROOTS)
        crls = revocation.read_crls(directory / CRLS) if (directory / CRLS).exists() else []
    if not keys.fits(key, chain[0].public_key()):
        raise Unusable(
            f"the key {directory / KEY} does not fit the certificate {directory / CHAIN}; "
            "issue both anew with `meshproxy ca issue`"
        )
    return Credentials(key, Issued(tuple(chain), tuple(roots), tuple(crls)))


def show_in(context: ssl.SSLContext, credentials: Credentials) -> None:
    """Have a TLS context show these credentials to peers."""
    from . import certificates, keys  # as above

    # OpenSSL's interface in Python takes files only. One in memory is never on a disk, and takes half the time; what
    # has to lie on a disk for a moment is encrypted.
    if os.path.isdir(_OWN_FILES) and hasattr(os, "memfd_create"):
        with open(os.memfd_create("credentials"), "wb") as memory:
            memory.write(keys.to_pem(credentials.key) + certificates.to_pem(credentials.issued.chain))
            memory.flush()
            context.load_cert_chain(f"{_OWN_FILES}/{memory.fileno()}")
        return
    passphrase = secrets.token_bytes(32).hex()
    with tempfile.NamedTemporaryFile() as file:
        file.write(keys.to_pem(credentials.key, passphrase.encode()))
        file.write(certificates.to_pem(credentials.issued.chain))
        file.flush()
        context.load_cert_chain(file.name, password=passphrase)
