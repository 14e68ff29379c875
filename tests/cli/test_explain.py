"""`meshproxy explain`: what becomes of a request, with the place of everything that it meets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from ..mesh import support
from ..mesh.support import virtual_service
from .support import meshproxy

POLICIES = Path(__file__).parents[2] / "policies"
QUICKSTART = POLICIES / "quickstart"

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}}}
spec:
  selector: {{istio: {name}}}
  servers:
{servers}"""


def gateway(name: str, *ports: int) -> str:
    server = "  - {{port: {{number: {0}, name: http-{0}, protocol: HTTP}}, hosts: ['*']}}\n"
    return GATEWAY.format(name=name, servers="".join(server.format(port) for port in ports))


def line_of(path: Path, text: str) -> str:
    """`file:line` of the only line that holds `text`."""
    (found,) = [number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    return f"{path}:{found}"


def test_tells_the_way_of_a_request_and_where_each_step_is_written() -> None:
    result = meshproxy("explain", "-f", QUICKSTART, "GET", "http://localhost/reviews")

    told = result.stdout
    server, hosts = line_of(QUICKSTART / "gateway.yaml", "- port:"), line_of(QUICKSTART / "routes.yaml", '- "*"')
    reviews = QUICKSTART / "reviews.yaml"
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{server} (Gateway/gateway.default)" in told
    assert f"{hosts} (VirtualService/reviews.default)" in told
    assert re.search(r'preview +\S+routes.yaml:\d+  header x-preview is "yes"; the request has none\n', told)
    assert re.search(r"rule\n  canary +\S+routes.yaml:\d+  path begins with /reviews\n", told)
    assert f"90 %  outbound|80|v1|reviews.default.svc.cluster.local  {line_of(reviews, '- name: v1')}" in told
    assert f"10 %  outbound|80|v2|reviews.default.svc.cluster.local  {line_of(reviews, '- name: v2')}" in told
    assert "subset v1, ROUND_ROBIN: 127.0.0.1:9101, 127.0.0.1:9102\n" in told
    assert "path /reviews becomes /api/reviews\n" in told


def test_is_not_coloured_and_not_wrapped_in_a_pipe() -> None:
    result = meshproxy("explain", "-f", QUICKSTART, "GET", f"http://localhost/{'x' * 300}")

    assert "\x1b" not in result.stdout
    assert f"path begins with /reviews; it is /{'x' * 300}\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "rule", "status"),
    [
        (["localhost/reviews", "-H", "x-preview: yes"], 0, "preview", None),
        (["localhost/old/page"], 0, "moved", 302),
        (["http://localhost:8080/about?q#f"], 0, "about", 200),
        (["user:password@localhost/about"], 0, "about", 200),
        (["/about", "-H", "Host: localhost"], 0, "about", 200),
        (["/about"], 1, None, 400),
        (["localhost"], 1, None, 404),
        (["localhost?q=/about"], 1, None, 404),
        (["localhost/about", "-H", "content-length: x"], 1, None, 400),
    ],
)
def test_writes_json_for_programs(arguments: list[str], code: int, rule: str | None, status: int | None) -> None:
    result = meshproxy("explain", "--json", "-f", QUICKSTART, "GET", *arguments)

    told = json.loads(result.stdout)
    assert result.returncode == code
    assert (told["route"] and told["route"]["name"]) == rule
    assert (told["answer"] and told["answer"]["status"]) == status


def test_json_holds_all_that_the_text_does() -> None:
    result = meshproxy("explain", "--json", "-f", QUICKSTART, "GET", "http://localhost/reviews")

    told = json.loads(result.stdout)
    v1, v2 = told["destinations"]
    assert [rule["name"] for rule in told["tried"]] == ["moved", "about", "preview"]
    assert told["tried"][0] | {"origin": None} == {
        "name": "moved",
        "origin": None,
        "failed": "path begins with /old/",
        "given": "it is /reviews",
    }
    assert told["route"]["origin"]["path"] == "spec.http[3].match[0]"
    assert (v1["share"], v1["subset"], v1["lb_policy"]) == (0.9, "v1", "ROUND_ROBIN")
    assert v1["endpoints"] == [{"address": f"127.0.0.1:{port}", "weight": 1, "priority": 0} for port in (9101, 9102)]
    assert v2["request"]["path"] == "/api/reviews"
    assert v2["request_headers"] == [
        {"name": "x-envoy-attempt-count", "operation": "set", "values": ["1"]},
        {"name": "x-envoy-original-path", "operation": "set", "values": ["/reviews"]},
    ]


