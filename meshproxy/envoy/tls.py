"""Secrets, and how connections are secured by them.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/transport_sockets/tls/v3/tls.proto

Secrets are static ones, which contexts refer to by name. Envoy reads their files once, at its start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..snapshot import (
    CertificateValidationContext,
    Cluster,
    CommonTlsContext,
    DataSource,
    DownstreamTlsContext,
    Endpoint,
    FileSource,
    Prefix,
    Secret,
    Snapshot,
    SystemRoots,
    TlsCertificate,
    TrustedCa,
    UpstreamTlsContext,
    ValueMatcher,
)
from .fields import SYSTEM_ROOTS, Inexpressible, Message, typed, value_matcher

_SAN_TYPES = ("DNS", "URI", "IP_ADDRESS", "EMAIL")


def secret(config: Secret) -> Message:
    """`Secret`"""
    source = config.source
    if isinstance(source, TlsCertificate):
        pair = {"certificate_chain": source.certificate_chain, "private_key": source.private_key}
        return {"name": config.name, "tls_certificate": {name: _data_source(one) for name, one in pair.items()}}
    if isinstance(source, TrustedCa):
        crl = {} if source.crl is None else {"crl": _data_source(source.crl)}
        return {"name": config.name, "validation_context": {"trusted_ca": _data_source(source.trusted_ca), **crl}}
    raise Inexpressible(
        f"secret {config.name!r}: it is the workload's own identity, which Envoy gets from an agent beside it; export "
        "with --credentials, a directory that `ca issue` has written"
    )


def _data_source(source: DataSource | SystemRoots) -> Message:
    """`config.core.v3.DataSource`"""
    if isinstance(source, SystemRoots):
        return {"filename": SYSTEM_ROOTS}
    return {"filename": source.path} if isinstance(source, FileSource) else {"inline_string": source.text}


def refuse_missing_secrets(snapshot: Snapshot) -> None:
    """Raises `Inexpressible`: a cluster's TLS refers to a secret that is not there. Envoy would not start, and we do,
    without connections to that cluster."""
    known = {one.name for one in snapshot.secrets}
    for config in snapshot.clusters:
        for context in filter(None, (config.tls, config.auto_tls)):
            trusted = context.common.validation_context and context.common.validation_context.trusted_ca
            for name in (*context.common.tls_certificates, *filter(None, (trusted,))):
                if name not in known:
                    raise Inexpressible(
                        f"secret {name!r}, to which TLS of cluster {config.name!r} refers: there is none"
                    )


def common_tls_context(config: CommonTlsContext) -> Message:
    """`CommonTlsContext`"""
    message: Message = {
        "tls_params": {
            "tls_minimum_protocol_version": config.minimum_version,
            "tls_maximum_protocol_version": config.maximum_version,
            **({"cipher_suites": list(config.cipher_suites)} if config.cipher_suites else {}),
        }
    }
    if config.tls_certificates:
        message["tls_certificate_sds_secret_configs"] = [{"name": name} for name in config.tls_certificates]
    if config.alpn_protocols:
        message["alpn_protocols"] = list(config.alpn_protocols)
    validation = config.validation_context
    if validation is not None and validation.trusted_ca is not None:
        message["combined_validation_context"] = {
            "default_validation_context": _validation_context(validation),
            "validation_context_sds_secret_config": {"name": validation.trusted_ca},
        }
    elif validation is not None:
        message["validation_context"] = _validation_context(validation)
    return message


def _validation_context(config: CertificateValidationContext) -> Message:
    """`CertificateValidationContext`, without the authorities."""
    lists = {
        "verify_certificate_spki": list(config.verify_certificate_spki),
        "verify_certificate_hash": list(config.verify_certificate_hash),
        "match_typed_subject_alt_names": [
            {"san_type": kind, "matcher": value_matcher(matcher)}
            for kind, matchers in _expected_names(config).items()
            for matcher in matchers
        ],
    }
    return {name: values for name, values in lists.items() if values}


def _expected_names(config: CertificateValidationContext) -> dict[str, Iterable[ValueMatcher]]:
    """What names may be like, by their kind. One of all these has to be met, so that trust domains are told only where
    nothing else is: a name that is asked for is worth more."""
    if config.match_subject_alt_names:
        return dict.fromkeys(_SAN_TYPES, config.match_subject_alt_names)
    return {"URI": [Prefix(f"spiffe://{domain}/") for domain in config.trust_domains]}


def upstream_tls_context(config: UpstreamTlsContext) -> Message:
    """`config.core.v3.TransportSocket` with an `UpstreamTlsContext`. What depends on a request is said elsewhere."""
    context = typed(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=common_tls_context(config.common),
        **({"sni": config.sni} if config.sni else {}),
    )
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def downstream_transport_socket(config: DownstreamTlsContext | None) -> Message:
    """The fields of a filter chain that say how its connections are secured."""
    if config is None:
        return {}
    context = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=common_tls_context(config.common),
        require_client_certificate=config.require_client_certificate,
    )
    return {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
        "transport_socket_connect_timeout": "15s",
    }


RAW_BUFFER = {
    "name": "envoy.transport_sockets.raw_buffer",
    "typed_config": typed("extensions.transport_sockets.raw_buffer.v3.RawBuffer"),
}


def transport_sockets(config: Cluster, probes: Mapping[str, Message]) -> Message:
    """The fields of a cluster that say how its connections are secured. `probes` is the match of the transport socket
    that is for probes alone, if there is one."""
    if config.tls is not None and config.auto_tls is not None:
        raise Inexpressible(f"TLS of cluster {config.name!r}: it is for all endpoints, or only for some of them")
    matches = [{"name": "probe", **probes}] if probes else []
    if config.auto_tls is not None:
        socket = upstream_tls_context(config.auto_tls)
        matches.append({"name": "tlsMode-istio", "match": {"tlsMode": "istio"}, "transport_socket": socket})
        matches.append({"name": "tlsMode-disabled", "match": {}, "transport_socket": RAW_BUFFER})
    return {
        **({"transport_socket": upstream_tls_context(config.tls)} if config.tls is not None else {}),
        **({"transport_socket_matches": matches} if matches else {}),
    }


def tls_mode(endpoint: Endpoint) -> Message:
    """The field of an endpoint by which such a match is found."""
    if not endpoint.tls_mode:
        return {}
    return {"metadata": {"filter_metadata": {"envoy.transport_socket_match": {"tlsMode": endpoint.tls_mode}}}}


def by_request(config: Cluster) -> Message:
    """The field of `HttpProtocolOptions` by which the server of a request's authority is asked for, and expected."""
    tls = config.tls or config.auto_tls
    options = {
        "auto_sni": tls is not None and tls.auto_host_sni,
        "auto_san_validation": tls is not None and tls.auto_sni_san_validation,
    }
    told = {name: True for name, is_set in options.items() if is_set}
    return {"upstream_http_protocol_options": told} if told else {}
