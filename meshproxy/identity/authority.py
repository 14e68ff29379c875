"""The CA: a directory with a root, an intermediate that signs, and what they have revoked.

    root-cert.pem      the roots to trust, the present one first; two while a root is being replaced
    root-key.pem       the present root's key, unless it is kept elsewhere
    ca-cert.pem        the intermediate that signs; behind it, while a root is being replaced, the new root as signed by
                       the old one. Goes behind every certificate that is issued.
    ca-key.pem         the intermediate's key
    old-ca-cert.pem    the intermediate before, and its key, while what it signed is still in use
    old-ca-key.pem
    crl.pem            a revocation list of each of these authorities
    issued.jsonl       what has been issued (`issuance`)
    tokens/            the hashes of join tokens (`tokens`)
    workloads/         where `ca issue` writes unless told otherwise

Rules:

1. What belongs together changes together, under the directory's lock: a crash leaves the old or the new.
2. A rotation needs no moment at which all know of it. From its first moment to its last, whoever knows only the old
   roots verifies what the new authority signs, and the other way around.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from . import certificates, files, keys, revocation, spiffe
from .certificates import WORKLOAD_LIFETIME, Name
from .credentials import Issued
from .errors import IdentityError, NotVerified, Refused, Unusable
from .issuance import IssuanceRecord
from .keys import KeyType, Passphrase, PrivateKey, PublicKey
from .spiffe import SpiffeId
from .tokens import JoinTokens
from .verification import verify_peer

ROOTS = "root-cert.pem"
ROOT_KEY = "root-key.pem"
CHAIN = "ca-cert.pem"
KEY = "ca-key.pem"
OLD_CHAIN = "old-ca-cert.pem"
OLD_KEY = "old-ca-key.pem"
CRLS = "crl.pem"

_SERVER_PATH = "/ns/istio-system/sa/meshproxy-ca"


def server_id(trust_domain: str) -> SpiffeId:
    """The identity of a trust domain's CA as a server, which is nobody else's."""
    return SpiffeId(trust_domain, _SERVER_PATH)


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority's certificate and the key to it."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class _State:
    """What the directory holds; `chain[0]` is the signer's certificate, `roots[0]` the present root."""

    trust_domain: str
    signer: Signer
    chain: tuple[x509.Certificate, ...]
    roots: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]