def test_host_of_a_header_goes_before_that_of_the_url() -> None:
    result = meshproxy("explain", "--json", "-f", QUICKSTART, "GET", "http://localhost/about", "-H", "HOST: other")

    assert json.loads(result.stdout)["received"]["authority"] == "other"


def test_a_workloads_requests_meet_the_rules_of_its_sidecar() -> None:
    arguments = ["explain", "--json", "-f", str(POLICIES / "canary"), "--workload", "web", "GET", "http://reviews/"]

    everybody = json.loads(meshproxy(*arguments).stdout)
    tester = json.loads(meshproxy(*arguments, "-H", "end-user: tester").stdout)

    assert (everybody["route"]["name"], tester["route"]["name"]) == ("everybody", "testers")
    assert everybody["listener"]["origins"][0]["resource"] == "WorkloadEntry/web.default"
    assert tester["destinations"][0]["subset"] == "v2"


SHOP = """\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web, labels: {app: web}}
spec: {address: 127.0.0.1}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: 9000}}]
"""
RULES = """\
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: ['{host}']
  gateways: [mesh, gateway, other]
  http:
"""


def rules(host: str, *matches: str, name: str = "shop") -> str:
    """A VirtualService for sidecars and two Gateways, with a rule `r0`, `r1`... for each match."""
    rule = "  - {{name: r{0}, match: {1}, route: [{{destination: {{host: shop}}}}]}}\n"
    return RULES.format(name=name, host=host) + "".join(rule.format(*numbered) for numbered in enumerate(matches))


BY_SIDECAR = ["--workload", "web"]
BY_GATEWAY = ["--gateway", "gateway"]


@pytest.mark.parametrize(
    ("options", "match", "failed", "given"),
    [
        (BY_SIDECAR, "sourceLabels: {app: batch}", "comes from a workload with app=batch", "web.default has app=web"),
        (BY_SIDECAR, "sourceLabels: {tier: a}", "comes from a workload with tier=a", "web.default has no label tier"),
        (BY_SIDECAR, "sourceNamespace: jobs", "comes from namespace jobs", "web.default is in default"),
        (BY_SIDECAR, "gateways: [other]", "comes by gateway default/other", "this is mesh"),
        (BY_GATEWAY, "gateways: [other, mesh]", "comes by gateway default/other or mesh", "this is default/gateway"),
        (BY_GATEWAY, "port: 8080", "comes by port 8080", "this is port 80"),
        (BY_GATEWAY, "sourceNamespace: jobs", "comes from namespace jobs", "this proxy is in istio-system"),
    ],
)
def test_a_rule_that_does_not_exist_for_this_proxy_or_port_has_its_place_among_those_tried(
    options: list[str], match: str, failed: str, given: str
) -> None:
    shop = rules("shop", "[{uri: {prefix: /a}}]", f"[{{{match}}}, {{uri: {{prefix: /b}}}}]", "[{uri: {prefix: /}}]")
    text = "---\n".join([gateway("gateway", 80), gateway("other", 8080), SHOP + shop])
    host = "shop" if options == BY_SIDECAR else "shop.default.svc.cluster.local"

    told = json.loads(meshproxy("explain", "--json", "-f", "-", *options, "GET", f"http://{host}/", stdin=text).stdout)

    assert [(one["name"], one["failed"], one["given"]) for one in told["tried"]] == [
        ("r0", "path begins with /a", "it is /"),
        ("r1", failed, given),
        ("r1", "path begins with /b", "it is /"),
    ]
    place = told["tried"][1]["origin"]
    assert text.splitlines()[place["line"] - 1].startswith("  - {name: r1") and place["path"] == "spec.http[1].match[0]"
    assert told["route"]["name"] == "r2"


@pytest.mark.parametrize(
    ("options", "host", "answering"),
    [
        (BY_SIDECAR, "shop", "default"),
        (BY_SIDECAR, "a.example", "wide-0"),
        (BY_GATEWAY, "a.example", "wide-0"),
        (BY_SIDECAR, "a.elsewhere", "allow_any"),
        (BY_GATEWAY, "a.elsewhere", None),
    ],
)
def test_a_virtual_service_without_any_rule_for_this_proxy_is_told_before_what_takes_its_place(
    options: list[str], host: str, answering: str | None
) -> None:
    wide = rules("*.example", "[{uri: {prefix: /}}]", name="wide").replace("name: r", "name: wide-")
    text = "---\n".join([gateway("gateway", 80), gateway("other", 80), SHOP + rules(host, "[{port: 8080}]") + wide])

    told = json.loads(meshproxy("explain", "--json", "-f", "-", *options, "GET", f"http://{host}/", stdin=text).stdout)

    assert [(one["name"], one["failed"]) for one in told["tried"]] == [("r0", "comes by port 8080")]
    assert (told["route"] and told["route"]["name"]) == answering


