"""What OpenSSL makes of a snapshot's TLS contexts, seen by handshakes in memory."""

from __future__ import annotations

import ssl
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshproxy.identity import Credentials, Issued
from meshproxy.identity.errors import Unusable
from meshproxy.identity.material import KeyPair, read_key_pair
from meshproxy.proxy.tls.contexts import Current, client_context, server_context
from meshproxy.proxy.tls.secrets import MissingSecret, Secrets
from meshproxy.snapshot import (
    CertificateValidationContext,
    CommonTlsContext,
    DownstreamTlsContext,
    FileSource,
    InlineSource,
    Origin,
    Secret,
    TlsCertificate,
    TrustedCa,
    WorkloadCertificate,
    WorkloadRoots,
)

from ..certificates import DAY, NOW, Ca, Pair

CA = Ca()
SITE = CA.issue("site.test")


def certificate(name: str, pair: Pair) -> Secret:
    source = TlsCertificate(InlineSource(f"{name}.crt", pair.chain), InlineSource(f"{name}.key", pair.key))
    return Secret(name, source, Origin("mesh.yaml", 7, "Secret/x.default"))


def trusted(ca: Ca, crl: str | None = None) -> Secret:
    return Secret("ca", TrustedCa(InlineSource("ca.crt", ca.pem), None if crl is None else InlineSource("ca.crl", crl)))


def server(*secrets: Secret, required: bool = False, **common: Any) -> ssl.SSLContext:
    names = tuple(one.name for one in secrets if isinstance(one.source, TlsCertificate))
    validation = CertificateValidationContext("ca") if any(one.name == "ca" for one in secrets) else None
    config = DownstreamTlsContext(CommonTlsContext(names, validation, **common), required)
    return server_context(config, Secrets(secrets))


def client(ca: Ca = CA, pair: Pair | None = None, folder: Path | None = None) -> ssl.SSLContext:
    return ca.client_context(pair, folder)


def handshake(
    server: ssl.SSLContext,
    client: ssl.SSLContext,
    name: str | None = "site.test",
    session: ssl.SSLSession | None = None,
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends, when they have agreed. Raises what either raises."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
    other = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(6):
        for end in (one, other):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    other.write(b"served")
    assert one.read(100) == b"served"
    return other, one


def names_shown(client: ssl.SSLObject) -> list[str]:
    certificate = client.getpeercert()
    assert certificate is not None
    return [str(entry[1]) for entry in certificate["subjectAltName"]]


def test_a_server_shows_its_certificate() -> None:
    _, connection = handshake(server(certificate("web", SITE)), client())
    assert names_shown(connection) == ["site.test"]
    assert connection.version() == "TLSv1.3"


def test_a_chain_is_shown_with_its_intermediates() -> None:
    below = Ca("intermediate", issuer=CA)
    handshake(server(certificate("web", below.issue("site.test"))), client())


@pytest.mark.parametrize(("low", "high"), [("TLSv1_2", "TLSv1_2"), ("TLSv1_3", "TLSv1_3"), ("TLSv1_0", "TLSv1_1")])
def test_only_the_versions_that_are_allowed_are_spoken(low: Any, high: Any) -> None:
    restricted = server(certificate("web", SITE), minimum_version=low, maximum_version=high)
    for version in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        asking = client()
        asking.set_ciphers("DEFAULT@SECLEVEL=0")
        with pytest.warns(DeprecationWarning) if version == ssl.TLSVersion.TLSv1_1 else nullcontext():
            asking.minimum_version = asking.maximum_version = version
        name = version.name
        if low <= name <= high:
            _, connection = handshake(restricted, asking)
            assert connection.version() == name.replace("_", ".")
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
                handshake(restricted, asking)


def test_only_the_cipher_suites_that_are_named_are_spoken() -> None:
    suite = "ECDHE-ECDSA-AES256-GCM-SHA384"
    restricted = server(certificate("web", SITE), maximum_version="TLSv1_2", cipher_suites=(suite,))
    _, connection = handshake(restricted, client())
    assert connection.cipher()[0] == suite  # type: ignore[index]
    other = client()
    other.maximum_version = ssl.TLSVersion.TLSv1_2
    other.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    with pytest.raises(ssl.SSLError, match=r"HANDSHAKE_FAILURE|NO_SHARED_CIPHER"):
        handshake(restricted, other)


def test_the_order_of_the_cipher_suites_that_are_named_counts() -> None:
    suites = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384")
    for order in (suites, suites[::-1]):
        ordered = server(certificate("web", SITE), maximum_version="TLSv1_2", cipher_suites=order)
        assert handshake(ordered, client())[1].cipher()[0] == order[0]  # type: ignore[index]


def test_without_any_named_those_without_forward_secrecy_are_not_spoken() -> None:
    old = client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        handshake(server(certificate("web", CA.issue("site.test", key="rsa"))), old)


def test_a_protocol_that_both_speak_is_agreed_on() -> None:
    serving = server(certificate("web", SITE), alpn_protocols=("http/1.1",))
    for offered, agreed in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
        asking = client()
        asking.set_alpn_protocols(offered)
        assert handshake(serving, asking)[1].selected_alpn_protocol() == agreed


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("a.test", "a.test"),
        ("A.TEST", "a.test"),
        ("b.test", "b.test"),
        ("x.wild.test", "*.wild.test"),
        ("exact.wild.test", "exact.wild.test"),
    ],
)
def test_of_several_certificates_the_one_for_the_server_asked_for_is_shown(name: str, chosen: str) -> None:
    pairs = [CA.issue(one) for one in ("a.test", "b.test", "*.wild.test", "exact.wild.test")]
    serving = server(*(certificate(str(place), pair) for place, pair in enumerate(pairs)))
    assert names_shown(handshake(serving, client(), name)[1]) == [chosen]


