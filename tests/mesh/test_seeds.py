"""The two examples that this project began with."""

from __future__ import annotations

import pytest

from meshproxy.mesh import analyse, build_mesh, gateway_snapshot
from meshproxy.snapshot import (
    HeaderMatcher,
    HeaderMutations,
    HeaderValue,
    Prefix,
    Regex,
    RouteAction,
    WeightedCluster,
)

from .support import forwarding, mesh_of, virtual_hosts

SKLEARN_IRIS = r"""
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: knative-ingress-gateway
  namespace: knative-serving
  labels:
    networking.knative.dev/ingress-provider: istio
    serving.knative.dev/release: v0.12.1
spec:
  selector:
    istio: ingressgateway
  servers:
  - hosts:
    - '*'
    port:
      name: http
      number: 80
      protocol: HTTP
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: sklearn-iris
  namespace: default
spec:
  gateways:
  - knative-serving/knative-local-gateway
  - knative-serving/knative-ingress-gateway
  hosts:
  - sklearn-iris.default.svc.cluster.local
  - sklearn-iris.default.example.com
  http:
  - headers:
      request:
        set:
          Host: sklearn-iris-predictor-default.default.svc.cluster.local
    match:
    - authority:
        regex: ^sklearn-iris\.default(\.svc(\.cluster\.local)?)?(?::\d{1,5})?$
      gateways:
      - knative-serving/knative-local-gateway
    - authority:
        regex: ^sklearn-iris\.default\.example\.com(?::\d{1,5})?$
      gateways:
      - knative-serving/knative-ingress-gateway
    route:
    - destination:
        host: knative-local-gateway.istio-system.svc.cluster.local
        port:
          number: 80
      weight: 100
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: sklearn-iris-predictor-default-mesh
  namespace: default
spec:
  gateways:
  - knative-serving/knative-ingress-gateway
  - knative-serving/knative-local-gateway
  hosts:
  - sklearn-iris-predictor-default.default
  - sklearn-iris-predictor-default.default.example.com
  - sklearn-iris-predictor-default.default.svc
  - sklearn-iris-predictor-default.default.svc.cluster.local
  http:
  - match:
    - authority:
        prefix: sklearn-iris-predictor-default.default
      gateways:
      - knative-serving/knative-local-gateway
    - authority:
        prefix: sklearn-iris-predictor-default.default.svc
      gateways:
      - knative-serving/knative-local-gateway
    - authority:
        prefix: sklearn-iris-predictor-default.default
      gateways:
      - knative-serving/knative-local-gateway
    retries: {}
    route:
    - destination:
        host: sklearn-iris-predictor-default-00001.default.svc.cluster.local
        port:
          number: 80
      headers:
        request:
          set:
            Knative-Serving-Namespace: default
            Knative-Serving-Revision: sklearn-iris-predictor-default-00001
      weight: 100
  - match:
    - authority:
        prefix: sklearn-iris-predictor-default.default.example.com
      gateways:
      - knative-serving/knative-ingress-gateway
    retries: {}
    route:
    - destination:
        host: sklearn-iris-predictor-default-00001.default.svc.cluster.local
        port:
          number: 80
      headers:
        request:
          set:
            Knative-Serving-Namespace: default
            Knative-Serving-Revision: sklearn-iris-predictor-default-00001
      weight: 100
---
apiVersion: v1
kind: Service
metadata:
  name: sklearn-iris-predictor-default-fhmjk-private
  namespace: default
spec:
  clusterIP: 10.105.186.18
  ports:
  - name: http
    port: 80
    protocol: TCP
    targetPort: 8012
  - name: queue-metrics
    port: 9090
    protocol: TCP
    targetPort: queue-metrics
  - name: http-usermetric
    port: 9091
    protocol: TCP
    targetPort: http-usermetric
  - name: http-queueadm
    port: 8022
    protocol: TCP
    targetPort: 8022
  selector:
    serving.knative.dev/revisionUID: a8f1eafc-3c64-4930-9a01-359f3235333a
  sessionAffinity: None
  type: ClusterIP
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: knative-local-gateway
  namespace: knative-serving
spec:
  selector:
    istio: ingressgateway
  servers:
  - hosts:
    - '*'
    port:
      name: http
      number: 8081
      protocol: HTTP
---
apiVersion: v1
kind: Service
metadata:
  name: knative-local-gateway
  namespace: istio-system
spec:
  ports:
  - name: http
    port: 80
    targetPort: 8081
  selector:
    istio: ingressgateway
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: ingressgateway
  namespace: istio-system
spec:
  address: 127.0.0.1
  labels:
    istio: ingressgateway
---
apiVersion: v1
kind: Service
metadata:
  name: sklearn-iris-predictor-default-00001
  namespace: default
spec:
  ports:
  - name: http
    port: 80
    targetPort: 8012
  selector:
    serving.knative.dev/revisionUID: a8f1eafc-3c64-4930-9a01-359f3235333a
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: sklearn-iris-predictor-default-00001-pod
  namespace: default
spec:
  address: 127.0.0.1
  labels:
    serving.knative.dev/revisionUID: a8f1eafc-3c64-4930-9a01-359f3235333a
  ports:
    queue-metrics: 9090
    http-usermetric: 9091
"""

