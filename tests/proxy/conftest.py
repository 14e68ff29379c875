"""What tests of the proxy share."""

from __future__ import annotations

import pytest

from meshproxy.proxy import splice


@pytest.fixture(params=["spliced", "copied"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With splice(2) and as where there is none."""
    if request.param == "copied":
        monkeypatch.setattr(splice, "_works", lambda: False)
    elif not splice._works():
        pytest.skip("this system cannot splice sockets")
