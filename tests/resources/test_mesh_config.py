"""The MeshConfig, as Istio's users have it: in a ConfigMap, in an IstioOperator, or by itself."""

from __future__ import annotations

import pytest

from meshproxy.resources import MeshConfig

from .conftest import Complaints, Reader

CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |-
    # what Istio's installation writes
    rootNamespace: istio-system
    extensionProviders:
    - name: judge
      envoyExtAuthzHttp: {service: judge.prod.svc.cluster.local, port: "8000"}
  meshNetworks: 'networks: {}'
"""
OPERATOR = """
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh, namespace: istio-system}
spec:
  profile: default
  meshConfig:
    extensionProviders:
    - name: judge
      envoyExtAuthzHttp: {service: judge.prod.svc.cluster.local, port: 8000}
"""
BARE = """
extensionProviders:
- name: judge
  envoyExtAuthzHttp: {service: judge.prod.svc.cluster.local, port: 8000}
"""


@pytest.mark.parametrize(
    ("text", "id", "line"),
    [
        (CONFIG_MAP, "MeshConfig/istio.istio-system", 11),
        (OPERATOR, "MeshConfig/mesh.istio-system", 10),
        (BARE, "MeshConfig/mesh.default", 4),
    ],
)
def test_it_is_read_wherever_it_stands(read: Reader, text: str, id: str, line: int) -> None:
    loaded = read(text)
    assert loaded.problems == ()
    [config] = loaded.of(MeshConfig)
    [provider] = config.spec.extension_providers
    assert provider.envoy_ext_authz_http is not None
    assert (provider.name, provider.envoy_ext_authz_http.port) == ("judge", 8000)
    assert config.id == id
    assert config.position("spec", "extensionProviders", 0, "envoyExtAuthzHttp", "port").line == line


def test_of_an_operator_nothing_else_is_read_and_that_is_told(read: Reader) -> None:
    [note] = read(OPERATOR).notes
    assert "spec.meshConfig alone is read, not spec.profile" in note.message


@pytest.mark.parametrize(
    ("mesh", "line", "column"),
    [
        ("|\n    a: 1\n    trustDomain: X", 7, 18),
        ("|-\n\n      trustDomain: X", 7, 20),
        ("'trustDomain: X'", 5, 9),
        (">\n    trustDomain: X", 5, 9),
        ('"{\\"trustDomain\\": \\"X\\"}"', 5, 9),
    ],
)
def test_problems_in_its_text_have_their_place_in_the_file(read: Reader, mesh: str, line: int, column: int) -> None:
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata:\n  mesh: {mesh}\n"
    problem = next(one for one in read(text).problems if one.path == "spec.trustDomain")
    assert (problem.position.line, problem.position.column) == (line, column)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{mesh: '{'}", "malformed YAML"),
        ('{mesh: "a: 1\\n---\\nb: 2"}', "one YAML document"),
        ("{mesh: '- a'}", "expected"),
        ("{mesh: 'a'}", "expected"),
        ("{mesh: 'enableTracing: false\n\nenableTracing: false'}", "appears twice"),
        ("{mesh: '', meshNetworks: 'networks: {a: {}}'}", "not supported yet: meshNetworks"),
        ("{mesh: '', other: x}", "not supported yet: other"),
        ("{mesh: 7}", "expected"),
    ],
)
def test_a_text_that_is_no_configuration_says_so(read: Reader, data: str, message: str) -> None:
    data = data.replace("\n", "\n\n")
    loaded = read(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\ndata: {data}\n")
    assert any(message in problem.message for problem in loaded.problems), loaded.problems


def test_an_empty_text_is_an_empty_configuration(read: Reader) -> None:
    loaded = read("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: {mesh: ''}\n")
    assert loaded.problems == ()
    assert len(loaded.of(MeshConfig)) == 1


def test_another_config_map_is_none(read: Reader) -> None:
    for name, data in (("other", "mesh"), ("istio", "other"), ("istio-ca-root-cert", "root-cert.pem")):
        loaded = read(
            f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{{data}: 'trustDomain: X'}}\n"
        )
        assert loaded.problems == ()
        assert [note.message for note in loaded.notes] == ["ConfigMap of v1 is skipped; meshproxy does not read it"]


HTTP = "extensionProviders[0].envoyExtAuthzHttp"


def http(text: str) -> str:
    return f"{{extensionProviders: [{{name: j, envoyExtAuthzHttp: {{service: a.b, port: 80, {text}}}}}]}}"


@pytest.mark.parametrize(
    ("spec", "path", "message"),
    [
        (http("timeout: 5"), f"{HTTP}.timeout", "has no unit"),
        (http("timeout: 0s"), f"{HTTP}.timeout", "at least 1ms"),
        (http("pathPrefix: check"), f"{HTTP}.pathPrefix", "does not begin with '/'"),
        (http("pathPrefix: '/check?a='"), f"{HTTP}.pathPrefix", "is more than a path"),
        (http("pathPrefix: '/a b'"), f"{HTTP}.pathPrefix", "cannot stand in a path"),
        (http("statusOnError: '299'"), f"{HTTP}.statusOnError", "not a status of HTTP that Envoy knows"),
        (http("failOpen: 'yes'"), f"{HTTP}.failOpen", "expected"),
        (http("includeHeadersInCheck: ['*']"), f"{HTTP}.includeHeadersInCheck[0]", "'*' alone is every header"),
        (http("headersToUpstreamOnAllow: ['a*b']"), f"{HTTP}.headersToUpstreamOnAllow[0]", "has a '*' inside"),
        (http("headersToDownstreamOnDeny: ['a b']"), f"{HTTP}.headersToDownstreamOnDeny[0]", "not a header name"),
        (
            http("includeAdditionalHeadersInCheck: {':path': x}"),
            f'{HTTP}.includeAdditionalHeadersInCheck[":path"]',
            "pseudo-header",
        ),
        (
            http('includeAdditionalHeadersInCheck: {a: "x\\r\\ny: z"}'),
            f"{HTTP}.includeAdditionalHeadersInCheck.a",
            "control character",
        ),
        (
            http("includeRequestBodyInCheck: {maxRequestBytes: 0}"),
            f"{HTTP}.includeRequestBodyInCheck.maxRequestBytes",
            "1",
        ),
        (
            http("includeRequestBodyInCheck: {maxRequestBytes: 9, packAsBytes: true}"),
            f"{HTTP}.includeRequestBodyInCheck.packAsBytes",
            "is for gRPC",
        ),
        ("{extensionProviders: [{name: J, prometheus: {}}]}", "extensionProviders[0].name", "not a provider's name"),
        ("{extensionProviders: [{name: j}]}", "extensionProviders[0]", "is to be one provider"),
        (
            "{extensionProviders: [{name: j, envoyExtAuthzGrpc: {service: a, port: 1}}]}",
            "extensionProviders[0].envoyExtAuthzGrpc",
            "HTTP/2 is missing",
        ),
        ("{extensionProviders: [{name: j, zipkin: {}}]}", "extensionProviders[0].zipkin", "not supported yet: tracing"),
        ("{trustDomain: Other}", "trustDomain", "is not a trust domain; write lower case letters"),
        ("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", "outboundTrafficPolicy.mode", "--outbound-policy"),
        ("{trustDomian: x}", "trustDomian", "did you mean 'trustDomain'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(complaints: Complaints, spec: str, path: str, message: str) -> None:
    found = dict(complaints("MeshConfig", spec))
    assert message in found[path], found


def test_what_is_so_anyway_is_accepted(complaints: Complaints) -> None:
    told = "{rootNamespace: istio-system, trustDomain: cluster.local, enableAutoMtls: true, accessLogFile: /dev/stdout}"
    assert complaints("MeshConfig", told) == []
