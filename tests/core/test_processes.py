"""The process pool: every task once, progress in units of work, errors and killed processes told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kd_seg.core.errors import DataError, KdSegError
from kd_seg.core.processes import run_tasks


def setup(folder: Path) -> Callable[..., None]:
    (folder / f"setup_{os.getpid()}").touch()
    return partial(work, folder)


def work(folder: Path, number: int, units: int, advance: Callable[[int], None]) -> None:
    if units < 0:
        raise DataError(f"task {number} is wrong.")
    if units > 99:
        os.kill(os.getpid(), signal.SIGKILL)
    for _ in range(units):
        advance(1)
    (folder / f"task_{number}_{os.getpid()}").touch()


def names(folder: Path, start: str) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(start))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once_and_counted(tmp_path: Path, workers: int) -> None:
    told: list[int] = []
    run_tasks(partial(setup, tmp_path), [(n, n + 1) for n in range(5)], workers, told.append)
    assert [name.split("_")[1] for name in names(tmp_path, "task_")] == list("01234")
    assert sum(told) == 15
    here = [name.endswith(f"_{os.getpid()}") for name in names(tmp_path, "task_")]
    assert all(here) if workers == 1 else not any(here)
    assert 1 <= len(names(tmp_path, "setup_")) <= workers


def test_nothing_is_set_up_for_no_task(tmp_path: Path) -> None:
    run_tasks(partial(setup, tmp_path), [], 2, lambda count: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_arrives(tmp_path: Path, workers: int) -> None:
    with pytest.raises(DataError, match="task 1 is wrong"):
        run_tasks(partial(setup, tmp_path), [(0, 1), (1, -1), (2, 1)], workers, lambda count: None)


def test_a_killed_process_has_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(KdSegError, match="fewer processes"):
        run_tasks(partial(setup, tmp_path), [(0, 100), (1, 100)], 2, lambda count: None)
