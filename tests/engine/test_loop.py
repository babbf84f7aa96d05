"""The loop on this machine's own cores: tiny models, their measured steps, a plan, its export, and the check of it."""

import json
from pathlib import Path
from typing import Any

import yaml

from planner.runtime.environment import EngineEnvironment
from tests.engine.pair import SPEC, engines_running, muxplan, on_one_core, two_free_ports

WORKER_STEP = 0.20
TPOT = 0.40
ATTAINMENT = 0.10


def checked(planned: Path, environment: EngineEnvironment) -> dict[str, Any]:
    done = muxplan(
        planned,
        environment.python,
        *("check", "plan.yaml", "-o", "check.json", "--duration", "15", "--windows", "3", "--remeasure", "--json"),
        *("--tolerance", str(TPOT), "--first-port", str(two_free_ports())),
    )
    assert done.returncode in (0, 1) and done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found == json.loads((planned / "check.json").read_text())
    assert found["ended"] is None, found["ended"]
    return found


def timing_faults(found: dict[str, Any]) -> list[str]:
    """What was off by more than the machine's noise allows, against the steps measured between the windows: what else
    runs on the cores then falls on both.
    """
    faults = []
    for name, one in found["workloads"].items():
        errors = one["remeasured"]["error_fraction"]
        if abs(errors["tpot_ms"]) > TPOT or abs(errors["attainment"]) > ATTAINMENT:
            faults.append(f"{name}: {errors}")
    for name, group in found["groups"].items():
        ratio = group["worker_step_ms_measured"] / group["worker_step_ms_remeasured"]
        if abs(ratio - 1) > WORKER_STEP:
            faults.append(f"{name}: worker {ratio - 1:+.0%}")
    return faults


def test_a_plan_holds_on_the_engine(planned: Path, environment: EngineEnvironment) -> None:
    found = checked(planned, environment)
    faults = timing_faults(found)
    if faults:
        # Something else may have run on the cores: a wrong law is wrong twice.
        found = checked(planned, environment)
        assert not timing_faults(found), (faults, timing_faults(found))
    assert {name: one["requests"] > 20 for name, one in found["workloads"].items()} == {"talk": True, "write": True}
    for group in found["groups"].values():
        assert group["kv_tokens_measured"] == group["kv_tokens_predicted"] > 0
    assert engines_running(planned) == []


def test_a_profile_that_is_twice_too_quick_is_found_out(planned: Path, environment: EngineEnvironment) -> None:
    profile_of_half = yaml.safe_load((planned / "cpu.yaml").read_text())
    for steps in profile_of_half["steps"]:
        steps["step"]["linear_s"] = [s / 2 for s in steps["step"]["linear_s"]]
    wrong = planned / "wrong"
    wrong.mkdir()
    (wrong / "cpu.yaml").write_text(yaml.safe_dump(profile_of_half))
    (wrong / "pair.yaml").write_text(SPEC.replace("./talker", "../talker").replace("./writer", "../writer"))
    done = muxplan(wrong, environment.python, "plan", "pair.yaml", "-o", "plan.yaml")
    assert done.returncode == 0, done.stderr
    group = "write@cores/writer/fp32/tp1pp1ep1#0"
    done = muxplan(
        wrong,
        environment.python,
        *("check", "plan.yaml", "--duration", "15", "--group", group, "--first-port", str(two_free_ports())),
    )
    assert done.returncode == 1, done.stdout
    assert "did NOT hold" in done.stdout and "write: TPOT p50" in done.stdout
    assert "Not checked: talk@cores/talker/fp32/tp1pp1ep1#0" in done.stdout
    assert engines_running(planned) == []


def test_two_engines_on_one_core_slow_each_other(planned: Path, environment: EngineEnvironment) -> None:
    on_one_core(planned)
    words = ("check", "shared.plan.yaml", "--duration", "8", "--first-port", str(two_free_ports()), "--json")
    done = muxplan(planned, environment.python, *words)
    assert done.returncode in (0, 1) and done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["ended"] is None
    assert {name: group["slowdown"]["neighbours"] for name, group in found["groups"].items()} == {
        "both#0.0": ["both#0.1"],
        "both#0.1": ["both#0.0"],
    }
    for group in found["groups"].values():
        # A worker that waits takes its half of the core all the same.
        assert 1.05 < group["slowdown"]["tpot_factor"] < 6
