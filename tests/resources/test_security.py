"""AuthorizationPolicy and RequestAuthentication as they are written: what Istio refuses is refused, by its place."""

from __future__ import annotations

import pytest

from .conftest import Complaints, Reader


def rule(text: str) -> str:
    return f"{{rules: [{text}]}}"


def source(text: str) -> str:
    return rule(f"{{from: [{{source: {text}}}]}}")


def operation(text: str) -> str:
    return rule(f"{{to: [{{operation: {text}}}]}}")


def when(text: str) -> str:
    return rule(f"{{when: [{text}]}}")


SOURCE = "rules[0].from[0].source"
OPERATION = "rules[0].to[0].operation"


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ("{action: ALOW}", "action", "ALLOW"),
        ("{action: DENY}", "spec", "DENY without rules denies nothing"),
        (
            "{selector: {}, targetRef: {kind: Gateway, name: g}}",
            "spec",
            "give one of selector, targetRef and targetRefs",
        ),
        (rule("{from: []}"), "rules[0].from", "at least 1"),
        (rule("{to: []}"), "rules[0].to", "at least 1"),
        (rule("{from: [{}]}"), "rules[0].from[0].source", "is required"),
        (rule("{to: [{}]}"), "rules[0].to[0].operation", "is required"),
        (source("{}"), SOURCE, "says nothing of a source"),
        (source("{principals: ['']}"), f"{SOURCE}.principals[0]", "cannot be empty"),
        (source("{ipBlocks: [300.1.1.1]}"), f"{SOURCE}.ipBlocks[0]", "not an IP address or a range"),
        (source("{remoteIpBlocks: [10.0.0.0/40]}"), f"{SOURCE}.remoteIpBlocks[0]", "not an IP address or a range"),
        (
            source("{serviceAccounts: ['a*']}"),
            f"{SOURCE}.serviceAccounts[0]",
            "stands for itself in no service account",
        ),
        (source("{serviceAccounts: [a/b/c]}"), f"{SOURCE}.serviceAccounts[0]", "not a service account"),
        (
            source("{serviceAccounts: [a], namespaces: [b]}"),
            SOURCE,
            "give serviceAccounts, or principals and namespaces",
        ),
        (source("{trustDomains: [a/b]}"), f"{SOURCE}.trustDomains[0]", "has no '/'"),
        (source("{trustDomains: ['a*b']}"), f"{SOURCE}.trustDomains[0]", "at the start or at the end"),
        (operation("{}"), OPERATION, "says nothing of an operation"),
        (operation("{ports: ['70000']}"), f"{OPERATION}.ports[0]", "is not a port"),
        (operation("{notPorts: [http]}"), f"{OPERATION}.notPorts[0]", "is not a port"),
        (operation("{paths: ['/a/{**}/b/{*}']}"), f"{OPERATION}.paths[0]", "has to be the last one"),
        (operation("{paths: ['/a/{name}']}"), f"{OPERATION}.paths[0]", "has braces in '{name}'"),
        (operation("{paths: ['/a/{*}x']}"), f"{OPERATION}.paths[0]", "has braces"),
        (operation("{paths: ['/a b/{*}']}"), f"{OPERATION}.paths[0]", "no segment of a template can be 'a b'"),
        (operation("{paths: ['{*}/a']}"), f"{OPERATION}.paths[0]", "begins with '/'"),
        (when("{key: source.ip}"), "rules[0].when[0]", "give values or notValues"),
        (when("{key: source.ip, values: [x]}"), "rules[0].when[0].values[0]", "not an IP address"),
        (when("{key: destination.port, notValues: ['x']}"), "rules[0].when[0].notValues[0]", "is not a port"),
        (when("{key: source.adress, values: [x]}"), "rules[0].when[0].key", "not an attribute of a request"),
        (when("{key: 'request.headers[]', values: [x]}"), "rules[0].when[0].key", "not an attribute of a request"),
        (when("{key: request.headers, values: [x]}"), "rules[0].when[0].key", "not an attribute of a request"),
        (when("{key: 'request.headers[a b]', values: [x]}"), "rules[0].when[0].key", "not a header name"),
        (
            when("{key: 'experimental.envoy.filters.a.b[c]', values: [x]}"),
            "rules[0].when[0].key",
            "metadata of Envoy's filters",
        ),
    ],
)
def test_such_a_policy_is_refused(complaints: Complaints, spec: str, path: str, message: str) -> None:
    [(found, told)] = complaints("AuthorizationPolicy", spec)
    assert found == path
    assert message in told


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ("{issuer: me}", "jwtRules[0]", "says not where its keys are"),
        (
            '{jwksUri: \'https://a/k\', jwks: \'{"keys": [{"kty": "RSA"}]}\'}',
            "jwtRules[0]",
            "give one of jwks and jwksUri",
        ),
        ("{issuer: me, jwksUri: 'ftp://a'}", "jwtRules[0].jwksUri", "is not the URL of a key set"),
        ("{issuer: me, jwksUri: 'file:///etc/passwd'}", "jwtRules[0].jwksUri", "is not the URL of a key set"),
        ("{issuer: me, jwks: '{}'}", "jwtRules[0].jwks", "is not a set of JSON Web Keys"),
        ("{issuer: me, jwks: '{\"keys\": []}'}", "jwtRules[0].jwks", "is not a set of JSON Web Keys"),
        (
            "{issuer: 'https://a', fromHeaders: [{name: 'a b'}]}",
            "jwtRules[0].fromHeaders[0].name",
            "is not a header name",
        ),
        (
            "{issuer: 'https://a', outputClaimToHeaders: [{header: ':path', claim: sub}]}",
            "jwtRules[0].outputClaimToHeaders[0].header",
            "is not a header name",
        ),
        (
            "{issuer: 'https://a', outputPayloadToHeader: ''}",
            "jwtRules[0].outputPayloadToHeader",
            "is not a header name",
        ),
        ("{issuer: 'https://a', timeout: 0s}", "jwtRules[0].timeout", "at least 1ms"),
        ("{issuer: 'https://a', audiences: ['']}", "jwtRules[0].audiences[0]", "cannot be empty"),
    ],
)
def test_such_a_jwt_rule_is_refused(complaints: Complaints, spec: str, path: str, message: str) -> None:
    [(found, told)] = complaints("RequestAuthentication", f"{{jwtRules: [{spec}]}}")
    assert found == path
    assert message in told


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ("{mtls: {mode: STRIKT}}", "mtls.mode", "STRICT"),
        ("{portLevelMtls: {8080: {mode: STRICT}}}", "portLevelMtls", "is for the workloads that a selector names"),
        (
            "{selector: {matchLabels: {}}, portLevelMtls: {8080: {mode: STRICT}}}",
            "portLevelMtls",
            "is for the workloads that a selector names",
        ),
        ("{selector: {matchLabels: {app: a}}, portLevelMtls: {}}", "portLevelMtls", "names no port"),
        *(
            (
                f"{{selector: {{matchLabels: {{app: a}}}}, portLevelMtls: {{{port}: {{}}}}}}",
                f'portLevelMtls["{port}"]',
                "not",
            )
            for port in (0, 65536, -1)
        ),
    ],
)
def test_such_a_peer_authentication_is_refused(complaints: Complaints, spec: str, path: str, message: str) -> None:
    [(found, told)] = complaints("PeerAuthentication", spec)
    assert found == path
    assert message in told


