"""Where requests enter, and how they go on from proxy to proxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from .support import SHOP, failures, outcome_of, outcomes_of

GATEWAY = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: {name}}}
  servers:
  - port: {{number: {port}, name: http, protocol: HTTP}}
    hosts: ['{hosts}']
"""

SECOND_RULE = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: second}
spec:
  hosts: [shop.example.com, both.example.com]
  gateways: [inner/back]
  http:
  - rewrite: {uri: /back}
    route: [{destination: {host: other}}]
"""

BACK = GATEWAY.format(name="back", namespace="inner", port=8081, hosts="*")

CHAIN = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inwards}
spec:
  hosts: [chain.example.com]
  gateways: [front]
  http:
  - rewrite: {authority: both.example.com}
    headers: {request: {set: {x-first: 'yes'}}}
    route: [{destination: {host: back}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: back}
spec:
  hosts: [back.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8081}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
"""

SIDECARS = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080, targetPort: http}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-1}
spec: {address: 10.0.0.1, labels: {app: reviews}, ports: {http: 9101}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web}
spec: {address: 10.0.0.2, labels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{sourceLabels: {app: web}}]
    headers: {request: {set: {x-from: web}}}
    route: [{destination: {host: reviews}}]
  - route: [{destination: {host: reviews}}]
