"""`meshproxy ca`: what each command writes and says, and how it says what is wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from cryptography import x509

from meshproxy.cli.ca import ca as ca_command
from meshproxy.identity import Authority, RemoteCa, certificates, keys, obtain, spiffe
from meshproxy.identity.authority import create

from .support import meshproxy, until_ready

WORKLOADS = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-1, namespace: prod}
spec: {address: 10.0.0.1, serviceAccount: bookinfo-reviews}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: plain}
spec: {address: 10.0.0.2}
"""


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """The directory of a CA."""
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=datetime.now(UTC))
    return tmp_path / "ca"


def identity_in(folder: Path) -> str:
    return str(certificates.spiffe_id(certificates.read_certificates(folder / "cert-chain.pem")[0]))


def test_init_issue_and_show_are_all_that_a_beginner_needs(tmp_path: Path) -> None:
    directory = tmp_path / "certs"
    assert meshproxy("ca", "init", "--dir", directory, "--trust-domain", "mesh.test").returncode == 0

    issued = meshproxy("ca", "issue", "reviews.prod", "--dir", directory)
    shown = meshproxy("ca", "show", directory / "workloads/ns/prod/sa/reviews/cert-chain.pem")

    assert "proves spiffe://mesh.test/ns/prod/sa/reviews until " in issued.stdout
    assert shown.returncode == 0
    assert "  spiffe://mesh.test/ns/prod/sa/reviews (workload)\n" in shown.stdout
    assert "23 hours left" in shown.stdout
    assert "key        ECDSA, P-256" in shown.stdout
    assert re.search(r"SHA-256    ([0-9A-F]{2}:){31}", shown.stdout)
    assert "(intermediate)" in shown.stdout
    assert "PROBLEM" not in shown.stdout and "warning" not in shown.stdout


@pytest.mark.parametrize(
    ("workload", "more", "identity"),
    [
        ("reviews", (), "ns/default/sa/reviews"),
        ("reviews.prod", (), "ns/prod/sa/reviews"),
        ("my.app.prod", (), "ns/prod/sa/my.app"),
        ("spiffe://cluster.local/ns/prod/sa/reviews", (), "ns/prod/sa/reviews"),
        ("spiffe://cluster.local/batch/nightly", (), "batch/nightly"),
        ("reviews-1.prod", ("-f", "workloads.yaml"), "ns/prod/sa/bookinfo-reviews"),
        ("plain", ("-f", "workloads.yaml"), "ns/default/sa/default"),
    ],
)
def test_a_workload_is_a_service_account_or_a_workload_entry(
    ca: Path, workload: str, more: Sequence[str], identity: str
) -> None:
    (ca / "workloads.yaml").write_text(WORKLOADS)
    result = meshproxy(
        "ca", "issue", workload, "--dir", ca, *[str(ca / one) if ".yaml" in one else one for one in more]
    )
    assert result.returncode == 0, result.stderr
    assert identity_in(ca / "workloads" / identity) == f"spiffe://cluster.local/{identity}"


def test_a_certificate_may_have_names_for_clients_without_spiffe(ca: Path, tmp_path: Path) -> None:
    names = ["--name", "localhost", "--name", "127.0.0.1", "--name", "localhost"]
    meshproxy("ca", "issue", "edge", "--dir", ca, "--out", tmp_path / "out", *names)
    leaf = certificates.read_certificates(tmp_path / "out" / "cert-chain.pem")[0]
    alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identity = "spiffe://cluster.local/ns/default/sa/edge"
    assert [str(one.value) for one in alternatives] == [identity, "localhost", "127.0.0.1"]