def test_a_gateway_without_any_route_tells_why_it_has_none() -> None:
    text = "---\n".join([gateway("gateway", 80), gateway("other", 80), SHOP + rules("*.example", "[{port: 8080}]")])

    result = meshproxy("explain", "-f", "-", *BY_GATEWAY, "GET", "http://a.example:80/", stdin=text)

    assert result.returncode == 1
    assert re.search(r"tried in vain\n  r0  <stdin>:\d+  comes by port 8080; this is port 80\n", result.stdout)


@pytest.mark.parametrize(
    ("method", "url", "policy", "status", "details"),
    [
        ("CONNECT", "http://shop:443", "ALLOW_ANY", 404, "route_not_found"),
        ("CONNECT", "elsewhere.example:443", "ALLOW_ANY", 404, "route_not_found"),
        ("GET", "http://127.0.0.1:15001/", "ALLOW_ANY", 508, "request_leads_back_here"),
        ("GET", "http://elsewhere.example/", "REGISTRY_ONLY", 502, "direct_response"),
    ],
)
def test_what_a_sidecar_refuses(method: str, url: str, policy: str, status: int, details: str) -> None:
    options = ["--workload", "web", "--outbound-policy", policy]

    told = json.loads(meshproxy("explain", "--json", "-f", "-", *options, method, url, stdin=SHOP).stdout)

    (answer,) = filter(None, [told["answer"], *(one["answer"] for one in told["destinations"])])
    assert (answer["status"], answer["details"]) == (status, details)


@pytest.mark.parametrize(
    ("url", "options", "address"),
    [
        ("http://h/", [], "0.0.0.0:80"),
        ("http://h:81/", [], "0.0.0.0:81"),
        ("http://h:82/", ["--gateway", "other"], "0.0.0.0:82"),
        ("http://h/", ["--gateway", "default/other"], "0.0.0.0:82"),
        ("http://h:81/", ["--gateway", "first"], "0.0.0.0:81"),
    ],
)
def test_the_urls_port_and_the_gateway_select_the_listener(url: str, options: list[str], address: str) -> None:
    text = "---\n".join([gateway("first", 80, 81), gateway("other", 82)])

    result = meshproxy("explain", "--json", "-f", "-", *options, "GET", url, stdin=text)

    assert json.loads(result.stdout)["listener"]["address"] == address


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["GET", "http://h:99/"], ["0.0.0.0:80 of default/first, default/other", "0.0.0.0:81 of default/first"]),
        (["--gateway", "frist", "GET", "http://h/"], ["no Gateway 'default/frist'", "did you mean 'default/first'?"]),
        (["--workload", "w", "GET", "http://h/"], ["no WorkloadEntry 'w'"]),
        (["--workload", "w", "--gateway", "g", "GET", "http://h/"], ["not both"]),
        (["GET", "ftp://h/"], ["http://example.com/path"]),
        (["GET", "http://h/", "-H", "x"], ["'x' is not a header", "end-user: tester"]),
        (["GET", "http://h/", "-H", "x: a\r\ny: b"], [r"'x: a\r\ny: b' holds a control character"]),
        (["GET", "http://h/", "--outbound-policy", "NONE"], ["'ALLOW_ANY', 'REGISTRY_ONLY'"]),
    ],
)
def test_says_what_is_missing_when_there_is_nothing_to_ask(arguments: list[str], said: list[str]) -> None:
    text = "---\n".join([gateway("first", 80, 81), gateway("other", 80)])

    result = meshproxy("explain", "-f", "-", *arguments, stdin=text)

    assert result.returncode == 2 and result.stdout == ""
    assert all(part in result.stderr for part in said), result.stderr


def test_a_configuration_with_problems_is_not_explained() -> None:
    text = gateway("gateway", 80).replace("selector", "selectr")

    result = meshproxy("explain", "-f", "-", "GET", "http://h/", stdin=text)

    assert result.returncode == 2
    assert "did you mean 'selector'" in result.stderr and "1 problem to mend first" in result.stderr


