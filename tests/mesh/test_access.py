"""Which policies hold where, and what becomes of them; those that would hold nowhere are problems."""

from __future__ import annotations

import pytest

from meshproxy.mesh import analyse
from meshproxy.snapshot import (
    AnyRequest,
    Exact,
    Listener,
    LocalJwks,
    Not,
    RemoteJwks,
    RequestHeader,
    Snapshot,
    SocketAddress,
)

from .support import GATEWAY, mesh_of, problems_of, service_entry, sidecar_of, snapshot_of, virtual_service

ROUTES = virtual_service("- route: [{destination: {host: a}}]")
APP = """
apiVersion: v1
kind: Service
metadata: {name: app}
spec:
  selector: {app: app}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: http-admin, port: 81, targetPort: 8081}]
---
apiVersion: v1
kind: Service
metadata: {name: app-admin}
spec:
  selector: {app: app}
  ports: [{name: http, port: 90, targetPort: 8081}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: app-1, labels: {app: app, version: v1}}
spec: {address: 127.0.0.1}
"""


def policy(
    name: str = "p",
    spec: str = "{rules: [{}]}",
    *,
    namespace: str = "default",
    kind: str = "AuthorizationPolicy",
    extra: str = "",
) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}{extra}}}
spec: {spec}
"""


def names(listener: Listener) -> list[list[str]]:
    """The names of the policies of each filter."""
    return [[one.name for one in rules.policies] for one in listener.filter_chains[0].http.rbac if (rules := one.rules)]


def inbound(snapshot: Snapshot) -> dict[int, list[list[str]]]:
    return {one.address.port: names(one) for one in snapshot.listeners[1:]}


def test_a_policy_of_the_root_namespace_holds_everywhere_and_any_other_in_its_own() -> None:
    documents = (
        policy("mesh", namespace="istio-system"),
        policy("own"),
        policy("elsewhere", namespace="other"),
        service_entry("x", namespace="other"),
        APP,
    )
    assert inbound(sidecar_of(*documents, workload="app-1")) == {
        8080: [["ns[default]-policy[own]-rule[0]", "ns[istio-system]-policy[mesh]-rule[0]"]],
        8081: [["ns[default]-policy[own]-rule[0]", "ns[istio-system]-policy[mesh]-rule[0]"]],
    }
    [listener] = snapshot_of(GATEWAY, ROUTES, service_entry("a"), *documents).listeners
    assert names(listener) == [["ns[istio-system]-policy[mesh]-rule[0]"]]


def test_what_an_app_sends_is_nobodys_to_allow_here() -> None:
    assert sidecar_of(policy("own"), APP, workload="app-1").listeners[0].filter_chains[0].http.rbac == ()


def test_a_selector_narrows_a_policy_to_workloads() -> None:
    documents = (
        policy("v1", "{selector: {matchLabels: {version: v1}}, rules: [{}]}"),
        policy("v2", "{selector: {matchLabels: {version: v2}}, rules: [{}]}"),
        APP,
    )
    assert inbound(sidecar_of(*documents, workload="app-1")) == {
        8080: [["ns[default]-policy[v1]-rule[0]"]],
        8081: [["ns[default]-policy[v1]-rule[0]"]],
    }


def test_a_selector_finds_a_gateway_by_what_it_is_selected_by_or_by_its_own_labels() -> None:
    by_selector = policy(
        "p", "{selector: {matchLabels: {istio: ingressgateway}}, rules: [{}]}", namespace="istio-system"
    )
    by_label = policy("q", "{selector: {matchLabels: {app: edge}}, rules: [{}]}", namespace="istio-system")
    documents = (GATEWAY, ROUTES, service_entry("a"), by_selector, by_label)
    [plain] = snapshot_of(*documents).listeners
    [labelled] = snapshot_of(*documents, selector={"istio": "ingressgateway", "app": "edge"}).listeners
    assert names(plain) == [["ns[istio-system]-policy[p]-rule[0]"]]
    assert names(labelled) == [["ns[istio-system]-policy[p]-rule[0]", "ns[istio-system]-policy[q]-rule[0]"]]


def test_a_reference_to_a_service_holds_on_its_ports_alone() -> None:
    documents = (policy("admin", "{targetRefs: [{kind: Service, name: app-admin}], rules: [{}]}"), APP)
    assert inbound(sidecar_of(*documents, workload="app-1")) == {
        8080: [],
        8081: [["ns[default]-policy[admin]-rule[0]"]],
    }


def test_a_reference_to_a_gateway_of_kubernetes_finds_it_by_its_label() -> None:
    reference = "{group: gateway.networking.k8s.io, kind: Gateway, name: edge}"
    one = policy("p", f"{{targetRef: {reference}, rules: [{{}}]}}", namespace="istio-system")
    labels = {"istio": "ingressgateway", "gateway.networking.k8s.io/gateway-name": "edge"}
    documents = (GATEWAY, ROUTES, service_entry("a"), one)
    [named] = snapshot_of(*documents, selector=labels).listeners
    [other] = snapshot_of(*documents).listeners
    assert names(named) == [["ns[istio-system]-policy[p]-rule[0]"]]
    assert names(other) == []
    assert analyse(mesh_of(*documents), labels=labels) == ()


def test_actions_are_asked_in_istios_order_and_dry_runs_apart() -> None:
    documents = (
        policy("a", "{action: ALLOW, rules: [{}]}"),
        policy("b", "{action: DENY, rules: [{}]}"),
        policy("c", "{action: AUDIT, rules: [{}]}"),
        policy("d", "{action: DENY, rules: [{}]}", extra=", annotations: {istio.io/dry-run: 'true'}"),
        APP,
    )
    filters = sidecar_of(*documents, workload="app-1").listeners[1].filter_chains[0].http.rbac
    told = [
        (part and part.action, part and [one.name for one in part.policies])
        for one in filters
        for part in (one.rules, one.shadow_rules)
    ]
    assert told == [
        ("LOG", ["ns[default]-policy[c]-rule[0]"]),
        (None, None),
        ("DENY", ["ns[default]-policy[b]-rule[0]"]),
        ("DENY", ["ns[default]-policy[d]-rule[0]"]),
        ("ALLOW", ["ns[default]-policy[a]-rule[0]"]),
        (None, None),
    ]


def test_a_policy_without_rules_allows_nothing() -> None:
    [one] = sidecar_of(policy("p", "{}"), APP, workload="app-1").listeners[1].filter_chains[0].http.rbac
    assert one.rules is not None
    [only] = one.rules.policies
    assert (only.permissions, only.principals) == ((Not(AnyRequest()),), (Not(AnyRequest()),))


def test_ports_are_those_of_the_listener_wherever_it_listens() -> None:
    rules = (
        "{rules: [{to: [{operation: {ports: ['80'], methods: [GET]}}, {operation: {ports: ['81'], methods: [PUT]}}]}]}"
    )
    documents = (GATEWAY, ROUTES, service_entry("a"), policy("p", rules, namespace="istio-system"))
    snapshot = snapshot_of(*documents, publish={80: SocketAddress("127.0.0.1", 8080)})
    [one] = snapshot.listeners[0].filter_chains[0].http.rbac
    assert one.rules is not None
    get, put = one.rules.policies[0].permissions
    assert RequestHeader(":method", Exact("GET")) in get.rules  # type: ignore[union-attr]
    assert AnyRequest() in get.rules  # type: ignore[union-attr]
    assert Not(AnyRequest()) in put.rules  # type: ignore[union-attr]


def test_a_rule_tells_where_it_is_written() -> None:
    [one] = sidecar_of(policy("p", "{rules: [{}, {}]}"), APP, workload="app-1").listeners[1].filter_chains[0].http.rbac
    assert one.rules is not None
    origins = [policy.origin for policy in one.rules.policies]
    assert [origin and (origin.resource, origin.path) for origin in origins] == [
        ("AuthorizationPolicy/p.default", "spec.rules[0]"),
        ("AuthorizationPolicy/p.default", "spec.rules[1]"),
    ]


KEYS = '{"keys": [{"kty": "oct", "k": "aGVsbG8"}]}'


def test_jwt_rules_of_all_policies_are_taken_together_by_issuer() -> None:
    documents = (
        policy("a", f"{{jwtRules: [{{issuer: z, jwks: '{KEYS}'}}]}}", kind="RequestAuthentication"),
        policy(
            "b",
            "{jwtRules: [{issuer: 'https://a.test/', fromCookies: [c], spaceDelimitedClaims: [roles]}, "
            "{issuer: 'https://b.test', jwksUri: 'https://b.test/keys', timeout: 2s}]}",
            kind="RequestAuthentication",
        ),
        APP,
    )
    jwt = sidecar_of(*documents, workload="app-1").listeners[1].filter_chains[0].http.jwt_authn
    assert jwt is not None
    assert [(one.name, one.issuer, one.jwks) for one in jwt.providers] == [
        (
            "origins-0",
            "https://a.test/",
            RemoteJwks("https://a.test/.well-known/openid-configuration", 5.0, discovered=True),
        ),
        ("origins-1", "https://b.test", RemoteJwks("https://b.test/keys", 2.0)),
        ("origins-2", "z", LocalJwks(KEYS)),
    ]
    assert (jwt.providers[0].from_headers, jwt.providers[0].from_params) == ((), ())
    assert jwt.providers[0].space_delimited_claims == ("permission", "roles", "scope")


def test_a_snapshot_shows_no_keys() -> None:
    documents = (policy("a", f"{{jwtRules: [{{issuer: z, jwks: '{KEYS}'}}]}}", kind="RequestAuthentication"), APP)
    snapshot = sidecar_of(*documents, workload="app-1")
    assert "aGVsbG8" not in str(snapshot.as_dict())
    assert "aGVsbG8" not in repr(snapshot)


@pytest.mark.parametrize(
    ("spec", "namespace", "message"),
    [
        ("{rules: [{}]}", "empty", "there is no workload in namespace 'empty', so that nothing would enforce it"),
        (
            "{selector: {matchLabels: {app: apq}}, rules: [{}]}",
            "default",
            "no workload in namespace 'default' has the labels",
        ),
        (
            "{selector: {matchLabels: {app: apq}}, rules: [{}]}",
            "istio-system",
            "no workload in the mesh has the labels",
        ),
        (
            "{targetRef: {kind: Service, name: ap}, rules: [{}]}",
            "default",
            "no Service 'ap' beside it; did you mean 'app'?",
        ),
        (
            "{targetRef: {kind: Service, name: idle}, rules: [{}]}",
            "default",
            "no WorkloadEntry is behind Service 'idle'",
        ),
        (
            "{targetRef: {group: a.b, kind: Gateway, name: g}, rules: [{}]}",
            "default",
            "a.b/Gateway is nothing that a proxy",
        ),
        (
            "{targetRef: {group: gateway.networking.k8s.io, kind: GatewayClass, name: g}, rules: [{}]}",
            "istio-system",
            "is nothing that a proxy stands for here",
        ),
        (
            "{targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: g}, rules: [{}]}",
            "istio-system",
            "no gateway in namespace 'istio-system' has the label",
        ),
        (
            "{targetRef: {kind: Service, name: app, namespace: other}, rules: [{}]}",
            "default",
            "refers to namespace 'other'",
        ),
    ],
)
def test_a_policy_that_nothing_would_enforce_is_a_problem(spec: str, namespace: str, message: str) -> None:
    idle = "{apiVersion: v1, kind: Service, metadata: {name: idle}, spec: {selector: {app: idle}, ports: [{port: 80}]}}"
    [problem] = problems_of(GATEWAY, APP, idle, policy("p", spec, namespace=namespace))
    assert message in problem.message


def test_a_dry_run_is_marked_by_a_boolean() -> None:
    [problem] = problems_of(APP, policy("p", extra=", annotations: {istio.io/dry-run: 'yes'}"))
    assert problem.path == 'metadata.annotations["istio.io/dry-run"]'
    assert "neither 'true' nor 'false'" in problem.message


def test_a_rule_that_asks_for_claims_needs_tokens() -> None:
    routes = virtual_service(
        "- match: [{headers: {'@request.auth.claims[a]': {exact: b}}}]\n  route: [{destination: {host: a}}]"
    )
    [problem] = problems_of(GATEWAY, routes, service_entry("a"))
    assert "no RequestAuthentication says which tokens are read" in problem.message
