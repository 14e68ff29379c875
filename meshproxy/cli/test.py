"""`meshproxy test`: unit tests of routing, run against the resources without sending anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ..resources import Unreadable
from ..testing import report
from ..testing.cases import MeshTestFile, read_tests
from ..testing.runner import Bench, Outcome, Unusable, bench
from .configuration import EXIT_PROBLEMS, EXIT_UNUSABLE, count, namespace_option
from .serving import fail


@click.command()
@click.option(
    "-f",
    "paths",
    multiple=True,
    metavar="PATH",
    help="Resources: a file, a folder, or - for stdin. Repeatable. Without it, those that the test file names.",
)
@click.option("-v", "--verbose", is_flag=True, help="List every combination, and every note on the resources.")
@click.option("--junit", metavar="FILE", help="Write JUnit XML, for CI servers.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object, for programs.")
@namespace_option
@click.argument("files", nargs=-1, required=True, metavar="TESTS.yaml...")
def test(
    paths: tuple[str, ...],
    files: tuple[str, ...],
    verbose: bool,
    junit: str | None,
    as_json: bool,
    namespace: str,
) -> None:
    """Test which rule requests meet, and what comes of them.

    Each test case is a line, PASS or FAIL; under a failure stands what was expected, what came instead, and where both
    are written. docs/testing.md has the format. Exits with 0 when all passed, 1 when some failed, 2 when a file cannot
    be used.

    \b
    Example:
      meshproxy test -f policies/quickstart policies/quickstart/quickstart.meshtest.yaml
    """
    tests = list(map(_read, files))
    _refuse_problems([str(problem) for one in tests for problem in one.problems])
    benches: dict[tuple[str, ...], Bench] = {}
    outcomes: list[Outcome] = []
    for one in tests:
        wanted = paths or one.resources
        if wanted not in benches:
            benches[wanted] = _bench(wanted, namespace, files)
        mesh = benches[wanted]
        of_file = [mesh.run(combination) for combination in one.combinations()]
        outcomes += of_file
        if not as_json:
            _show(of_file, verbose)
            _show_notes(mesh, verbose or not all(outcome.passed for outcome in of_file))
    if junit is not None:
        _write(junit, report.junit(outcomes))
    if as_json:
        click.echo(json.dumps(report.as_dict(outcomes), indent=1))
    passed = all(outcome.passed for outcome in outcomes)
    click.secho(report.summary(outcomes), fg="green" if passed else "red", err=as_json)
    sys.exit(0 if passed else EXIT_PROBLEMS)


def _read(path: str) -> MeshTestFile:
    try:
        return read_tests(path)
    except Unreadable as error:
        fail(str(error), EXIT_UNUSABLE)


def _bench(paths: tuple[str, ...], namespace: str, tests: tuple[str, ...]) -> Bench:
    try:
        return bench(paths, namespace=namespace, tests=tests, stdin=sys.stdin.buffer)
    except Unreadable as error:
        fail(str(error), EXIT_UNUSABLE)
    except Unusable as error:
        _refuse_problems([str(problem) for problem in error.problems])
        raise


def _refuse_problems(problems: list[str]) -> None:
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        fail(f"not tested: {count(len(problems), 'problem')} to mend first", EXIT_UNUSABLE)


def _show(outcomes: list[Outcome], verbose: bool) -> None:
    """A line for each case, and under it each request that failed; or, when told, a line for each request."""
    by_case: dict[int, list[Outcome]] = {}
    for place, outcome in enumerate(outcomes):
        by_case.setdefault(place if verbose else id(outcome.combination.case), []).append(outcome)
    for of_case in by_case.values():
        failed = [outcome for outcome in of_case if not outcome.passed]
        _show_line(not failed, of_case[0].combination.name if verbose else _title(of_case, len(failed)))
        for outcome in failed:
            if not verbose:
                click.echo(f"     {outcome.combination.request}")
            for line in report.failure_lines(outcome):
                click.echo(f"     {line}")


def _title(of_case: list[Outcome], failed: int) -> str:
    name = of_case[0].combination.case.name
    if len(of_case) == 1:
        return name
    return f"{name} ({f'{failed} of ' if failed else ''}{len(of_case)} requests)"


def _show_line(passed: bool, name: str) -> None:
    click.echo(f"{click.style('PASS', fg='green') if passed else click.style('FAIL', fg='red')} {name}")


def _show_notes(mesh: Bench, all_of_them: bool) -> None:
    if all_of_them:
        for note in mesh.notes:
            click.secho(str(note), dim=True, err=True)
    elif mesh.notes:
        click.secho(f"{count(len(mesh.notes), 'note')} on the resources; -v shows them", dim=True, err=True)


def _write(path: str, content: bytes) -> None:
    try:
        Path(path).write_bytes(content)
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror}", EXIT_UNUSABLE)
