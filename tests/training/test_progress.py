"""How far a run is: its length by steps, epochs or the clock, and Ctrl-C at each of its stages."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kd_seg.training.config import RunSettings
from kd_seg.training.interrupts import Interrupts
from kd_seg.training.progress import BY_THE_CLOCK, RunProgress


def plan(scans: int, per_step: int, **length: float) -> RunProgress:
    return RunProgress.plan(RunSettings(folder="unused", **length), scans, per_step)


@given(st.integers(1, 400), st.integers(1, 64), st.integers(1, 9))
def test_epochs_see_each_scan_as_often_as_asked_up_to_half_a_step(scans: int, per_step: int, epochs: int) -> None:
    made = plan(scans, per_step, epochs=epochs)
    assert abs(made.total * per_step - epochs * scans) <= max(per_step / 2, per_step - epochs * scans)
    assert made.epoch_steps == max(1, scans // per_step)


def test_steps_and_minutes_decide_alone() -> None:
    assert plan(100, 4, steps=7).total == 7
    by_clock = plan(100, 4, minutes=2.0)
    assert by_clock.total == BY_THE_CLOCK
    assert by_clock.minutes == 2.0


def test_a_run_by_steps_ends_with_its_last_step_however_long_it_takes() -> None:
    made = plan(10, 2, steps=4)
    shares = []
    while not made.done:
        shares.append(made.share)
        made.step, made.spent = made.step + 1, made.spent + 1e6
    assert shares == [0.0, 0.25, 0.5, 0.75]
    assert (made.step, made.share) == (4, 1.0)


def test_a_run_by_the_clock_ends_with_its_time_however_many_steps_it_does() -> None:
    made = plan(10, 2, minutes=1.0)
    made.step = 10**6
    made.spent = 59.9
    assert not made.done
    assert made.share == pytest.approx(59.9 / 60)
    made.spent = 75.0
    assert made.done
    assert made.share == 1.0


def test_epochs_end_after_whole_epochs_and_objectives_are_told_where() -> None:
    made = plan(12, 4, steps=9)
    student, ends, epochs = nn.Linear(1, 1), [], []
    for step in range(1, 10):
        made.step = step
        if made.ends_epoch:
            ends.append(step)
        told = made.place(student)
        assert (told.number, told.total, told.student, told.progress) == (step, 9, student, step / 9)
        epochs.append(told.epoch)
    assert ends == [3, 6, 9]
    assert epochs == [0, 0, 1, 1, 1, 2, 2, 2, 3]


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_within_a_step_the_first_press_waits_and_the_second_does_not() -> None:
    with Interrupts() as interrupts:
        press()
        done = "the rest of the step"
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            press()
    assert done


def test_while_files_are_written_no_press_is_raised_but_none_is_forgotten() -> None:
    with Interrupts() as interrupts:
        with interrupts.during("write"):
            for _ in range(4):
                press()
        assert interrupts.count == 4
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_while_nothing_changes_the_first_press_is_raised_and_the_mode_returns() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.during("wait"):
            press()
        assert interrupts.mode == "step"


def test_without_a_press_nothing_is_raised_and_the_handler_returns() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert signal.getsignal(signal.SIGINT) != before
        interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_holds_nothing_back() -> None:
    found = []

    def work() -> None:
        before = signal.getsignal(signal.SIGINT)
        with Interrupts() as interrupts:
            found.append(signal.getsignal(signal.SIGINT) is before)
            interrupts.check()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [True]
