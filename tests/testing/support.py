"""Resources and test files out of text, and the outcomes of their cases."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from meshproxy.testing.cases import MeshTestFile, read_tests
from meshproxy.testing.runner import Outcome, bench

SHOP = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.example.com]
  gateways: [front]
  http:
  - name: moved
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, authority: other.example.com, redirectCode: 302}
    headers: {response: {set: {x-moved: 'yes'}}}
  - name: tea
    match: [{uri: {exact: /tea}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - name: delegated
    match: [{uri: {prefix: /cart}}]
    delegate: {name: cart}
  - name: plain
    match: [{uri: {prefix: /plain}}]
    route: [{destination: {host: backend}, weight: 100}]
  - name: split
    match: [{uri: {prefix: /split}}]
    route:
    - destination: {host: backend, port: {number: 80}}
      weight: 75
    - destination: {host: other}
      weight: 25
      headers: {request: {set: {x-other: 'yes'}}}
    rewrite: {uri: /whole, authority: inside.example.com}
    headers:
      request: {set: {X-Shop: open}, remove: [x-secret]}
      response: {add: {x-served-by: split}, remove: [x-inner]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: cart}
spec:
  http:
  - match: [{uri: {prefix: /cart/v2}}]
    rewrite: {uri: /v2}
    route: [{destination: {host: other}}]
  - route: [{destination: {host: backend}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: services}
spec:
  hosts: [backend.default.svc.cluster.local, other.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: 9000}}]
"""
"""A gateway, and a rule of every sort."""


def written(path: Path, text: str) -> str:
    """A file of this text, which may be indented as a whole; its path."""
    path.write_text(dedent(text))
    return str(path)


def file_of(folder: Path, text: str) -> MeshTestFile:
    """A test file of this text, as it is read."""
    return read_tests(written(folder / "it.meshtest.yaml", text))


def outcomes_of(folder: Path, tests: str, resources: str = SHOP) -> list[Outcome]:
    """What comes of the cases in `tests`, which have to be well-formed."""
    read = file_of(folder, tests)
    assert not read.problems, "\n".join(map(str, read.problems))
    mesh = bench([written(folder / "mesh.yaml", resources)])
    return [mesh.run(combination) for combination in read.combinations()]


def outcome_of(folder: Path, test: str, resources: str = SHOP) -> Outcome:
    """What comes of the only combination of a single case, written from the first column without its dash."""
    body = dedent(test).strip("\n").replace("\n", "\n  ")
    (outcome,) = outcomes_of(folder, f"testCases:\n- {body}\n", resources)
    return outcome


def failures(outcome: Outcome) -> list[tuple[str, str, str]]:
    """What is not as expected: the expectation, what it says, what came."""
    return [(".".join(one.difference.path), *one.difference[1:]) for one in outcome.failing]
