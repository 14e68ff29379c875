"""Routes: conditions, actions, header changes.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto
"""

from __future__ import annotations

import base64

from ..snapshot import (
    ClaimMatcher,
    DirectResponseAction,
    Exact,
    HashCookie,
    HashHeader,
    HashPolicy,
    HashQueryParameter,
    HashSourceIp,
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    Prefix,
    QueryParameterMatcher,
    RedirectAction,
    RegexRewrite,
    RequestMirrorPolicy,
    RetryPolicy,
    Route,
    RouteAction,
    RouteMatch,
    StringMatcher,
    WeightedCluster,
)
from .access import claim_matcher
from .fields import UINT32_MAX, Inexpressible, Message, duration, limit, regex_matcher, string_matcher, typed
from .filters import fractional_percent, per_filter_config

_REDIRECT_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}


def route(config: Route) -> Message:
    """`config.route.v3.Route`"""
    return {
        **({"name": config.name} if config.name else {}),
        **({"stat_prefix": config.stat_prefix} if config.stat_prefix else {}),
        "match": route_match(config.match),
        **_action(config),
        **header_mutations(config.request_headers, "request"),
        **header_mutations(config.response_headers, "response"),
        **per_filter_config(config),
    }


def route_match(match: RouteMatch) -> Message:
    """`config.route.v3.RouteMatch`"""
    return {
        **_path(match.path),
        **({} if match.case_sensitive else {"case_sensitive": False}),
        **({"headers": [header_matcher(one) for one in match.headers]} if match.headers else {}),
        **(
            {"query_parameters": [query_parameter_matcher(one) for one in match.query_parameters]}
            if match.query_parameters
            else {}
        ),
        **({"dynamic_metadata": [_claim(one) for one in match.claims]} if match.claims else {}),
    }


def _claim(match: ClaimMatcher) -> Message:
    return {**claim_matcher(match.claim), **({"invert": True} if match.invert else {})}


def _path(match: StringMatcher) -> Message:
    if isinstance(match, Exact):
        return {"path": match.value}
    return {"prefix": match.value} if isinstance(match, Prefix) else {"safe_regex": regex_matcher(match)}


def header_matcher(match: HeaderMatcher) -> Message:
    """`config.route.v3.HeaderMatcher`"""
    return {
        "name": match.name,
        **({"present_match": True} if match.match is None else {"string_match": string_matcher(match.match)}),
        **({"invert_match": True} if match.invert else {}),
        # With a condition on presence it would make Envoy take every header for present; the snapshot does not.
        **(
            {"treat_missing_header_as_empty": True}
            if match.treat_missing_header_as_empty and match.match is not None
            else {}
        ),
    }


def query_parameter_matcher(match: QueryParameterMatcher) -> Message:
    """`config.route.v3.QueryParameterMatcher`"""
    if not match.name:
        raise Inexpressible("condition on a query parameter without a name: Envoy requires one")
    condition = {"present_match": True} if match.match is None else {"string_match": string_matcher(match.match)}
    return {"name": match.name, **condition}


def _action(config: Route) -> Message:
    match config.action:
        case RouteAction() as forward:
            return {"route": route_action(forward, config.name)}
        case RedirectAction() as redirect:
            return {"redirect": redirect_action(redirect, config.name)}
        case DirectResponseAction() as answer:
            return {"direct_response": direct_response_action(answer, config.name)}


def route_action(action: RouteAction, name: str) -> Message:
    """`config.route.v3.RouteAction`"""
    _refuse_empty(action.prefix_rewrite, "prefix rewrite", name)
    return {
        **_destination(action, name),
        **_path_rewrite(action),
        **({"host_rewrite_literal": action.host_rewrite} if action.host_rewrite else {}),
        **({"request_mirror_policies": list(map(request_mirror_policy, action.mirrors))} if action.mirrors else {}),
        **({"hash_policy": [hash_policy(one) for one in action.hash_policies]} if action.hash_policies else {}),
        "timeout": duration(action.timeout_s),
        **({} if action.max_grpc_timeout_s is None else {"max_grpc_timeout": duration(action.max_grpc_timeout_s)}),
        **({"retry_policy": retry_policy(action.retry_policy, name)} if action.retry_policy else {}),
    }


def retry_policy(policy: RetryPolicy, name: str) -> Message:
    """`config.route.v3.RetryPolicy`"""
    where = f"of route {name!r}"
    backoff = {"base_interval": limit(policy.base_interval_s, f"base interval of retries {where}")}
    return {
        "retry_on": ",".join(policy.retry_on),
        "num_retries": policy.num_retries,
        **({"retriable_status_codes": codes} if (codes := list(policy.retriable_status_codes)) else {}),
        **({"per_try_timeout": duration(policy.per_try_timeout_s)} if policy.per_try_timeout_s else {}),
        "retry_back_off": backoff,
        "host_selection_retry_max_attempts": policy.host_selection_max_attempts,
        **({"retry_host_predicate": [_PREVIOUS_HOSTS]} if policy.previous_hosts else {}),
        **({"retry_priority": _PREVIOUS_PRIORITIES} if policy.previous_priorities else {}),
    }


