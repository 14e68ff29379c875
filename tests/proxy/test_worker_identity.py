"""A worker with an identity: it serves nothing before that is there, and says what it waits for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio

from meshproxy.identity import Authority, Credentials, IdentityError, Issued, Refused, WorkloadIdentity, local_ca
from meshproxy.identity.authority import create
from meshproxy.identity.client import Unreachable
from meshproxy.proxy.admin import State
from meshproxy.proxy.worker import Worker
from meshproxy.snapshot import (
    WORKLOAD_CERTIFICATE,
    WORKLOAD_ROOTS,
    Secret,
    Snapshot,
    WorkloadCertificate,
    WorkloadRoots,
)

from ..identity.support import REVIEWS
from .support import GET, backend, gateway, snapshot, until

SECRETS = (Secret(WORKLOAD_CERTIFICATE, WorkloadCertificate()), Secret(WORKLOAD_ROOTS, WorkloadRoots()))


def now() -> datetime:
    return datetime.now(UTC)


class Ca:
    """A CA that answers when it is let, and first says `before`, once."""

    def __init__(self, authority: Authority, before: IdentityError | None = None) -> None:
        self._sign = local_ca(authority, now)
        self._before = before
        self.may_answer = trio.Event()

    async def __call__(self, request: bytes, current: Credentials | None) -> Issued:
        if self._before is not None:
            before, self._before = self._before, None
            raise before
        await self.may_answer.wait()
        return await self._sign(request, current)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=now())
    return Authority(tmp_path / "ca")


def identity(ca: Ca) -> WorkloadIdentity:
    return WorkloadIdentity(ca, REVIEWS, clock=now, chance=lambda: 0.5)


async def test_nothing_listens_before_the_identity_is_there_but_the_admin_pages(authority: Authority) -> None:
    ca = Ca(authority, before=Unreachable("the CA at ca.test:15012 cannot be reached"))
    one = identity(ca)
    async with backend() as server, gateway(snapshot(server), admin=True, started=False, identity=one) as proxy:
        worker = proxy.worker
        await until(lambda: one.trouble)
        with pytest.raises(OSError, match="failed"):
            await trio.open_tcp_stream(proxy.address.host, proxy.address.port)
        client = await proxy.client(to=proxy.admin)
        ready = await client.request(b"GET /ready HTTP/1.1\r\nhost: admin\r\n\r\n")
        assert ready.status == 503
        assert ready.body == b"PRE_INITIALIZING: no identity yet: the CA at ca.test:15012 cannot be reached\n"

        ca.may_answer.set()
        await until(lambda: worker.state is State.LIVE)

        assert (await client.request(b"GET /ready HTTP/1.1\r\nhost: admin\r\n\r\n")).body == b"LIVE\n"
        assert (await proxy.exchange(GET)).status == 200


async def test_the_secrets_of_the_workload_are_what_the_ca_has_issued(authority: Authority) -> None:
    ca = Ca(authority)
    ca.may_answer.set()
    one = identity(ca)
    async with gateway(Snapshot(secrets=SECRETS), identity=one) as proxy:
        assert one.current is not None
        assert proxy.worker.secrets.key_pair(WORKLOAD_CERTIFICATE).leaf == one.current.issued.leaf
        assert proxy.worker.secrets.authorities(WORKLOAD_ROOTS).certificates == one.current.issued.roots


async def test_a_worker_that_is_refused_does_not_serve(authority: Authority) -> None:
    ca = Ca(authority, before=Refused(403, "the join token is that of somebody else"))
    async with backend() as server:
        worker = Worker(snapshot(server), identity=identity(ca))

        with pytest.raises(ExceptionGroup) as raised:
            await worker.run()

    assert raised.group_contains(Refused, match="somebody else")
    assert worker.state is State.INITIALIZING


async def test_a_worker_that_is_stopped_while_it_waits_ends(authority: Authority) -> None:
    worker = Worker(Snapshot(secrets=SECRETS), identity=identity(Ca(authority)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        await trio.testing.wait_all_tasks_blocked()
        worker.stop()

    assert worker.state is State.DRAINING
