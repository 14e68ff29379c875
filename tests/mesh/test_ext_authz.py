"""AuthorizationPolicies for CUSTOM: who is asked about what, and what keeps that from being certain."""

from __future__ import annotations

import pytest

from meshproxy.mesh.analysis import providers as providers_analysis
from meshproxy.snapshot import (
    BufferSettings,
    Exact,
    ExtAuthz,
    HeaderMutations,
    HeaderValue,
    Prefix,
    Snapshot,
    Suffix,
)

from .support import GATEWAY, problems_of, service_entry, sidecar_of, snapshot_of, virtual_service
from .test_access import APP, policy

ROUTES = virtual_service("- route: [{destination: {host: a}}]")
JUDGE = service_entry("judge", namespace="auth")


def providers(*written: str) -> str:
    """The mesh's configuration, with these fields of providers for HTTP, which are called judge, jury and so on."""
    names = ("judge", "jury")
    told = (f"{{name: {name}, envoyExtAuthzHttp: {{{one}}}}}" for name, one in zip(names, written, strict=False))
    return f"extensionProviders: [{', '.join(told)}]\n"


SERVICE = "service: judge.auth.svc.cluster.local, port: 80"


def custom(name: str = "p", *, rules: str = "[{}]", provider: str = "judge", extra: str = "", spec: str = "") -> str:
    more = f", {spec}" if spec else ""
    told = f"{{action: CUSTOM, provider: {{name: {provider}}}, rules: {rules}{more}}}"
    return policy(name, told, namespace="istio-system", extra=extra)


def authz(snapshot: Snapshot, listener: int = 0) -> ExtAuthz:
    found = snapshot.listeners[listener].filter_chains[0].http.ext_authz
    assert found is not None
    return found


def at_gateway(*documents: str) -> ExtAuthz:
    return authz(snapshot_of(GATEWAY, ROUTES, service_entry("a"), JUDGE, *documents))


def test_a_provider_is_asked_about_what_its_policies_are_about() -> None:
    documents = (providers(SERVICE), custom("p"), custom("q", rules="[{to: [{operation: {paths: [/x]}}]}]"))
    found = at_gateway(*documents)
    assert found == ExtAuthz("judge", "outbound|80||judge.auth.svc.cluster.local", found.rules)
    assert [one.name for one in found.rules.policies] == [
        "ns[istio-system]-policy[p]-rule[0]",
        "ns[istio-system]-policy[q]-rule[0]",
    ]


def test_the_service_that_is_asked_is_a_cluster_at_gateways_and_sidecars() -> None:
    documents = (providers(SERVICE), custom(), JUDGE, APP)
    gateway = snapshot_of(GATEWAY, ROUTES, service_entry("a"), *documents)
    sidecar = sidecar_of(*documents, workload="app-1", outbound_policy="REGISTRY_ONLY")
    for snapshot, listener in ((gateway, 0), (sidecar, 1), (sidecar, 2)):
        assert authz(snapshot, listener).cluster in {cluster.name for cluster in snapshot.clusters}
    assert sidecar.listeners[0].filter_chains[0].http.ext_authz is None


def test_every_field_of_a_provider_is_told() -> None:
    fields = (
        "service: auth/Judge.auth.svc.cluster.local, port: 80, timeout: 1.5s, pathPrefix: /check, failOpen: true, "
        "clearRouteCache: true, statusOnError: '503', includeRequestHeadersInCheck: [Cookie, x-*, '*-id'], "
        "includeHeadersInCheck: [ignored], includeAdditionalHeadersInCheck: {X-B: '%PROTOCOL%', x-a: b}, "
        "includeRequestBodyInCheck: {maxRequestBytes: 10, allowPartialMessage: true}, "
        "headersToUpstreamOnAllow: [x-u], headersToDownstreamOnDeny: [x-d], headersToDownstreamOnAllow: [x-o]"
    )
    found = at_gateway(providers(fields), custom())
    assert found == ExtAuthz(
        "judge",
        "outbound|80||judge.auth.svc.cluster.local",
        found.rules,
        timeout_s=1.5,
        path_prefix="/check",
        failure_mode_allow=True,
        status_on_error=503,
        clear_route_cache=True,
        with_request_body=BufferSettings(10, allow_partial_message=True),
        allowed_headers=(Exact("cookie"), Prefix("x-"), Suffix("-id")),
        check_headers=HeaderMutations(add=(HeaderValue("x-b", "%PROTOCOL%"), HeaderValue("x-a", "b"))),
        allowed_upstream_headers=(Exact("x-u"),),
        allowed_client_headers=(Exact("x-d"),),
        allowed_client_headers_on_success=(Exact("x-o"),),
    )


