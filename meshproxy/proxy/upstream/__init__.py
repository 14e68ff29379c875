"""Where requests go.

- `cluster`: a set of equal hosts; a service that sends each request to one of them.
- `forward_proxy`: a cluster without endpoints, which sends each request where its own authority says.
- `balancers`: the policies that choose the host, each with one method.
- `host`: one endpoint with its connections and counters.
- `circuit_breakers`: what a cluster may have at a time; `bounded_host`: an endpoint whose requests wait for that.
- `lifetime`: how long connections serve.
- `outliers`: which hosts fail so often that they are ejected, and when they return.
- `health`: probes that find out whether hosts are healthy.
- `time_limits`: what a route decides of a request before it is sent: its time, and how it may be tried again.
- `retry_rules`: when a request is tried again, and after how long; `retries` carries that out around a cluster.
- `tries`: what the tries of one request share: its time limits, and the hosts that have had their turn.
- `deadlines`: when time runs out, for all requests under way.
- `recorded_body`: a request's body that is kept while it is sent, so that it can be sent again.
- `dns`: keeps the hosts of a cluster of names in step with what the names resolve to.
"""
