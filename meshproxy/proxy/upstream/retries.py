"""Sends a request to a cluster, again and again if need be, and no longer than it has time.

What is decided here is decided by others: `retry_rules` say whether and when, `tries` how long. Istio retries nearly
every request, so that the first try, when all goes well, is a call of the cluster and little more.

Rules:

1. Nothing is tried again of which the client has seen something, or which has not been kept.
2. A retry has its slot from the decision for it until its outcome, whatever that is; a response that is thrown away
   gives back its connection first.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable

import trio

from ...telemetry.metrics import ClusterStats
from ..http.failures import (
    RESPONSE_TIMEOUT,
    RETRY_LIMIT_EXCEEDED,
    RETRY_OVERFLOW,
    Failure,
    add_flags,
    of_retry,
)
from ..http.message import Request, Response, Service, set_header
from .balancers import Chance
from .cluster import SERVICE_TIME, Cluster
from .forward_proxy import ForwardProxy
from .recorded_body import ROOM, RecordedBody, recorded
from .retry_rules import RetryRules, backoff_s
from .time_limits import tell_retry
from .tries import Tries

Upstream = Cluster | ForwardProxy
Outcome = Response | Failure


def retrying(cluster: Upstream, chance: Chance) -> Service:
    """`cluster`, asked as a request's `retry_rules` and `tries` tell."""
    recent, stats = cluster.retry_limit.recent, cluster.stats

    def asked(request: Request) -> Awaitable[Response]:
        if recent is not None:
            recent.note(trio.current_time())
        rules, tries = request.retry_rules, request.tries
        if tries is not None:
            tries.stats = stats
        if not isinstance(request.body, bytes):
            return streamed(request, rules, tries)
        if tries is not None:
            tries.whole = True
        return cluster(request) if rules is None else retried(request, rules)

    async def retried(request: Request, rules: RetryRules) -> Response:
        try:
            response = await cluster(request)
        except Failure as failure:
            if not rules.failed(failure):
                raise
            outcome: Outcome = failure.alone()
        else:
            if not rules.answered(response):
                return response
            outcome = response
        return await _again(cluster, request, rules, outcome, chance)

    def streamed(request: Request, rules: RetryRules | None, tries: Tries | None) -> Awaitable[Response]:
        if rules is not None:
            return recorded_meanwhile(request, rules)
        if tries is not None:
            _record(request, 0)
        return cluster(request)

    async def recorded_meanwhile(request: Request, rules: RetryRules) -> Response:
        assert not isinstance(request.body, bytes)
        room = 0 if request.upgrade else ROOM.claim(request.body.length)
        _record(request, room)
        answered = False
        try:
            response = await retried(request, rules)
            answered = True
            return response
        finally:
            if isinstance(request.body, RecordedBody):
                request.body.settle(answered)
            ROOM.give_back(room)

    return asked


def _record(request: Request, limit: int) -> None:
    """Have the end of the request noted, and its body kept as long as it has no more bytes than `limit`."""
    body = request.body
    assert not isinstance(body, bytes)
    if not request.upgrade:  # what follows an upgrade is not sent before the upstream has agreed to it
        request.body = recorded(body, limit, _nothing if request.tries is None else request.tries.request_ended)


def _nothing() -> None: ...


async def _again(cluster: Upstream, request: Request, rules: RetryRules, outcome: Outcome, chance: Chance) -> Response:
    """What comes of a request whose first try had an outcome that asks for another."""
    limit, stats = cluster.retry_limit, cluster.stats
    tries = request.tries
    if tries is None:
        tries = request.tries = Tries()
    retry = 0
    while _can_be_sent_again(request):
        if retry >= rules.policy.num_retries:
            stats.retry_limit_exceeded += 1
            return _end(request, outcome, retry, RETRY_LIMIT_EXCEEDED)
        if not limit.allows(sum(host.active for host in cluster.hosts), trio.current_time()):
            stats.retry_overflow += 1
            return _end(request, outcome, retry, RETRY_OVERFLOW)
        retry += 1
        limit.active += 1
        try:
            _throw_away(outcome, stats)
            await _pause(tries, backoff_s(rules.policy, retry, chance()))
            tries.hosts += tuple(host for host in cluster.hosts if host.name == request.upstream_host)
            outcome = await _retry(cluster, request, tries, rules, retry + 1)
        finally:
            limit.active -= 1
        if isinstance(outcome, Response):
            if not rules.answered(outcome):
                stats.retry_success += 1
                break
        elif not rules.failed(outcome):
            break
    return _end(request, outcome, retry)


def _can_be_sent_again(request: Request) -> bool:
    body = request.body
    if request.informed:
        return False
    return isinstance(body, bytes) or bool(request.upgrade) or (isinstance(body, RecordedBody) and body.replayable)


def _throw_away(outcome: Outcome, stats: ClusterStats) -> None:
    if isinstance(outcome, Failure):
        stats.count_retry(outcome.kind.status, answered=False)
        return
    stats.count_retry(outcome.status, answered=True)
    if not isinstance(outcome.body, bytes):
        outcome.body.close()


async def _pause(tries: Tries, pause_s: float) -> None:
    """Raises `Failure` when the request's time runs out meanwhile."""
    await trio.sleep(min(pause_s, max(tries.deadline - trio.current_time(), 0)))
    if tries.out_of_time():
        raise Failure(RESPONSE_TIMEOUT)


async def _retry(cluster: Upstream, request: Request, tries: Tries, rules: RetryRules, attempt: int) -> Outcome:
    if isinstance(request.body, RecordedBody):
        request.body = request.body.again()
    tries.begin_another()
    tell_retry(request, tries, rules, attempt)
    try:
        return await cluster(request)
    except Failure as failure:
        return failure.alone()


def _end(request: Request, outcome: Outcome, retries: int, flag: str = "") -> Response:
    """The outcome that counts; a failure is raised. `flag` tells why there is no other."""
    add_flags(request, flag)
    if isinstance(outcome, Failure):
        if retries:
            outcome.kind = of_retry(outcome.kind)
        raise outcome
    if retries and isinstance(request.body, bytes):
        request.service_time_ms = int((time.perf_counter() - request.started) * 1000)
        set_header(outcome.headers, SERVICE_TIME, b"%d" % request.service_time_ms)
    return outcome
