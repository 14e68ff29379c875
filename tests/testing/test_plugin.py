"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from .support import SHOP

pytest_plugins = ["pytester"]

TESTS = """
testCases:
- description: tea
  request: {authority: [shop.example.com], uri: [/tea], method: [GET, POST]}
  status: 418
- description: cake
  request: {authority: [shop.example.com], uri: [/cake]}
  status: 200
"""

TWO_MODES = """
import http.client
from urllib.parse import urlsplit

import pytest
import trio

def get(url, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    try:
        connection.request(method, path, body, {"host": "shop.example.com", **headers})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()

def test_in_a_thread(mesh):
    with mesh("shop.yaml") as shop:
        assert get(shop.url(80), "/split", "POST", b"a body")[0] == 200
        (received,) = shop.received
    assert (received.method, received.path, received.authority) == ("POST", "/whole", "inside.example.com")
    assert received.body == b"a body"
    assert received.headers["x-shop"] == "open"

async def test_in_the_loop(mesh):
    async with mesh("shop.yaml") as shop:
        assert (await trio.to_thread.run_sync(get, shop.url(), "/tea"))[0] == 418
"""


def files(pytester: pytest.Pytester, **texts: str) -> None:
    """Files by their names, in which `__` stands for a dot."""
    for name, text in texts.items():
        (pytester.path / name.replace("__", ".")).write_text(dedent(text))


def test_every_combination_is_an_item_and_a_failure_is_told_without_a_traceback(pytester: pytest.Pytester) -> None:
    files(pytester, shop__yaml=SHOP, it__meshtest__yaml=TESTS)

    result = pytester.runpytest_subprocess("-v", "-W", "error")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "it.meshtest.yaml::tea [[]GET shop.example.com/tea[]] PASSED*",
            "it.meshtest.yaml::cake [[]GET shop.example.com/cake[]] FAILED*",
            "status, expected at it.meshtest.yaml:8:11",
            "  expected: 200",
            "  got:      404 (route_not_found)",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*runner.py*")


def test_a_bad_file_is_an_error_of_collection_that_names_the_line(pytester: pytest.Pytester) -> None:
    files(pytester, shop__yaml=SHOP, it__meshtest__yaml=TESTS.replace("status: 200", "statuss: 200"))

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["it.meshtest.yaml:8:3: testCases[[]1[]].statuss: unknown field; did you mean*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_resources_with_problems_are_told_the_same_way(pytester: pytest.Pytester) -> None:
    files(pytester, shop__yaml=SHOP.replace("exact: /tea", "exakt: /tea"), it__meshtest__yaml=TESTS)

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*shop.yaml:23:20: VirtualService/shop.default: spec.http*"])


def test_the_fixture_runs_a_gateway_in_a_thread_and_in_the_loop_of_the_test(pytester: pytest.Pytester) -> None:
    files(pytester, shop__yaml=SHOP, test_shop__py=TWO_MODES)
    pytester.makeini("[pytest]\ntrio_mode = true\n")

    result = pytester.runpytest_subprocess("-W", "error")

    result.assert_outcomes(passed=2)


def test_test_files_and_synchronous_tests_need_no_pytest_trio(pytester: pytest.Pytester) -> None:
    synchronous = TWO_MODES.partition("async def")[0]
    files(pytester, shop__yaml=SHOP, it__meshtest__yaml=TESTS, test_shop__py=synchronous)

    result = pytester.runpytest_subprocess("-W", "error", "-p", "no:trio")

    result.assert_outcomes(passed=3, failed=1)


def test_the_fixture_tells_what_is_wrong_with_resources_without_a_traceback(pytester: pytest.Pytester) -> None:
    files(
        pytester,
        shop__yaml=SHOP.replace("exact: /tea", "exakt: /tea"),
        test_shop__py="def test_it(mesh):\n    with mesh('shop.yaml'):\n        pass\n",
    )

    result = pytester.runpytest_subprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["shop.yaml:23:20: VirtualService/shop.default: spec.http*"])
    result.stdout.no_fnmatch_line("*During handling*")


def test_who_does_not_use_it_does_not_pay_for_it(pytester: pytest.Pytester) -> None:
    files(
        pytester,
        test_nothing__py="""
        import sys

        def test_imported():
            assert "meshproxy.testing.plugin" in sys.modules
            heavy = ("meshproxy.testing.cases", "meshproxy.resources", "meshproxy.proxy", "pydantic", "trio", "yaml")
            assert not [name for name in heavy if name in sys.modules]
        """,
    )

    result = pytester.runpytest_subprocess("-p", "no:trio", "-p", "no:anyio", "-p", "no:hypothesispytest")

    result.assert_outcomes(passed=1)


def test_the_example_meshes_are_collected(request: pytest.FixtureRequest) -> None:
    policies = Path(__file__).parents[2] / "policies"
    folders = [path for path in policies.iterdir() if any(path.glob("*.yaml"))]

    assert [folder for folder in folders if not list(folder.glob("*.meshtest.yaml"))] == []
    assert "policies" in request.config.getini("testpaths")