def test_a_secret_in_a_key_set_is_in_no_message(complaints: Complaints) -> None:
    [(_, told)] = complaints("RequestAuthentication", "{jwtRules: [{issuer: me, jwks: 'hush'}]}")
    assert "hush" not in told


def test_everything_that_istio_documents_is_read(read: Reader) -> None:
    loaded = read("""
        apiVersion: security.istio.io/v1
        kind: AuthorizationPolicy
        metadata: {name: httpbin, namespace: foo}
        spec:
          action: ALLOW
          rules:
          - from:
            - source: {principals: [cluster.local/ns/default/sa/curl]}
            - source: {namespaces: [test]}
            to:
            - operation: {methods: [GET], paths: ['/info*', '/a/{*}/b/{**}']}
            - operation: {methods: [POST], paths: [/data]}
            when:
            - {key: 'request.auth.claims[iss]', values: ['https://accounts.google.com']}
            - {key: 'request.auth.claims[a][b]', notValues: [c]}
        """)
    assert loaded.problems == ()


CUSTOM = "{action: CUSTOM, provider: {name: judge}, rules: [%s]}"


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        ("{action: CUSTOM, provider: {name: judge}}", "spec", "CUSTOM without rules is about no request"),
        ("{action: CUSTOM, rules: [{}]}", "provider", "needs the name of an extension provider"),
        ("{action: CUSTOM, provider: {}, rules: [{}]}", "provider", "needs the name of an extension provider"),
        (
            "{action: DENY, provider: {name: judge}, rules: [{}]}",
            "provider",
            "asked only by action: CUSTOM, not by DENY",
        ),
        ("{provider: {name: judge}, rules: [{}]}", "provider", "asked only by action: CUSTOM, not by ALLOW"),
        (CUSTOM % "{from: [{source: {principals: [a]}}]}", f"{SOURCE}.principals", "cannot be asked with CUSTOM"),
        (
            CUSTOM % "{from: [{source: {notRequestPrincipals: [a]}}]}",
            f"{SOURCE}.notRequestPrincipals",
            "cannot be asked with CUSTOM",
        ),
        (CUSTOM % "{from: [{source: {trustDomains: [a]}}]}", f"{SOURCE}.trustDomains", "cannot be asked with CUSTOM"),
        (
            CUSTOM % "{when: [{key: 'request.auth.claims[a]', values: [b]}]}",
            "rules[0].when[0].key",
            "cannot be asked with CUSTOM",
        ),
        (
            CUSTOM % "{when: [{key: source.namespace, values: [b]}]}",
            "rules[0].when[0].key",
            "cannot be asked with CUSTOM",
        ),
    ],
)
def test_what_istio_refuses_of_custom_is_refused_by_name(
    complaints: Complaints, spec: str, path: str, message: str
) -> None:
    [(found, told)] = complaints("AuthorizationPolicy", spec)
    assert found == path
    assert message in told


def test_custom_may_ask_for_addresses_paths_and_headers(complaints: Complaints) -> None:
    rules = (
        "{from: [{source: {ipBlocks: [10.0.0.0/8]}}], to: [{operation: {paths: [/a*]}}], "
        "when: [{key: source.ip, values: [10.0.0.1]}]}"
    )
    assert complaints("AuthorizationPolicy", CUSTOM % rules) == []