"""


def reason(folder: Path, test: str, resources: str) -> str:
    """Why a request has no way in."""
    ((_, _, got),) = failures(outcome_of(folder, test, resources))
    return got


def test_the_only_gateway_with_a_rule_for_the_host_is_meant(tmp_path: Path) -> None:
    assert outcome_of(
        tmp_path, "request: {authority: [shop.example.com], uri: [/tea]}\nstatus: 418", SHOP + BACK
    ).passed


def test_a_host_without_rules_enters_by_the_only_gateway_that_admits_it(tmp_path: Path) -> None:
    narrow = GATEWAY.format(name="narrow", namespace="inner", port=80, hosts="*.narrow.example")

    assert outcome_of(tmp_path, "request: {authority: [nobody.example.com]}\nstatus: 404", SHOP + narrow).passed


def test_where_several_gateways_have_rules_for_the_host_the_choices_are_listed(tmp_path: Path) -> None:
    test = "request: {authority: [shop.example.com]}\nstatus: 404"

    assert reason(tmp_path, test, SHOP + BACK + SECOND_RULE) == (
        "'shop.example.com' may enter by default/front or by inner/back; say which as `gateway`"
    )


def test_gateways_that_do_the_very_same_are_no_choice(tmp_path: Path) -> None:
    twice = SHOP.replace("gateways: [front]", "gateways: [front, elsewhere, mesh]")

    assert outcome_of(tmp_path, "request: {authority: [shop.example.com], uri: [/tea]}\nstatus: 418", twice).passed


def test_a_gateway_is_named_with_its_namespace_or_is_of_the_default_one(tmp_path: Path) -> None:
    front = "gateway: front\nrequest: {authority: [shop.example.com]}\nstatus: 404"
    back = "gateway: inner/back\nrequest: {authority: [shop.example.com]}\nwantRequest: {path: /back}"

    assert outcome_of(tmp_path, front, SHOP + BACK + SECOND_RULE).passed
    assert outcome_of(tmp_path, back, SHOP + BACK + SECOND_RULE).passed


def test_an_unknown_gateway_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    test = "gateway: frond\nrequest: {authority: [shop.example.com]}\nstatus: 404"

    assert reason(tmp_path, test, SHOP) == "no Gateway 'default/frond'; did you mean 'default/front'?"


def test_a_host_that_nobody_admits_has_no_way_in(tmp_path: Path) -> None:
    narrow = SHOP.replace("hosts: ['*']", "hosts: [shop.example.com]")
    test = "request: {authority: [other.example.com]}\nstatus: 404"

    assert reason(tmp_path, test, narrow).startswith("no Gateway admits 'other.example.com'; give `gateway`")


def test_of_several_ports_the_one_of_the_authority_or_of_the_test_is_meant(tmp_path: Path) -> None:
    ports = SHOP.replace(
        "    hosts: ['*']\n",
        "    hosts: ['*']\n  - port: {number: 8080, name: more, protocol: HTTP}\n    hosts: ['*']\n",
    ).replace("match: [{uri: {exact: /tea}}]", "match: [{uri: {exact: /tea}, port: 8080}]")
    tea = "request: {{authority: [{}], uri: [/tea]}}\nstatus: {}"

    assert outcome_of(tmp_path, tea.format("shop.example.com", 404), ports).passed
    assert outcome_of(tmp_path, tea.format("'shop.example.com:8080'", 418), ports).passed
    assert outcome_of(tmp_path, "port: 8080\n" + tea.format("shop.example.com", 418), ports).passed


def test_the_request_as_the_first_proxy_sends_it_enters_the_next(tmp_path: Path) -> None:
    test = """
    request: {authority: [chain.example.com], headers: {x-own: kept}}
    route: [{destination: {host: back}}]
    via:
    - gateway: inner/back
      route: [{destination: {host: other}}]
      wantRequest:
        authority: both.example.com
        path: /back
        headers: {x-first: 'yes', x-own: kept}
    """

    assert failures(outcome_of(tmp_path, test, SHOP + BACK + SECOND_RULE + CHAIN)) == []


def test_what_is_expected_of_a_further_proxy_can_fail_too(tmp_path: Path) -> None:
    test = """
    request: {authority: [chain.example.com]}
    via: [{gateway: inner/back, status: 404}]
    """
    (failing,) = outcome_of(tmp_path, test, SHOP + BACK + SECOND_RULE + CHAIN).failing

    assert failing.proxy == "gateway inner/back, port 8081"
    assert failing.rule is not None and failing.rule.resource == "VirtualService/second.default"


def test_the_destination_has_to_be_a_listener_of_the_next_proxy(tmp_path: Path) -> None:
    test = "request: {authority: [shop.example.com], uri: [/plain]}\nvia: [{gateway: inner/back, status: 200}]"

    assert reason(tmp_path, test, SHOP + BACK) == (
        "the request is sent to 127.0.0.1:9000; Gateway inner/back listens on port 8081"
    )


def test_a_request_that_is_answered_gets_no_further(tmp_path: Path) -> None:
    test = "request: {authority: [shop.example.com], uri: [/tea]}\nvia: [{gateway: inner/back, status: 200}]"

    assert reason(tmp_path, test, SHOP + BACK) == (
        "the request gets no further than gateway default/front, port 80: answered with 418 (direct_response)"
    )


def test_the_sidecar_of_a_workload_sends_to_the_sidecar_of_another(tmp_path: Path) -> None:
    test = """
    workload: web
    request: {authority: ['reviews:9080']}
    route: [{destination: {host: reviews}}]
    wantRequest: {headers: {x-from: web}}
    via:
    - workload: reviews-1.default
      wantRequest: {authority: 'reviews:9080', headers: {x-from: web}}
    """

    assert failures(outcome_of(tmp_path, test, SIDECARS)) == []


def test_mesh_is_any_sidecar_where_the_virtual_service_is(tmp_path: Path) -> None:
    test = "gateway: mesh\nrequest: {authority: ['reviews:9080']}\nwantRequest: {headers: {x-from: null}}"

    assert failures(outcome_of(tmp_path, test, SIDECARS)) == []


@pytest.mark.parametrize("name", ["mesh", "any-sidecar"])
def test_a_workload_of_that_name_is_not_any_sidecar(tmp_path: Path, name: str) -> None:
    resources = SIDECARS.replace("metadata: {name: web}", f"metadata: {{name: {name}}}")
    test = f"""
    testCases:
    - gateway: mesh
      request: {{authority: ['reviews:9080']}}
      wantRequest: {{headers: {{x-from: null}}}}
    - workload: {name}
      request: {{authority: ['reviews:9080']}}
      wantRequest: {{headers: {{x-from: web}}}}
    - gateway: mesh
      request: {{authority: ['reviews:9080']}}
      status: 404
    """

    anyone, workload, failing = outcomes_of(tmp_path, test, resources)

    assert failures(anyone) == failures(workload) == []
    assert failing.failing[0].proxy == "any sidecar in default"


def test_rules_for_other_workloads_are_among_those_that_were_not_met(tmp_path: Path) -> None:
    test = "gateway: mesh\nrequest: {authority: ['reviews:9080']}\nstatus: 404"

    (failing,) = outcome_of(tmp_path, test, SIDECARS).failing

    (tried,) = failing.tried
    assert tried.endswith("comes from a workload with app=web, but any-sidecar.default has no label app")


def test_rules_for_other_ports_are_among_those_that_were_not_met(tmp_path: Path) -> None:
    elsewhere = SHOP.replace("match: [{uri: {exact: /tea}}]", "match: [{uri: {exact: /tea}, port: 8080}]")
    test = "request: {authority: [shop.example.com], uri: [/tea]}\nstatus: 418"

    (failing,) = outcome_of(tmp_path, test, elsewhere).failing

    assert "path begins with /old, but it is /tea" in failing.tried[0]
    assert failing.tried[1].endswith("comes by port 8080, but this is port 80")


def test_a_service_without_rules_has_its_default_route(tmp_path: Path) -> None:
    plain = SIDECARS[: SIDECARS.index("kind: VirtualService")].rpartition("---")[0]
    test = "workload: web\nrequest: {authority: ['reviews:9080']}\nroute: [{destination: {host: reviews%s}}]"

    assert failures(outcome_of(tmp_path, test % "", plain)) == []
    assert failures(outcome_of(tmp_path, test % ", port: {number: 9080}", plain)) == []
    assert not outcome_of(tmp_path, test % ", port: {number: 80}", plain).passed


def test_an_unknown_workload_and_one_that_the_request_is_not_sent_to_are_told(tmp_path: Path) -> None:
    unknown = "workload: wep\nrequest: {authority: [reviews]}\nstatus: 200"
    elsewhere = "workload: web\nrequest: {authority: ['reviews:9080']}\nvia: [{workload: web, status: 200}]"

    assert reason(tmp_path, unknown, SIDECARS).startswith("no WorkloadEntry 'wep'; ")
    assert "the sidecar of web.default listens at nowhere" in reason(tmp_path, elsewhere, SIDECARS)
