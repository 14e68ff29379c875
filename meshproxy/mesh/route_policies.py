"""What a rule asks for besides forwarding, in Envoy's words: faults, CORS, mirrors.

Source: Istio's `TranslateFault`, `TranslateCORSPolicy` and `TranslateRequestMirrorPolicy`
(pilot/pkg/networking/core/route/route.go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..resources import GRPC_STATUSES, Abort, Delay, Destination, HTTPFaultInjection, HTTPRoute, Percent
from ..resources import CorsPolicy as WrittenCorsPolicy
from ..snapshot import CorsPolicy, Exact, FaultAbort, FaultDelay, FaultInjection, FractionalPercent, RequestMirrorPolicy
from .clusters import ClusterReference
from .matches import string_matcher

_ALL = FractionalPercent(100)
_NONE = FractionalPercent(0)


def fault_injection(fault: HTTPFaultInjection | None) -> FaultInjection | None:
    """A rule's faults. One without a share of the requests never happens, as Istio documents it."""
    if fault is None:
        return None
    return FaultInjection(_delay(fault.delay), _abort(fault.abort))


def _delay(delay: Delay | None) -> FaultDelay | None:
    if delay is None or delay.fixed_delay is None:
        return None
    return FaultDelay(delay.fixed_delay, _share(delay.percentage, delay.percent, _NONE))


def _abort(abort: Abort | None) -> FaultAbort | None:
    if abort is None:
        return None
    share = _share(abort.percentage, None, _NONE)
    if abort.grpc_status is not None:
        return FaultAbort(share, grpc_status=GRPC_STATUSES.index(abort.grpc_status))
    return None if abort.http_status is None else FaultAbort(share, abort.http_status)


def cors_policy(policy: WrittenCorsPolicy | None) -> CorsPolicy | None:
    """A rule's CORS policy."""
    if policy is None:
        return None
    return CorsPolicy(
        allow_origins=tuple(filter(None, map(string_matcher, policy.allow_origins)))
        or tuple(map(Exact, policy.allow_origin)),
        allow_methods=policy.allow_methods,
        allow_headers=policy.allow_headers,
        expose_headers=policy.expose_headers,
        max_age_s=None if policy.max_age is None else int(policy.max_age),
        allow_credentials=bool(policy.allow_credentials),
        forward_not_matching_preflights=policy.unmatched_preflights != "IGNORE",
    )


def mirror_policies(
    http: HTTPRoute, cluster_of: Callable[[Destination], ClusterReference]
) -> Iterator[RequestMirrorPolicy]:
    """Where copies of a rule's requests go; a mirror of 0 % is none."""
    mirrors = [(mirror.destination, _share(mirror.percentage, None, _ALL)) for mirror in http.mirrors]
    if http.mirror is not None:
        mirrors.insert(0, (http.mirror, _share(http.mirror_percentage, http.mirror_percent, _ALL)))
    for destination, share in mirrors:
        if share.numerator:
            yield RequestMirrorPolicy(cluster_of(destination).name, share)


def _share(percentage: Percent | None, percent: int | None, otherwise: FractionalPercent) -> FractionalPercent:
    """A share of the requests; `percent` is its old form."""
    if percentage is not None:
        return FractionalPercent(int(percentage.value * 10_000), 1_000_000)
    return otherwise if percent is None else FractionalPercent(percent)
