"""What `check` finds beyond the schema, and what it leaves alone."""

from __future__ import annotations

import io

import pytest

from meshproxy.mesh import analyse, build_mesh
from meshproxy.resources import load

from .support import GATEWAY, problems_of, service_entry, virtual_service

A = service_entry("a")
TO_A = "- route: [{destination: {host: a}}]"
MULTI = """
apiVersion: v1
kind: Service
metadata: {name: multi}
spec:
  ports: [{name: http, port: 80}, {name: admin, port: 9000}]
"""


def rule(spec: str, *, name: str = "r", host: str = "a") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {host}, {spec}}}
"""


def delegate(http: str, *, name: str = "sub", spec: str = "") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  {spec}
  http:
  {http}
"""


def to(destination: str) -> str:
    return virtual_service(f"- route: [{{destination: {{{destination}}}}}]")


def service(port: str) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: k}}
spec: {{selector: {{app: k}}, ports: [{port}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: w}}
spec: {{address: 10.0.0.1, labels: {{app: k}}, ports: {{web: 8080}}}}
"""


def found_beside(*documents: str) -> list[tuple[str, str]]:
    """What the analysis finds in documents that are partly broken: paths, and the beginnings of messages."""
    loaded = load(["-"], stdin=io.StringIO("\n---\n".join(documents)))
    assert loaded.partial
    found = analyse(build_mesh(loaded.resources), invalid=loaded.invalid, partial=loaded.partial)
    return [(problem.path, problem.message.split(";")[0]) for problem in found]


BROKEN_MATCH = "- match: [{uri: {prefx: /a}}]\n  route: [{destination: {host: a}}]"


def test_the_well_formed_parts_of_a_broken_resource_are_checked() -> None:
    text = virtual_service(f"{BROKEN_MATCH}\n- route: [{{destination: {{host: nohost}}}}]", spec="gateways: [nosuch]")
    assert found_beside(A, text) == [
        ("spec.gateways[0]", "no Gateway 'default/nosuch'"),
        (
            "spec.http[1].route[0].destination.host",
            "no Service or ServiceEntry declares the host 'nohost.default.svc.cluster.local'",
        ),
    ]


BROKEN_ENTRY = service_entry("broken").replace("http: 9000", "web: x")
BROKEN_RULE = rule("subsets: [{name: v1, labels: {v: '1'}}, {nam: v2}]", name="broken")


def test_a_broken_service_says_nothing_of_other_hosts() -> None:
    to_broken = "- match: [{uri: {prefix: /b}}]\n  route: [{destination: {host: broken}}]"
    text = virtual_service(f"{to_broken}\n- route: [{{destination: {{host: nohost}}}}]")
    found = found_beside(GATEWAY, BROKEN_ENTRY, text)
    assert [path for path, _ in found] == ["spec.http[1].route[0].destination.host"]


def test_a_broken_rule_says_nothing_of_the_subsets_of_other_hosts() -> None:
    b = service_entry("b")
    text = virtual_service(
        "- match: [{uri: {prefix: /b}}]\n  route: [{destination: {host: b, subset: v9}}]\n"
        "- route: [{destination: {host: a, subset: v2}}]"
    )
    found = found_beside(GATEWAY, A, b, BROKEN_RULE, text)
    assert [path for path, _ in found if path.endswith(".subset")] == ["spec.http[0].route[0].destination.subset"]


def test_a_rule_is_found_hidden_beside_a_broken_one() -> None:
    text = virtual_service(f"{BROKEN_MATCH}\n{TO_A}\n- redirect: {{uri: /x}}")
    assert [path for path, _ in found_beside(GATEWAY, A, text)] == ["spec.http[2]"]


@pytest.mark.parametrize(
    "text",
    [
        virtual_service(f"{BROKEN_MATCH}\n{TO_A}"),
        virtual_service(TO_A, spec="gatewys: [gw]").replace("gateways: [gw]", ""),
        virtual_service("- match: [{gateways: [gw2]}]\n  route: [{destination: {host: a}}]", spec="gateways: [gw, a/]"),
        virtual_service(TO_A, hosts="example.com, 'b c'"),
        virtual_service("- route: [{destination: {host: multi, prt: {number: 80}}}]"),
        virtual_service("- delegate: {name: sub, namespce: other}"),
        virtual_service("- match: [{port: 80, gatways: [mesh]}]\n  route: [{destination: {host: a}}]"),
    ],
    ids=["condition", "gateways", "gateway", "host", "port", "namespace", "gateways of a match"],
)
def test_what_is_left_out_of_a_resource_raises_no_false_alarm(text: str) -> None:
    assert found_beside(GATEWAY, A, MULTI, text) == []


WRONG = {
    "unknown gateway": (
        [GATEWAY, A, virtual_service(TO_A, spec="gateways: [gww]")],
        "spec.gateways[0]",
        "no Gateway 'default/gww'; did you mean 'default/gw'?",
    ),
    "gateway of another namespace": (
        [GATEWAY, A, virtual_service(TO_A, spec="gateways: [edge/gw]")],
        "spec.gateways[0]",
        "did you mean 'default/gw'?",
    ),
    "match for a gateway it is not bound to": (
        [GATEWAY, A, virtual_service("- match: [{gateways: [mesh]}]\n  route: [{destination: {host: a}}]")],
        "spec.http[0].match[0].gateways[0]",
        "not bound to gateway 'mesh'",
    ),
    "match for a port without server": (
        [GATEWAY, A, virtual_service("- match: [{port: 8080}]\n  route: [{destination: {host: a}}]")],
        "spec.http[0].match[0].port",
        "no gateway listens on port 8080, so nothing can match; default/gw listens on 80",
    ),
    "host that no server admits": (
        [GATEWAY.replace("'*'", "'*.example.com'"), A, virtual_service(TO_A, hosts="a.example.com, b.org")],
        "spec.hosts[1]",
        "no server admits the host 'b.org' of namespace 'default': Gateway 'default/gw' has *.example.com",
    ),
    "gateway that admits none of the hosts": (
        [
            GATEWAY,
            GATEWAY.replace("name: gw", "name: gw2").replace("'*'", "'*.org'"),
            A,
            virtual_service(TO_A, spec="gateways: [gw, gw2]"),
        ],
        "spec.gateways[1]",
        "Gateway 'default/gw2' admits none of the hosts example.com; its servers have *.org",
    ),
    "gateway on a Unix socket": (
        [GATEWAY.replace("number: 80", "number: 0").replace("hosts:", "bind: unix:///run/gw\n    hosts:")],
        "spec.servers[0].bind",
        "not supported yet: listeners on Unix sockets",
    ),
    "unknown host": (
        [GATEWAY, service_entry("reviews"), to("host: revews")],
        "spec.http[0].route[0].destination.host",
        "'revews.default.svc.cluster.local'; did you mean 'reviews.default.svc.cluster.local'?",
    ),
    "host unlike any other": (
        [GATEWAY, A, to("host: web")],
        "spec.http[0].route[0].destination.host",
        "'web.default.svc.cluster.local'; known are a.default.svc.cluster.local",
    ),
    "host of another namespace": (
        [GATEWAY, service_entry("reviews", namespace="prod"), to("host: reviews")],
        "spec.http[0].route[0].destination.host",
        "did you mean 'reviews.prod.svc.cluster.local'?",
    ),
    "half a name": (
        [GATEWAY, service_entry("reviews", namespace="prod"), to("host: reviews.prod")],
        "spec.http[0].route[0].destination.host",
        "the host 'reviews.prod'; did you mean 'reviews.prod.svc.cluster.local'?",
    ),
    "host that a wildcard covers": (
        [GATEWAY, A.replace("a.default.svc.cluster.local", "'*.example.org'"), to("host: a.example.org")],
        "spec.http[0].route[0].destination.host",
        "*.example.org covers it, but a destination needs a ServiceEntry of its own name",
    ),
    "host that is not exported here": (
        [
            GATEWAY,
            service_entry("a", namespace="prod", extra="  exportTo: [.]"),
            to("host: a.prod.svc.cluster.local"),
        ],
        "spec.http[0].route[0].destination.host",
        "not exported to namespace 'istio-system'; add that to exportTo of ServiceEntry/a.prod",
    ),
    "virtual service that the gateway does not see": (
        [GATEWAY, A, virtual_service(TO_A, spec="exportTo: [.]")],
        "spec.exportTo",
        "not exported to namespace 'istio-system', where the gateway runs",
    ),
    "subset of a rule that the gateway does not see": (
        [
            GATEWAY,
            service_entry("a", namespace="prod"),
            rule("subsets: [{name: v1}]", host="a.prod.svc.cluster.local"),
            to("host: a.prod.svc.cluster.local, subset: v1"),
        ],
        "spec.http[0].route[0].destination.subset",
        "DestinationRule/r.default defines the subset 'v1', but not for a proxy of namespace istio-system",
    ),
    "no services at all": (
        [GATEWAY, to("host: a")],
        "spec.http[0].route[0].destination.host",
        "no Service or ServiceEntry declares any",
    ),
    "unknown port": (
        [GATEWAY, MULTI, to("host: multi, port: {number: 81}")],
        "spec.http[0].route[0].destination.port.number",
        "multi.default.svc.cluster.local has no port 81; its ports are 80 (http), 9000 (admin)",
    ),
    "port left open": (
        [GATEWAY, MULTI, to("host: multi")],
        "spec.http[0].route[0].destination",
        "several ports, 80 (http), 9000 (admin); say which by port.number",
    ),
    "subset without a rule": (
        [GATEWAY, A, to("host: a, subset: v1")],
        "spec.http[0].route[0].destination.subset",
        "no DestinationRule defines the subset 'v1' of a.default.svc.cluster.local",
    ),
    "unknown subset": (
        [GATEWAY, A, rule("subsets: [{name: v1}, {name: v2}]"), to("host: a, subset: v3")],
        "spec.http[0].route[0].destination.subset",
        "has no subset 'v3'; known are v1, v2",
    ),
    "unknown destination of a delegate": (
        [
            GATEWAY,
            A,
            virtual_service("- delegate: {name: sub}"),
            delegate("- route: [{destination: {host: b}}]"),
        ],
        "spec.http[0].route[0].destination.host",
        "'b.default.svc.cluster.local'",
    ),
    "unknown delegate": (
        [GATEWAY, A, virtual_service("- delegate: {name: subb}"), delegate(TO_A)],
        "spec.http[0].delegate.name",
        "no VirtualService default/subb; did you mean 'default/sub'?",
    ),
    "delegate with hosts": (
        [
            GATEWAY,
            A,
            virtual_service("- delegate: {name: sub}"),
            virtual_service(TO_A, name="sub", hosts="b.com"),
        ],
        "spec.http[0].delegate.name",
        "VirtualService/sub.default has hosts of its own",
    ),
    "delegate that is not exported": (
        [GATEWAY, A, virtual_service("- delegate: {name: sub}"), delegate(TO_A, spec="exportTo: [edge]")],
        "spec.http[0].delegate.name",
        "VirtualService/sub.default is not exported to namespace 'default'",
    ),
    "delegate that contradicts": (
        [
            GATEWAY,
            A,
            virtual_service("- match: [{uri: {prefix: /a}}]\n  delegate: {name: sub}"),
            delegate("- match: [{uri: {prefix: /b}}]\n    route: [{destination: {host: a}}]"),
        ],
        "spec.http[0].match",
        "contradicts the match of the rule that delegates to it",
    ),
    "hidden rule": (
        [GATEWAY, A, virtual_service(TO_A + "\n- match: [{uri: {prefix: /a}}]\n  redirect: {uri: /x}")],
        "spec.http[1]",
        "never applies: the rule in <stdin>:",
    ),
    "two routes for the rest": (
        [GATEWAY, A, virtual_service(TO_A), virtual_service("- redirect: {uri: /x}", name="z")],
        "spec.http[0]",
        "host 'example.com' at Gateway 'default/gw' that VirtualService/vs.default takes too",
    ),
    "one rule hides another's": (
        [
            GATEWAY,
            virtual_service("- match: [{uri: {prefix: /a}}]\n  redirect: {uri: /x}", name="one"),
            virtual_service("- match: [{uri: {prefix: /a/b}}]\n  redirect: {uri: /y}", name="two"),
        ],
        "spec.http[0].match[0]",
        "host 'example.com' at Gateway 'default/gw' that VirtualService/one.default takes too",
    ),
    "one rule would hide another's in the other order": (
        [
            GATEWAY,
            virtual_service("- match: [{uri: {prefix: /a/b}}]\n  redirect: {uri: /x}", name="one"),
            virtual_service("- match: [{uri: {prefix: /a}}]\n  redirect: {uri: /y}", name="two"),
        ],
        "spec.http[0].match[0]",
        "which of them answers depends on the order in which they merge",
    ),
    "one host twice for sidecars": (
        [virtual_service("- redirect: {uri: /x}", name=name, spec="gateways: [mesh]") for name in ("one", "two")],
        "spec.hosts[0]",
        "VirtualService/one.default has the host 'example.com' for sidecars too",
    ),
    "rule for an unknown host": (
        [A, rule("trafficPolicy: {loadBalancer: {simple: RANDOM}}", host="aa")],
        "spec.host",
        "no Service or ServiceEntry declares the host 'aa.default.svc.cluster.local'; known are a.default",
    ),
    "rule for hosts that a wildcard leaves empty": (
        [A, rule("trafficPolicy: {loadBalancer: {simple: RANDOM}}", host="'*.example.com'")],
        "spec.host",
        "no Service or ServiceEntry declares the host '*.example.com'",
    ),
    "subset of nobody": (
        [
            A.replace("{http: 9000}}", "{http: 9000}, labels: {version: v1}}"),
            rule("subsets: [{name: v2, labels: {version: v2}}]"),
        ],
        "spec.subsets[0].labels",
        "no endpoint of a.default.svc.cluster.local has version=v2; there are version=v1",
    ),
    "subset in two rules": (
        [A, rule("subsets: [{name: v1}]"), rule("subsets: [{name: v1}]", name="s")],
        "spec.subsets[0].name",
        "DestinationRule/r.default has a subset 'v1' of a.default.svc.cluster.local too",
    ),
    "target port that nobody has": (
        [service("{name: http, port: 80, targetPort: wbe}")],
        "spec.ports[0].targetPort",
        "no workload that the selector picks has a port named 'wbe'; theirs are web",
    ),
}


@pytest.mark.parametrize(("documents", "path", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_mistake_is_the_one_problem_and_stands_where_it_is(documents: list[str], path: str, message: str) -> None:
    (problem,) = problems_of(*documents)
    assert problem.path == path
    assert message in problem.message


SOUND = {
    "a whole mesh": [GATEWAY, A, virtual_service(TO_A)],
    "a subset of a rule in the root namespace": [
        GATEWAY,
        A,
        rule("subsets: [{name: v1}]", host="a.default.svc.cluster.local").replace(
            "name: r", "name: r, namespace: istio-system"
        ),
        to("host: a, subset: v1"),
    ],
    "a named target port": [service("{name: http, port: 80, targetPort: web}")],
    "a target port in a slice": [
        service("{name: http, port: 80, targetPort: pod-port}"),
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {name: k-1, labels: {kubernetes.io/service-name: k}}\naddressType: IPv4\n"
        "endpoints: [{addresses: [10.0.0.1]}]\nports: [{name: http, port: 1234}]",
    ],
    "a subset of a service whose endpoints are unknown": [
        MULTI,
        rule("subsets: [{name: v2, labels: {version: v2}}]", host="multi"),
    ],
    "repeated matches of one rule": [
        GATEWAY,
        A,
        virtual_service("- match: [{uri: {prefix: /a}}, {uri: {prefix: /a/b}}]\n  route: [{destination: {host: a}}]"),
    ],
    "a wider rule after a narrower": [
        GATEWAY,
        A,
        virtual_service("- match: [{uri: {prefix: /a}}]\n  redirect: {uri: /x}\n" + TO_A),
    ],
    "the same match at another gateway": [
        GATEWAY,
        A,
        virtual_service(
            "- match: [{uri: {prefix: /a}, gateways: [gw]}]\n  redirect: {uri: /x}\n"
            "- match: [{uri: {prefix: /a}}]\n  route: [{destination: {host: a}}]",
            spec="gateways: [gw, mesh]",
        ),
    ],
    "the same match for other labels": [
        GATEWAY,
        A,
        virtual_service(
            "- match: [{uri: {prefix: /a}, sourceLabels: {x: y}}]\n  redirect: {uri: /x}\n"
            "- match: [{uri: {prefix: /a}}]\n  redirect: {uri: /y}"
        ),
    ],
    "virtual services that share a host and no request": [
        GATEWAY,
        virtual_service("- match: [{uri: {prefix: /a}}]\n  redirect: {uri: /x}", name="one"),
        virtual_service("- match: [{uri: {prefix: /b}}]\n  redirect: {uri: /y}", name="two"),
    ],
    "a virtual service for the rest of the requests": [
        GATEWAY,
        virtual_service("- redirect: {uri: /x}", name="one"),
        virtual_service("- match: [{uri: {prefix: /b}}]\n  redirect: {uri: /y}", name="two"),
    ],
    "virtual services that do the same": [
        GATEWAY,
        *(virtual_service("- redirect: {uri: /x}", name=name) for name in ("one", "two")),
    ],
    "a host served by one of two gateways": [
        GATEWAY.replace("'*'", "a.com"),
        GATEWAY.replace("name: gw", "name: gw2").replace("'*'", "b.com"),
        A,
        virtual_service(TO_A, hosts="a.com, b.com", spec="gateways: [gw, gw2]"),
    ],
    "a delegate's rule that only one of its roots hides": [
        GATEWAY,
        A,
        virtual_service("- redirect: {uri: /x}\n- delegate: {name: sub}", name="one", hosts="one.com").replace(
            "- redirect", "- match: [{uri: {prefix: /a}}]\n    redirect"
        ),
        virtual_service("- delegate: {name: sub}", name="two", hosts="two.com"),
        delegate("- match: [{uri: {prefix: /a}}]\n    route: [{destination: {host: a}}]"),
    ],
}


@pytest.mark.parametrize("documents", SOUND.values(), ids=SOUND.keys())
def test_what_is_right_is_left_alone(documents: list[str]) -> None:
    assert problems_of(*documents) == []


def test_problems_name_both_places_and_come_by_line() -> None:
    problems = problems_of(
        GATEWAY,
        virtual_service(TO_A, spec="gateways: [x]"),
        virtual_service("- redirect: {uri: /x}", name="z", spec="gateways: [y]"),
    )
    assert [problem.position.line for problem in problems] == sorted(problem.position.line for problem in problems)
    assert len(problems) == 3


def test_what_refers_to_an_unreadable_resource_is_not_reported_as_well() -> None:
    broken = [
        GATEWAY.replace("number: 80", "number: eighty"),
        A.replace("number: 80", "number: eighty"),
        rule("subsets: [{name: v1, labels: 1}]"),
    ]
    text = "\n---\n".join([*broken, to("host: a, subset: v1")])
    loaded = load(["-"], stdin=io.StringIO(text))
    assert len(loaded.invalid) == 3
    assert analyse(build_mesh(loaded.resources), invalid=loaded.invalid) == ()


def test_two_entries_have_to_agree_on_the_protocol_of_a_port() -> None:
    text = "\n---\n".join([A, A.replace("name: a,", "name: b,").replace("HTTP", "TCP")])
    mesh = build_mesh(load(["-"], stdin=io.StringIO(text)).resources)  # which says that TCP is not supported yet
    (problem,) = analyse(mesh)
    assert problem.path == "spec.ports[0].protocol"
    assert "port 80 of a.default.svc.cluster.local is HTTP in ServiceEntry/a.default" in problem.message
