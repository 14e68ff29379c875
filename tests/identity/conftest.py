from __future__ import annotations

from pathlib import Path

import pytest

from meshproxy.identity import Authority
from meshproxy.identity.authority import create

from .support import NOW


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A CA of `cluster.local`."""
    create(tmp_path / "ca", trust_domain="cluster.local", key_type="ecdsa", now=NOW)
    return Authority(tmp_path / "ca")
