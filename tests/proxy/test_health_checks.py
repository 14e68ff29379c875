"""Probes find out whether endpoints are healthy: HTTP, TCP and commands, their thresholds and their times."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.proxy.tls.secrets import Secrets
from meshproxy.proxy.upstream import health
from meshproxy.proxy.upstream.health import Health, HealthChecker, described, trouble
from meshproxy.snapshot import (
    Cluster,
    Endpoint,
    ExecProbe,
    HeaderValue,
    HealthCheck,
    HttpProbe,
    OutlierDetection,
    Pipe,
    Probe,
    SocketAddress,
    TcpProbe,
)

from ..test_policies import free_port
from .support import (
    CLUSTER,
    GET,
    LOCALHOST,
    OK,
    Backend,
    Gateway,
    Peer,
    Script,
    answers,
    answers_and_closes,
    backend,
    cluster,
    gateway,
    silent,
    snapshot,
    until,
    unused_address,
)

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


def results(text: str, **thresholds: int) -> str:
    """What an endpoint is held for after each probe: `+` is passed or healthy, `-` failed or unhealthy."""
    health = Health(HealthCheck(TcpProbe(SocketAddress("a", 1)), **thresholds))
    found = []
    for result in text:
        before = health.healthy
        assert health.observe(result == "+") == (health.healthy != before)
        found.append("+" if health.healthy else "-")
    return "".join(found)


@pytest.mark.parametrize(
    ("thresholds", "probes", "expected"),
    [
        ((1, 1), "-+-+", "-+-+"),
        ((1, 3), "+--+---", "++++++-"),
        ((3, 1), "++-+++-++", "-----+---"),
        ((2, 2), "++-+--+++", "-++++--++"),
    ],
)
def test_health_changes_after_as_many_probes_in_a_row(thresholds: tuple[int, int], probes: str, expected: str) -> None:
    healthy, unhealthy = thresholds
    assert results(probes, healthy_threshold=healthy, unhealthy_threshold=unhealthy) == expected


@given(st.text("+-"), st.integers(1, 4), st.integers(1, 4))
def test_health_is_what_the_last_row_that_was_long_enough_says(probes: str, healthy: int, unhealthy: int) -> None:
    rows = [(probes[:end], probes[:end].endswith) for end in range(len(probes) + 1)]
    expected = ["+" if ends("+" * healthy) else "-" if ends("-" * unhealthy) else None for text, ends in rows if text]
    held = "-"
    found = results(probes, healthy_threshold=healthy, unhealthy_threshold=unhealthy)
    for now, row in zip(found, expected, strict=True):
        held = row or held
        assert now == held


def status(line: str) -> bytes:
    return f"HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (answers_and_closes(OK), None),
        (answers_and_closes(status("399 Odd")), None),
        (answers_and_closes(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK), None),
        (answers_and_closes(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbroken off"), None),
        (answers_and_closes(status("302 Found")), None),
        (answers_and_closes(status("400 Bad Request")), "status 400"),
        (answers_and_closes(UNAVAILABLE), "status 503"),
        (answers_and_closes(b""), "closed without an answer"),
        (answers_and_closes(b"no HTTP\r\n\r\n"), "protocol_error"),
    ],
)
async def test_a_get_passes_by_its_status(script: Script, expected: str | None) -> None:
    async with backend(script) as server:
        found = await trouble(HealthCheck(HttpProbe(server.address)))
    assert found == expected if expected is None else expected in (found or "")


async def test_a_get_is_what_the_probe_says() -> None:
    headers = (HeaderValue("user-agent", "istio-probe/1.0"), HeaderValue("x-probe", "50%"))
    async with backend() as server:
        assert await trouble(HealthCheck(HttpProbe(server.address, "/healthz?deep=1", "app.test", headers))) is None
        assert await trouble(HealthCheck(HttpProbe(server.address))) is None
    assert server.received == [
        b"GET /healthz?deep=1 HTTP/1.1\r\nhost: app.test\r\nuser-agent: istio-probe/1.0\r\nx-probe: 50%\r\n\r\n",
        f"GET / HTTP/1.1\r\nhost: {server.address}\r\n\r\n".encode(),
    ]


@pytest.mark.parametrize("probe", [HttpProbe, TcpProbe])
async def test_nobody_there_is_trouble(probe: Callable[[SocketAddress], Probe]) -> None:
    assert await trouble(HealthCheck(probe(unused_address()))) == "Connection refused"


async def test_a_connection_is_enough_for_tcp() -> None:
    async with backend(silent) as server:
        assert await trouble(HealthCheck(TcpProbe(server.address))) is None


async def test_unix_sockets_and_names_are_probed(tmp_path: Path) -> None:
    async with backend(bind=Pipe(str(tmp_path / "s"))) as server, backend() as named:
        assert await trouble(HealthCheck(HttpProbe(server.address))) is None
        assert isinstance(named.address, SocketAddress)
        assert await trouble(HealthCheck(TcpProbe(SocketAddress("localhost", named.address.port)))) is None


async def test_a_name_that_nobody_knows_is_trouble() -> None:
    assert await trouble(HealthCheck(TcpProbe(SocketAddress("a..b", 80))))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ((sys.executable, "-c", "pass"), None),
        ((sys.executable, "-c", "raise SystemExit(3)"), "exit code 3"),
        (("/does/not/exist",), "No such file or directory"),
    ],
)
async def test_a_command_passes_by_its_exit_code(command: tuple[str, ...], expected: str | None) -> None:
    assert await trouble(HealthCheck(ExecProbe(command), timeout_s=10)) == expected


async def test_what_takes_too_long_is_given_up(mock_clock: trio.testing.MockClock) -> None:
    mock_clock.autojump_threshold = 0.01
    async with backend(silent) as server:
        assert await trouble(HealthCheck(HttpProbe(server.address), timeout_s=2)) == "no result within 2 s"
    assert await trouble(HealthCheck(ExecProbe(("sleep", "600")))) == "no result within 1 s"


def test_probes_are_described() -> None:
    address = SocketAddress("a", 1)
    probes = (HttpProbe(address, "/x"), TcpProbe(address), ExecProbe(("ls", "-l")))
    assert [described(probe) for probe in probes] == ["GET /x at a:1", "of connections to a:1", "by ls -l"]


class App:
    """A server that answers requests with OK, and probes, which ask for `/healthz`, as it feels."""

    def __init__(self) -> None:
        self.well = True
        self.probed = 0

    async def __call__(self, connection: Peer) -> None:
        while True:
            if b" /healthz " not in await connection.message():
                await connection.send(OK)
                continue
            self.probed += 1
            await connection.send(OK if self.well else UNAVAILABLE)


def checked(server: Backend, **config: Any) -> Endpoint:
    return Endpoint(server.address, health_check=HealthCheck(HttpProbe(server.address, "/healthz"), **config))


async def next_probe(app: App, clock: trio.testing.MockClock, interval_s: float = 10) -> None:
    before = app.probed
    clock.jump(interval_s)
    await until(lambda: app.probed > before)
    await trio.testing.wait_all_tasks_blocked(0.02)


async def flags(proxy: Gateway) -> list[str]:
    client = await proxy.client(to=proxy.admin)
    page = (await client.request(b"GET /clusters HTTP/1.1\r\nhost: a\r\n\r\n")).body.decode()
    return [line.rpartition("::")[2] for line in page.splitlines() if "::health_flags::" in line]


async def asked(proxy: Gateway) -> int:
    return (await proxy.exchange(GET)).status


async def test_an_endpoint_serves_as_long_as_its_probes_pass(
    mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshproxy.proxy.upstream.health")
    app = App()
    async with backend(app) as server:
        config = Cluster(CLUSTER, (checked(server, unhealthy_threshold=2),))
        async with gateway(snapshot(config), admin=True) as proxy:
            assert (app.probed, await asked(proxy)) == (1, 200)
            app.well = False
            await next_probe(app, mock_clock)
            assert await asked(proxy) == 200
            await next_probe(app, mock_clock)
            assert await asked(proxy) == 503
            assert await flags(proxy) == ["/failed_active_hc"]
            app.well = True
            await next_probe(app, mock_clock)
            assert (await asked(proxy), await flags(proxy)) == (200, ["healthy"])
            assert [line.flags for line in proxy.log_lines] == ["-", "-", "UH", "-"]
    name = f"health check GET /healthz at {server.address}"
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}: healthy",
        f"{name}: unhealthy: status 503",
        f"{name}: healthy",
    ]


@pytest.mark.parametrize(
    ("lasting_s", "begun_at"),
    [
        ([0.25, 0.25, 0.25, 0.25], [0.5, 1.5, 2.5, 3.5]),
        ([1.5, 1.5, 1.5], [0.5, 2.0, 3.5]),
        ([1.5, 0.25, 0.25, 0.25], [0.5, 2.0, 2.5, 3.5]),
        ([3.0, 0.0, 0.0, 0.0], [0.5, 3.5, 3.5]),  # of those that were missed, one is made up for
    ],
)
async def test_probes_begin_at_even_intervals_however_long_they_take_but_one_at_a_time(
    lasting_s: list[float],
    begun_at: list[float],
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, begun = trio.current_time(), []

    async def passed(check: HealthCheck, tls: object) -> None:
        begun.append(trio.current_time() - began)
        await trio.sleep(lasting_s[len(begun) - 1])

    monkeypatch.setattr(health, "trouble", passed)
    check = HealthCheck(TcpProbe(LOCALHOST), initial_delay_s=0.5, interval_s=1.0)
    with trio.move_on_after(4):
        await HealthChecker(check, (), Secrets(())).run()
    assert begun == pytest.approx(begun_at)


async def test_an_endpoint_that_has_not_passed_serves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    dead = unused_address()
    endpoint = Endpoint(dead, health_check=HealthCheck(TcpProbe(dead)))
    async with backend() as other:
        config = Cluster(CLUSTER, (endpoint, Endpoint(other.address)), lb_policy="ROUND_ROBIN")
        async with gateway(snapshot(config), admin=True) as proxy:
            assert [await asked(proxy) for _ in range(4)] == [200] * 4
            assert await flags(proxy) == ["/failed_active_hc", "healthy"]
    assert f"health check of connections to {dead}: unhealthy: Connection refused" in caplog.text


async def test_nobody_waits_for_a_check_that_begins_later(mock_clock: trio.testing.MockClock) -> None:
    app = App()
    async with backend(app) as server:
        config = Cluster(CLUSTER, (checked(server, initial_delay_s=7),))
        async with gateway(snapshot(config)) as proxy:
            assert (app.probed, await asked(proxy)) == (0, 503)
            await next_probe(app, mock_clock, 7)
            assert await asked(proxy) == 200


async def test_a_probe_that_hangs_holds_up_the_start_only_for_its_own_time(
    mock_clock: trio.testing.MockClock,
) -> None:
    mock_clock.autojump_threshold = 0.01
    async with backend(silent) as server:
        endpoint = Endpoint(server.address, health_check=HealthCheck(HttpProbe(server.address), timeout_s=2))
        started = trio.current_time()
        async with gateway(snapshot(Cluster(CLUSTER, (endpoint,)))) as proxy:
            assert trio.current_time() - started == pytest.approx(2, abs=0.1)
            assert await asked(proxy) == 503


async def test_a_workload_in_several_clusters_is_probed_once(mock_clock: trio.testing.MockClock) -> None:
    app = App()
    async with backend(app) as server:
        clusters = [Cluster(name, (checked(server),)) for name in ("a", "b", "c")]
        async with gateway(snapshot(*clusters)) as proxy:
            assert app.probed == 1
            app.well = False
            await next_probe(app, mock_clock)
            assert app.probed == 2
            assert [host.healthy for host in proxy.hosts] == [False] * 3


async def test_an_address_that_a_name_gets_later_is_as_healthy_as_the_others() -> None:
    app = App()
    async with backend(app) as server, gateway(snapshot(Cluster(CLUSTER, (checked(server),)))) as proxy:
        running = proxy.worker.clusters[CLUSTER]
        elsewhere = SocketAddress("127.0.0.2", 1)
        shared = running.config.endpoints[0].health_check
        other = HealthCheck(TcpProbe(elsewhere))
        running.update_hosts(  # type: ignore[union-attr]
            [
                Endpoint(server.address, health_check=shared),
                Endpoint(elsewhere, health_check=shared),
                Endpoint(SocketAddress("127.0.0.2", 2), health_check=other),
                Endpoint(SocketAddress("127.0.0.2", 3)),
            ]
        )
        assert [host.healthy for host in running.hosts] == [True, True, False, True]


async def test_a_probe_that_passes_does_not_end_an_ejection(mock_clock: trio.testing.MockClock) -> None:
    app = App()
    async with backend(app) as server:
        outliers = OutlierDetection(consecutive_5xx=1, max_ejection_percent=100)
        config = Cluster(CLUSTER, (checked(server),), outlier_detection=outliers)
        async with gateway(snapshot(config), admin=True) as proxy:
            [host] = proxy.hosts
            running = proxy.worker.clusters[CLUSTER]
            running._eject(host, running._outliers.answered(host, 500))  # type: ignore[union-attr]
            app.well = False
            await next_probe(app, mock_clock)
            assert await flags(proxy) == ["/failed_active_hc/failed_outlier_check"]
            app.well = True
            await next_probe(app, mock_clock)
            assert await flags(proxy) == ["/failed_outlier_check"]


async def test_a_dead_cluster_comes_up_with_its_app(mock_clock: trio.testing.MockClock) -> None:
    address = SocketAddress("127.0.0.1", free_port())
    check = HealthCheck(TcpProbe(address), interval_s=3)
    config = Cluster(CLUSTER, (Endpoint(address, health_check=check),))
    async with gateway(snapshot(config)) as proxy:
        assert await asked(proxy) == 503
        async with backend(answers(OK), bind=address) as server:
            mock_clock.jump(3)
            await server.connected()
            await until(lambda: proxy.hosts[0].healthy)
            assert await asked(proxy) == 200
            assert cluster(server).endpoints[0].address == address