class Authority:
    """An opened CA. Its methods may be called from several threads, and several processes may have it open.

    All of them raise `IdentityError`: something about the directory keeps them from doing it.
    """

    def __init__(self, directory: Path, passphrase: Passphrase = keys.no_passphrase) -> None:
        """Open the CA in `directory`. Raises `Unusable`."""
        self.directory = directory
        self.tokens = JoinTokens(directory / "tokens")
        self._record = IssuanceRecord(directory / "issued.jsonl")
        self._passphrase = passphrase
        self._secret: bytes | None = None
        if not (directory / CHAIN).exists() and not (directory / files.COMMITTED).exists():
            raise Unusable(
                f"{directory} is no CA: it has no {CHAIN}; make one with `meshproxy ca init --dir {directory}`"
            )
        with files.locked(directory):
            self._version = self._stat()
            self._state = self._read()

    def __repr__(self) -> str:
        return f"<Authority {self.trust_domain} in {self.directory}>"

    @property
    def trust_domain(self) -> str:
        return self._state.trust_domain

    @property
    def key_type(self) -> KeyType:
        """Of the intermediate's key."""
        return keys.type_of(self._state.signer.key)

    def trusted(self) -> Issued:
        """The intermediates and what to verify others by, as they are now."""
        with files.locked(self.directory):
            self._refresh()
            old = self._old_certificate()
            return Issued((*self._state.chain, *([old] if old else ())), self._state.roots, self._state.crls)

    def expires(self) -> tuple[Path, datetime]:
        """Which certificate of the CA ends first, and when."""
        root, signer = self._state.roots[0], self._state.signer.certificate
        ends = [
            (self.directory / ROOTS, root.not_valid_after_utc),
            (self.directory / CHAIN, signer.not_valid_after_utc),
        ]
        return min(ends, key=lambda end: end[1])

    def check_identity(self, identity: SpiffeId) -> None:
        """Whether the CA issues for this identity. Raises `Refused`."""
        if identity.trust_domain != self.trust_domain:
            raise Refused(403, f"{identity} is not of this CA's trust domain, {self.trust_domain!r}")
        if not identity.path or identity == server_id(self.trust_domain):
            raise Refused(403, f"{identity} is the CA's own identity")

    def issue(
        self,
        key: PublicKey,
        identity: SpiffeId,
        now: datetime,
        lifetime: timedelta = WORKLOAD_LIFETIME,
        names: Iterable[Name] = (),
    ) -> Issued:
        """A certificate for a workload, which clients without SPIFFE find by `names`. Raises `Refused` too, for an
        identity that is not this CA's to give."""
        self.check_identity(identity)
        return self._issue(key, identity, now, lifetime, names)

    def issue_for_server(self, key: PublicKey, names: Iterable[Name], now: datetime) -> Issued:
        """A certificate for the CA's own server, which clients without SPIFFE find by `names`."""
        return self._issue(key, server_id(self.trust_domain), now, WORKLOAD_LIFETIME, names)

    def _issue(
        self, key: PublicKey, identity: SpiffeId, now: datetime, lifetime: timedelta, names: Iterable[Name]
    ) -> Issued:
        with files.locked(self.directory):
            self._refresh()
            state = self._state
            where, end = self.expires()
            if now >= end:
                what = "ca rotate --root" if where.name == ROOTS else "ca rotate"
                raise IdentityError(
                    f"the CA's {where} has expired on {end:%Y-%m-%d}; bring in a new one: meshproxy {what}"
                )
            signer = state.signer
            leaf = certificates.workload_certificate(
                key, identity, signer.certificate, signer.key, now, lifetime, names
            )
            self._record.add(leaf, str(identity), signer.certificate, now)
        return Issued((leaf, *state.chain), state.roots, state.crls)

    def rotate(self, now: datetime, *, root_key: Path | None = None) -> None:
        """Bring in a new intermediate, signed by the present root; `root_key` has its key if the directory does not."""
        with files.locked(self.directory):
            self._begin_rotation()
            state = self._state
            signer = _new_intermediate(self._root(root_key), state.trust_domain, self.key_type, now)
            crls = [*state.crls, revocation.revocation_list(signer.certificate, signer.key, (), 1, now)]
            self._write({**self._retired(), **self._signer_files(signer), CRLS: _public(revocation.to_pem(crls))})

    def rotate_root(self, now: datetime, *, own: Signer | None = None, root_key: Path | None = None) -> None:
        """Bring in a new root, or `own` one, and a new intermediate under it.

        The present root signs the new one, so that whoever has not heard of the new root trusts it all the same;
        `root_key` has the present root's key if the directory does not.
        """
        with files.locked(self.directory):
            self._begin_rotation()
            state = self._state
            root = own or _new_root(state.trust_domain, self.key_type, now)
            signer = _new_intermediate(root, state.trust_domain, self.key_type, now)
            behind = self._cross_signed(root, root_key, now)
            roots = (root.certificate, *state.roots)
            _check_usable(signer, behind, state.roots if behind else roots, state.trust_domain, now)
            new_lists = [revocation.revocation_list(one.certificate, one.key, (), 1, now) for one in (signer, root)]
            contents = {
                **self._retired(),
                **self._signer_files(signer, *behind),
                ROOTS: _public(certificates.to_pem(roots)),
                CRLS: _public(revocation.to_pem([*state.crls, *new_lists])),
            }
            if own is None:
                contents[ROOT_KEY] = self._private(root.key)
            self._write(contents)
            if own is not None:
                (self.directory / ROOT_KEY).unlink(missing_ok=True)

    def finish_rotation(self, now: datetime, *, force: bool = False, root_key: Path | None = None) -> None:
        """Drop what a rotation has replaced. Refused while its certificates are in use, unless with `force`."""
        with files.locked(self.directory):
            self._refresh()
            old = self._old()
            if old is None:
                raise IdentityError(
                    f"no rotation is under way in {self.directory}; begin one with `meshproxy ca rotate`"
                )
            if not force:
                self._check_unused(old.certificate, now)
            state = self._state
            old_root = _issuer(old.certificate, state.roots)
            if old_root == _issuer(state.chain[0], state.roots):
                # Its root stays, so the old intermediate must be revoked there.
                root = self._root(root_key)
                authorities = (state.signer.certificate, *state.roots)
                crls = _with_revoked(state.crls, root, old.certificate.serial_number, now)
                contents = {}
            else:
                roots = tuple(one for one in state.roots if one != old_root)
                authorities = (state.signer.certificate, *roots)
                crls = state.crls
                contents = {
                    ROOTS: _public(certificates.to_pem(roots)),
                    CHAIN: _public(certificates.to_pem(state.chain[:1])),
                }
            crls = tuple(one for one in crls if any(revocation.issued_by(one, authority) for authority in authorities))
            self._write({**contents, CRLS: _public(revocation.to_pem(crls))})
            for name in (OLD_KEY, OLD_CHAIN):
                (self.directory / name).unlink(missing_ok=True)

    def revoke(self, certificate: int | x509.Certificate, now: datetime) -> SpiffeId:
        """Revoke a workload's certificate, or the one with this serial number; tells whose it was."""
        with files.locked(self.directory):
            self._refresh()
            signers = [self._state.signer, *([old] if (old := self._old()) else ())]
            if isinstance(certificate, int):
                serial = certificate
                entry = next((one for one in self._record if one.serial == serial), None)
                if entry is None:
                    raise IdentityError(
                        f"no certificate {serial:x} is on record in {self.directory}; "
                        "give the file of the certificate, or its serial number as `meshproxy ca show` tells it"
                    )
                identity = spiffe.parse(entry.identity)
                signer = next((one for one in signers if one.certificate.serial_number == entry.issuer), None)
            else:
                serial = certificate.serial_number
                try:
                    identity = certificates.spiffe_id(certificate)
                except ValueError as error:
                    raise IdentityError(f"the certificate {serial:x} is no SPIFFE certificate: {error}") from None
                issuer = _issuer(certificate, [one.certificate for one in signers])
                signer = next((one for one in signers if one.certificate == issuer), None)
            if signer is None:
                raise IdentityError(
                    f"the certificate {serial:x} is not by an authority that {self.directory} still has"
                )
            crls = _with_revoked(self._state.crls, signer, serial, now)
            self._write({CRLS: _public(revocation.to_pem(crls))})
        return identity

    def _cross_signed(self, root: Signer, old_key: Path | None, now: datetime) -> tuple[x509.Certificate, ...]:
        """A new root as signed by the present one; nothing if that has expired, for then nobody trusts it anyway."""
        if now >= self._state.roots[0].not_valid_after_utc:
            return ()
        old = self._root(old_key)
        limit = _path_length(old.certificate)
        if limit is not None and limit < 2:
            raise IdentityError(
                f"the present root may not sign another root: its certificate allows a path of {limit}. "
                "Make a new CA in another directory, and let everybody trust both roots until all have moved"
            )
        trust_domain = self._state.trust_domain
        return (certificates.cross_certificate(root.certificate, old.certificate, old.key, trust_domain, now),)

    def _begin_rotation(self) -> None:
        self._refresh()
        if (self.directory / OLD_CHAIN).exists():
            raise IdentityError(
                f"a rotation is under way in {self.directory}: end it first, with `meshproxy ca rotate --finish`"
            )

    def _check_unused(self, authority: x509.Certificate, now: datetime) -> None:
        alive = [one for one in self._record if one.issuer == authority.serial_number and one.not_after > now]
        if alive:
            last = max(alive, key=lambda one: one.not_after)
            raise IdentityError(
                f"the old authority is still needed: {len(alive)} of its certificates have not expired, the last "
                f"that of {last.identity}, on {last.not_after:%Y-%m-%d %H:%M} UTC. Wait, or refuse them with --force"
            )

    def _old_certificate(self) -> x509.Certificate | None:
        """The intermediate before, while a rotation is under way."""
        path = self.directory / OLD_CHAIN
        return certificates.read_certificates(path)[0] if path.exists() else None

    def _old(self) -> Signer | None:
        """The same with its key."""
        certificate = self._old_certificate()
        return None if certificate is None else Signer(certificate, self._read_key(OLD_KEY))

    def _root(self, elsewhere: Path | None) -> Signer:
        """The present root, whose key may be kept elsewhere."""
        path = elsewhere or self.directory / ROOT_KEY
        if not path.exists():
            raise IdentityError(
                f"the root's key is needed, and there is no {path}; say where it is: --current-root-key"
            )
        key = self._read_key(ROOT_KEY) if elsewhere is None else keys.read_key(elsewhere, self._passphrase)[0]
        return _fitting(self.directory / ROOTS, self._state.roots[0], path, key)

    def _retired(self) -> dict[str, tuple[bytes, int]]:
        """What now signs, as what a rotation leaves behind."""
        signer = self._state.signer
        return {
            OLD_CHAIN: _public(certificates.to_pem([signer.certificate])),
            OLD_KEY: self._private(signer.key),
        }

    def _signer_files(self, signer: Signer, *behind: x509.Certificate) -> dict[str, tuple[bytes, int]]:
        return {
            CHAIN: _public(certificates.to_pem([signer.certificate, *behind])),
            KEY: self._private(signer.key),
        }

    def _private(self, key: PrivateKey) -> tuple[bytes, int]:
        """A key as it is written here: encrypted, if the present one is."""
        return keys.to_pem(key, self._secret), files.SECRET

    def _write(self, contents: dict[str, tuple[bytes, int]]) -> None:
        files.replace_together(self.directory, contents)
        self._refresh()

    def _refresh(self) -> None:
        """Read anew what another process has changed; the caller holds the lock."""
        version = self._stat()
        if version != self._version:
            self._state = self._read()
            self._version = version

    def _stat(self) -> tuple[object, ...]:
        try:
            found = [os.stat(self.directory / name) for name in (CHAIN, ROOTS, CRLS)]
        except OSError as error:
            raise Unusable(f"cannot read {error.filename}: {error.strerror}") from error
        return tuple((one.st_ino, one.st_mtime_ns) for one in found)

    def _read(self) -> _State:
        chain = certificates.read_certificates(self.directory / CHAIN)
        signer = _fitting(self.directory / CHAIN, chain[0], self.directory / KEY, self._read_key(KEY))
        roots = certificates.read_certificates(self.directory / ROOTS)
        crls = revocation.read_crls(self.directory / CRLS)
        try:
            trust_domain = certificates.spiffe_id(chain[0]).trust_domain
        except ValueError as error:
            raise Unusable(f"cannot use {self.directory / CHAIN}: it tells no trust domain: {error}") from None
        return _State(trust_domain, signer, tuple(chain), tuple(roots), tuple(crls))

    def _read_key(self, name: str) -> PrivateKey:
        """A key of the directory. Nobody is asked twice for its passphrase, least of all by a server that runs."""
        secret = self._secret
        ask = self._passphrase if secret is None else lambda path: secret
        key, used = keys.read_key(self.directory / name, ask)
        self._secret = used or secret
        return key


