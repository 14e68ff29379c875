"""Key material that a gateway would use, looked at without running one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from ..identity import material
from ..identity.errors import Unusable
from ..resources import Note, Position, Problem
from ..snapshot import Origin, Secret, TlsCertificate, TrustedCa


def material_findings(secrets: Iterable[Secret], now: datetime | None = None) -> tuple[list[Problem], list[Note]]:
    """What is wrong with the material of secrets, and what a person should know of it.

    Files that are not here are no problem: a configuration may be checked elsewhere than where it runs.
    """
    now = now or datetime.now(UTC)
    problems: list[Problem] = []
    notes: list[Note] = []
    for secret in secrets:
        source, origin = secret.source, secret.origin
        if origin is None or not isinstance(source, (TlsCertificate, TrustedCa)):
            continue
        absent = [path for path in material.paths(source) if not Path(path).exists()]
        if absent:
            notes.append(_note(origin, f"{absent[0]} is not on this machine, so that it was not looked at"))
            continue
        try:
            if isinstance(source, TrustedCa):
                material.read_authorities(source, now)
            elif expired := material.expiry_problem(material.read_key_pair(source), now):
                notes.append(_note(origin, expired))
        except Unusable as error:
            problems.append(Problem(Position(origin.file, origin.line, 1), origin.resource, origin.path, str(error)))
    return problems, notes


def _note(origin: Origin, message: str) -> Note:
    return Note(Position(origin.file, origin.line, 1), f"{origin.resource}: {message}")
