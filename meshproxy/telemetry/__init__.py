"""What happened.

- `access_log`: a line a request, in Envoy's default format.
- `metrics`: counters and histograms, kept as plain numbers; `prometheus` renders them when somebody asks.

Nothing here knows how requests are served; `access_log.StreamInfo` is what it wants to be told of one.
"""
