"""`meshproxy schema`: what an editor is given."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from .support import meshproxy
from .test_fields import run_as_printed

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("kind", [(), ("VirtualService",), ("endpoints",), ("AuthorizationPolicy",)])
def test_writes_a_schema(kind: tuple[str, ...]) -> None:
    result = meshproxy("schema", *kind)
    assert (result.returncode, result.stderr) == (0, "")
    Draft202012Validator.check_schema(json.loads(result.stdout))


def test_the_example_of_its_help_works_as_printed(tmp_path: Path) -> None:
    text = meshproxy("schema", "--help").stdout
    [command] = re.findall(r"^ +(meshproxy .+)$", text, re.MULTILINE)
    [setting] = re.findall(r"^ +(\"yaml\.schemas\": .+)$", text, re.MULTILINE)

    run_as_printed(command, tmp_path)

    assert setting in README
    [schema] = json.loads(f"{{{setting}}}")["yaml.schemas"]
    Draft202012Validator.check_schema(json.loads((tmp_path / schema).read_text()))
