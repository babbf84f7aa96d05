import threading

import pytest

from planner.progress import Progress
from profiles.errors import PlanningError
from ui.jobs import Job

WAIT_S = 20.0


def test_a_job_gives_its_result_and_its_lines() -> None:
    job: Job[int] = Job(what="counting")

    def work(progress: Progress, _cancelled: object) -> int:
        progress.say("one")
        return 1

    job.start(work, threading.BoundedSemaphore(1))
    assert job.wait(WAIT_S)
    assert (job.result, job.error, job.lines[-1]) == (1, None, "one")


def test_bad_input_is_one_sentence() -> None:
    job: Job[int] = Job(what="planning")

    def work(_progress: Progress, _cancelled: object) -> int:
        raise PlanningError("line 3: no")

    job.start(work, threading.BoundedSemaphore(1))
    assert job.wait(WAIT_S)
    assert job.error == "line 3: no"


def test_a_job_waits_for_its_turn_and_stops_while_it_waits() -> None:
    turns = threading.BoundedSemaphore(1)
    go = threading.Event()
    first: Job[bool] = Job(what="first")
    second: Job[bool] = Job(what="second")
    first.start(lambda _p, _c: go.wait(WAIT_S), turns)
    second.start(lambda _p, _c: True, turns)
    assert not second.wait(0.05)
    second.stop()
    go.set()
    assert first.wait(WAIT_S) and second.wait(WAIT_S)
    assert first.result is True
    assert second.result is None


def test_work_sees_that_it_is_to_stop() -> None:
    job: Job[bool] = Job(what="waiting")
    begun = threading.Event()

    def work(_progress: Progress, cancelled: object) -> bool:
        begun.set()
        while not cancelled():  # type: ignore[operator]
            pass
        return True

    job.start(work, threading.BoundedSemaphore(1))
    assert begun.wait(WAIT_S)
    job.stop()
    assert job.wait(WAIT_S)
    assert job.result is True


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_ours_is_told_and_not_swallowed() -> None:
    job: Job[int] = Job(what="planning")
    job.start(lambda _p, _c: 1 // 0, threading.BoundedSemaphore(1))
    assert job.wait(WAIT_S)
    assert job.error is not None and "ZeroDivisionError" in job.error