def test_where_none_is_for_the_server_asked_for_the_first_is_shown() -> None:
    serving = server(certificate("a", CA.issue("a.test")), certificate("b", CA.issue("b.test")))
    asking = client()
    asking.check_hostname = False
    for name in ("c.test", "x.b.test", None):
        assert names_shown(handshake(serving, asking, name)[1]) == ["a.test"]


def test_a_common_name_stands_in_for_missing_names() -> None:
    serving = server(certificate("a", CA.issue("a.test")), certificate("b", CA.issue(common_name="b.test")))
    asking = client()
    asking.check_hostname = False
    assert "subjectAltName" not in (handshake(serving, asking, "b.test")[1].getpeercert() or {})


@pytest.mark.parametrize("order", [("ecdsa", "rsa"), ("rsa", "ecdsa")])
@pytest.mark.parametrize(("signs", "bits"), [("ECDSA", 256), ("RSA", 2048)])
def test_of_an_rsa_and_an_ecdsa_certificate_the_one_that_the_client_can_verify_is_shown(
    order: tuple[Any, Any], signs: str, bits: int
) -> None:
    pairs = [CA.issue("site.test", key=kind) for kind in order]
    serving = server(*(certificate(str(place), pair) for place, pair in enumerate(pairs)))
    asking = client()
    asking.maximum_version = ssl.TLSVersion.TLSv1_2
    asking.set_ciphers(f"ECDHE-{signs}-AES128-GCM-SHA256")
    _, connection = handshake(serving, asking)
    shown = connection.getpeercert(True)
    assert shown is not None
    assert shown == ssl.PEM_cert_to_DER_cert(pairs[order.index(signs.lower())].chain)


def test_a_client_is_asked_for_a_certificate_only_if_there_is_something_to_verify_it_by(tmp_path: Path) -> None:
    pair = CA.issue("spiffe://cluster.local/ns/a/sa/b")
    showing = client(pair=pair, folder=tmp_path)
    assert handshake(server(certificate("web", SITE)), showing)[0].getpeercert(True) is None
    serving = server(certificate("web", SITE), trusted(CA))
    assert handshake(serving, showing)[0].getpeercert(True) is not None
    assert handshake(serving, client())[0].getpeercert(True) is None


def test_a_client_that_must_show_a_certificate_and_has_none_is_refused() -> None:
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        handshake(server(certificate("web", SITE), trusted(CA), required=True), client())


@pytest.mark.parametrize("required", [True, False])
def test_a_certificate_that_is_shown_is_verified_even_if_none_is_required(required: bool, tmp_path: Path) -> None:
    serving = server(certificate("web", SITE), trusted(CA), required=required)
    handshake(serving, client(pair=CA.issue("c.test"), folder=tmp_path))
    for bad in (Ca("other").issue("c.test"), CA.issue("c.test", expires=NOW - DAY), Ca("test root").issue("c.test")):
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            handshake(serving, client(pair=bad, folder=tmp_path))


