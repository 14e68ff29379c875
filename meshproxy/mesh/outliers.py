"""When endpoints that keep failing are left out, as a DestinationRule says it.

Source: Istio's `applyOutlierDetection` and `applyOutlierDetectionErrorCodes` (cluster_traffic_policy.go). What is left
out is Envoy's default; of ejections by success rate, Istio wants none. One difference: `consecutiveErrors`, which Istio
has given up, still means what it meant there last: gateway errors, and no others.
"""

from __future__ import annotations

from .. import resources as api
from ..snapshot import OutlierDetection

_DEFAULT = OutlierDetection()


def outlier_detection(settings: api.OutlierDetection | None) -> OutlierDetection | None:
    """A policy's outlier detection; None where it has none."""
    if settings is None:
        return None
    old = settings.consecutive_errors or None
    every_5xx = _DEFAULT.consecutive_5xx if old is None else 0
    base_ejection_time_s = settings.base_ejection_time or _DEFAULT.base_ejection_time_s
    return OutlierDetection(
        consecutive_5xx=_given(settings.consecutive_5xx_errors, every_5xx),
        consecutive_gateway_failure=_given(settings.consecutive_gateway_errors, old or 0),
        split_external_local_origin_errors=settings.split_external_local_origin_errors,
        consecutive_local_origin_failure=settings.consecutive_local_origin_failures
        or _DEFAULT.consecutive_local_origin_failure,
        error_codes=settings.outlier_detection_http_error_codes,
        interval_s=settings.interval or _DEFAULT.interval_s,
        base_ejection_time_s=base_ejection_time_s,
        max_ejection_time_s=max(_DEFAULT.max_ejection_time_s, base_ejection_time_s),
        max_ejection_percent=settings.max_ejection_percent or _DEFAULT.max_ejection_percent,
    )


def _given(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def panic_threshold(settings: api.OutlierDetection | None) -> float:
    """The percentage of healthy endpoints below which all of them serve."""
    return 0.0 if settings is None else float(settings.min_health_percent or 0)
