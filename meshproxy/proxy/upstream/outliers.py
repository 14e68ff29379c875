"""Outlier detection: which hosts fail so often that they are ejected, and when they return.

Envoy's rules (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier), and where the page
leaves doubt, what Envoy 1.40 does. Nothing here looks at a clock or tells anybody: times are passed in, decisions
returned. A host that is ejected stays in its cluster; it is the flag on it that keeps requests away.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from ...snapshot import OutlierDetection
from ...telemetry.metrics import OutlierStats
from .host import HealthFlag, Host, OutlierRecord

_GATEWAY_FAILURES = frozenset((502, 503, 504))

# What statuses of gRPC come to in HTTP: https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto
_OF_GRPC = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
_OF_UNKNOWN_GRPC = 500


class Outlier(enum.Enum):
    """Why a host is one; each value is Envoy's name in metrics."""

    CONSECUTIVE_5XX = "consecutive_5xx"
    CONSECUTIVE_GATEWAY_FAILURE = "consecutive_gateway_failure"
    CONSECUTIVE_LOCAL_ORIGIN_FAILURE = "consecutive_local_origin_failure"


class OutlierDetector:
    """One cluster's. What it knows of a host, the host carries: `Host.outlier`."""

    def __init__(self, config: OutlierDetection) -> None:
        self.config = config
        self.stats = OutlierStats()
        self._codes = frozenset(config.error_codes)
        self._least_failure = min((500, *self._codes))

    def answered(self, host: Host, status: int) -> Sequence[Outlier]:
        """A host has answered. Returns why it is an outlier now, if it is."""
        record = host.outlier
        if status < self._least_failure and not record.failing:
            return ()  # as good as always
        record.consecutive_local_origin_failure = 0
        if self._codes:
            status = max(status, 500) if status in self._codes else 200
        return self._counted(record, status)

    def called(self, host: Host, grpc_status: bytes) -> Sequence[Outlier]:
        """A host has answered a call of gRPC with such a status in its head: it counts in place of HTTP's, and
        `error_codes` do not matter. Returns why the host is an outlier now, if it is."""
        known = grpc_status.isdigit() and len(grpc_status) <= 2 and int(grpc_status) < len(_OF_GRPC)
        host.outlier.consecutive_local_origin_failure = 0
        return self._counted(host.outlier, _OF_GRPC[int(grpc_status)] if known else _OF_UNKNOWN_GRPC)

    def failed(self, host: Host, connected: bool) -> Sequence[Outlier]:
        """A host was not reached, or with `connected` did not answer as it should. Returns why it is an outlier now."""
        record = host.outlier
        if not self.config.split_external_local_origin_errors:
            return self._counted(record, 503)
        if connected:
            record.consecutive_local_origin_failure = 0  # as far as a connection goes, all was well
        record.consecutive_local_origin_failure += 1
        record.failing = True
        limit = self.config.consecutive_local_origin_failure
        return (Outlier.CONSECUTIVE_LOCAL_ORIGIN_FAILURE,) if record.consecutive_local_origin_failure == limit else ()

    def _counted(self, record: OutlierRecord, status: int) -> Sequence[Outlier]:
        if status < 500:
            record.forgive()
            return ()
        record.failing = True
        record.consecutive_5xx += 1
        found = []
        if status in _GATEWAY_FAILURES:
            record.consecutive_gateway_failure += 1
            if record.consecutive_gateway_failure == self.config.consecutive_gateway_failure:
                found.append(Outlier.CONSECUTIVE_GATEWAY_FAILURE)
        else:
            record.consecutive_gateway_failure = 0
        if record.consecutive_5xx == self.config.consecutive_5xx:
            found.append(Outlier.CONSECUTIVE_5XX)
        return found

    def eject(self, host: Host, reason: Outlier, hosts: Sequence[Host], now: float) -> bool:
        """Eject one of `hosts`, its cluster's, if it is not ejected already and not too many others are."""
        if host.removed or host.ejected:
            return False
        record = host.outlier
        self.stats.detected[reason.value] += 1
        setattr(record, reason.value, 0)
        ejected = sum(other.ejected for other in hosts)
        if 100 * (ejected + 1) > self.config.max_ejection_percent * len(hosts):
            self.stats.overflow += 1
            return False
        host.set_flag(HealthFlag.FAILED_OUTLIER_CHECK, True)
        self.stats.enforced[reason.value] += 1
        record.ejected_at = now
        record.ejections += 1
        base, most = self.config.base_ejection_time_s, self.config.max_ejection_time_s
        if record.backoff * base < most + base:
            record.backoff += 1
        return True

    def ejection_time_s(self, host: Host) -> float:
        """How long a host that is ejected stays so, at least."""
        return min(self.config.base_ejection_time_s * host.outlier.backoff, self.config.max_ejection_time_s)

    def sweep(self, hosts: Iterable[Host], now: float) -> list[Host]:
        """Let those return whose time has come, which are returned; forget an old ejection of those that do well."""
        returned = []
        for host in hosts:
            record = host.outlier
            if host.ejected:
                if now - record.ejected_at >= self.ejection_time_s(host):
                    host.set_flag(HealthFlag.FAILED_OUTLIER_CHECK, False)
                    record.forgive()
                    record.returned_at = now
                    returned.append(host)
            elif record.returned_at is not None and now - record.returned_at >= self.config.interval_s:
                record.backoff = max(record.backoff - 1, 0)
        return returned