def create(
    directory: Path,
    *,
    trust_domain: str,
    key_type: KeyType,
    now: datetime,
    own: Signer | None = None,
    passphrase: bytes | None = None,
) -> None:
    """Make a CA in `directory`, with keys encrypted if there is a passphrase; the key of an `own` root is not copied.

    Raises:
        IdentityError: the directory is a CA already, or cannot be written, or the root cannot be used.
    """
    error = spiffe.trust_domain_error(trust_domain)
    if error is not None:
        raise IdentityError(error)
    files.make_directory(directory)
    with files.locked(directory):
        there = [name for name in (CHAIN, KEY, ROOTS, ROOT_KEY) if (directory / name).exists()]
        if there:
            raise IdentityError(
                f"{directory} is a CA already: it has {', '.join(there)}. Use another --dir, or bring in new keys "
                "with `meshproxy ca rotate`"
            )
        files.make_private(directory)
        root = own or _new_root(trust_domain, key_type, now)
        signer = _new_intermediate(root, trust_domain, key_type, now)
        _check_usable(signer, (), (root.certificate,), trust_domain, now)
        crls = [revocation.revocation_list(one.certificate, one.key, (), 1, now) for one in (signer, root)]
        contents = {
            ROOTS: _public(certificates.to_pem([root.certificate])),
            CHAIN: _public(certificates.to_pem([signer.certificate])),
            KEY: (keys.to_pem(signer.key, passphrase), files.SECRET),
            CRLS: _public(revocation.to_pem(crls)),
        }
        if own is None:
            contents[ROOT_KEY] = keys.to_pem(root.key, passphrase), files.SECRET
        files.replace_together(directory, contents)


