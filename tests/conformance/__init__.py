"""The referee: the same resources, run by meshproxy and by the real Envoy, and the same bytes sent to both.

The words of this package:

- a `Case` is data: a configuration and the `Exchange`s that are tried with it: bytes that a client sends, and what the
  backends answer.
- `Referee` runs both proxies on the configurations of many cases at once, between recording backends.
- an `Observation` is what was seen of one exchange by one proxy; `compare` tells two of them apart, finding by finding.
- `differences` is the table of those that are ours on purpose. Whatever it does not explain is a failure.
- `cases` are written, `generated` ones are made of resources and of requests that meet them or nearly do.
- a `Tally` counts the pairs of observations for the line at the end of a run.

Where Envoy is not installed nothing here runs, and pytest tells why.
"""