def test_no_gateway_at_all() -> None:
    result = meshproxy("explain", "-f", "-", "GET", "http://h/", stdin="")

    assert result.returncode == 2 and "no Gateway" in result.stderr


def test_the_example_of_the_help_works_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(POLICIES.parent)
    told = meshproxy("explain", "--help").stdout
    (example,) = re.findall(r"^ +meshproxy (explain .+)$", told, re.MULTILINE)

    result = meshproxy(*shlex.split(example))

    assert result.returncode == 0 and "rule\n  preview" in result.stdout


def test_the_documentation_shows_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(POLICIES.parent)
    page = Path("docs/explain.md").read_text()
    (block,) = re.findall(r"```console\n\$ meshproxy (.+?)```", page, re.DOTALL)
    command, _, shown = block.partition("\n")

    assert meshproxy(*shlex.split(command)).stdout == shown


def test_tells_when_an_endpoint_is_ejected(tmp_path: Path) -> None:
    settings = (
        "outlierDetection: {consecutiveGatewayErrors: 3, splitExternalLocalOriginErrors: true, "
        "maxEjectionPercent: 50, outlierDetectionHttpErrorCodes: [500, 429]}"
    )
    for file in QUICKSTART.glob("*.yaml"):
        (tmp_path / file.name).write_text(
            file.read_text().replace("    loadBalancer:", f"    {settings}\n    loadBalancer:")
        )
    told = meshproxy("explain", "-f", tmp_path, "GET", "http://localhost/reviews")
    as_json = meshproxy("explain", "-f", tmp_path, "--json", "GET", "http://localhost/reviews")

    assert (
        "ejects an endpoint for 30 s and more after 5 answers 500, 429 or 3 gateway failures or 5 failures to reach it "
        "in a row, at most 50 % of them at a time"
    ) in told.stdout
    assert '"consecutive_gateway_failure": 3' in as_json.stdout


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            "mode: SIMPLE, caCertificates: /ca.pem",
            "by TLS, asked for as the host of the request, believed by file-root:/ca.pem, "
            "whose certificate is for that host",
        ),
        ("mode: SIMPLE, insecureSkipVerify: true, sni: b.test", "by TLS, asked for as b.test, whoever they are"),
        (
            "mode: MUTUAL, clientCertificate: /a, privateKey: /b, subjectAltNames: [c.test, d.test]",
            "by TLS, asked for as the host of the request, believed by file-root:system, "
            "whose certificate is for c.test or d.test, shown file-cert:/a~/b",
        ),
    ],
)
def test_tells_how_connections_are_secured(tmp_path: Path, settings: str, told: str) -> None:
    rule = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: a, trafficPolicy: {{tls: {{{settings}}}}}}}
"""
    routes = virtual_service("- route: [{destination: {host: a}}]")
    file = tmp_path / "mesh.yaml"
    file.write_text("\n---\n".join((support.GATEWAY, support.service_entry("a"), routes, rule)))
    result = meshproxy("explain", "-f", file, "GET", "http://example.com/")

    assert f"    {told}\n" in result.stdout


def test_tells_a_clusters_limits() -> None:
    basics = POLICIES / "istio-basics"
    asked = ("explain", "-f", basics, "GET", "http://localhost/service-a")

    told = meshproxy(*asked).stdout
    shown = json.loads(meshproxy(*asked, "--json").stdout)

    limits = "100 connections, 50 requests that wait for one, 100 active requests, 5 requests to a connection"
    assert f"    at most {limits}\n" in told
    breakers = shown["destinations"][0]["circuit_breakers"]
    assert (breakers["max_connections"], breakers["max_pending_requests"], breakers["max_requests"]) == (100, 50, 100)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("connectionPool: {http: {maxRetries: 7}}", "7 retries"),
        ("retryBudget: {percent: 12.5}", "12.5 % of the requests as retries, or 3"),
    ],
)
def test_tells_how_many_retries_there_may_be(tmp_path: Path, policy: str, told: str) -> None:
    for file in QUICKSTART.glob("*.yaml"):
        (tmp_path / file.name).write_text(
            file.read_text().replace("    loadBalancer:", f"    {policy}\n    loadBalancer:")
        )

    assert f"    at most {told}\n" in meshproxy("explain", "-f", tmp_path, "GET", "http://localhost/reviews").stdout