def read_root(certificate: Path, key: Path, passphrase: Passphrase) -> Signer:
    """A root that somebody brings. Raises `IdentityError`."""
    found = certificates.read_certificates(certificate)[0]
    if not certificates.is_authority(found):
        raise IdentityError(f"cannot use {certificate} as a root: it is not the certificate of an authority (CA:TRUE)")
    return _fitting(certificate, found, key, keys.read_key(key, passphrase)[0])


def _fitting(certificate_path: Path, certificate: x509.Certificate, key_path: Path, key: PrivateKey) -> Signer:
    if not keys.fits(key, certificate.public_key()):
        raise Unusable(
            f"the key {key_path} does not fit the certificate {certificate_path}; give those of one authority"
        )
    return Signer(certificate, key)


def _new_root(trust_domain: str, key_type: KeyType, now: datetime) -> Signer:
    key = keys.generate(key_type)
    return Signer(certificates.root_certificate(key, trust_domain, now), key)


def _new_intermediate(root: Signer, trust_domain: str, key_type: KeyType, now: datetime) -> Signer:
    end = root.certificate.not_valid_after_utc
    if now >= end:
        raise IdentityError(f"the root has expired on {end:%Y-%m-%d}; bring in another one with --root")
    key = keys.generate(key_type)
    certificate = certificates.intermediate_certificate(key.public_key(), root.certificate, root.key, trust_domain, now)
    return Signer(certificate, key)