_PREVIOUS_HOSTS = {
    "name": "envoy.retry_host_predicates.previous_hosts",
    "typed_config": typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
}
_PREVIOUS_PRIORITIES = {
    "name": "envoy.retry_priorities.previous_priorities",
    "typed_config": typed(
        "extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        update_frequency=2,
    ),
}


def request_mirror_policy(mirror: RequestMirrorPolicy) -> Message:
    """`config.route.v3.RouteAction.RequestMirrorPolicy`"""
    fraction = {"default_value": fractional_percent(mirror.percentage)}
    return {"cluster": mirror.cluster, "runtime_fraction": fraction, "trace_sampled": False}


def hash_policy(policy: HashPolicy) -> Message:
    """`config.route.v3.RouteAction.HashPolicy`"""
    match policy:
        case HashHeader(name):
            return {"header": {"header_name": name}}
        case HashCookie(name, ttl_s, path, attributes):
            return {
                "cookie": {
                    "name": name,
                    **({} if ttl_s is None else {"ttl": duration(ttl_s)}),
                    **({"path": path} if path else {}),
                    **({"attributes": [{"name": n, "value": v} for n, v in attributes]} if attributes else {}),
                }
            }
        case HashSourceIp():
            return {"connection_properties": {"source_ip": True}}
        case HashQueryParameter(name):
            return {"query_parameter": {"name": name}}


def _path_rewrite(action: RouteAction) -> Message:
    if action.prefix_rewrite is not None:
        return {"prefix_rewrite": action.prefix_rewrite}
    return {} if action.regex_rewrite is None else {"regex_rewrite": regex_rewrite(action.regex_rewrite)}


def _destination(action: RouteAction, name: str) -> Message:
    total = sum(one.weight for one in action.clusters)
    if not 1 <= total <= UINT32_MAX:
        raise Inexpressible(f"weights of route {name!r}, {total} in all: Envoy allows 1 to {UINT32_MAX}")
    if len(action.clusters) == 1 and action.clusters[0] == WeightedCluster(
        action.clusters[0].cluster, action.clusters[0].weight
    ):
        return {"cluster": action.clusters[0].cluster}
    return {"weighted_clusters": {"clusters": [weighted_cluster(one) for one in action.clusters]}}


def weighted_cluster(destination: WeightedCluster) -> Message:
    """`config.route.v3.WeightedCluster.ClusterWeight`"""
    return {
        "name": destination.cluster,
        "weight": destination.weight,
        **header_mutations(destination.request_headers, "request"),
        **header_mutations(destination.response_headers, "response"),
        **({"host_rewrite_literal": destination.host_rewrite} if destination.host_rewrite else {}),
    }


def regex_rewrite(rewrite: RegexRewrite) -> Message:
    """`type.matcher.v3.RegexMatchAndSubstitute`"""
    return {"pattern": {"regex": rewrite.pattern or "(?:)"}, "substitution": rewrite.substitution}


def redirect_action(action: RedirectAction, name: str) -> Message:
    """`config.route.v3.RedirectAction`"""
    _refuse_empty(action.prefix_rewrite, "prefix rewrite", name)
    _refuse_empty(action.path, "path", name)
    if action.code not in _REDIRECT_CODES:
        known = ", ".join(map(str, _REDIRECT_CODES))
        raise Inexpressible(f"redirect with status {action.code} of route {name!r}: Envoy knows {known}")
    fields = {
        "scheme_redirect": action.scheme,
        "host_redirect": action.host,
        "port_redirect": action.port,
        "path_redirect": action.path if action.prefix_rewrite is None else None,
        "prefix_rewrite": action.prefix_rewrite,
    }
    return {"response_code": _REDIRECT_CODES[action.code]} | {name: value for name, value in fields.items() if value}


def direct_response_action(action: DirectResponseAction, name: str) -> Message:
    """`config.route.v3.DirectResponseAction`"""
    if not 200 <= action.status < 600:
        raise Inexpressible(f"answer with status {action.status} of route {name!r}: Envoy allows 200 to 599")
    if not action.body:
        return {"status": action.status}
    try:
        body = {"inline_string": action.body.decode()}
    except UnicodeDecodeError:
        body = {"inline_bytes": base64.b64encode(action.body).decode()}
    return {"status": action.status, "body": body}


def header_mutations(mutations: HeaderMutations, of: str) -> Message:
    """`{of}_headers_to_remove` and `{of}_headers_to_add`, as a route and a weighted cluster have them."""
    for name in (*mutations.remove, *(one.name for one in mutations.add)):
        if name == "host" or name.startswith(":"):
            raise Inexpressible(f"change of header {name!r}: Envoy leaves it to host and path rewrites")
    return {
        **({f"{of}_headers_to_remove": list(mutations.remove)} if mutations.remove else {}),
        **({f"{of}_headers_to_add": [header_value_option(one) for one in mutations.add]} if mutations.add else {}),
    }


def header_value_option(value: HeaderValue) -> Message:
    """`config.core.v3.HeaderValueOption`"""
    action = "APPEND_IF_EXISTS_OR_ADD" if value.append else "OVERWRITE_IF_EXISTS_OR_ADD"
    return {"header": {"key": value.name, "value": value.value}, "append_action": action}


def _refuse_empty(value: str | None, what: str, name: str) -> None:
    if value == "":
        raise Inexpressible(f"empty {what} of route {name!r}: Envoy takes it for none")