def test_a_revoked_certificate_is_refused_and_others_are_not(tmp_path: Path) -> None:
    good, bad = CA.issue("good.test"), CA.issue("bad.test")
    serving = server(certificate("web", SITE), trusted(CA, CA.revoke(bad)))
    handshake(serving, client(pair=good, folder=tmp_path))
    with pytest.raises(ssl.SSLError, match="revoked"):
        handshake(serving, client(pair=bad, folder=tmp_path))


def test_an_intermediate_that_is_revoked_takes_all_with_it_and_each_authority_needs_a_list(tmp_path: Path) -> None:
    root = Ca()
    below = Ca("intermediate", issuer=root)
    shown = client(pair=below.issue("c.test"), folder=tmp_path)
    site = certificate("web", SITE)
    handshake(server(site, trusted(root, root.crl() + below.crl())), shown)
    with pytest.raises(ssl.SSLError, match="unable to get certificate CRL"):
        handshake(server(site, trusted(root, root.crl())), shown)
    revoked = root.revoke(Pair(below.pem, "")) + below.crl()
    with pytest.raises(ssl.SSLError, match="revoked"):
        handshake(server(site, trusted(root, revoked)), shown)


def test_an_intermediate_that_is_trusted_is_enough(tmp_path: Path) -> None:
    below = Ca("intermediate", issuer=CA)
    serving = server(certificate("web", SITE), trusted(below), required=True)
    handshake(serving, client(pair=below.issue("c.test"), folder=tmp_path))
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(serving, client(pair=CA.issue("c.test"), folder=tmp_path))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_goes_on_in_another_connection(version: ssl.TLSVersion) -> None:
    serving, asking = server(certificate("web", SITE)), client()
    asking.maximum_version = version
    _, first = handshake(serving, asking)
    assert handshake(serving, asking, session=first.session)[0].session_reused


def test_nobody_renegotiates() -> None:
    assert server(certificate("web", SITE)).options & ssl.OP_NO_RENEGOTIATION


def test_a_client_shows_what_it_has_and_verifies_the_server() -> None:
    secrets = Secrets([certificate("own", CA.issue("c.test")), trusted(CA)])
    validation = CertificateValidationContext("ca")
    asking = client_context(CommonTlsContext(("own",), validation), secrets)
    at_server, _ = handshake(server(certificate("web", SITE), trusted(CA), required=True), asking)
    assert at_server.getpeercert(True) is not None
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        handshake(server(certificate("web", Ca("other").issue("site.test"))), asking)


def test_a_client_without_anything_to_verify_by_takes_any_server() -> None:
    asking = client_context(CommonTlsContext(), Secrets())
    handshake(server(certificate("web", Ca("other").issue("site.test"))), asking)


