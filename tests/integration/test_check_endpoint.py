"""`muxplan check --endpoint` against a real server that streams as vLLM does, and fails in many ways."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from planner import cli
from planner.check import check_endpoint
from planner.check.check_endpoint import EndpointError, endpoint_url, key_of
from planner.check.result import CheckResult
from planner.load.client import closed_loop
from planner.load.requests import Sending, Target
from planner.plan_file import Plan
from planner.plan_io import read_plan
from tests.completions_server import BROKEN, Service, running
from tests.small_spec import written

# A slow GPU: its steps are long beside what a busy machine adds to them.
SPEC = """\
version: 1
name: endpoint
cluster:
  pools:
    - name: slow
      gpu: {name: slow-gpu, memory_bytes: 24.0e9, memory_bandwidth_bytes_per_s: 2.0e10, peak_flops: {bf16: 6.0e12}}
      price_usd_per_gpu_hour: 0.1
      max_nodes: 4
      buy: gpu
      gpus_per_node: 4
models:
  - {name: tiny, architecture: qwen3-0.6b, parallelism: {tp: [1]}, max_model_len: 4096}
workloads:
  - name: chat
    model: tiny
    traffic: {rate_rps: 20.0}
    tokens: {input: {mean: 100, cv: 0.5}, output: {mean: 8, cv: 0.5}}
    slo: {ttft_ms: 3000, tpot_ms: 500, attainment: 0.95}
  - name: mail
    model: tiny
    traffic: {rate_rps: 1.0}
    tokens: {input: {mean: 100, cv: 0.5}, output: {mean: 8, cv: 0.5}}
    slo: {ttft_ms: 3000, tpot_ms: 500, attainment: 0.95}
constraints:
  - {kind: min_replicas, model: tiny, count: 2}
