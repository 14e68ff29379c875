"""What all tests share: how Hypothesis runs. `HYPOTHESIS_PROFILE=thorough` looks a hundred times longer."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