def test_issue_writes_where_it_is_told_for_as_long_as_it_is_told(ca: Path, tmp_path: Path) -> None:
    meshproxy("ca", "issue", "reviews", "--dir", ca, "--out", tmp_path / "out", "--ttl", "90m")
    leaf = certificates.read_certificates(tmp_path / "out" / "cert-chain.pem")[0]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(minutes=92)
    assert sorted(file.name for file in (tmp_path / "out").iterdir() if file.suffix == ".pem") == [
        "cert-chain.pem", "crl.pem", "key.pem", "root-cert.pem",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("issue", "Reviews"), 2, "'Reviews' is not a service account"),
        (("issue", "reviews.Prod"), 2, "'Prod' is not a namespace"),
        (("issue", "spiffe://cluster.local/../x"), 2, "is not a SPIFFE ID"),
        (("issue", "spiffe://other.test/a"), 1, "not of this CA's trust domain, 'cluster.local'"),
        (("issue", "reviews", "--ttl", "24"), 2, "24s for seconds"),
        (("issue", "reviews", "--ttl", "0s"), 2, "less than a second"),
        (("issue", "reviews", "-f", "{ca}/none.yaml"), 2, "cannot read"),
        (("token", "spiffe://cluster.local/ns/istio-system/sa/meshproxy-ca"), 1, "the CA's own identity"),
        (("init",), 1, "is a CA already"),
        (("init", "--root-cert", "x.pem"), 2, "--root-cert and --root-key go together"),
        (("init", "--root-cert", "x.pem", "--root-key", "x.key"), 2, "cannot read x.pem: No such file or directory"),
        (("show", "x.pem"), 2, "cannot read x.pem: No such file or directory"),
        (("show", "{ca}/ca-key.pem"), 2, "holds no certificate in PEM"),
        (("revoke", "xyz"), 2, "neither a file nor a serial number"),
        (("revoke", "ab:cd"), 1, "no certificate abcd is on record"),
        (("rotate", "--finish"), 1, "no rotation is under way"),
        (("rotate", "--finish", "--root"), 2, "give one of them"),
        (("rotate", "--force"), 2, "--force is for --finish"),
        (("serve", "--listen", "nowhere:1"), 2, "127.0.0.1:15000"),
        (("serve", "--listen", "127.0.0.1:0", "--name", "ä"), 2, "xn--"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_cure(ca: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    command, *more = (one.format(ca=ca) for one in arguments)
    result = CliRunner().invoke(ca_command, [command, "--dir", str(ca), *more])
    assert said in " ".join(result.stderr.split())
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == code


@pytest.mark.parametrize("command", ["show", "issue", "token", "rotate", "revoke", "serve"])
def test_without_a_ca_every_command_says_how_to_make_one(tmp_path: Path, command: str) -> None:
    argument = ["1f"] if command in ("issue", "token", "revoke") else []
    result = CliRunner().invoke(ca_command, [command, *argument, "--dir", str(tmp_path / "none")])
    assert "make one with `meshproxy ca init --dir" in result.stderr
    assert result.exit_code == 2


def test_show_says_what_is_wrong_and_exits_with_1(ca: Path) -> None:
    meshproxy("ca", "issue", "reviews", "--dir", ca)
    folder = ca / "workloads/ns/default/sa/reviews"
    (folder / "key.pem").write_bytes(keys.to_pem(keys.generate()))
    (folder / "key.pem").chmod(0o644)

    result = meshproxy("ca", "show", folder / "cert-chain.pem")

    assert result.returncode == 1
    assert f"PROBLEM: the key {folder / 'key.pem'} does not fit" in result.stdout
    assert f"chmod 600 {folder / 'key.pem'}" in result.stdout


def test_show_as_json_is_for_programs(ca: Path) -> None:
    (shown, roots) = json.loads(meshproxy("ca", "show", "--dir", ca, "--json").stdout)
    assert [one["kind"] for one in shown["certificates"] + roots["certificates"]] == ["intermediate", "root"]
    assert shown["problems"] == shown["warnings"] == roots["problems"] == []
    assert datetime.fromisoformat(shown["certificates"][0]["not_after"]) > datetime.now(UTC)


def test_rotate_and_finish(ca: Path) -> None:
    meshproxy("ca", "issue", "reviews", "--dir", ca)
    assert "old and new are trusted" in meshproxy("ca", "rotate", "--root", "--dir", ca).stdout
    assert meshproxy("ca", "show", "--dir", ca).stdout.count("(root)") == 2
    early = meshproxy("ca", "rotate", "--finish", "--dir", ca)
    assert early.returncode == 1 and "Wait, or refuse them with --force" in early.stderr
    assert meshproxy("ca", "rotate", "--finish", "--force", "--dir", ca).returncode == 0
    assert meshproxy("ca", "show", "--dir", ca).stdout.count("(root)") == 1


def test_a_root_of_ones_own_is_brought_and_later_replaced(tmp_path: Path) -> None:
    mine, directory = tmp_path / "mine", tmp_path / "ca"
    meshproxy("ca", "init", "--dir", mine)
    own = ("--root-cert", mine / "root-cert.pem", "--root-key", mine / "root-key.pem")
    assert meshproxy("ca", "init", "--dir", directory, *own).returncode == 0
    assert not (directory / "root-key.pem").exists()
    refused = meshproxy("ca", "rotate", "--dir", directory)
    assert refused.returncode == 1 and "--current-root-key" in refused.stderr
    rotated = meshproxy("ca", "rotate", "--root", "--dir", directory, "--current-root-key", mine / "root-key.pem")
    assert rotated.returncode == 0, rotated.stderr
    assert len(certificates.read_certificates(directory / "root-cert.pem")) == 2


def test_revoke_by_file_or_serial_and_show_tells_it(ca: Path) -> None:
    meshproxy("ca", "issue", "reviews", "--dir", ca)
    chain = ca / "workloads/ns/default/sa/reviews/cert-chain.pem"
    serial = json.loads(meshproxy("ca", "show", chain, "--json").stdout)[0]["certificates"][0]["serial"]
    for which in (chain, serial, serial.upper()):
        assert "revoked a certificate of spiffe://" in meshproxy("ca", "revoke", which, "--dir", ca).stdout
    assert meshproxy("ca", "show", chain, "--dir", ca.parent).returncode == 0  # the lists beside it are older
    for lists in (ca, chain.parent):
        shown = meshproxy("ca", "show", chain, "--dir", lists)
        assert shown.returncode == 1
        assert f"PROBLEM: the certificate {serial} has been revoked" in shown.stdout
        (chain.parent / "crl.pem").write_bytes((ca / "crl.pem").read_bytes())


class TestThePassphrase:
    @pytest.fixture
    def locked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A CA whose keys are encrypted with `open sesame`."""
        (tmp_path / "passphrase").write_text("open sesame\n")
        result = meshproxy("ca", "init", "--dir", tmp_path / "ca", "--passphrase-file", tmp_path / "passphrase")
        assert result.returncode == 0
        assert b"ENCRYPTED" in (tmp_path / "ca" / "ca-key.pem").read_bytes()
        return tmp_path / "ca"

    def test_comes_from_a_file(self, locked: Path) -> None:
        file = locked.parent / "passphrase"
        assert meshproxy("ca", "issue", "reviews", "--dir", locked, "--passphrase-file", file).returncode == 0

    def test_comes_from_the_environment(self, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MESHPROXY_CA_PASSPHRASE", "open sesame")
        assert meshproxy("ca", "issue", "reviews", "--dir", locked).returncode == 0

    def test_comes_from_a_person(self, locked: Path) -> None:
        command = [sys.executable, "-m", "meshproxy", "ca", "issue", "reviews", "--dir", str(locked)]
        ours, theirs = pty.openpty()
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        said = b""
        while b"Passphrase of" not in said or b": " not in said:
            said += os.read(ours, 1024)
        os.write(ours, b"open sesame\n")
        assert process.wait(20) == 0
        os.close(ours)
        assert b"sesame" not in said

    def test_that_is_wrong_is_told_and_not_repeated(self, locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MESHPROXY_CA_PASSPHRASE", "wrong horse")
        result = meshproxy("ca", "issue", "reviews", "--dir", locked)
        assert result.returncode == 2
        assert "the passphrase is not the one it was written with" in result.stderr
        assert "horse" not in result.stdout + result.stderr

    def test_that_is_missing_is_asked_for(self, locked: Path) -> None:
        result = meshproxy("ca", "issue", "reviews", "--dir", locked)
        assert result.returncode == 2
        assert "--passphrase-file or in MESHPROXY_CA_PASSPHRASE" in result.stderr

    def test_is_not_needed_to_show(self, locked: Path) -> None:
        result = meshproxy("ca", "show", "--dir", locked)
        assert result.returncode == 0
        assert "the key is not compared" in result.stdout

    def test_is_wanted_by_init_only_where_it_can_be_had(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n")
        for how, said in ((("--encrypt",), "no terminal"), (("--passphrase-file", tmp_path / "empty"), "is empty")):
            result = meshproxy("ca", "init", "--dir", tmp_path / "ca", *how)
            assert result.returncode == 2
            assert said in result.stderr


@contextmanager
def serving(directory: Path, errors: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`meshproxy ca serve`, and its port."""
    command = [sys.executable, "-m", "meshproxy", "ca", "serve", "--dir", str(directory), "--listen", "127.0.0.1:0"]
    with errors.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    try:
        (port,) = until_ready(process, errors)
        yield process, port
    finally:
        process.kill()
        process.wait()


async def test_serve_signs_for_whoever_has_a_token_until_it_is_told_to_stop(ca: Path, tmp_path: Path) -> None:
    token = meshproxy("ca", "token", "reviews.prod", "--dir", ca)
    identity = spiffe.parse("spiffe://cluster.local/ns/prod/sa/reviews")
    assert f"for {identity}, once, within 1:00:00" in token.stderr
    with serving(ca, tmp_path / "errors") as (process, port):
        remote = RemoteCa("127.0.0.1", "cluster.local", Authority(ca).trusted().roots, port, token.stdout.strip())
        got = await obtain(remote, identity, None, lambda: datetime.now(UTC))
        process.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(process.wait, 20) == 0
    assert certificates.spiffe_id(got.issued.leaf) == identity
    log = (tmp_path / "errors").read_text()
    assert f"signed {got.issued.leaf.serial_number:x} for {identity} at 127.0.0.1, by a join token" in log
    assert token.stdout.strip() not in log


def test_serve_tells_an_address_in_use(ca: Path, tmp_path: Path) -> None:
    with serving(ca, tmp_path / "errors") as (_, port):
        result = meshproxy("ca", "serve", "--dir", ca, "--listen", f"127.0.0.1:{port}")
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
