"""Where requests go.

- `cluster`: a set of equal hosts; a service that sends each request to one of them.
- `forward_proxy`: a cluster without endpoints, which sends each request where its own authority says.
- `balancers`: the policies that choose the host, each with one method.
- `host`: one endpoint with its connections and counters.
- `circuit_breakers`: what a cluster may have at a time; `bounded_host`: an endpoint whose requests wait for that.
- `lifetime`: how long connections serve.
- `outliers`: which hosts fail so often that they are ejected, and when they return.
- `health`: probes that find out whether hosts are healthy.
- `dns`: keeps the hosts of a cluster of names in step with what the names resolve to.
"""