class Files:
    """A certificate, its key and an authority in files, and the secrets that are read from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write(SITE)
        self.ca = folder / "ca.crt"
        self.ca.write_text(CA.pem)
        source = TlsCertificate(FileSource(str(folder / "tls.crt")), FileSource(str(folder / "tls.key")))
        here = Origin("mesh.yaml", 7, "Gateway/gw.default")
        self.config = [Secret("web", source, here), Secret("ca", TrustedCa(FileSource(str(self.ca))), here)]

    def write(self, pair: Pair) -> None:
        pair.write(self.folder)

    def secrets(self) -> Secrets:
        return Secrets(self.config)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_new_files_are_used_for_new_connections(files: Files) -> None:
    secrets = files.secrets()
    config = DownstreamTlsContext(CommonTlsContext(("web",)))
    current = Current(lambda: server_context(config, secrets), secrets, config.common, "here")
    before = current()
    files.write(CA.issue("new.test"))
    secrets.look()
    assert current() is not before
    assert names_shown(handshake(current(), client(), "new.test")[1]) == ["new.test"]
    secrets.look()
    assert current() is current()


def test_a_directory_that_kubernetes_turns_is_seen(tmp_path: Path) -> None:
    for name, pair in (("1", SITE), ("2", CA.issue("new.test"))):
        (tmp_path / name).mkdir()
        pair.write(tmp_path / name)
    (tmp_path / "..data").symlink_to("1")
    mounted = tmp_path / "..data"
    source = TlsCertificate(FileSource(str(mounted / "tls.crt")), FileSource(str(mounted / "tls.key")))
    secrets = Secrets([Secret("web", source)])
    (tmp_path / "..next").symlink_to("2")
    (tmp_path / "..next").rename(mounted)
    secrets.look()
    assert secrets.key_pair("web").chain == read_key_pair(source).chain != key_pair(SITE).chain


@pytest.mark.parametrize("damage", ["gone", "garbage", "misfit"])
def test_what_is_new_and_bad_leaves_the_old_in_use_and_is_logged(
    files: Files, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = files.secrets()
    before = secrets.key_pair("web")
    key = files.folder / "tls.key"
    match damage:
        case "gone":
            key.unlink()
        case "garbage":
            key.write_text("garbage")
        case "misfit":
            key.write_text(CA.issue("other.test").key)
    secrets.look()
    assert secrets.key_pair("web") is before
    [record] = caplog.records
    assert str(key) in record.message
    assert "mesh.yaml:7 (Gateway/gw.default)" in record.message
    assert [one.trouble is None for one in secrets] == [False, True]
    secrets.look()
    assert len(caplog.records) == 1
    files.write(SITE)
    secrets.look()
    assert [one.trouble for one in secrets] == [None, None]


async def test_files_are_looked_at_while_the_proxy_runs(files: Files, autojump_clock: trio.testing.MockClock) -> None:
    secrets = files.secrets()
    changed = trio.Event()
    secrets.subscribe(["ca"], changed.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(secrets.watch)
        await trio.testing.wait_all_tasks_blocked()
        files.ca.write_text(Ca("new").pem)
        await changed.wait()
        nursery.cancel_scope.cancel()
    [authority] = secrets.authorities("ca").certificates
    assert "new" in authority.subject.rfc4514_string()


async def test_where_there_are_no_files_nothing_is_looked_at() -> None:
    await Secrets([certificate("web", SITE)]).watch()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"tls.key": None}, "cannot read {}/tls.key: No such file or directory"),
        ({"tls.crt": None}, "cannot read {}/tls.crt: No such file or directory"),
        ({"tls.crt": "x"}, "cannot use {}/tls.crt: it holds no certificate in PEM"),
        ({"tls.key": "x"}, "cannot use the key {}/tls.key: it is no private key in PEM"),
        ({"tls.key": CA.issue("other.test").key}, "the key {0}/tls.key does not fit the certificate {0}/tls.crt"),
        ({"ca.crt": None}, "cannot read {}/ca.crt: No such file or directory"),
    ],
)
def test_what_cannot_be_used_at_the_start_is_told_with_its_place(
    files: Files, damage: dict[str, str | None], said: str
) -> None:
    for name, text in damage.items():
        path = files.folder / name
        path.unlink() if text is None else path.write_text(text)
    with pytest.raises(Unusable) as raised:
        files.secrets()
    assert said.format(files.folder) in str(raised.value)
    assert "mesh.yaml:7 (Gateway/gw.default)" in str(raised.value)
    assert "PRIVATE" not in str(raised.value).replace("-----BEGIN PRIVATE KEY-----", "")


def test_an_authority_that_has_expired_is_refused() -> None:
    with pytest.raises(Unusable, match=r"the authority CN=test root has expired on"):
        Secrets([trusted(CA)], now=lambda: datetime.now(UTC) + 60 * DAY)


def test_a_certificate_that_has_expired_is_served_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    Secrets([certificate("web", CA.issue("old.test", expires=NOW - DAY))])
    assert "the certificate for old.test has expired" in caplog.text


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_passphrase() -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(SITE.key.encode(), None)
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"x"))
    with pytest.raises(Unusable, match=r"the key web\.key: it is encrypted"):
        Secrets([certificate("web", Pair(SITE.chain, secret.decode()))])


def test_the_workloads_own_identity_comes_later_and_is_exchanged() -> None:
    secrets = Secrets([Secret("default", WorkloadCertificate()), Secret("ROOTCA", WorkloadRoots())])
    config = DownstreamTlsContext(CommonTlsContext(("default",), CertificateValidationContext("ROOTCA")), True)
    current = Current(lambda: server_context(config, secrets), secrets, config.common, "here")
    with pytest.raises(MissingSecret, match="run with --ca"):
        current()
    for name in ("one.test", "two.test"):
        made = key_pair(CA.issue(name))
        secrets.set_identity(Credentials(made.key, Issued(made.chain, (CA.certificate,))))
        own = ssl.create_default_context(cadata=CA.pem)
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN"):
            handshake(current(), own, name)


def key_pair(pair: Pair) -> KeyPair:
    return read_key_pair(TlsCertificate(InlineSource("c", pair.chain), InlineSource("k", pair.key)))
