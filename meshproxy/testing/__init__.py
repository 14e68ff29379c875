"""Does a configuration do what its author means? Unit tests of routing, and real gateways for tests of anything.

The words of this package:

- A *test file* (`cases`) holds *cases*: requests, and what is expected of them. Each request of a case is a
  `Combination`, and passes or fails on its own.
- An `Entrance` (`entrances`) is where a request enters: a listener of a gateway or of a sidecar. A `Passage`
  (`passage`) is its way through that proxy; a further *hop* is the entrance that it reaches then.
- `differences` (`expectations`) are between what a case expects and what came of its request.
- A `Bench` (`runner`) is a mesh under test, with stand-ins for what is missing (`completing`); an `Outcome` is what
  came of a combination, and `report` tells of outcomes.
- A `RunningMesh` (`running`) is a real gateway whose endpoints are servers of the test's own, each a `StandIn`
  (`standins`).
- `plugin` is all of that for pytest.

Its rules: what decides is what runs, the same matchers and the same services; a case that expects nothing is refused,
for it could not fail; and nothing is imported for people who run pytest without it.
"""
