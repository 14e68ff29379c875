"""Where a cluster's hosts come from: names, followed as they change; Unix sockets; IPv6."""

from __future__ import annotations

import logging
import math
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from meshproxy.snapshot import Cluster, Endpoint, Locality, Pipe, SocketAddress

from .support import CLUSTER, GET, Gateway, backend, cluster, gateway, snapshot, until


class Names:
    """A resolver: what each name stands for; an exception is raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **addresses: list[str] | Exception) -> None:
        self.addresses = addresses
        self.asked = 0
        self.wait: dict[str, trio.Event] = {}
        """Names that are answered no sooner."""
        monkeypatch.setattr(trio.socket, "getaddrinfo", self._getaddrinfo)

    async def _getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if host in self.wait:
            await self.wait[host].wait()
        found = self.addresses[host]
        if isinstance(found, Exception):
            raise found
        families = [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in found]
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in families]


def named(*endpoints: Endpoint) -> Cluster:
    return Cluster(CLUSTER, endpoints, "STRICT_DNS")


def logical(endpoint: Endpoint) -> Cluster:
    return Cluster(CLUSTER, (endpoint,), "LOGICAL_DNS")


def hosts(proxy: Gateway) -> list[str]:
    return [host.name for host in proxy.worker.clusters[CLUSTER].hosts]


async def refreshed(names: Names, clock: trio.testing.MockClock) -> None:
    asked = names.asked
    clock.jump(5.1)
    await until(lambda: names.asked > asked)
    await trio.testing.wait_all_tasks_blocked()


async def test_a_name_whose_server_does_not_answer_does_not_hold_up_the_others(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.autojump_threshold = 0.01  # until the gateway has waited for the name for long enough
    names = Names(monkeypatch, silent=[], a=["127.0.0.1"])
    names.wait["silent"] = trio.Event()
    config = named(Endpoint(SocketAddress("silent", 80)), Endpoint(SocketAddress("a", 80)))
    async with gateway(snapshot(config)) as proxy:
        assert hosts(proxy) == ["127.0.0.1:80"]
        mock_clock.autojump_threshold = math.inf
        names.addresses["a"] = ["127.0.0.2"]
        await refreshed(names, mock_clock)
        assert hosts(proxy) == ["127.0.0.2:80"]


async def test_names_whose_servers_do_not_answer_leave_threads_to_the_rest(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    mock_clock.autojump_threshold = 0.01
    answered = threading.Event()
    asked: list[str] = []

    def waits(host: bytes | str, *_: object) -> list[Any]:
        if isinstance(host, str):
            raise socket.gaierror(socket.EAI_NONAME, "this is not an address")  # trio looks for that first
        asked.append(host.decode())
        answered.wait()
        raise OSError("no answer")

    config = named(*(Endpoint(SocketAddress(f"name-{number}", 80)) for number in range(50)))
    monkeypatch.setattr(socket, "getaddrinfo", waits)
    try:
        async with gateway(snapshot(config)):
            assert len(set(asked)) == 50
            assert trio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        answered.set()


async def test_who_looks_names_up_already_goes_on_doing_so() -> None:
    class Known(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *_: object) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", 80))]

        async def getnameinfo(self, *_: object) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(Known())
    async with gateway(snapshot(named(Endpoint(SocketAddress("a", 80))))) as proxy:
        assert hosts(proxy) == ["127.0.0.9:80"]


async def test_a_cluster_has_a_host_for_each_address_of_each_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, a=["127.0.0.2", "127.0.0.1"], b=["127.0.0.3", "127.0.0.1"])
    config = named(Endpoint(SocketAddress("a", 80), 2), Endpoint(SocketAddress("b", 80)), Endpoint(Pipe("/x")))
    async with gateway(snapshot(config)) as proxy:
        assert hosts(proxy) == ["127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80", "unix:///x"]
        assert [host.weight for host in proxy.worker.clusters[CLUSTER].hosts] == [2, 2, 1, 1]


async def test_a_cluster_follows_its_name(monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock) -> None:
    async with backend() as old, backend(bind=SocketAddress("127.0.0.2", old.address.port)) as new:  # type: ignore[union-attr]
        assert isinstance(old.address, SocketAddress)
        names = Names(monkeypatch, svc=["127.0.0.1"])
        async with gateway(snapshot(named(Endpoint(SocketAddress("svc", old.address.port))))) as proxy:
            client = await proxy.client()
            await client.request(GET)
            names.addresses["svc"] = ["127.0.0.2"]
            await refreshed(names, mock_clock)
            await until(lambda: old.connections[0].end)
            await client.request(GET)
            assert [len(one.connections) for one in (old, new)] == [1, 1]


async def test_a_logical_cluster_has_the_first_address_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, svc=["127.0.0.3", "127.0.0.1", "127.0.0.2"])
    async with gateway(snapshot(logical(Endpoint(SocketAddress("svc", 80), 2)))) as proxy:
        assert hosts(proxy) == ["127.0.0.3:80"]
        assert proxy.worker.clusters[CLUSTER].hosts[0].weight == 2


async def test_a_logical_cluster_keeps_its_connections_when_its_name_moves(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async with backend() as old, backend(bind=SocketAddress("127.0.0.2", old.address.port)) as new:  # type: ignore[union-attr]
        assert isinstance(old.address, SocketAddress)
        names = Names(monkeypatch, svc=["127.0.0.1"])
        async with gateway(snapshot(logical(Endpoint(SocketAddress("svc", old.address.port))))) as proxy:
            client = await proxy.client()
            await client.request(GET)
            names.addresses["svc"] = ["127.0.0.2"]
            await refreshed(names, mock_clock)
            await client.request(GET)
            assert [len(one.connections) for one in (old, new)] == [1, 0]
            proxy.hosts[0].sweep(now=0.0, idle_timeout_s=-1.0)
            await client.request(GET)
            assert [len(one.connections) for one in (old, new)] == [1, 1]


async def test_a_logical_cluster_keeps_its_address_when_its_name_is_not_found(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    names = Names(monkeypatch, svc=["127.0.0.1"])
    async with gateway(snapshot(logical(Endpoint(SocketAddress("svc", 80))))) as proxy:
        names.addresses["svc"] = socket.gaierror(-2, "Name or service not known")
        await refreshed(names, mock_clock)
        assert hosts(proxy) == ["127.0.0.1:80"]


async def test_another_order_of_the_addresses_is_no_change(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    names = Names(monkeypatch, svc=["127.0.0.1", "127.0.0.2"])
    async with gateway(snapshot(named(Endpoint(SocketAddress("svc", 80))))) as proxy:
        before = proxy.worker.clusters[CLUSTER].hosts
        names.addresses["svc"] = ["127.0.0.2", "127.0.0.1"]
        await refreshed(names, mock_clock)
        assert proxy.worker.clusters[CLUSTER].hosts is before


async def test_an_address_is_where_its_name_is(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, svc=["127.0.0.1"])
    endpoint = Endpoint(SocketAddress("svc", 80), locality=Locality("eu"), priority=0)
    async with gateway(snapshot(named(endpoint))) as proxy:
        assert proxy.hosts[0].locality == Locality("eu")


async def test_a_host_that_stays_keeps_its_connections(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async with backend() as server:
        assert isinstance(server.address, SocketAddress)
        names = Names(monkeypatch, svc=["127.0.0.1"])
        config = named(Endpoint(SocketAddress("svc", server.address.port)))
        async with gateway(snapshot(config)) as proxy:
            client = await proxy.client()
            for _ in range(3):
                assert (await client.request(GET)).status == 200
                names.addresses["svc"] = ["127.0.0.1", "127.0.0.9"] if len(hosts(proxy)) == 1 else ["127.0.0.1"]
                await refreshed(names, mock_clock)
                if len(hosts(proxy)) == 2:
                    names.addresses["svc"] = ["127.0.0.1"]
                    await refreshed(names, mock_clock)
            assert len(server.connections) == 1


async def test_a_request_under_way_is_finished_when_its_host_goes(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    async def script(connection: Any) -> None:
        await connection.message()
        await go_on.wait()
        await connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await connection.ended()

    go_on = trio.Event()
    async with backend(script) as server:
        assert isinstance(server.address, SocketAddress)
        names = Names(monkeypatch, svc=["127.0.0.1"])
        async with gateway(snapshot(named(Endpoint(SocketAddress("svc", server.address.port))))) as proxy:
            client = await proxy.client()
            await client.send(GET)
            gone = proxy.worker.clusters[CLUSTER].hosts[0]
            await until(lambda: gone.active)
            names.addresses["svc"] = []
            await refreshed(names, mock_clock)
            assert (await proxy.exchange(GET)).status == 503
            go_on.set()
            assert (await client.response()).status == 200
            await until(lambda: server.connections[0].end)
            assert (gone.active, gone.connections, gone.idle) == (0, 0, [])


@pytest.mark.parametrize("error", [socket.gaierror(-2, "Name or service not known"), UnicodeError("label too long")])
async def test_a_name_that_is_not_found_keeps_the_addresses_it_had(
    monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock, error: Exception
) -> None:
    names = Names(monkeypatch, svc=["127.0.0.1"])
    async with gateway(snapshot(named(Endpoint(SocketAddress("svc", 80))))) as proxy:
        names.addresses["svc"] = error
        await refreshed(names, mock_clock)
        assert hosts(proxy) == ["127.0.0.1:80"]
        names.addresses["svc"] = ["127.0.0.2"]
        await refreshed(names, mock_clock)
        assert hosts(proxy) == ["127.0.0.2:80"]


@pytest.mark.parametrize("known", [True, False])
async def test_that_a_name_is_not_found_is_told_once_and_so_is_that_it_is_found_again(
    known: bool, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "meshproxy.proxy.upstream.dns")
    nowhere = socket.gaierror(socket.EAI_NONAME, "not found")
    names = Names(monkeypatch, a=["127.0.0.1"] if known else nowhere)
    async with gateway(snapshot(named(Endpoint(SocketAddress("a", 80))))):
        for found in (nowhere, nowhere, ["127.0.0.1"], ["127.0.0.1"], nowhere):
            names.addresses["a"] = found
            await refreshed(names, mock_clock)

    told = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert told == [
        "cannot resolve a: [Errno -2] not found",
        "a is found again",
        "cannot resolve a: [Errno -2] not found",
    ]


async def test_a_name_that_was_never_found_has_no_healthy_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, svc=socket.gaierror(-2, "Name or service not known"))
    async with gateway(snapshot(named(Endpoint(SocketAddress("svc", 80))))) as proxy:
        assert (await proxy.exchange(GET)).status == 503
        assert (await proxy.logged())[0].flags == "UH"


async def test_a_name_that_is_both_is_taken_as_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, both=["::1", "127.0.0.1"], six=["::2"])
    async with gateway(snapshot(named(*(Endpoint(SocketAddress(name, 80)) for name in names.addresses)))) as proxy:
        assert hosts(proxy) == ["127.0.0.1:80", "[::2]:80"]


async def test_localhost_is_looked_up_by_the_system() -> None:
    async with backend() as server:
        assert isinstance(server.address, SocketAddress)
        config = named(Endpoint(SocketAddress("localhost", server.address.port)))
        async with gateway(snapshot(config)) as proxy:
            assert (await proxy.exchange(GET)).status == 200


async def test_an_endpoint_can_be_a_unix_socket(tmp_path: Path) -> None:
    async with backend(bind=Pipe(str(tmp_path / "socket"))) as server, gateway(snapshot(server)) as proxy:
        client = await proxy.client()
        assert [(await client.request(GET)).status for _ in range(2)] == [200, 200]
        assert len(server.connections) == 1
        assert (await proxy.logged(2))[0].upstream == f"unix://{tmp_path}/socket"


async def test_a_unix_socket_that_is_not_there_is_a_connection_failure(tmp_path: Path) -> None:
    async with gateway(snapshot(cluster(Pipe(str(tmp_path / "socket"))))) as proxy:
        assert (await proxy.exchange(GET)).status == 503
        (line,) = await proxy.logged()
        assert line.flags == "UF"
        assert "No_such_file_or_directory" in line.details


def ipv6_works() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not ipv6_works(), reason="this machine has no IPv6")
async def test_listener_and_endpoint_can_be_ipv6() -> None:
    here = SocketAddress("::1", 0)
    async with backend(bind=here) as server, gateway(snapshot(server, listener=here)) as proxy:
        assert (await proxy.exchange(GET)).status == 200
        assert b"x-forwarded-for: ::1\r\n" in server.received[0]
        assert (await proxy.logged())[0].upstream.startswith("[::1]:")