def _check_usable(
    signer: Signer,
    behind: tuple[x509.Certificate, ...],
    roots: tuple[x509.Certificate, ...],
    trust_domain: str,
    now: datetime,
) -> None:
    """Whether what this authority will sign is verified by these roots; one that somebody brought may forbid it."""
    leaf = certificates.workload_certificate(
        signer.key.public_key(), server_id(trust_domain), signer.certificate, signer.key, now
    )
    try:
        verify_peer((leaf, signer.certificate, *behind), roots=roots, now=now, trust_domains=(trust_domain,))
    except NotVerified as error:
        raise IdentityError(f"with this root no certificate could be verified: {error}") from None


def _with_revoked(
    crls: tuple[x509.CertificateRevocationList, ...], signer: Signer, serial: int, now: datetime
) -> tuple[x509.CertificateRevocationList, ...]:
    """The lists, with one serial number more in the signer's."""
    before = [one for one in crls if revocation.issued_by(one, signer.certificate)]
    entries = {entry.serial_number: entry for crl in before for entry in crl}
    entries.setdefault(serial, revocation.revoked_entry(serial, now))
    number = max(map(revocation.crl_number, before), default=0) + 1
    new = revocation.revocation_list(signer.certificate, signer.key, entries.values(), number, now)
    return (*(one for one in crls if one not in before), new)


def _issuer(certificate: x509.Certificate, authorities: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """The one of the authorities that has signed this."""
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
            return authority
        except (ValueError, TypeError, InvalidSignature):
            continue
    return None


def _path_length(authority: x509.Certificate) -> int | None:
    """How many authorities may stand between this one and a workload; None if any number."""
    return authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _public(data: bytes) -> tuple[bytes, int]:
    return data, files.PUBLIC
