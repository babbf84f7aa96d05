"""Long work in a thread of its own, so that a page answers meanwhile and can stop it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from planner.progress import AbandonedError, Progress
from profiles.errors import PlanningError

MOST_LINES = 200
SOON_S = 0.02
Result = TypeVar("Result")
Work = Callable[[Progress, Callable[[], bool]], Result]


@dataclass(slots=True, kw_only=True)
class Job(Generic[Result]):
    """One piece of work: its lines of progress, and in the end its result or one sentence on what was wrong."""

    what: str
    of: str = ""
    """What the work is about, so that a page knows whether the result answers its question."""
    lines: list[str] = field(default_factory=list)
    result: Result | None = None
    error: str | None = None
    progress: Progress = field(default_factory=Progress)
    wall_s: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _abandoned: threading.Event = field(default_factory=threading.Event)
    _started_s: float = field(default_factory=time.monotonic)
    _thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began, or that it took."""
        return time.monotonic() - self._started_s if self.wall_s is None else self.wall_s

    def stop(self) -> None:
        """Ask it to stop: what it has by then is its result."""
        self._stop.set()

    def wait_for_mix(self, timeout_s: float) -> None:
        """Wait until there is something to show: a mix, or the end."""
        end_s = time.monotonic() + timeout_s
        while self.running and self.progress.mix is None and time.monotonic() < end_s:
            self.wait(SOON_S)

    def abandon(self) -> None:
        """Drop it: nobody asks for its result."""
        self._abandoned.set()
        self._stop.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; whether it came."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.running

    def start(self, work: Work[Result], turns: threading.Semaphore) -> None:
        """Begin, once one of the turns that all sessions share is free."""
        self._thread = threading.Thread(target=self._run, args=(work, turns), name=self.what, daemon=True)
        self._thread.start()

    def _run(self, work: Work[Result], turns: threading.Semaphore) -> None:
        try:
            with turns:
                if not self._stop.is_set():
                    self._say("reading the catalogue")
                    self.progress.say, self.progress.abandoned = self._say, self._abandoned.is_set
                    self.result = work(self.progress, self._stop.is_set)
        except AbandonedError:
            return
        except PlanningError as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"{self.what} failed inside muxplan ({type(error).__name__}: {str(error)[:200]})."
            raise
        finally:
            self.wall_s = time.monotonic() - self._started_s

    def _say(self, line: str) -> None:
        self.lines.append(line)
        del self.lines[:-MOST_LINES]
