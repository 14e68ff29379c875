"""Each expectation, come true and not."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshproxy.testing.expectations import show
from meshproxy.testing.runner import Unusable

from .support import SHOP, failures, outcome_of

BACKEND = "backend.default.svc.cluster.local"
OTHER = "other.default.svc.cluster.local"


def case(uri: str, expectation: str) -> str:
    """A case for one request to the shop."""
    return f"request: {{authority: [shop.example.com], uri: [{uri}]}}\n{expectation}"


RIGHT = [
    ("/plain", "route: [{destination: {host: backend}}]"),
    ("/plain", f"route: [{{destination: {{host: {BACKEND}}}, weight: 100}}]"),
    ("/plain", "status: 200"),
    ("/plain", "wantRequest: {}"),
    ("/plain", "headers: {}"),
    (
        "/split",
        "route: [{destination: {host: backend, port: {number: 80}}, weight: 75}, "
        "{destination: {host: other}, weight: 25, headers: {request: {set: {X-Other: 'yes'}}}}]",
    ),
    ("/split", "rewrite: {uri: /whole, authority: inside.example.com}"),
    (
        "/split",
        "headers: {request: {set: {x-shop: open}, remove: [X-Secret]}, "
        "response: {add: {x-served-by: split}, remove: [x-inner]}}",
    ),
    ("/split/a?b=c", "wantRequest: {method: GET, authority: inside.example.com, path: /whole/a?b=c}"),
    ("/split", "wantRequest: {headers: {X-Shop: open, x-secret: null, x-envoy-original-path: /split}}"),
    ("/split", "wantResponse: {status: 200, headers: {x-served-by: split, x-inner: null}}"),
    ("/tea", "wantResponse: {headers: {content-type: text/plain, x-inner: null}}"),
    ("/old", "redirect: {uri: /new, authority: other.example.com, redirectCode: 302}"),
    ("/old", "wantResponse: {status: 302, headers: {location: http://other.example.com/new, x-moved: 'yes'}}"),
    ("/tea", "directResponse: {status: 418, body: {string: short and stout}}"),
    ("/tea", "status: 418"),
    ("/cart", "delegate: {name: cart}"),
    ("/cart", "delegate: {name: cart, namespace: default}"),
    ("/cart", "route: [{destination: {host: backend}}]"),
    ("/cart/v2", "route: [{destination: {host: other}}]\ndelegate: {name: cart}\nrewrite: {uri: /v2}"),
    ("/", "status: 404"),
]


@pytest.mark.parametrize(("uri", "expectation"), RIGHT)
def test_what_is_expected_comes_true(tmp_path: Path, uri: str, expectation: str) -> None:
    assert failures(outcome_of(tmp_path, case(uri, expectation))) == []


@pytest.mark.parametrize(("uri", "expectation"), RIGHT)
def test_what_comes_true_fails_where_it_must_not(tmp_path: Path, uri: str, expectation: str) -> None:
    outcome = outcome_of(tmp_path, case(uri, f"wantMatch: false\n{expectation}"))

    assert {got for _, _, got in failures(outcome)} == {"just that"}
    assert all(expected.startswith("anything but ") and "(" not in expected for _, expected, _ in failures(outcome))
    assert len(outcome.failing) == len(outcome.combination.case.test.expectations)


WRONG = [
    (
        "/plain",
        "route: [{destination: {host: other}}]",
        ("route", f"[{{destination: {{host: {OTHER}}}}}]", f"[{{destination: {{host: {BACKEND}}}}}]"),
    ),
    (
        "/old",
        "route: [{destination: {host: other}}]",
        ("route", "[{destination: {host: other}}]", "none; answered with 302 (direct_response)"),
    ),
    ("/plain", "rewrite: {uri: /x}", ("rewrite", "{uri: /x}", f"none; sent to outbound|80||{BACKEND}")),
    ("/plain", "redirect: {uri: /x}", ("redirect", "{uri: /x}", f"none; sent to outbound|80||{BACKEND}")),
    (
        "/plain",
        "fault: {abort: {httpStatus: 500}}",
        ("fault", "{abort: {httpStatus: 500}}", f"none; sent to outbound|80||{BACKEND}"),
    ),
    (
        "/split",
        "headers: {request: {set: {x-shop: shut}}}",
        (
            "headers",
            "{request: {set: {x-shop: shut}}}",
            "{request: {set: {x-shop: open}, remove: [x-secret]}, "
            "response: {add: {x-served-by: split}, remove: [x-inner]}}",
        ),
    ),
    ("/old", "wantRequest: {}", ("wantRequest", "{}", "nothing is sent on; answered with 302 (direct_response)")),
    ("/old", "headers: {}", ("headers", "{}", "{response: {set: {x-moved: yes}}}")),
    ("/plain", "delegate: {name: cart}", ("delegate", "{name: cart}", f"none; sent to outbound|80||{BACKEND}")),
    (
        "/cart",
        "delegate: {name: cat}",
        ("delegate", "{namespace: default, name: cat}", "{namespace: default, name: cart}"),
    ),
    ("/tea", "directResponse: {status: 200}", ("directResponse", "{status: 200}", "{status: 418, body: {string: sho")),
    ("/plain", "wantRequest: {path: /x}", ("wantRequest.path", "/x", f"/plain, for outbound|80||{BACKEND}")),
    (
        "/plain",
        "wantRequest: {headers: {x-a: b}}",
        ("wantRequest.headers.x-a", "b", f"no such header, for outbound|80||{BACKEND}"),
    ),
    (
        "/plain",
        "wantRequest: {headers: {x-forwarded-proto: null}}",
        ("wantRequest.headers.x-forwarded-proto", "no such header", f"http, for outbound|80||{BACKEND}"),
    ),
    (
        "/tea",
        "wantRequest: {path: /tea}",
        ("wantRequest", "{path: /tea}", "nothing is sent on; answered with 418 (direct_response)"),
    ),
    ("/old", "wantResponse: {headers: {x-moved: 'no'}}", ("wantResponse.headers.x-moved", "no", "yes")),
    (
        "/plain",
        "wantResponse: {headers: {x-inner: null}}",
        ("wantResponse.headers.x-inner", "no such header", f"what the endpoint sends, for outbound|80||{BACKEND}"),
    ),
    ("/old", "wantResponse: {status: 301}", ("wantResponse.status", "301", "302 (direct_response)")),
    ("/none", "status: 200", ("status", "200", "404 (route_not_found)")),
]


@pytest.mark.parametrize(("uri", "expectation", "failure"), WRONG)
def test_what_does_not_come_true_is_told_with_what_came(
    tmp_path: Path, uri: str, expectation: str, failure: tuple[str, str, str]
) -> None:
    (found,) = failures(outcome_of(tmp_path, case(uri, expectation)))

    assert found[:2] == failure[:2]
    assert found[2].startswith(failure[2])


@pytest.mark.parametrize(("uri", "expectation", "_failure"), WRONG)
def test_what_must_not_come_true_does_not(
    tmp_path: Path, uri: str, expectation: str, _failure: tuple[str, str, str]
) -> None:
    assert outcome_of(tmp_path, case(uri, f"wantMatch: false\n{expectation}")).passed


def test_what_arrives_has_to_be_right_at_every_destination(tmp_path: Path) -> None:
    found = failures(outcome_of(tmp_path, case("/split", "wantRequest: {headers: {x-other: 'yes'}}")))

    assert found == [("wantRequest.headers.x-other", "yes", f"no such header, for outbound|80||{BACKEND}")]


def test_a_failure_leads_to_the_rule_that_was_met_and_to_those_before_it(tmp_path: Path) -> None:
    (failing,) = outcome_of(tmp_path, case("/plain", "status: 404")).failing

    assert failing.rule is not None
    assert (failing.rule.resource, failing.rule.path) == ("VirtualService/shop.default", "spec.http[3].match[0]")
    assert failing.rule.line == 29
    assert failing.expectation.line == 3
    assert failing.tried[-1].endswith("path begins with /cart, but it is /plain")


def test_a_delegated_rule_leads_to_the_rule_that_delegates(tmp_path: Path) -> None:
    (failing,) = outcome_of(tmp_path, case("/cart/v2", "status: 404")).failing

    assert failing.rule is not None and failing.rule.root is not None
    assert (failing.rule.resource, failing.rule.root.resource) == (
        "VirtualService/cart.default",
        "VirtualService/shop.default",
    )


def test_a_destination_that_is_not_there_counts_with_its_real_status(tmp_path: Path) -> None:
    nowhere = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: nowhere}
spec:
  hosts: [shop.example.com]
  gateways: [front]
  http:
  - rewrite: {uri: /inside}
    route: [{destination: {host: missing}}]
"""
    expected = "wantRequest: {path: /inside}\nroute: [{destination: {host: missing}}]\nstatus: 503"

    assert failures(outcome_of(tmp_path, case("/", expected), nowhere)) == []


def test_a_command_in_a_header_that_is_not_supported_is_to_be_mended_first(tmp_path: Path) -> None:
    command = "headers: {request: {set: {x-at: '%RESPONSE_FLAGS%'}}}"
    mesh = SHOP.replace("  - name: plain\n", f"  - name: plain\n    {command}\n")

    with pytest.raises(Unusable, match=r"mesh\.yaml:29:.* not supported yet: the command %RESPONSE_FLAGS%"):
        outcome_of(tmp_path, case("/tea", "status: 418"), mesh)


def test_values_are_shown_as_yaml_in_one_line() -> None:
    assert show({"a": [1, True, None, "", " x", "y"]}) == "{a: [1, true, null, '', ' x', y]}"
