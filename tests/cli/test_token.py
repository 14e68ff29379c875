"""`meshproxy token`, and `explain` with what it makes: whose token it is, and which policy decides."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from ..mesh.support import GATEWAY, service_entry, virtual_service
from ..mesh.test_access import APP, policy
from .support import meshproxy


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "issuer.pem"


def mint(key: Path, *more: str) -> str:
    made = meshproxy("token", "mint", "--key", key, "--issuer", "test", "--subject", "alice", *more)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def test_a_token_is_made_and_verified_by_its_issuers_key_set(key: Path, tmp_path: Path) -> None:
    token = mint(key, "--audience", "shop", "--claim", 'groups=["dev"]')
    jwks = tmp_path / "jwks.json"
    jwks.write_text(meshproxy("token", "jwks", "--key", key).stdout)

    told = meshproxy("token", "inspect", "--jwks", jwks, stdin=token)

    assert told.returncode == 0
    assert 'groups: ["dev"]' in told.stdout
    assert "signature verified" in told.stdout
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "d" not in json.loads(jwks.read_text())["keys"][0]


def test_a_token_of_another_issuer_and_one_that_is_none_are_told(key: Path, tmp_path: Path) -> None:
    jwks = tmp_path / "jwks.json"
    jwks.write_text(meshproxy("token", "jwks", "--key", tmp_path / "other.pem").stdout)

    other = meshproxy("token", "inspect", "--jwks", jwks, stdin=mint(key))
    none = meshproxy("token", "inspect", "nonsense")

    assert (other.returncode, none.returncode) == (1, 1)
    assert "Jwks doesn't have key to match kid or alg from Jwt" in other.stderr
    assert "Jwt is not in the form" in none.stderr


def test_a_key_that_is_none_is_told(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("hush")
    told = meshproxy("token", "jwks", "--key", bad)
    assert told.returncode == 2
    assert f"cannot use the key {bad}" in told.stderr
    assert "hush" not in told.stderr


def test_explain_tells_which_policy_decides_and_why(key: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(mint(key))
    jwks = meshproxy("token", "jwks", "--key", key).stdout.strip()
    files = tmp_path / "mesh.yaml"
    documents = (
        GATEWAY,
        virtual_service("- route: [{destination: {host: a}}]"),
        service_entry("a"),
        policy(
            "keys",
            f"{{jwtRules: [{{issuer: test, jwks: '{jwks}'}}]}}",
            namespace="istio-system",
            kind="RequestAuthentication",
        ),
        policy("deny", "{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}", namespace="istio-system"),
        policy("permit", "{rules: [{from: [{source: {requestPrincipals: [test/alice]}}]}]}", namespace="istio-system"),
    )
    files.write_text("\n---\n".join(documents))

    def explain(path: str, *more: str) -> tuple[int, str]:
        told = meshproxy("explain", "-f", files, "GET", f"http://example.com{path}", *more)
        return told.returncode, told.stdout + told.stderr

    allowed, admin, nobody = explain("/", "--token", f"@{token}"), explain("/admin"), explain("/")

    assert (allowed[0], admin[0], nobody[0]) == (0, 1, 1), allowed
    assert "a token of test for alice" in allowed[1]
    assert 'allowed by ns[istio-system]-policy[permit]-rule[0]: claim iss "test" and claim sub "alice"' in allowed[1]
    assert 'denied by ns[istio-system]-policy[deny]-rule[0]: path "/admin"' in admin[1]
    assert "403 rbac_access_denied_matched_policy" in admin[1]
    assert 'not by ns[istio-system]-policy[permit]-rule[0]: not claim iss "test"' in nobody[1]
    assert f"{files}:" in nobody[1]
    assert token.read_text() not in allowed[1]


def test_explain_tells_who_else_is_asked(tmp_path: Path) -> None:
    files = tmp_path / "mesh.yaml"
    ask = "{action: CUSTOM, provider: {name: judge}, rules: [{to: [{operation: {paths: [/admin*]}}]}]}"
    dry = ask.replace("/admin*", "/dry")
    documents = (
        GATEWAY,
        virtual_service("- route: [{destination: {host: a}}]"),
        service_entry("a"),
        "extensionProviders: [{name: judge, envoyExtAuthzHttp: {service: a.default.svc.cluster.local, port: 80}}]",
        policy("ask", ask, namespace="istio-system"),
        policy("dry", dry, namespace="istio-system", extra=", annotations: {istio.io/dry-run: 'true'}"),
    )
    files.write_text("\n---\n".join(documents))

    def explain(path: str) -> str:
        return meshproxy("explain", "-f", files, "GET", f"http://example.com{path}").stdout

    who = "judge at outbound|80||a.default.svc.cluster.local"
    assert f"{who} is asked; this goes on as if it allowed, by ns[istio-system]-policy[ask]-rule[0]" in explain(
        "/admin"
    )
    assert "judge is not asked" in explain("/")
    assert f"{who} would be asked if it were no dry run, by ns[istio-system]-policy[dry]-rule[0]" in explain("/dry")


def test_explain_asks_a_sidecar_about_what_comes_to_it(tmp_path: Path) -> None:
    files = tmp_path / "mesh.yaml"
    only_web = "{rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/web]}}]}]}"
    files.write_text("\n---\n".join((APP, policy("web", only_web))))
    question = ("explain", "-f", files, "--workload", "app-1", "--inbound", "GET", "http://app:8080/")

    nobody, web = meshproxy(*question), meshproxy(*question, "--as", "spiffe://cluster.local/ns/default/sa/web")
    which = meshproxy(*question[:-1], "http://app/")
    no_id = meshproxy(*question, "--as", "cluster.local/ns/default/sa/web")

    assert (nobody.returncode, web.returncode, which.returncode) == (1, 0, 2)
    assert "denied: there are policies that allow, and none allows this" in nobody.stdout
    assert "allowed by ns[default]-policy[web]-rule[0]" in web.stdout
    assert "it is called on 8080, 8081" in which.stderr
    assert no_id.returncode == 2
    assert "is not a SPIFFE ID; write it as spiffe://" in no_id.stderr


def test_explain_knows_whom_a_connection_lets_be_known(tmp_path: Path) -> None:
    def explain(mode: str, *more: str) -> tuple[int, str]:
        files = tmp_path / f"{mode}.yaml"
        mtls = policy("mtls", f"{{mtls: {{mode: {mode}}}}}", namespace="istio-system", kind="PeerAuthentication")
        only_web = "{rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/web]}}]}]}"
        files.write_text("\n---\n".join((APP, mtls, policy("web", only_web))))
        told = meshproxy("explain", "-f", files, "--workload", "app-1", "--inbound", "GET", "http://app:8080/", *more)
        return told.returncode, told.stdout + told.stderr

    web, stranger = ("--as", "spiffe://cluster.local/ns/default/sa/web"), ("--as", "spiffe://other/ns/default/sa/web")

    code, told = explain("STRICT")
    assert code == 1
    assert "mutual TLS alone is taken, and no certificate is shown (--as): the connection is closed" in told
    code, told = explain("STRICT", *stranger)
    assert code == 1
    assert "spiffe://other/ns/default/sa/web is of another trust domain: the connection is closed" in told
    assert explain("STRICT", *stranger, "--trust-domain", "other")[0] == 0
    for mode in ("STRICT", "PERMISSIVE"):
        code, told = explain(mode, *web)
        assert code == 0
        assert "x-forwarded-proto: https" in told
    code, told = explain("PERMISSIVE")
    assert code == 1
    assert "x-forwarded-proto: http\n" in told
    code, told = explain("DISABLE", *web)
    assert code == 1
    assert "the connection is plain text, by which nobody is known" in told
    assert "none allows this" in told


def test_explain_keeps_the_signature_of_a_token_to_itself(key: Path, tmp_path: Path) -> None:
    files = tmp_path / "mesh.yaml"
    jwks = meshproxy("token", "jwks", "--key", key).stdout.strip()
    rule = f"{{jwtRules: [{{issuer: test, forwardOriginalToken: true, jwks: '{jwks}'}}]}}"
    keys = policy("keys", rule, namespace="istio-system", kind="RequestAuthentication")
    documents = (GATEWAY, virtual_service("- route: [{destination: {host: a}}]"), service_entry("a"), keys)
    files.write_text("\n---\n".join(documents))
    token = mint(key)
    for more in ((), ("--json",)):
        told = meshproxy("explain", "-f", files, "--token", token, "GET", "http://example.com/", *more)
        assert told.returncode == 0
        assert "a token of test for alice" in told.stdout
        assert token.rpartition(".")[2] not in told.stdout
