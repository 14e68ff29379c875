"""A real gateway with stand-ins for its endpoints: what the fixture `mesh` gives to a test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import h11
import httpx
import pytest
import requests
import trio

from meshproxy.testing.plugin import MeshStarter
from meshproxy.testing.running import RunningMesh, run_mesh
from meshproxy.testing.standins import Answer, Received

from ..mesh.support import GATEWAY, service_entry, virtual_service

POLICIES = Path(__file__).parents[2] / "policies"
QUICKSTART = POLICIES / "quickstart"


def test_the_url_of_a_gateway_port_serves_any_client(mesh: MeshStarter) -> None:
    with mesh(QUICKSTART) as quickstart:
        answer = requests.get(quickstart.url(80) + "/about", timeout=5)

    assert (answer.status_code, answer.text) == (200, "answered by the gateway itself\n")


def test_a_backend_tells_what_it_received(mesh: MeshStarter) -> None:
    with mesh(QUICKSTART) as quickstart:
        preview = quickstart.backend("reviews", subset="v2")
        headers = {"x-preview": "yes", "host": "shop.test"}
        answer = requests.post(quickstart.url() + "/reviews?a=b", b"body", headers=headers, timeout=5)

    (received,) = preview.received
    assert answer.text == "127.0.0.1:9103\n"
    assert (received.method, received.path, received.authority) == ("POST", "/reviews?a=b", "shop.test")
    assert (received.body, received.backend) == (b"body", "127.0.0.1:9103")
    assert received.headers["x-preview"] == "yes"
    assert quickstart.received == [received]


def test_workloads_that_would_be_probed_are_stood_in_for(mesh: MeshStarter, tmp_path: Path) -> None:
    group = """
kind: WorkloadGroup
apiVersion: networking.istio.io/v1
metadata: {name: g}
spec: {template: {labels: {app: probed}, ports: {http: 1}}, probe: {tcpSocket: {port: 1}}}
---
kind: WorkloadEntry
apiVersion: networking.istio.io/v1
metadata: {name: w, annotations: {istio.io/autoRegistrationGroup: g}}
spec: {address: 10.0.0.1}
---
kind: Service
apiVersion: v1
metadata: {name: probed}
spec: {selector: {app: probed}, ports: [{name: http, port: 80}]}
"""
    route = virtual_service("- route: [{destination: {host: probed}}]")
    with mesh(yaml="\n---\n".join((GATEWAY, route, group))) as running:
        answer = requests.get(running.url(), headers={"host": "example.com"}, timeout=5)

    assert answer.text == "10.0.0.1:1\n"


def test_stand_ins_of_services_that_are_asked_by_tls_need_no_certificates(mesh: MeshStarter) -> None:
    rule = """
