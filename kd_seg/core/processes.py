"""The one process pool: tasks side by side in fresh processes, progress counted per unit of work, Ctrl-C at once."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from kd_seg.core.errors import KdSegError
from kd_seg.core.progress import Advance

DoTask = Callable[..., None]
"""``do_task(*task, advance)`` does one task and tells how much of it is done."""

_POLL_S = 0.2
"""Seconds between two readings of what the processes have counted."""


def run_tasks(setup: Callable[[], DoTask], tasks: Sequence[tuple[Any, ...]], workers: int, advance: Advance) -> None:
    """Do every task, in this process or in several.

    Processes are spawned, never forked: a fork copies locked mutexes of thread pools and hangs. So a script that
    calls this needs the usual ``if __name__ == "__main__"``. Where a task fails or Ctrl-C comes, all are stopped.

    Args:
        setup: called once in each process; gives what does a task. It pickles, as do the tasks.
        tasks: arguments of each call.
        workers: processes; 1 = none but this one.
        advance: told what the tasks tell.

    Raises:
        KdSegError: a process was killed.
    """
    if not tasks:
        return
    if min(workers, len(tasks)) <= 1:
        do_task = setup()
        for task in tasks:
            do_task(*task, advance)
        return
    _run_in_processes(setup, tasks, min(workers, len(tasks)), advance)


def _run_in_processes(
    setup: Callable[[], DoTask], tasks: Sequence[tuple[Any, ...]], workers: int, advance: Advance
) -> None:
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_enter, initargs=(setup, counter))
    told = 0
    try:
        waiting = {pool.submit(_do, task) for task in tasks}
        while waiting:
            done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
            now = counter.value
            advance(now - told)
            told = now
            for future in done:
                future.result()
    except BrokenProcessPool:
        _stop(pool)
        raise KdSegError(
            "A worker process was killed, perhaps for want of memory; run the command again with fewer processes."
        ) from None
    except BaseException:
        _stop(pool)
        raise
    pool.shutdown()


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the processes now; they ignore Ctrl-C, and a task may last minutes."""
    processes = list(getattr(pool, "_processes", {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
        process.join()


_state: dict[str, Any] = {}
"""Of a worker process: what does a task, and the shared counter."""


def _enter(setup: Callable[[], DoTask], counter: Any) -> None:
    """First thing in a worker: leave Ctrl-C to the parent, take one thread, set up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "torch" in sys.modules:  # the processes share the cores
        sys.modules["torch"].set_num_threads(1)
    _state["counter"] = counter
    _state["do_task"] = setup()


def _do(task: tuple[Any, ...]) -> None:
    _state["do_task"](*task, _count)


def _count(done: int) -> None:
    with _state["counter"].get_lock():
        _state["counter"].value += done