def test_the_old_name_of_a_field_counts_where_the_new_one_is_missing() -> None:
    assert at_gateway(providers(f"{SERVICE}, includeHeadersInCheck: [x-a]"), custom()).allowed_headers == (
        Exact("x-a"),
    )


def test_a_dry_run_is_apart() -> None:
    found = at_gateway(providers(SERVICE), custom(extra=", annotations: {istio.io/dry-run: 'true'}"))
    assert found.rules.policies == ()
    assert found.shadow_rules is not None
    assert len(found.shadow_rules.policies) == 1


def test_a_provider_that_nobody_knows_allows_nothing() -> None:
    found = at_gateway(custom())
    assert (found.cluster, found.failure_mode_allow) == ("nobody", False)


def problems(*documents: str) -> list[str]:
    return [f"{one.path}: {one.message}" for one in problems_of(GATEWAY, ROUTES, service_entry("a"), JUDGE, *documents)]


def test_a_policy_and_its_provider_are_no_problem() -> None:
    assert problems(providers(SERVICE), custom()) == []
    assert problems(providers(f"service: auth/{SERVICE.removeprefix('service: ')}"), custom()) == []


@pytest.mark.parametrize(
    ("documents", "told"),
    [
        ((custom(),), "spec.provider.name: no extension provider 'judge'; no MeshConfig has extensionProviders"),
        (
            (providers(SERVICE), custom(provider="juge")),
            "spec.provider.name: no extension provider 'juge'; did you mean",
        ),
        (
            ("extensionProviders: [{name: judge, prometheus: {}}]", custom()),
            "spec.provider.name: no extension provider 'judge'",
        ),
        (
            (providers("service: juge.auth.svc.cluster.local, port: 80"),),
            "spec.extensionProviders[0].envoyExtAuthzHttp.service: no service 'juge.auth.svc.cluster.local'; did",
        ),
        (
            (providers("service: other/judge.auth.svc.cluster.local, port: 80"),),
            "spec.extensionProviders[0].envoyExtAuthzHttp.service: no service",
        ),
        (
            (providers("service: judge.auth.svc.cluster.local, port: 81"),),
            "spec.extensionProviders[0].envoyExtAuthzHttp.port: judge.auth.svc.cluster.local has no port 81; it has 80",
        ),
        (
            (providers(SERVICE), service_entry("judge", namespace="auth").replace("namespace: auth", "namespace: b")),
            "spec.extensionProviders[0].envoyExtAuthzHttp.service: is a service in auth, b; say which",
        ),
        (
            (providers(f"{SERVICE}, includeAdditionalHeadersInCheck: {{x-a: '%NOPE%'}}"),),
            "spec.extensionProviders[0].envoyExtAuthzHttp.includeAdditionalHeadersInCheck.x-a: not supported yet",
        ),
        (
            (providers(f"{SERVICE}, includeAdditionalHeadersInCheck: {{Content-Length: '3'}}"),),
            "spec.extensionProviders[0].envoyExtAuthzHttp.includeAdditionalHeadersInCheck.Content-Length: the proxy",
        ),
        (
            ("extensionProviders: [{name: a, prometheus: {}}, {name: a, prometheus: {}}]",),
            "spec.extensionProviders[1].name: 'a' is already the name of another provider",
        ),
        (
            (providers(SERVICE, SERVICE), custom("p"), custom("q", provider="jury")),
            "spec.provider.name: for the gateway, another provider than AuthorizationPolicy/p.istio-system",
        ),
    ],
)
def test_what_nobody_could_be_asked_about_is_a_problem(documents: tuple[str, ...], told: str) -> None:
    found = problems(*documents)
    assert any(one.startswith(told) for one in found), found


def test_a_second_configuration_of_the_mesh_is_a_problem() -> None:
    other = """
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: ''}
"""
    [problem] = problems(providers(SERVICE), other)
    assert "a second configuration of the mesh" in problem


def test_a_mesh_of_one_provider_or_none_is_not_searched_for_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers_analysis, "_targets", lambda scope: pytest.fail("each workload was looked at"))
    assert problems(APP) == []
    assert problems(providers(SERVICE), custom("p"), custom("q"), APP) == []


def test_different_proxies_may_ask_different_providers() -> None:
    by_label = "selector: {matchLabels: {%s}}"
    documents = (
        providers(SERVICE, SERVICE),
        custom("p", spec=by_label % "app: app"),
        custom("q", provider="jury", spec=by_label % "istio: ingressgateway"),
        APP,
    )
    assert problems(*documents) == []
    assert problems(*documents, custom("r", provider="jury", spec=by_label % "version: v1")) != []