kind: DestinationRule
apiVersion: networking.istio.io/v1
metadata: {name: a}
spec: {host: a, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /nowhere/ca.pem}}}
"""
    routes = virtual_service("- route: [{destination: {host: a}}]")
    with mesh(yaml="\n---\n".join((GATEWAY, service_entry("a"), routes, rule))) as running:
        answer = requests.get(running.url(), headers={"host": "example.com"}, timeout=5)

    assert answer.status_code == 200


def test_a_backend_answers_as_the_test_says(mesh: MeshStarter) -> None:
    def echo(received: Received) -> Answer:
        return Answer(200, received.body, {"x-echo": "yes"})

    with mesh(QUICKSTART) as quickstart:
        quickstart.backend("127.0.0.1:9103").answers(Answer(503), Answer(204), echo)
        url = quickstart.url() + "/reviews"
        answers = [requests.post(url, b"hello", headers={"x-preview": "yes"}, timeout=5) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 204, 200, 200]
    assert [answer.content for answer in answers[2:]] == [b"hello", b"hello"]
    assert answers[3].headers["x-echo"] == "yes"


def broken(received: Received) -> Answer:
    """An answer with a mistake in it."""
    raise ZeroDivisionError(received.path)


def preview_of(mesh: RunningMesh) -> int:
    """The status of a request that the backend 127.0.0.1:9103 has to answer."""
    return requests.get(mesh.url() + "/reviews", headers={"x-preview": "yes"}, timeout=5).status_code


@pytest.mark.parametrize("_attempt", range(20))
def test_what_goes_wrong_in_an_answer_of_the_test_comes_out_when_the_mesh_ends(
    mesh: MeshStarter, _attempt: int
) -> None:
    statuses = []

    with pytest.raises(ZeroDivisionError, match="/reviews"), mesh(QUICKSTART) as quickstart:
        quickstart.backend("127.0.0.1:9103").answers(broken)
        statuses.append(preview_of(quickstart))

    assert statuses == [503]


async def test_what_goes_wrong_in_an_answer_comes_out_of_the_loop_too(mesh: MeshStarter) -> None:
    statuses = []

    with pytest.raises(ZeroDivisionError):
        async with mesh(QUICKSTART) as quickstart:
            quickstart.backend("127.0.0.1:9103").answers(broken)
            statuses.append(await trio.to_thread.run_sync(preview_of, quickstart))

    assert statuses == [503]


def test_an_answer_that_cannot_be_sent_comes_out_too(mesh: MeshStarter) -> None:
    with pytest.raises(h11.LocalProtocolError), mesh(QUICKSTART) as quickstart:
        quickstart.backend("127.0.0.1:9103").answers(Answer(200, "long", {"content-length": "1"}))
        assert preview_of(quickstart) == 503


def test_where_several_answers_go_wrong_all_come_out(mesh: MeshStarter) -> None:
    def failing(received: Received) -> Answer:
        pytest.fail("not what was meant")

    with pytest.raises(BaseExceptionGroup) as raised, mesh(QUICKSTART) as quickstart:
        quickstart.backend("127.0.0.1:9103").answers(broken, failing)
        assert [preview_of(quickstart) for _ in range(2)] == [503, 503]

    assert [type(error) for error in raised.value.exceptions] == [ZeroDivisionError, pytest.fail.Exception]


def test_what_the_test_itself_raises_comes_before_what_went_wrong_in_its_answers(mesh: MeshStarter) -> None:
    with pytest.raises(ExceptionGroup) as raised, mesh(QUICKSTART) as quickstart:
        quickstart.backend("127.0.0.1:9103").answers(broken)
        raise LookupError(preview_of(quickstart))

    first, second = raised.value.exceptions
    assert isinstance(first, LookupError) and isinstance(second, ZeroDivisionError)


async def test_the_same_in_the_loop(mesh: MeshStarter) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with mesh(QUICKSTART) as quickstart:
            quickstart.backend("127.0.0.1:9103").answers(broken)
            raise LookupError(await trio.to_thread.run_sync(preview_of, quickstart))

    first, second = raised.value.exceptions
    assert isinstance(first, LookupError) and isinstance(second, ZeroDivisionError)


def test_what_a_test_raises_comes_out_as_it_is(mesh: MeshStarter) -> None:
    with pytest.raises(LookupError), mesh(QUICKSTART):
        raise LookupError


async def test_a_test_that_is_cancelled_ends_as_its_deadline_says(mesh: MeshStarter) -> None:
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(0.1):
            async with mesh(QUICKSTART):
                await trio.sleep_forever()


@pytest.mark.parametrize("status", [0, 99, 100, 103, 600])
def test_no_answer_has_a_status_that_ends_no_exchange(status: int) -> None:
    with pytest.raises(ValueError, match=f"the status of an answer is from 200 to 599, not {status}"):
        Answer(status)


def test_another_loop_than_trios_is_told_what_to_use(mesh: MeshStarter) -> None:
    async def test() -> None:
        async with mesh(QUICKSTART):
            pass

    with pytest.raises(RuntimeError, match=r"`async with mesh\(\.\.\.\)` needs a test on trio.*use `with mesh"):
        asyncio.run(test())


async def test_in_the_loop_of_the_test(mesh: MeshStarter) -> None:
    async with mesh(QUICKSTART) as quickstart, httpx.AsyncClient(base_url=quickstart.url()) as client:
        answers = [await client.get("/reviews") for _ in range(20)]

    assert {answer.status_code for answer in answers} == {200}
    assert {received.path for received in quickstart.received} == {"/api/reviews"}
    assert len(quickstart.received) == 20


async def test_what_a_test_raises_in_the_loop_comes_out_as_it_is(mesh: MeshStarter) -> None:
    with pytest.raises(ZeroDivisionError):
        async with mesh(QUICKSTART):
            raise ZeroDivisionError


def test_two_meshes_run_side_by_side(mesh: MeshStarter) -> None:
    with mesh(QUICKSTART) as one, mesh(QUICKSTART) as other:
        requests.get(one.url() + "/reviews", timeout=5)

    assert (len(one.received), len(other.received)) == (1, 0)


def test_where_a_gateway_leads_to_itself_it_still_does(mesh: MeshStarter) -> None:
    with mesh(POLICIES / "sklearn-iris") as iris:
        headers = {"host": "sklearn-iris.default.example.com"}
        answer = requests.get(iris.url(80) + "/v1/models/sklearn-iris:predict", headers=headers, timeout=5)

    (received,) = iris.backend("127.0.0.1:8012").received
    assert answer.status_code == 200
    assert iris.urls.keys() == {80, 443, 8081}
    assert received.authority == "sklearn-iris-predictor-default.default.svc.cluster.local"
    assert received.headers["knative-serving-revision"] == "sklearn-iris-predictor-default-00001"


def test_a_server_of_https_has_a_certificate_that_is_made_for_the_test(mesh: MeshStarter, tmp_path: Path) -> None:
    with mesh(POLICIES / "sklearn-iris") as iris:
        trusted = tmp_path / "ca.crt"
        trusted.write_text(iris.ca)
        headers = {"host": "sklearn-iris.default.example.com"}
        url = iris.url(443) + "/v1/models/sklearn-iris:predict"
        answer = requests.get(url, headers=headers, verify=str(trusted), timeout=5)

    assert url.startswith("https://")
    assert answer.status_code == 200
    (received,) = iris.backend("127.0.0.1:8012").received
    assert received.path == "/v1/models/sklearn-iris:predict"


def test_resources_may_be_text_and_endpoints_may_have_names(mesh: MeshStarter) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  servers: [{port: {number: 8000, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out}
spec:
  hosts: [a.test]
  gateways: [gw]
  http: [{route: [{destination: {host: api.example.com}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
"""
    with mesh(yaml=text) as outside:
        answer = requests.get(outside.url(8000), headers={"host": "a.test"}, timeout=5)

    assert answer.text == "api.example.com:80\n"
    assert len(outside.backend("api.example.com").received) == 1


def test_what_is_not_there_is_told_with_what_is(mesh: MeshStarter) -> None:
    with mesh(QUICKSTART) as quickstart:
        with pytest.raises(LookupError, match="no Gateway port 81; there are 80"):
            quickstart.url(81)
        with pytest.raises(LookupError, match=r"0 backends are called 'ratings'; there are: .*127.0.0.1:9103"):
            quickstart.backend("ratings")
        with pytest.raises(LookupError, match=r"2 backends are called 'reviews'; there are: .*9101 .*; .*9102"):
            quickstart.backend("reviews", subset="v1")


def test_a_mesh_that_has_ended_leaves_no_port_behind() -> None:
    with run_mesh([QUICKSTART]) as quickstart:
        url = quickstart.url()

    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
