"""What does the proxy cost? Load, measurement, and the other proxies to measure against.

The commands, `python -m bench COMMAND`:

- `proxies`: meshproxy beside nginx, HAProxy, Caddy, Envoy and aiohttp, case by case.
- `load`: a load generator for people without wrk.
- `scale`: cost and memory against the size of the configuration, and against idle connections.
- `chaos`: what clients see while endpoints are killed, hung, slowed and broken.
- `access`: what tokens and policies cost, alone and beside Envoy.
- `profile`: where a request's time goes.
- `all`: the three that measure, with their tables and charts put into `README.md` and `results/`.

What they are made of:

- `cases`: what the proxies are asked to do.
- `peers`: a module a proxy: what it needs to be configured as meshproxy is.
- `origin`: the service behind the proxies.
- `interpreter`: the Python that runs meshproxy and aiohttp.
- `wrk`: one run of wrk, and what it reports.
- `loading`: the load generator: `pacing` says when a request is due, `histogram` holds latencies.
- `processes`: starts programs, waits until they answer, ends them.
- `usage`: CPU time and memory of a process and its children.
- `report`: tables for the terminal and for `README.md`; `charts` draws.

Absolute figures drift with the machine, by a factor of three on a busy one. What can be compared are ratios within one
run, whose rounds go from proxy to proxy in turn.
"""
