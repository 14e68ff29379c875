"""Test files in the format of istio-config-validator pass as they are, whatever else the resources lack."""

from __future__ import annotations

from pathlib import Path

from .support import SHOP, outcomes_of

LIBRARY = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: library, namespace: books}
spec:
  gateways: [mesh]
  hosts: [www.library.example, library.example]
  http:
  - match: [{uri: {prefix: /home}}]
    redirect: {uri: /, authority: www.library.example}
  - match: [{uri: {regex: '/readers(/.*)?'}}]
    route: [{destination: {host: readers.readers.svc.cluster.local, port: {number: 80}}}]
    headers: {request: {set: {x-card: valid}}}
  - match: [{uri: {prefix: /loans}, method: {regex: (GET|OPTIONS)}}]
    route: [{destination: {host: loans.loans.svc.cluster.local, port: {number: 8000}}}]
  - match: [{uri: {prefix: /shelf}, headers: {x-kind: {exact: robot}}}]
    route: [{destination: {host: loans.loans.svc.cluster.local}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 403}}
  - match: [{uri: {prefix: /shelf}}]
    route: [{destination: {host: loans.loans.svc.cluster.local}}]
    rewrite: {uri: /loan}
  - route: [{destination: {host: hall.hall.svc.cluster.local}}]
"""

LIBRARY_TESTS = """
testCases:
  - description: readers
    wantMatch: true
    request:
      authority: ["www.library.example", "library.example"]
      method: ["GET", "POST"]
      uri: ["/readers", "/readers/"]
      headers:
        x-reader-id: abc123
    route:
    - destination:
        host: readers.readers.svc.cluster.local
        port:
          number: 80
    headers:
      request:
        set:
          x-card: valid
  - description: loans are only looked at
    wantMatch: false
    request:
      authority: ["library.example"]
      method: ["PUT", "POST", "PATCH"]
      uri: ["/loans", "/loans/1"]
    route:
    - destination:
        host: loans.loans.svc.cluster.local
---
# A second document
testCases:
  - description: home is the top
    wantMatch: true
    request:
      authority: ["www.library.example"]
      method: ["GET"]
      uri: ["/home"]
    redirect:
      uri: "/"
      authority: "www.library.example"
  - description: a shelf is a loan
    wantMatch: true
    request:
      authority: ["library.example"]
      method: ["PUT", "POST"]
      uri: ["/shelf"]
    route:
    - destination:
        host: loans.loans.svc.cluster.local
    rewrite:
      uri: "/loan"
  - description: a shelf is no catalogue
    wantMatch: false
    request:
      authority: ["library.example"]
      method: ["PUT"]
      uri: ["/shelf"]
    route:
    - destination:
        host: catalogue.catalogue.svc.cluster.local
    rewrite:
      uri: "/catalogue"
  - description: robots stay out
    wantMatch: true
    request:
      authority: ["library.example"]
      method: ["PUT"]
      uri: ["/shelf"]
      headers:
        x-kind: robot
    route:
    - destination:
        host: loans.loans.svc.cluster.local
    fault:
      abort:
        percentage:
          value: 100
        httpStatus: 403
"""

DELEGATING = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stalls, namespace: market}
spec:
  hosts: [www.market.example, market.example]
  http:
  - match: [{uri: {prefix: /fish}}]
    delegate: {name: fish-delegate}
  - match: [{uri: {regex: '/fruit(/.*)?'}}]
    delegate: {name: fruit-delegate}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: fish-delegate, namespace: market}
spec:
  http:
  - match: [{uri: {prefix: /fish}}]
    route: [{destination: {host: fish.fish.svc.cluster.local, port: {number: 80}}}]
    rewrite: {uri: /fresh}
    headers: {request: {set: {x-iced: 'yes'}}}
"""

DELEGATING_TESTS = """
testCases:
  - description: fish
    wantMatch: true
    request:
      authority: ['market.example']
      method: ['GET', 'POST']
      uri: ['/fish', '/fish/v2/']
    route:
      - destination:
          host: fish.fish.svc.cluster.local
          port:
            number: 80
    headers:
      request:
        set:
          x-iced: 'yes'
    delegate:
      name: fish-delegate
  - description: fruit, of another team
    wantMatch: true
    request:
      authority: ['market.example']
      method: ['GET', 'POST']
      uri: ['/fruit', '/fruit/apples']
    delegate:
      name: fruit-delegate
"""


def test_routes_redirects_rewrites_faults_and_headers_for_sidecars(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, LIBRARY_TESTS, LIBRARY)

    assert len(outcomes) == 19
    assert [one.failing for one in outcomes if not one.passed] == []


def test_delegates_even_such_as_are_not_there(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, DELEGATING_TESTS, DELEGATING)

    assert len(outcomes) == 8
    assert [one.failing for one in outcomes if not one.passed] == []


def test_rules_of_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, LIBRARY_TESTS, LIBRARY.replace("[mesh]", "[istio-ingress/public]"))

    assert [one.failing for one in outcomes if not one.passed] == []


def test_one_destination_needs_no_weight_and_several_do(tmp_path: Path) -> None:
    tests = """
testCases:
- request: {authority: [shop.example.com], uri: [/plain]}
  route: [{destination: {host: backend}}]
- request: {authority: [shop.example.com], uri: [/split]}
  route: [{destination: {host: backend, port: {number: 80}}}, {destination: {host: other}}]
"""

    assert [one.passed for one in outcomes_of(tmp_path, tests, SHOP)] == [True, False]
