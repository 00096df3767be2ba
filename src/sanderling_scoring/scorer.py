"""The one thread that runs the user's code, and the queue before it.

The rules this file keeps:
- `run()` is called on the thread that called `init()`, which is the main thread:
  TensorFlow 1 graphs, SQLite connections and event loops are bound to theirs.
- Every accepted job is answered exactly once, whatever the script does.
- The queue is bounded; when it is full, `submit` says so and nothing is kept.
- A `run()` past its limit is answered at once and then interrupted. Native code
  that holds on is interrupted when it returns to Python.
"""

from __future__ import annotations

import signal
import threading
import time
from queue import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from sanderling_scoring.answers import Answer
    from sanderling_scoring.http_parser import Request
    from sanderling_scoring.metrics import Metrics


class ScoringTimeout(BaseException):
    """Raised inside `run()` at its time limit; no Exception, so that scripts do not swallow it."""


class Job:
    """One call of run(). `deliver` is called once, on any thread, and must not block."""

    __slots__ = ("deliver", "is_answered", "request")

    def __init__(self, request: Request, deliver: Callable[[Answer], None]) -> None:
        self.request = request
        self.deliver = deliver
        self.is_answered = False


class Scorer:
    """Run jobs one after the other on the thread that calls `serve`."""

    def __init__(
        self,
        score: Callable[[Request], Answer],
        timed_out: Callable[[float], Answer],
        metrics: Metrics,
        *,
        timeout_s: float,
        max_waiting: int,
    ) -> None:
        self._score = score
        self._timed_out = timed_out
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._max_waiting = max_waiting
        self._jobs: SimpleQueue[Optional[Job]] = SimpleQueue()
        self._current: Optional[Job] = None
        self._started_at = 0.0
        self._thread: Optional[int] = None
        self._claiming = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many jobs wait for the one that runs."""
        return self._jobs.qsize()

    @property
    def is_stuck(self) -> bool:
        """Whether a run() is past its limit and has not come back."""
        job = self._current
        return job is not None and job.is_answered

    def submit(self, job: Job) -> bool:
        """Queue the job, or return False when the queue is full."""
        if self._jobs.qsize() >= self._max_waiting:
            return False
        self._jobs.put(job)
        return True

    def stop(self) -> None:
        """Let `serve` return when all jobs that were queued before are done."""
        self._jobs.put(None)

    def serve(self) -> None:
        """Run jobs until `stop`; the caller's thread must be the one that ran `init()`."""
        self._thread = threading.get_ident()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, self._interrupt)
        while True:
            try:
                job = self._jobs.get()
                if job is None:
                    return
                self._run(job)
            except ScoringTimeout:  # it came between run() and the end of _run
                self._current = None

    def expire(self, now: float) -> None:
        """Answer and interrupt a run() that is past its limit; called every tick, on another thread."""
        job = self._current
        if job is None or job.is_answered or now - self._started_at < self._timeout_s:
            return
        if self._claim(job):
            job.deliver(self._timed_out(now - self._started_at))
            thread = self._thread
            if thread is not None and thread == threading.main_thread().ident:
                signal.pthread_kill(thread, signal.SIGALRM)

    def _run(self, job: Job) -> None:
        self._started_at = time.monotonic()
        self._current = job
        try:
            answer = self._score(job.request)
        finally:
            self._current = None
        self._metrics.observe_run(time.monotonic() - self._started_at)
        if self._claim(job):
            job.deliver(answer)

    def _claim(self, job: Job) -> bool:
        """Return True to the one caller that may answer the job."""
        with self._claiming:
            if job.is_answered:
                return False
            job.is_answered = True
            return True

    def _interrupt(self, _number: int, _frame: object) -> None:
        # Runs on the main thread between two bytecodes, so what it sees is exact.
        if self.is_stuck:
            raise ScoringTimeout
