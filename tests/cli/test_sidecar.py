"""`meshproxy sidecar`: a proxy beside an app that knows nothing of it."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.test_policies import backend, copied, free_port

from .support import meshproxy

POLICIES = Path(__file__).parents[2] / "policies"

# Programs that know of proxies what their libraries know: each prints the body of what it gets.
CALLERS = {
    "curl": ["curl", "-s", "{url}", "-H", "end-user: {user}"],
    "requests": [
        sys.executable,
        "-c",
        "import requests; print(requests.get('{url}', headers={{'end-user': '{user}'}}).text)",
    ],
    "httpx": [
        sys.executable,
        "-c",
        "import httpx; print(httpx.get('{url}', headers={{'end-user': '{user}'}}).text)",
    ],
}


def call(program: str, url: str, user: str = "anybody") -> list[str]:
    return [part.format(url=url, user=user) for part in CALLERS[program]]


@contextmanager
def sidecar(folder: Path, workload: str, app: int | str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A running sidecar, from the moment it serves."""
    command = [sys.executable, "-m", "meshproxy", "sidecar", "-f", str(folder), "--workload", workload]
    process = subprocess.Popen(
        [*command, "--app", str(app), "--outbound", "0", *more], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if line == "ready\n":
                break
        else:
            raise AssertionError("".join(told))
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The canary mesh on free ports: two versions of reviews, each an app behind a sidecar of its own."""
    v1, v2 = free_port(), free_port()
    folder = copied("canary", {9181: v1, 9182: v2}, tmp_path_factory.mktemp("mesh"))
    with (
        backend() as app_1,
        backend() as app_2,
        sidecar(folder, "reviews-v1", app_1),
        sidecar(folder, "reviews-v2", app_2),
    ):
        (folder / "apps.json").write_text(json.dumps({"v1": app_1, "v2": app_2}))
        yield folder


def apps(folder: Path) -> dict[str, int]:
    return dict(json.loads((folder / "apps.json").read_text()))


def from_web(folder: Path, command: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    """Run a program as the app of the workload `web`."""
    options = ["--workload", "web", "--app", str(free_port()), "--outbound", str(free_port()), *more]
    return meshproxy("sidecar", "-f", folder / "reviews.yaml", *options, "--", *command)


@pytest.mark.parametrize("program", CALLERS)
@pytest.mark.parametrize("name", ["reviews", "reviews.default", "reviews.default.svc.cluster.local:80"])
def test_an_unmodified_program_reaches_a_service_by_its_name(canary: Path, program: str, name: str) -> None:
    if program == "curl" and not shutil.which("curl"):
        pytest.skip("curl is not installed")

    result = from_web(canary, call(program, f"http://{name}/path?q=1"))

    received = json.loads(result.stdout)
    assert received["port"] == apps(canary)["v1"]
    assert received["path"] == "/path?q=1"
    assert received["headers"]["host"].removesuffix(":80") == name.removesuffix(":80")


def test_a_header_chooses_the_canary(canary: Path) -> None:
    everybody = json.loads(from_web(canary, call("requests", "http://reviews/")).stdout)
    testers = json.loads(from_web(canary, call("requests", "http://reviews/", "tester")).stdout)

    assert (everybody["port"], testers["port"]) == (apps(canary)["v1"], apps(canary)["v2"])


def test_a_request_keeps_its_id_on_its_way_through_two_sidecars(canary: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "import requests; print(requests.get('http://reviews/', headers={'x-request-id': 'mine'}).text)",
    ]

    received = json.loads(from_web(canary, command).stdout)

    assert received["headers"]["x-request-id"] == "mine"
    assert "x-forwarded-for" not in received["headers"]


def test_the_standard_librarys_server_is_served_as_it_is(tmp_path: Path) -> None:
    inbound, app = free_port(), free_port()
    folder = copied("canary", {9181: inbound}, tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("hello")
    server = [
        sys.executable,
        "-m",
        "http.server",
        str(app),
        "--bind",
        "127.0.0.1",
        "--directory",
        str(tmp_path / "site"),
    ]

    with sidecar(folder, "reviews-v1", app, "--", *server):
        body = ""
        give_up = time.monotonic() + 20
        while body != "hello" and time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{inbound}/") as response:
                    body = response.read().decode()
            except urllib.error.HTTPError:
                time.sleep(0.02)  # the app is not up yet

    assert body == "hello"


def test_what_no_resource_names_is_passed_on_or_refused(canary: Path) -> None:
    with backend() as outside:
        url = f"http://localhost:{outside}/x"
        ask = [
            sys.executable,
            "-c",
            f"import os; os.environ.pop('NO_PROXY'); os.environ.pop('no_proxy'); "
            f"import requests; answer = requests.get({url!r}); print(answer.status_code, answer.text)",
        ]

        passed = from_web(canary, ask).stdout
        refused = from_web(canary, ask, "--outbound-policy", "REGISTRY_ONLY").stdout

    assert passed.startswith("200 ") and json.loads(passed[4:])["port"] == outside
    assert refused.startswith("502 ")


def test_the_child_finds_its_surroundings_and_returns_its_exit_code(canary: Path) -> None:
    show = (
        "import os; print(os.environ['HTTP_PROXY'], os.environ['PORT'], 'localhost' in os.environ['NO_PROXY']); exit(7)"
    )

    result = from_web(canary, [sys.executable, "-c", show])

    assert result.returncode == 7
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ \d+ True\n", result.stdout)


COUNTING = """\
import signal, sys, time
caught = []
for number in (1, 2, 3, 10, 12, 15):
    signal.signal(number, lambda number, frame: caught.append(number))
print("up", flush=True)
while not caught:
    signal.pause()
time.sleep(0.2)  # a second one, were there one, would come in this time
sys.exit(100 + 10 * len(caught) + caught[0] % 10)
"""


def web_command(folder: Path, *command: str) -> list[str]:
    options = ["--workload", "web", "--app", str(free_port()), "--outbound", str(free_port())]
    return [sys.executable, "-m", "meshproxy", "sidecar", "-f", str(folder / "reviews.yaml"), *options, "--", *command]


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2],
)
def test_a_signal_reaches_the_child_once_and_its_exit_code_comes_back(canary: Path, number: signal.Signals) -> None:
    command = web_command(canary, sys.executable, "-c", COUNTING)
    # Whoever runs the tests may ignore the signal, as nohup does; that is inherited.
    asked = partial(signal.signal, number, signal.SIG_DFL)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, preexec_fn=asked)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.send_signal(number)
            assert process.wait(20) == 110 + number % 10
        finally:
            process.kill()


def test_ctrl_c_in_a_terminal_reaches_the_child_once(canary: Path) -> None:
    command = web_command(canary, sys.executable, "-c", COUNTING)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)
    shown = b""
    while b"up" not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 110 + signal.SIGINT


def test_a_sidecar_started_to_ignore_sighup_ignores_it(canary: Path) -> None:
    child = "import sys; print('up', flush=True); sys.stdin.readline(); sys.exit(3)"
    command = ["nohup", *web_command(canary, sys.executable, "-c", child)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGHUP)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(20) == 3


def test_the_childs_input_and_output_are_its_own(canary: Path) -> None:
    everything = bytes(range(256)) * 100
    command = web_command(canary, sys.executable, "-c", "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())")

    result = subprocess.run(command, input=everything, capture_output=True, timeout=20)

    assert result.stdout == everything


def test_the_child_is_told_the_port_that_was_free(canary: Path) -> None:
    options = ["--workload", "web", "--app", str(free_port()), "--outbound", "127.0.0.1:0"]
    result = meshproxy("sidecar", "-f", canary / "reviews.yaml", *options, "--", *call("requests", "http://reviews/"))

    assert json.loads(result.stdout)["port"] == apps(canary)["v1"]


def test_a_child_killed_by_a_signal_ends_as_in_a_shell(canary: Path) -> None:
    result = from_web(canary, [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])

    assert result.returncode == 128 + 9


def test_a_command_that_does_not_exist_is_told(canary: Path) -> None:
    result = from_web(canary, ["no-such-program"])

    assert result.returncode == 127
    assert "no-such-program" in result.stderr


def test_ready_says_why_an_app_cannot_be_reached_and_requests_get_503(tmp_path: Path) -> None:
    inbound, admin, app = free_port(), free_port(), free_port()
    folder = copied("canary", {9181: inbound}, tmp_path)

    with sidecar(folder, "reviews-v1", app, "--admin", str(admin)):
        with pytest.raises(urllib.error.HTTPError) as ready:
            urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready")
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(f"http://127.0.0.1:{inbound}/")

        assert ready.value.code == 503
        assert f"127.0.0.1:{app}" in ready.value.read().decode()
        assert answer.value.code == 503
        assert "remote connection failure" in answer.value.read().decode()


def test_an_app_that_comes_up_late_is_found(tmp_path: Path) -> None:
    inbound, admin, app = free_port(), free_port(), free_port()
    folder = copied("canary", {9181: inbound}, tmp_path)

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/ready"):
                return True
        except urllib.error.HTTPError:
            return False

    with sidecar(folder, "reviews-v1", app, "--admin", str(admin)):
        assert not ready()
        with backend(app):
            give_up = time.monotonic() + 20
            while not ready():
                assert time.monotonic() < give_up
                time.sleep(0.05)


def test_an_app_whose_probe_fails_gets_no_requests(tmp_path: Path) -> None:
    inbound, admin = free_port(), free_port()
    well = tmp_path / "well"
    folder = copied("canary", {9181: inbound}, tmp_path)
    group = f"""
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {{name: reviews}}
spec: {{template: {{}}, probe: {{exec: {{command: [test, -e, {well}]}}, periodSeconds: 1}}}}
"""
    (folder / "group.yaml").write_text(group)
    mesh = folder / "reviews.yaml"
    annotated = "name: reviews-v1\n  annotations: {istio.io/autoRegistrationGroup: reviews}"
    mesh.write_text(mesh.read_text().replace("name: reviews-v1", annotated))

    def status() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{inbound}/") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    with backend() as app, sidecar(folder, "reviews-v1", app, "--admin", str(admin)):
        assert status() == 503
        well.touch()
        give_up = time.monotonic() + 20
        while status() != 200:
            assert time.monotonic() < give_up
            time.sleep(0.05)


@pytest.mark.parametrize("app", ["127.0.0.1:0", "9000x", "a b:1"])
def test_an_app_that_can_be_nowhere_is_refused(canary: Path, app: str) -> None:
    result = meshproxy("sidecar", "-f", canary / "reviews.yaml", "--workload", "web", "--app", app)

    assert result.returncode == 2
    assert "127.0.0.1:9000" in result.stderr


def test_an_app_may_be_named(tmp_path: Path) -> None:
    inbound = free_port()
    folder = copied("canary", {9181: inbound}, tmp_path)
    with (
        backend() as app,
        sidecar(folder, "reviews-v1", f"localhost:{app}"),
        urllib.request.urlopen(f"http://127.0.0.1:{inbound}/") as response,
    ):
        assert json.loads(response.read())["port"] == app


def test_the_example_of_the_help_works_as_printed(tmp_path: Path) -> None:
    shown = meshproxy("sidecar", "--help").stdout
    example = re.search(r"Example:\n(.*?)\n\n", shown, re.DOTALL)
    assert example is not None
    words = shlex.split(example[1].replace("\\\n", " "))
    ports = {9181: free_port(), 9001: free_port()}
    folder = copied("canary", {9181: ports[9181]}, tmp_path)
    words = [word.replace("9001", str(ports[9001])).replace("policies/canary", str(folder)) for word in words]

    assert words[:2] == ["meshproxy", "sidecar"]
    options = words[words.index("-f") + 2 :]
    workload, app = options[options.index("--workload") + 1], options[options.index("--app") + 1]
    with sidecar(folder, workload, app, *options[options.index("--") :]):
        give_up = time.monotonic() + 20
        status = 503
        while status == 503 and time.monotonic() < give_up:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{ports[9181]}/") as response:
                    status = response.status
            except urllib.error.HTTPError as error:
                status = error.code

    assert status == 200


def test_an_unknown_workload_is_told_with_the_nearest_name(canary: Path) -> None:
    result = meshproxy("sidecar", "-f", canary / "reviews.yaml", "--workload", "reviews-v3", "--app", "9000")

    assert result.returncode == 1
    assert "reviews-v" in result.stderr and "did you mean" in result.stderr


def test_an_app_that_is_its_own_inbound_listener_is_refused_with_its_place(tmp_path: Path) -> None:
    result = meshproxy("sidecar", "-f", POLICIES / "canary", "--workload", "reviews-v1", "--app", "127.0.0.1:9181")

    assert result.returncode == 1
    assert re.search(r"reviews\.yaml:\d+:\d+: WorkloadEntry/reviews-v1\.default", result.stderr)


def test_an_outbound_port_in_use_is_told(canary: Path) -> None:
    with backend() as taken:
        result = meshproxy(
            "sidecar", "-f", canary / "reviews.yaml", "--workload", "web", "--app", "9000", "--outbound", str(taken)
        )

    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in result.stderr
