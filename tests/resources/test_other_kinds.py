"""The rules of the other kinds: what is accepted, and what is refused, where and why."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from meshproxy.resources import DestinationRule, load

Complaints = Callable[[str, str], list[tuple[str, str]]]


def policy(text: str) -> str:
    return f"{{host: a, trafficPolicy: {{{text}}}}}"


def server(text: str, port: str = "number: 80, name: http, protocol: HTTP") -> str:
    return f"{{servers: [{{port: {{{port}}}, {text}}}]}}"


def secured(tls: str) -> str:
    return server(f"hosts: ['*'], tls: {{{tls}}}", "number: 443, name: https, protocol: HTTPS")


def entry(text: str, ports: str = "{number: 80, name: http, protocol: HTTP}") -> str:
    return f"{{hosts: [a.com], ports: [{ports}], {text}}}"


ACCEPTED = [
    ("DestinationRule", "{host: '*.a.com'}"),
    ("DestinationRule", "{host: a.com, exportTo: [.], workloadSelector: {matchLabels: {app: web}}}"),
    ("DestinationRule", policy("loadBalancer: {simple: LEAST_CONN}")),
    ("DestinationRule", policy("loadBalancer: {simple: PASSTHROUGH}")),
    ("DestinationRule", policy("loadBalancer: {consistentHash: {httpHeaderName: x, minimumRingSize: 1}}")),
    ("DestinationRule", policy("loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 0s}}}")),
    (
        "DestinationRule",
        policy("loadBalancer: {localityLbSetting: {distribute: [{from: a/b, to: {'a/*': 70, '*': 30}}]}}"),
    ),
    ("DestinationRule", policy("loadBalancer: {localityLbSetting: {failoverPriority: [topology.istio.io/network]}}")),
    ("DestinationRule", policy("loadBalancer: {zoneAwareLbSetting: {enabled: true, minClusterSize: 3}}")),
    ("DestinationRule", policy("loadBalancer: {warmup: {duration: 10s, minimumPercent: 5.5, aggression: 2}}")),
    ("DestinationRule", policy("tls: {mode: SIMPLE}")),
    (
        "DestinationRule",
        policy("tls: {mode: SIMPLE, caCertificates: /ca, caCrl: /crl, subjectAltNames: [a], sni: b.c}"),
    ),
    ("DestinationRule", policy("tls: {mode: SIMPLE, insecureSkipVerify: true, sni: b.c}")),
    ("DestinationRule", policy("tls: {mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c}")),
    ("DestinationRule", policy("tls: {mode: MUTUAL, credentialName: a, insecureSkipVerify: true}")),
    ("DestinationRule", policy("tls: {mode: ISTIO_MUTUAL, subjectAltNames: [a], sni: b.c}")),
    ("WorkloadGroup", "{template: {}, probe: {httpGet: {port: 80, scheme: HTTPS}}}"),
    ("ServiceEntry", entry("resolution: DNS, subjectAltNames: [a]")),
    ("DestinationRule", policy("tls: {mode: DISABLE}, connectionPool: {tcp: {connectTimeout: 1.5s}}")),
    ("DestinationRule", policy("portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]")),
    ("DestinationRule", policy("outlierDetection: {}")),
    ("DestinationRule", policy("outlierDetection: {consecutiveErrors: 5, maxEjectionPercent: 100}")),
    ("WorkloadGroup", "{template: {}, probe: {httpGet: {port: 80, httpHeaders: [{name: X-A, value: 50%}]}}}"),
    ("WorkloadGroup", "{template: {}, probe: {exec: {command: [ls]}}}"),
    ("DestinationRule", "{host: a, subsets: [{name: v1, labels: {v: '1.0'}}, {name: v2}]}"),
    ("Gateway", server("hosts: ['*']")),
    ("Gateway", server("hosts: [a.com, ns/a.com, ./*.a.com, '*/*', 10.0.0.1], bind: 127.0.0.1, name: s")),
    ("Gateway", server("hosts: ['*']", "number: 80, name: http, protocol: http")),
    ("ServiceEntry", entry("resolution: DNS", "{number: 80, name: http, protocol: ''}")),
    ("Gateway", server("hosts: ['*'], tls: {httpsRedirect: false}")),
    ("Gateway", server("hosts: ['*'], tls: {httpsRedirect: true}")),
    ("Gateway", secured("mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_3")),
    ("Gateway", secured("mode: SIMPLE, credentialNames: [c, d], cipherSuites: [AES128-SHA]")),
    ("Gateway", secured("mode: SIMPLE, tlsCertificates: [{serverCertificate: c, privateKey: k}]")),
    ("Gateway", secured("mode: MUTUAL, serverCertificate: c, privateKey: k, caCertificates: a, caCrl: r")),
    ("Gateway", secured("mode: OPTIONAL_MUTUAL, credentialName: c, subjectAltNames: [a], insecureSkipVerify: false")),
    ("Gateway", secured("mode: ISTIO_MUTUAL")),
    ("Gateway", server("hosts: ['*'], bind: 'unix:///run/a.sock'", "number: 0, name: http, protocol: HTTP")),
    (
        "ServiceEntry",
        entry("resolution: STATIC, endpoints: [{address: 127.0.0.1, ports: {http: 8080}, weight: 2}]"),
    ),
    (
        "ServiceEntry",
        entry("resolution: STATIC, endpoints: [{address: 'unix:///run/a.sock', labels: {v: '1'}}]"),
    ),
    (
        "DestinationRule",
        policy("connectionPool: {tcp: {tcpKeepalive: {probes: 127, time: 32767.9s, interval: 1s}}}"),
    ),
    ("ServiceEntry", entry("resolution: STATIC, workloadSelector: {labels: {app: a}}, exportTo: ['~']")),
    ("ServiceEntry", entry("resolution: DNS, addresses: [10.0.0.1], location: MESH_EXTERNAL")),
    ("ServiceEntry", entry("resolution: DNS_ROUND_ROBIN, endpoints: [{address: b.com}]")),
    ("WorkloadEntry", "{address: a.com, ports: {http: 8080}, labels: {app: a}, locality: r/z, network: n}"),
    ("WorkloadEntry", "{network: n}"),
    ("Service", "{ports: [{port: 80}], selector: {app: a}, sessionAffinity: None, clusterIP: 10.0.0.1}"),
    ("Service", "{ports: [{name: a, port: 80, targetPort: web}, {name: b, port: 80, protocol: UDP}]}"),
    ("Service", "{type: ExternalName, externalName: a.com}"),
    ("Service", "{clusterIP: None, selector: null}"),
]

REFUSED = [
    ("DestinationRule", "{}", "host", "is required"),
    ("DestinationRule", "{host: 'a*'}", "host", "'*' may only stand at its start"),
    ("DestinationRule", "{host: a, trafficPolicy: {}}", "trafficPolicy", "is empty"),
    ("DestinationRule", policy("connectionPool: {}"), "trafficPolicy.connectionPool", "give tcp or http"),
    *(
        (
            "DestinationRule",
            policy(f"connectionPool: {{tcp: {{tcpKeepalive: {{{field}: {value}}}}}}}"),
            f"trafficPolicy.connectionPool.tcp.tcpKeepalive.{field}",
            told,
        )
        for field, value, told in (
            ("probes", "128", "at most 127"),
            ("time", "500ms", "between 1s and 32767s"),
            ("interval", "10h", "between 1s and 32767s"),
        )
    ),
    (
        "DestinationRule",
        policy("connectionPool: {tcp: {connectTimeout: 0s}}"),
        "trafficPolicy.connectionPool.tcp.connectTimeout",
        "at least 1ms",
    ),
    (
        "DestinationRule",
        policy("connectionPool: {tcp: {connectTimeout: 1.0005s}}"),
        "trafficPolicy.connectionPool.tcp.connectTimeout",
        "whole ms",
    ),
    *(
        (
            "DestinationRule",
            policy(f"loadBalancer: {{consistentHash: {{{hashed}}}}}"),
            f"trafficPolicy.loadBalancer.consistentHash.{field}",
            told,
        )
        for hashed, field, told in (
            ("httpHeaderName: ''", "httpHeaderName", "not a header name"),
            ("httpHeaderName: 'a b'", "httpHeaderName", "not a header name"),
            ("httpQueryParameterName: ''", "httpQueryParameterName", "cannot be empty"),
            ('httpCookie: {name: "a\\r\\nx", ttl: 0s}', "httpCookie.name", "not a cookie's name"),
            ('httpCookie: {name: "a;b", ttl: 0s}', "httpCookie.name", "not a cookie's name"),
            ('httpCookie: {name: a, ttl: 0s, path: "/\\r\\nx: y"}', "httpCookie.path", "control characters"),
            ('httpCookie: {name: a, attributes: [{name: "A\\n"}]}', "httpCookie.attributes[0].name", "not a cookie's"),
            ("httpCookie: {name: a, attributes: [{name: A, value: a;b}]}", "httpCookie.attributes[0].value", "';'"),
        )
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 1s, aggression: .inf}}"),
        "trafficPolicy.loadBalancer.warmup.aggression",
        "expected a number with an end, got the number inf",
    ),
    (
        "DestinationRule",
        policy("outlierDetection: {outlierDetectionHttpErrorCodes: [404, 99]}"),
        "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[1]",
        "out of range",
    ),
    (
        "DestinationRule",
        policy("outlierDetection: {outlierDetectionHttpErrorCodes: [599, 600]}"),
        "trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[1]",
        "out of range",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {simple: ROUNDROBIN}"),
        "trafficPolicy.loadBalancer.simple",
        "did you mean ROUND_ROBIN?",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}}"),
        "trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize",
        "8388608",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}}"),
        "trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
        "has to be a prime number",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 60, b: 50}}]}}"),
        "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
        "add up to 110",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {a: 60, a/b: 40}}]}}"),
        'trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to["a/b"]',
        "overlap",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {localityLbSetting: {distribute: [{from: a/*/c, to: {a: 100}}]}}"),
        "trafficPolicy.loadBalancer.localityLbSetting.distribute[0].from",
        "is no locality",
    ),
    (
        "DestinationRule",
        policy(
            "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}], "
            "failoverPriority: [x, topology.kubernetes.io/zone]}}"
        ),
        "trafficPolicy.loadBalancer.localityLbSetting.failoverPriority[1]",
        "beside failover",
    ),
    (
        "DestinationRule",
        policy("loadBalancer: {zoneAwareLbSetting: {failoverPriority: [topology.kubernetes.io/region]}}"),
        "trafficPolicy.loadBalancer.zoneAwareLbSetting.failoverPriority[0]",
        "regions come first",
    ),
    ("DestinationRule", policy("tls: {sni: a.b}"), "trafficPolicy.tls.sni", "no mode, which means DISABLE"),
    (
        "DestinationRule",
        policy("tls: {mode: DISABLE, subjectAltNames: [a]}"),
        "trafficPolicy.tls.subjectAltNames",
        "no effect with mode: DISABLE",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: SIMPLE, clientCertificate: /a}"),
        "trafficPolicy.tls.clientCertificate",
        "use MUTUAL",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: MUTUAL, clientCertificate: /a}"),
        "trafficPolicy.tls.privateKey",
        "is required by mode: MUTUAL",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: SIMPLE, credentialName: a, caCertificates: /a}"),
        "trafficPolicy.tls.caCertificates",
        "beside credentialName",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: SIMPLE, insecureSkipVerify: true, credentialName: a}"),
        "trafficPolicy.tls.credentialName",
        "no effect with insecureSkipVerify",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: ISTIO_MUTUAL, caCertificates: /a}"),
        "trafficPolicy.tls.caCertificates",
        "no effect with mode: ISTIO_MUTUAL",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: ISTIO_MUTUAL, insecureSkipVerify: true}"),
        "trafficPolicy.tls.insecureSkipVerify",
        "no effect with mode: ISTIO_MUTUAL",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}"),
        "trafficPolicy.tls.subjectAltNames",
        "no effect with insecureSkipVerify",
    ),
    (
        "DestinationRule",
        policy("tls: {mode: SIMPLE, sni: 'a b'}"),
        "trafficPolicy.tls.sni",
        "is no server name",
    ),
    (
        "DestinationRule",
        policy("portLevelSettings: [{port: {number: 80}, tls: {mode: STRICT}}]"),
        "trafficPolicy.portLevelSettings[0].tls.mode",
        "expected one of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL",
    ),
    (
        "DestinationRule",
        policy("outlierDetection: {maxEjectionPercent: 101}"),
        "trafficPolicy.outlierDetection.maxEjectionPercent",
        "100",
    ),
    (
        "DestinationRule",
        policy("outlierDetection: {interval: 10}"),
        "trafficPolicy.outlierDetection.interval",
        "write 10s",
    ),
    (
        "DestinationRule",
        policy("outlierDetection: {consecutiveLocalOriginFailures: 1}"),
        "trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
        "splitExternalLocalOriginErrors",
    ),
    ("WorkloadGroup", "{template: {}, probe: {}}", "probe", "give one of httpGet, tcpSocket, exec, grpc"),
    (
        "WorkloadGroup",
        "{template: {}, probe: {tcpSocket: {port: 1}, exec: {command: [ls]}}}",
        "probe",
        "not tcpSocket and exec",
    ),
    ("WorkloadGroup", "{template: {}, probe: {exec: {command: []}}}", "probe.exec.command", "at least 1"),
    ("WorkloadGroup", "{template: {}, probe: {grpc: {port: 1}}}", "probe.grpc", "not supported yet: probes by gRPC"),
    (
        "WorkloadGroup",
        "{template: {}, probe: {httpGet: {port: 1, scheme: https}}}",
        "probe.httpGet.scheme",
        "is not one of",
    ),
    (
        "WorkloadGroup",
        "{template: {}, probe: {httpGet: {port: 1, path: '/a b'}}}",
        "probe.httpGet.path",
        "' '",
    ),
    (
        "WorkloadGroup",
        "{template: {}, probe: {httpGet: {port: 1, httpHeaders: [{name: 'a b', value: c}]}}}",
        "probe.httpGet.httpHeaders[0]",
        "is not a header name",
    ),
    (
        "DestinationRule",
        policy("portLevelSettings: [{port: {number: 80}}]"),
        "trafficPolicy.portLevelSettings[0]",
        "has a port and no policy",
    ),
    ("DestinationRule", "{host: a, subsets: [{name: v}, {name: v}]}", "subsets[1].name", "already the name"),
    (
        "DestinationRule",
        "{host: a, subsets: [{name: v, labels: {v: 1.0}}]}",
        "subsets[0].labels.v",
        "in quotes",
    ),
    (
        "DestinationRule",
        "{host: a, exportTo: ['*'], workloadSelector: {matchLabels: {app: web}}}",
        "workloadSelector",
        "for those of its own namespace",
    ),
    ("Gateway", "{servers: []}", "servers", "needs at least 1 item"),
    ("Gateway", server("hosts: []"), "servers[0].hosts", "needs at least 1 item"),
    ("Gateway", server("hosts: [a]"), "servers[0].hosts[0]", "is a short name"),
    ("Gateway", server("hosts: [bad host]"), "servers[0].hosts[0]", "holds a space, which no host name does"),
    ("Gateway", server("hosts: ['*a.com']"), "servers[0].hosts[0]", "partial wildcard"),
    ("Gateway", server("hosts: [a.b/c.com]"), "servers[0].hosts[0]", "is no namespace"),
    ("Gateway", server("hosts: ['*'], bind: localhost"), "servers[0].bind", "is not an IP address"),
    ("Gateway", server("hosts: ['*'], bind: 'unix://a'"), "servers[0].bind", "names no socket"),
    ("Gateway", server("hosts: ['*'], bind: 'unix:///a'"), "servers[0].port.number", "has no port"),
    (
        "Gateway",
        server("hosts: ['*']", "number: 0, name: a, protocol: HTTP"),
        "servers[0].port.number",
        "1 to 65535",
    ),
    ("Gateway", server("hosts: ['*']", "number: 80, protocol: HTTP"), "servers[0].port.name", "is required"),
    (
        "Gateway",
        server("hosts: ['*']", "number: 80, name: a, protocol: HTPT"),
        "servers[0].port.protocol",
        "one of HTTP",
    ),
    (
        "Gateway",
        server("hosts: ['*']", "number: 80, name: a, protocol: HTTP2"),
        "servers[0].port.protocol",
        "not supported yet",
    ),
    (
        "Gateway",
        server("hosts: ['*']", "number: 80, name: a, protocol: HTTP, targetPort: 8080"),
        "servers[0].port.targetPort",
        "refused: ",
    ),
    (
        "Gateway",
        server("hosts: ['*'], defaultEndpoint: '127.0.0.1:1'"),
        "servers[0].defaultEndpoint",
        "refused: ",
    ),
    ("Gateway", server("hosts: ['*'], tls: {mode: SIMPLE, credentialName: c}"), "servers[0].tls", "use HTTPS"),
    ("Gateway", secured(""), "servers[0].tls.mode", "which is not supported yet; give SIMPLE"),
    ("Gateway", secured("mode: PASSTHROUGH"), "servers[0].tls.mode", "not supported yet: passing TLS on"),
    ("Gateway", secured("mode: SIMPLE"), "servers[0].tls", "needs credentialName"),
    (
        "Gateway",
        secured("mode: SIMPLE, credentialName: x, serverCertificate: c"),
        "servers[0].tls.privateKey",
        "is required",
    ),
    (
        "Gateway",
        secured("mode: SIMPLE, credentialName: c, credentialNames: [d]"),
        "servers[0].tls",
        "certificates come from one source",
    ),
    (
        "Gateway",
        secured("mode: SIMPLE, tlsCertificates: [{serverCertificate: c}]"),
        "servers[0].tls.tlsCertificates[0].privateKey",
        "is required",
    ),
    (
        "Gateway",
        secured("mode: MUTUAL, serverCertificate: c, privateKey: k"),
        "servers[0].tls.caCertificates",
        "is required by mode: MUTUAL",
    ),
    (
        "Gateway",
        secured("mode: SIMPLE, credentialName: c, subjectAltNames: [a]"),
        "servers[0].tls.subjectAltNames",
        "has no effect in mode: SIMPLE",
    ),
    (
        "Gateway",
        secured("mode: MUTUAL, credentialName: c, caCrl: f"),
        "servers[0].tls.caCrl",
        "goes into the Secret",
    ),
    ("Gateway", secured("mode: ISTIO_MUTUAL, credentialName: c"), "servers[0].tls", "remove credentialName"),
    (
        "Gateway",
        secured("mode: SIMPLE, credentialName: c, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2"),
        "servers[0].tls.maxProtocolVersion",
        "is older than minProtocolVersion",
    ),
    (
        "Gateway",
        secured("mode: SIMPLE, credentialName: c, cipherSuites: [RC4-MD5]"),
        "servers[0].tls.cipherSuites[0]",
        "'RC4-MD5' is no cipher suite that is spoken; use some of ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    (
        "Gateway",
        secured("mode: MUTUAL, credentialName: c, verifyCertificateHash: [abc]"),
        "servers[0].tls.verifyCertificateHash[0]",
        "no SHA-256 sum",
    ),
    (
        "Gateway",
        secured("mode: MUTUAL, credentialName: c, verifyCertificateSpki: [abc]"),
        "servers[0].tls.verifyCertificateSpki[0]",
        "no SHA-256 sum",
    ),
    (
        "Gateway",
        secured("mode: MUTUAL, credentialName: c, insecureSkipVerify: true"),
        "servers[0].tls.insecureSkipVerify",
        "refused: certificates that clients are asked for are verified",
    ),
    (
        "Gateway",
        "{servers: [{port: &p {number: 80, name: a, protocol: HTTP}, hosts: [a.b]}, {port: *p, hosts: [b.c]}]}",
        "servers[1].port.name",
        "already the name",
    ),
    (
        "Gateway",
        "{selector: {a: '*'}, servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [a.b]}]}",
        "selector.a",
        "'*'",
    ),
    (
        "ServiceEntry",
        "{hosts: ['*'], resolution: DNS}",
        "hosts[0]",
        "'*' cannot be",
    ),
    (
        "ServiceEntry",
        entry("location: MESH_INTERNAL"),
        "resolution",
        "not supported yet: NONE, which absence means",
    ),
    ("ServiceEntry", entry("resolution: NONE"), "resolution", "not supported yet: NONE"),
    ("ServiceEntry", entry("endpoints: [{address: 127.0.0.1}]"), "endpoints", "use STATIC"),
    ("ServiceEntry", entry("resolution: static"), "resolution", "did you mean STATIC?"),
    (
        "ServiceEntry",
        entry("resolution: STATIC, endpoints: [{address: b.com}]"),
        "endpoints[0].address",
        "use resolution: DNS",
    ),
    (
        "ServiceEntry",
        entry("resolution: DNS, endpoints: [{address: 'unix:///a'}]"),
        "endpoints[0].address",
        "use resolution: STATIC",
    ),
    (
        "ServiceEntry",
        entry("resolution: DNS, endpoints: [{address: b.com, ports: {htpt: 1}}]"),
        "endpoints[0].ports.htpt",
        "its ports are http",
    ),
    (
        "ServiceEntry",
        entry("resolution: DNS_ROUND_ROBIN, endpoints: [{address: b.com}, {address: c.com}]"),
        "endpoints[1]",
        "one endpoint at most",
    ),
    ("ServiceEntry", entry("resolution: DNS, addresses: [10.0.0.0/8]"), "addresses[0]", "subnets are for"),
    ("ServiceEntry", entry("resolution: DNS, addresses: [a]"), "addresses[0]", "neither an IP address nor"),
    (
        "ServiceEntry",
        entry("resolution: STATIC, workloadSelector: {}, endpoints: [{address: '::1'}]"),
        "workloadSelector",
        "not both",
    ),
    ("ServiceEntry", "{hosts: ['*.a.com'], resolution: DNS}", "hosts[0]", "cannot be looked up"),
    (
        "ServiceEntry",
        entry("resolution: DNS", "{number: 80, name: a}, {number: 80, name: b}"),
        "ports[1].number",
        "already in the list",
    ),
    (
        "ServiceEntry",
        entry("resolution: DNS", "{number: 80, name: a}, {number: 81, name: a}"),
        "ports[1].name",
        "already the name",
    ),
    (
        "ServiceEntry",
        entry("resolution: DNS", "{number: 443, name: a, protocol: HTTPS}"),
        "ports[0].protocol",
        "not supported yet",
    ),
    (
        "ServiceEntry",
        "{hosts: [a.com, b.com], resolution: DNS, ports: [{number: 80, name: a}]}",
        "ports[0]",
        "several hosts can only be told apart",
    ),
    ("WorkloadEntry", "{}", "address", "is required"),
    ("WorkloadEntry", "{address: 'unix:///a/'}", "address", "names no socket"),
    ("WorkloadEntry", f"{{address: 'unix:///{'a' * 107}'}}", "address", "107 are the most"),
    ("WorkloadEntry", "{address: 'unix://@a', ports: {http: 80}}", "ports", "has no ports"),
    ("WorkloadEntry", "{address: 1.1.1.1, ports: {http: 99999}}", "ports.http", "the most is 65535"),
    ("WorkloadEntry", "{address: 1.1.1.1, ports: {'@': 80}}", 'ports["@"]', "is not a port's name"),
    ("WorkloadEntry", "{address: 1.1.1}", "address", "no address"),
    (
        "Service",
        "{ports: [{port: 80}, {port: 81, name: b}]}",
        "ports[0].name",
        "when a Service has several ports",
    ),
    (
        "Service",
        "{ports: [{port: 80, name: a}, {port: 80, name: b}]}",
        "ports[1].port",
        "already in the list for TCP",
    ),
    ("Service", "{ports: [{port: 80, targetPort: '8080'}]}", "ports[0].targetPort", "without quotes"),
    ("Service", "{ports: [{port: 80, targetPort: 0}]}", "ports[0].targetPort", "out of range"),
    ("Service", "{selector: {app: a}}", "ports", "is required"),
    ("Service", "{type: ExternalName}", "externalName", "is required by type: ExternalName"),
    ("Service", "{ports: [{port: 80}], sessionAffinity: ClientIP}", "sessionAffinity", "not supported yet"),
    (
        "Service",
        "{ports: [{port: 80}], internalTrafficPolicy: Local}",
        "internalTrafficPolicy",
        "not supported yet",
    ),
    ("Service", "{ports: [{port: 80, tragetPort: 1}]}", "ports[0].tragetPort", "did you mean 'targetPort'?"),
]


@pytest.mark.parametrize(("kind", "spec"), ACCEPTED)
def test_this_is_accepted(complaints: Complaints, kind: str, spec: str) -> None:
    assert complaints(kind, spec) == []


@pytest.mark.parametrize(("kind", "spec", "path", "message"), REFUSED)
def test_this_is_refused(complaints: Complaints, kind: str, spec: str, path: str, message: str) -> None:
    problems = complaints(kind, spec)
    assert [found for found, _ in problems] == [path]
    assert message in problems[0][1]


def test_a_gateways_name_has_no_dots() -> None:
    text = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: a.b}, "
    text += "spec: {servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}]}}"
    [problem] = load(["-"], stdin=io.StringIO(text)).problems
    assert (problem.path, problem.message) == (
        "metadata.name",
        "the name of a Gateway has no dots; use '-' instead",
    )


def test_a_duration_is_seconds_in_the_model() -> None:
    text = "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: d}, spec: "
    text += policy("connectionPool: {tcp: {connectTimeout: 250ms}}") + "}"
    [rule] = load(["-"], stdin=io.StringIO(text)).of(DestinationRule)
    policy_of_rule = rule.spec.traffic_policy
    assert policy_of_rule is not None
    pool = policy_of_rule.connection_pool
    assert pool is not None
    assert pool.tcp is not None
    assert pool.tcp.connect_timeout == 0.25


def test_endpoints_and_slices_are_read_from_the_top_level() -> None:
    loaded = load(
        ["-"],
        stdin=io.StringIO("""\
apiVersion: v1
kind: Endpoints
metadata: {name: a}
subsets:
- addresses: [{ip: 10.0.0.1, nodeName: n, targetRef: {kind: Pod, name: p}}]
  notReadyAddresses: null
  ports: [{name: http, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
endpoints:
- addresses: [10.0.0.2]
  conditions: {ready: true, serving: null}
  hints: {forZones: [{name: z}]}
- adresses: [10.0.0.3]
ports: [{name: http, port: 8080, protocol: TCP}]
"""),
    )
    assert [resource.id for resource in loaded.resources] == ["Endpoints/a.default"]
    assert [(p.position.line, p.path) for p in loaded.problems] == [
        (17, "endpoints[1].addresses"),
        (17, "endpoints[1].adresses"),
    ]