ISTIO_BASICS = """
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata:
  name: my-gateway
spec:
  selector:
    istio: ingressgateway
  servers:
  - port:
      number: 80
      name: http
      protocol: HTTP
    hosts:
    - "*"
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata:
  name: virtual-service
spec:
  hosts:
  - "*"
  gateways:
  - my-gateway
  http:
  - match:
    - uri:
        prefix: "/service-a"
    - headers:
        end-user:
          exact: user-a
    route:
    - destination:
        host: service-a
        port:
          number: 80
  - match:
    - uri:
        prefix: "/service-b"
    route:
    - destination:
        host: service-b
        port:
          number: 80
      weight: 20
    - destination:
        host: reviews.prod.svc.cluster.local
        subset: v1
      weight: 80
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata:
  name: service-a
spec:
  host: service-a
  trafficPolicy:
    loadBalancer:
      simple: LEAST_CONN

---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: service-a}
spec:
  hosts: [service-a.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: 9001}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: service-b}
spec:
  hosts: [service-b.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: 9002}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: prod}
spec:
  hosts: [reviews.prod.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {http: 9003}, labels: {version: v1}}
  - {address: 127.0.0.1, ports: {http: 9004}, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: prod}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}]
"""

PREDICTOR = "outbound|80||sklearn-iris-predictor-default-00001.default.svc.cluster.local"
LOCAL_GATEWAY = "outbound|80||knative-local-gateway.istio-system.svc.cluster.local"
REVISION = HeaderMutations(
    (),
    (
        HeaderValue("knative-serving-namespace", "default"),
        HeaderValue("knative-serving-revision", "sklearn-iris-predictor-default-00001"),
    ),
)


@pytest.mark.parametrize("documents", [SKLEARN_IRIS, ISTIO_BASICS], ids=["sklearn-iris", "istio-basics"])
def test_nothing_is_wrong_with_them(documents: str) -> None:
    assert analyse(mesh_of(documents)) == ()


def test_sklearn_iris_goes_from_the_ingress_gateway_with_its_host_rewritten_to_the_local_one() -> None:
    snapshot = gateway_snapshot(mesh_of(SKLEARN_IRIS), selector={"istio": "ingressgateway"})
    assert [listener.name for listener in snapshot.listeners] == ["0.0.0.0_80", "0.0.0.0_8081"]
    (route,) = virtual_hosts(snapshot)["sklearn-iris.default.example.com"].routes
    assert route.match.headers == (
        HeaderMatcher(":authority", Regex(r"^sklearn-iris\.default\.example\.com(?::\d{1,5})?$")),
    )
    assert route.action == forwarding(
        (WeightedCluster(LOCAL_GATEWAY),),
        host_rewrite="sklearn-iris-predictor-default.default.svc.cluster.local",
    )


def test_sklearn_iris_goes_from_the_local_gateway_to_the_revision_with_its_headers() -> None:
    snapshot = gateway_snapshot(mesh_of(SKLEARN_IRIS))
    host = virtual_hosts(snapshot, 1)["sklearn-iris-predictor-default.default.svc.cluster.local"]
    assert [route.match.headers[0].match for route in host.routes] == [
        Prefix("sklearn-iris-predictor-default.default"),
        Prefix("sklearn-iris-predictor-default.default.svc"),
        Prefix("sklearn-iris-predictor-default.default"),
    ]
    assert all(route.request_headers == REVISION for route in host.routes)
    # Its rules say `retries: {}`: none.
    action = RouteAction((WeightedCluster(PREDICTOR),), max_grpc_timeout_s=0.0)
    assert all(route.action == action for route in host.routes)


def test_sklearn_iris_has_the_addresses_of_its_workloads() -> None:
    snapshot = gateway_snapshot(mesh_of(SKLEARN_IRIS))
    assert {cluster.name: [str(e.address) for e in cluster.endpoints] for cluster in snapshot.clusters} == {
        LOCAL_GATEWAY: ["127.0.0.1:8081"],
        PREDICTOR: ["127.0.0.1:8012"],
    }


def test_istio_basics_routes_by_path_by_header_and_by_weight() -> None:
    snapshot = gateway_snapshot(mesh_of(ISTIO_BASICS))
    service_a = "outbound|80||service-a.default.svc.cluster.local"
    by_path, by_header, by_weight = virtual_hosts(snapshot)["*"].routes
    assert by_path.match.path == Prefix("/service-a") and by_header.match.headers[0].name == "end-user"
    assert by_path.action == by_header.action == forwarding((WeightedCluster(service_a),))
    assert by_weight.action == forwarding(
        (
            WeightedCluster("outbound|80||service-b.default.svc.cluster.local", 20),
            WeightedCluster("outbound|80|v1|reviews.prod.svc.cluster.local", 80),
        )
    )


def test_istio_basics_without_stand_ins_has_a_problem_for_each_missing_service() -> None:
    mesh = mesh_of(ISTIO_BASICS)
    bare = build_mesh(r for r in mesh.resources if r.kind != "ServiceEntry" and r.namespace == "default")
    assert [problem.path for problem in analyse(bare)] == [
        "spec.http[0].route[0].destination.host",
        "spec.http[1].route[0].destination.host",
        "spec.http[1].route[1].destination.host",
        "spec.host",
    ]
