"""When a route tries a request again (Istio's `ConvertPolicy` and `ConvertInboundPolicy`)."""

from __future__ import annotations

from dataclasses import replace

from ..resources import HTTPRetry
from ..snapshot import RetryPolicy

DEFAULT_RETRIES = RetryPolicy(
    retry_on=("connect-failure", "refused-stream", "unavailable", "cancelled", "retriable-status-codes"),
    num_retries=2,
    previous_hosts=True,
    host_selection_max_attempts=5,
)
"""Istio's, of every route that forwards to a service and says nothing about retries."""

HASHED_RETRIES = replace(DEFAULT_RETRIES, previous_hosts=False)
"""The same where a hash chooses the host, which is to have the retries too."""

INBOUND_RETRIES = RetryPolicy(retry_on=("reset-before-request",), num_retries=2)
"""Istio's, between a sidecar and its app."""


def retry_policy(retries: HTTPRetry | None, hashed: bool) -> RetryPolicy | None:
    """The policy that a rule's `retries` make; no `attempts`, no retries. `hashed`: a hash chooses the host."""
    default = HASHED_RETRIES if hashed else DEFAULT_RETRIES
    if retries is None:
        return default
    if not retries.attempts:
        return None
    retry_on, codes = _conditions(retries.retry_on or "")
    previous = retries.retry_ignore_previous_hosts
    return RetryPolicy(
        retry_on=retry_on or default.retry_on,
        num_retries=retries.attempts,
        retriable_status_codes=codes,
        per_try_timeout_s=retries.per_try_timeout or 0.0,
        base_interval_s=retries.backoff or default.base_interval_s,
        previous_hosts=default.previous_hosts if previous is None else previous,
        host_selection_max_attempts=default.host_selection_max_attempts,
        previous_priorities=retries.retry_remote_localities is True,
    )


def _conditions(retry_on: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Conditions and status codes. Where there are codes, the condition that they matter is meant."""
    parts = [part for part in retry_on.split(",") if part]
    codes = tuple(int(part) for part in parts if part.isdigit())
    conditions = dict.fromkeys(part for part in parts if not part.isdigit())
    if codes:
        conditions["retriable-status-codes"] = None
    return tuple(conditions), codes
