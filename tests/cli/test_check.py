"""`meshproxy check`: every problem of every file, each with its place and its cure."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest

from .support import meshproxy

POLICIES = Path(__file__).parents[2] / "policies"

GATEWAY = """\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ["*.example.com"]
"""

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
"""


def virtual_service(http: str, name: str = "reviews", gateway: str = "gateway", host: str = "a.example.com") -> str:
    return (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}}}\nspec:\n  hosts: ['{host}']\n  gateways: [{gateway}]\n  http:\n"
        + "".join(f"  {line}\n" for line in dedent(http).strip().splitlines())
    )


ROUTE = "- route: [{destination: {host: reviews}}]"


@pytest.mark.parametrize("mesh", sorted(path.name for path in POLICIES.iterdir() if path.is_dir()))
def test_finds_nothing_in_the_example_meshes(mesh: str) -> None:
    result = meshproxy("check", POLICIES / mesh)
    assert (result.returncode, result.stdout) == (0, "")


MISTAKES = {
    "misspelt field": (virtual_service("- match: [{uri: {prefx: /}}]\n  route: []"), 8, "did you mean 'prefix'"),
    "not supported yet": (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec:\n  host: reviews\n"
        "  trafficPolicy: {proxyProtocol: {version: V1}}\n",
        6,
        "not supported yet",
    ),
    "bad regex": (virtual_service(f"{ROUTE}\n  match: [{{uri: {{regex: '[a'}}}}]"), 9, "RE2"),
    "duration without a unit": (virtual_service(f"{ROUTE}\n  timeout: 5"), 9, "has no unit"),
    "unknown gateway": (virtual_service(ROUTE, gateway="gatway"), 6, "gatway"),
    "unknown host": (virtual_service("- route: [{destination: {host: reviws}}]"), 8, "reviws"),
    "unknown port": (virtual_service("- route: [{destination: {host: reviews, port: {number: 81}}}]"), 8, "81"),
    "unknown subset": (virtual_service("- route: [{destination: {host: reviews, subset: v9}}]"), 8, "v9"),
    "host not admitted by the gateway": (virtual_service(ROUTE, host="example.org"), 5, "example.org"),
    "weights of zero": (
        virtual_service(
            "- route:\n  - {destination: {host: reviews}, weight: 0}\n  - {destination: {host: reviews}, weight: 0}"
        ),
        9,
        "weight",
    ),
    "hidden rule": (
        virtual_service(f"{ROUTE}\n- match: [{{uri: {{prefix: /a}}}}]\n  redirect: {{uri: /}}"),
        9,
        "in <stdin>:8",
    ),
    "misspelt kind": (virtual_service(ROUTE).replace("VirtualService", "VirtualServce"), 2, "VirtualService?"),
    "unserved version": (virtual_service(ROUTE).replace("istio.io/v1", "istio.io/v2"), 1, "networking.istio.io/v1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_tells_the_place_and_the_cure(mistake: str) -> None:
    text, line, cure = MISTAKES[mistake]
    world = f"---\n{GATEWAY}---\n{SERVICE}"

    result = meshproxy("check", "-", stdin=text + world)

    assert result.returncode == 1
    assert any(problem.startswith(f"<stdin>:{line}:") and cure in problem for problem in result.stdout.splitlines()), (
        result.stdout
    )


def test_finds_the_problems_of_all_files_in_one_run(tmp_path: Path) -> None:
    for number, (text, _, _) in enumerate(MISTAKES.values()):
        document = text.replace("{name: reviews}", f"{{name: reviews-{number}}}")
        (tmp_path / f"{number:02}.yaml").write_text(document)
    (tmp_path / "malformed.yaml").write_text("a: [1\nb: 2\n")
    (tmp_path / "world.yaml").write_text(f"{GATEWAY}---\n{SERVICE}")

    result = meshproxy("check", tmp_path)

    files = {Path(line.partition(":")[0]).name for line in result.stdout.splitlines()}
    assert files >= {f"{number:02}.yaml" for number in range(len(MISTAKES))} | {"malformed.yaml"}


def test_finds_the_problems_beside_a_broken_field_in_the_same_run() -> None:
    rules = (
        "- match: [{uri: {prefx: /a}}]\n  route: [{destination: {host: reviews}}]\n- route: [{destination: {host: no}}]"
    )

    result = meshproxy("check", "-", stdin=f"{virtual_service(rules, gateway='nosuch')}---\n{SERVICE}")

    assert [line.split(": ")[2] for line in result.stdout.splitlines()] == [
        "spec.gateways[0]",
        "spec.http[0].match[0].uri.prefx",
        "spec.http[1].route[0].destination.host",
    ]


def test_two_virtual_services_with_a_catch_all_each_for_one_host_conflict(tmp_path: Path) -> None:
    text = "---\n".join(
        [GATEWAY, SERVICE, virtual_service(ROUTE), virtual_service("- redirect: {uri: /}", name="other")]
    )

    result = meshproxy("check", "-", stdin=text)

    assert result.returncode == 1
    assert "reviews" in result.stdout and "other" in result.stdout


def test_writes_json_for_programs() -> None:
    result = meshproxy("check", "--json", "-", stdin=MISTAKES["misspelt field"][0])

    found = json.loads(result.stdout)
    assert result.returncode == 1
    assert found["problems"][0].keys() == {"file", "line", "column", "resource", "path", "message"}


def test_skips_other_kinds_with_a_note() -> None:
    result = meshproxy("check", "-", stdin="apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")

    assert result.returncode == 0
    assert "ConfigMap" in result.stderr


def test_exits_with_2_when_a_path_cannot_be_read(tmp_path: Path) -> None:
    result = meshproxy("check", tmp_path / "missing.yaml", tmp_path / "missing-too.yaml")

    assert result.returncode == 2
    assert "missing.yaml" in result.stderr and "missing-too.yaml" in result.stderr