"""
SECRET = "sk-very-secret-key-8472"


@pytest.fixture(scope="module")
def plan_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endpoint")
    path = folder / "plan.yaml"
    assert cli.main(["plan", str(written(folder, SPEC)), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def plan(plan_path: Path) -> Plan:
    return read_plan(plan_path)


@pytest.fixture
def service(plan: Plan) -> Iterator[Service]:
    """As fast as the plan says."""
    chat = plan.workloads["chat"]
    assert chat.ttft_ms and chat.tpot_ms
    with running(Service(first_s=chat.ttft_ms.p50 / 1000, gap_s=chat.tpot_ms.p50 / 1000)) as found:
        yield found


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in check_endpoint.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def check(plan_path: Path, service: Service, *more: str, scheme: str = "http") -> int:
    """Run the command with short windows."""
    url = f"{scheme}://127.0.0.1:{service.port}"
    command = ["check", str(plan_path), "--endpoint", url, "--workload", "chat", "--duration", "3"]
    return cli.main([*command, "--tolerance", "0.4", *more])


def test_a_service_as_fast_as_planned_holds(
    plan_path: Path, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "check.json"
    assert check(plan_path, service, "-o", str(output), "--windows", "2") == 0
    found = CheckResult.model_validate_json(output.read_text())
    assert found.held and found.level == "endpoint" and found.windows == 2
    chat = found.workloads["chat"]
    assert chat.measured.ttft_ms and chat.measured.tpot_ms and chat.measured.e2e_ms
    assert chat.measured.attainment == 1.0 and chat.requests > 20
    assert set(chat.error_fraction) == {"ttft_ms", "tpot_ms", "e2e_ms", "attainment"}
    assert service.asked == chat.requests + 1
    assert service.keys == [None] * service.asked
    text = capsys.readouterr().out
    assert "the plan held" in text and "also serve mail" in " ".join(text.split())
    assert "mail" in found.left_out


def test_a_slower_service_fails_and_names_the_workload(
    plan_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.first_s, service.gap_s = 3 * service.first_s, 3 * service.gap_s
    assert check(plan_path, service) == 1
    assert "chat: TPOT p50" in capsys.readouterr().out


def test_a_share_of_the_traffic_is_predicted_as_that_share(
    plan_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(plan_path, service, "--rate", "2", "--duration", "6", "--json") in (0, 1)
    found = CheckResult.model_validate_json(capsys.readouterr().out)
    assert 3 <= found.workloads["chat"].requests <= 24
    assert found.workloads["chat"].predicted.served_rps < 4.1


def test_a_group_gets_its_share_and_is_predicted_alone(
    plan_path: Path, plan: Plan, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    routes = plan.routes["chat"]
    assert len(routes) > 1
    first = min(routes, key=lambda route: route.weight_fraction)
    assert check(plan_path, service, "--group", first.group, "--duration", "5", "--json") in (0, 1)
    found = CheckResult.model_validate_json(capsys.readouterr().out)
    sent = found.workloads["chat"].requests
    expected = 5.0 * plan.workloads["chat"].served_rps * first.weight_fraction
    assert abs(sent - expected) < 4 * expected**0.5
    assert service.asked == sent + 1


def test_the_key_goes_into_the_header_and_nowhere_else(
    plan_path: Path,
    service: Service,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service.key = SECRET
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    assert check(plan_path, service) == 1
    said = capsys.readouterr().err
    assert "HTTP 401 (it wants another key" in said and "wrong key: Bearer …" in said and "another." not in said
    monkeypatch.setenv("MUXPLAN_API_KEY", SECRET)
    output = tmp_path / "check.json"
    assert check(plan_path, service, "-o", str(output)) == 0
    assert service.keys[-1] == f"Bearer {SECRET}"
    shown = capsys.readouterr()
    assert SECRET not in shown.out + shown.err + output.read_text()


FAULTS = {
    "unknown": "HTTP 404 (no such path or model there): The model `unknown` does not exist.",
    "limited": "HTTP 429 (its rate limit: ask for a higher one, or send less with --rate): too many requests",
    "elsewhere": "HTTP 307, a redirect to http://127.0.0.1:9/v1/completions, which is not followed: name the final URL",
    "at-once": "the answer is application/json, not a stream",
    "page": "HTTP 502",
    "uncounted": "neither usage nor token ids came: tokens cannot be counted",
    "short": "2 tokens came instead of 8",
    "dropping": "the connection broke off",
    "huge": "a line of the stream is longer than any event is",
    "failing": "the server broke the stream off with an error",
    **{f"broken-{number}": "an event of the stream is malformed" for number in range(len(BROKEN))},
}


@pytest.mark.parametrize("model", FAULTS)
def test_every_fault_of_a_service_has_its_words(service: Service, model: str) -> None:
    one = np.ones(1, dtype=np.int64)
    sending = Sending(due_s=np.zeros(1), input_tokens=8 * one, output_tokens=8 * one, target=0 * one)
    target = Target(url=f"http://127.0.0.1:{service.port}", model=model, api_key=SECRET)
    answers = closed_loop([target], sending, 1)
    assert answers.errors == {FAULTS[model]: 1}
    assert not answers.served.any() and answers.done.all()


@pytest.mark.parametrize("model", ["unknown", "elsewhere"])
def test_a_service_that_cannot_be_checked_is_told_in_one_sentence(
    plan_path: Path,
    service: Service,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MUXPLAN_API_KEY", SECRET)
    assert check(plan_path, service, "--served-model", model) == 1
    shown = capsys.readouterr()
    assert FAULTS[model] in shown.err.splitlines()[-1] and not shown.out
    assert SECRET not in shown.err
    # Nothing more is sent after a first request that shows what is wrong.
    assert service.asked == 1


def test_a_redirect_brings_the_key_to_nobody(
    plan_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUXPLAN_API_KEY", SECRET)
    with running(Service()) as other:
        service.moved_to = f"http://127.0.0.1:{other.port}"
        assert check(plan_path, service, "--served-model", "elsewhere") == 1
        assert f"a redirect to {service.moved_to}/v1/completions, which" in capsys.readouterr().err
        assert other.asked == 0 and service.keys == [f"Bearer {SECRET}"]


def test_a_silent_service_is_given_up(
    plan_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_endpoint, "TRIAL_S", 0.5)
    assert check(plan_path, service, "--served-model", "silent") == 1
    assert "no whole answer within 0.5 s" in capsys.readouterr().err


def test_nobody_there_and_no_such_host(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(plan_path, Service(port=9)) == 1
    assert "there is no connection" in capsys.readouterr().err
    assert cli.main(["check", str(plan_path), "--workload", "chat", "--endpoint", "http://no-such-host.invalid"]) == 1
    assert "its host name is not known" in capsys.readouterr().err


def test_rate_limits_in_the_middle_are_counted_and_fail_the_check(
    plan_path: Path, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(plan_path, service, "--served-model", "limited-later", "--json") == 1
    found = CheckResult.model_validate_json(capsys.readouterr().out)
    ((what, count),) = found.errors.items()
    assert "429" in what and "too many requests" in what
    chat = found.workloads["chat"]
    assert count >= chat.requests // 3 - 1
    assert chat.measured.attainment is not None and chat.measured.attainment < 0.75
    assert any("requests failed" in why for why in chat.why)


def test_ctrl_c_keeps_what_was_measured(plan_path: Path, service: Service, tmp_path: Path) -> None:
    output = tmp_path / "check.json"
    threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert check(plan_path, service, "--duration", "60", "-o", str(output)) == 1
    found = CheckResult.model_validate_json(output.read_text())
    assert found.ended and "cancelled" in found.ended and not found.held
    chat = found.workloads["chat"]
    # Those under way or never sent count as nothing: not as missed.
    assert 3 <= chat.requests <= service.asked
    assert chat.measured.attainment == 1.0 and 10.0 < chat.measured.served_rps < 35.0


def test_tls(plan_path: Path, service: Service, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(plan_path, service, scheme="https") == 1
    assert "TLS fails: does it speak https at this port?" in capsys.readouterr().err
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(request, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running(Service(first_s=service.first_s, gap_s=service.gap_s), context) as secure:
        assert check(plan_path, secure, scheme="https") == 1
        assert "its TLS certificate is not trusted" in capsys.readouterr().err
        assert check(plan_path, secure, scheme="http") == 1
        assert "the connection broke off" in capsys.readouterr().err
        # The authorities are read when the program starts.
        command = [sys.executable, "-m", "planner.cli", "check", str(plan_path), "--workload", "chat"]
        command += ["--endpoint", f"https://127.0.0.1:{secure.port}", "--duration", "3", "--tolerance", "0.4"]
        trusting = {**os.environ, "SSL_CERT_FILE": str(certificate)}
        done = subprocess.run(command, env=trusting, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workload", "nosuch"], "the plan serves no 'nosuch': chat, mail"),
        (["--group", "nosuch"], "not routed to a group 'nosuch'"),
        (["--rate", "99"], "above the 20 requests/s"),
        (["--duration", "0.0001"], "--duration longer"),
        (["--node", "slow-0"], "--node is for --on vllm"),
        (["--trace", "t.csv"], "--trace is for --on simulator"),
        (["--interference", "i.yaml"], "--interference is for --on kernels"),
    ],
)
def test_wrong_options_are_refused(
    plan_path: Path, service: Service, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(plan_path, service, *options) == 2
    assert said in capsys.readouterr().err


def test_a_plan_of_several_workloads_asks_which(plan_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(plan_path), "--endpoint", "http://127.0.0.1:9"]) == 2
    assert "say with --workload which one is served: chat, mail" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["http://h:1/v1/", "http://h:1/v1", "http://h:1/v1/completions", "http://h:1/"])
def test_the_path_of_the_api_is_understood(given: str) -> None:
    assert endpoint_url(given) == "http://h:1"
    assert endpoint_url("https://h/team/chat/v1") == "https://h/team/chat"


@pytest.mark.parametrize(
    "given", ["h:8000", "ftp://h", "http://", "http://h:x", "http://h\n", "http://h /", "http://h:99999"]
)
def test_what_is_no_url_is_refused(given: str) -> None:
    with pytest.raises(EndpointError, match="is to be http"):
        endpoint_url(given)


@pytest.mark.parametrize("given", [f"http://me:{SECRET}@h", f"http://h/?key={SECRET}", f"http://h/#{SECRET}"])
def test_a_key_in_the_url_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(EndpointError, match="MUXPLAN_API_KEY") as caught:
        endpoint_url(given)
    assert SECRET not in str(caught.value)


def test_keys() -> None:
    assert key_of({}) is None
    assert key_of({"OPENAI_API_KEY": "b"}) == "b"
    assert key_of({"MUXPLAN_API_KEY": " a\n", "OPENAI_API_KEY": "b"}) == "a"
    with pytest.raises(EndpointError, match="OPENAI_API_KEY") as caught:
        key_of({"OPENAI_API_KEY": f"{SECRET}\r\nX-Other: 1"})
    assert SECRET not in str(caught.value)


def test_the_key_is_in_no_representation() -> None:
    assert SECRET not in repr(check_endpoint.Endpoint(url="http://h", api_key=SECRET))
    assert SECRET not in repr(Target(url="http://h", model="m", api_key=SECRET))
