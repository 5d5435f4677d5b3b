"""Diagnostics as plain data: levels, sentences, speed."""

from __future__ import annotations

from typing import Any

import pytest

from ros_nodes.health import Life, Model, Snapshot, report
from ros_nodes.input_health import ERROR, OK, WARN, Input, Thresholds
from ros_nodes.losses import Losses
from ros_nodes.mailbox import Counts
from ros_nodes.stopwatch import Frame, Stopwatch, Times
from ros_nodes.transport import Link

FAST, CYCLONE = "rmw_fastrtps_cpp", "rmw_cyclonedds_cpp"
BEST_EFFORT = Link(FAST, (False,), False, 2_700_000)


def source(silent_s: float = 0.05, link: Link = BEST_EFFORT, **changes: Any) -> Input:
    return Input("/points", link, rate_hz=10.0, last_age_s=0.01, silent_s=silent_s, **changes)


def snapshot(**changes: Any) -> Snapshot:
    base: dict[str, Any] = {
        "node": "front/segmentation",
        "life": life("active"),
        "input": source(),
        "counts": Counts(received=5, published=5),
        "before": Counts(),
        "times": Times(),
        "thresholds": Thresholds(),
        "model": Model({"classes": 19}, False),
        "now": 100.0,
    }
    return Snapshot(**(base | changes))


STALE_ONE, STALE_THREE = Counts(reasons=(("stale", 1),)), Counts(reasons=(("stale", 3),))
SLOW = (Frame(150.0, 1, 1, 1, 1),)


def levels(**changes: Any) -> dict[str, tuple[int, str]]:
    return {s.name.partition(": ")[2]: (s.level, s.message) for s in report(snapshot(**changes))}


def life(state: str = "active", error: str = "", warming_up: bool = False) -> Life:
    return Life(state, "", error, 1.0, "jazzy", "rmw", True, warming_up, 42, "car")


def test_diagnostics_are_well_named_and_good_by_default() -> None:
    statuses = report(snapshot())
    assert [s.name for s in statuses] == [
        f"front/segmentation: {t}" for t in ("lifecycle", "input", "inference", "model")
    ]
    assert all(s.level == OK for s in statuses)
    assert all(isinstance(v, str) for s in statuses for v in s.values.values())
    lifecycle, given, inference, _ = (s.values for s in statuses)
    assert (lifecycle["autostart"], lifecycle["pid"], lifecycle["host"]) == ("true", "42", "car")
    assert (given["publishers"], given["reliability"], given["cloud_mb"]) == ("1", "best effort", "2.7")
    assert inference["drop_ratio"] == "0"


@pytest.mark.parametrize(
    ("task", "level", "words", "changes"),
    [
        ("lifecycle", WARN, "unconfigured", {"life": life("unconfigured")}),
        ("lifecycle", WARN, "warming up", {"life": life("configuring", warming_up=True)}),
        ("lifecycle", ERROR, "configure failed", {"life": life("unconfigured", "configure failed: no file")}),
        ("lifecycle", OK, "inactive", {"life": life("inactive")}),
        ("input", ERROR, "no input on /points for 2.5 s: it has no publisher", {"input": source(2.5, Link(FAST))}),
        ("input", WARN, "no publisher on /points; remap", {"input": source(0.5, Link(FAST))}),
        ("input", WARN, "sensor appears", {"input": source(warnings=("sensor appears low",))}),
        ("input", OK, "not active", {"life": life("inactive"), "input": source(99.0)}),
        ("inference", WARN, "last frame took 150", {"times": Times(SLOW, 1.0, 99.0)}),
        ("inference", ERROR, "every frame of the last 3.0 s", {"times": Times(SLOW, 3.0, 99.9)}),
        ("inference", OK, "running", {"times": Times(SLOW, 3.0, 97.0)}),
        ("inference", OK, "running", {"times": Times(SLOW, 0.0, None)}),
        ("inference", WARN, "30 %", {"counts": Counts(drop_ratio=0.3)}),
        (
            "inference",
            WARN,
            "stale 2",
            {"counts": STALE_THREE, "before": STALE_ONE},
        ),
        ("inference", ERROR, "failed 5 times", {"counts": Counts(consecutive_errors=5)}),
        ("inference", OK, "not active", {"life": life("inactive"), "counts": Counts(drop_ratio=0.9)}),
        ("model", WARN, "CPU", {"model": Model({}, True)}),
        ("model", OK, "not configured", {"model": None}),
    ],
)
def test_diagnostic_levels(task: str, level: int, words: str, changes: dict[str, Any]) -> None:
    found, message = levels(**changes)[task]
    assert found == level
    assert words in message


@pytest.mark.parametrize(
    ("given", "level", "sentence"),
    [
        (
            source(losses=Losses(116, 136)),
            ERROR,
            "116 of 136 clouds were lost in transport from 1 publisher (best effort) over rmw_fastrtps_cpp, clouds of "
            "2.7 MB; give the driver's terminal the profile fastdds.xml, or use a reliable driver with "
            "input_reliable:=true",
        ),
        (source(losses=Losses(3, 300)), WARN, "3 of 300 clouds were lost in transport from 1 publisher"),
        (
            source(losses=Losses(3, 30), link=Link(CYCLONE, (False,))),
            WARN,
            "3 of 30 clouds were lost in transport from 1 publisher (best effort) over rmw_cyclonedds_cpp; raise "
            "net.core.rmem_max and give driver and node the profile cyclonedds.xml, or use a reliable driver with "
            "input_reliable:=true",
        ),
        (
            source(losses=Losses(3, 30), link=Link(FAST, (True,), True)),
            WARN,
            "3 of 30 clouds were lost in transport from 1 publisher (reliable) over rmw_fastrtps_cpp; give the "
            "computer less to do, or driver and node (qos_depth) longer queues",
        ),
        (
            source(losses=Losses(3, 30), link=Link(CYCLONE, (True,), True)),
            WARN,
            "3 of 30 clouds were lost in transport from 1 publisher (reliable) over rmw_cyclonedds_cpp; raise "
            "net.core.rmem_max and give driver and node the profile cyclonedds.xml, or give the computer less to do",
        ),
        (source(gaps=Losses(20, 60)), WARN, "by their stamps 20 of 60 clouds are missing from 1 publisher"),
        (source(gaps=Losses(5, 60)), OK, "receiving"),
        (
            source(20.5, Link(FAST, (False, True), True)),
            ERROR,
            "no input on /points for 20.5 s from 2 publishers (best effort and reliable) over rmw_fastrtps_cpp; a "
            "reliable input hears nothing from a best-effort driver: set input_reliable to auto",
        ),
        (
            source(20.5, Link(FAST, (True,), False)),
            ERROR,
            "no input on /points for 20.5 s from 1 publisher (reliable) over rmw_fastrtps_cpp; the driver is reliable: "
            "set input_reliable to auto",
        ),
        (
            source(20.5, Link(FAST, (True,), True)),
            ERROR,
            "no input on /points for 20.5 s from 1 publisher (reliable) over rmw_fastrtps_cpp; if the driver sends "
            "(its own log tells), check that driver and node share RMW_IMPLEMENTATION",
        ),
        (
            source(2.6, losses=Losses(24, 24)),
            ERROR,
            "no input on /points for 2.6 s: 24 of 24 clouds were lost in transport from 1 publisher (best effort) over "
            "rmw_fastrtps_cpp, clouds of 2.7 MB; give the driver's terminal the profile fastdds.xml",
        ),
        (
            source(20.5, Link("rmw_other", (False,))),
            ERROR,
            "no input on /points for 20.5 s from 1 publisher (best effort) over rmw_other; if the driver sends "
            "(its own log tells), use a reliable driver with input_reliable:=true",
        ),
    ],
)
def test_lost_clouds_are_said_with_the_fix(given: Input, level: int, sentence: str) -> None:
    found, message = levels(input=given)["input"]
    assert found == level
    assert message.startswith(sentence)


def test_an_old_rejection_warns_once() -> None:
    assert levels(counts=STALE_THREE, before=STALE_THREE)["inference"][0] == OK


def test_stopwatch_measures_runs_of_slow_frames() -> None:
    watch = Stopwatch()
    for now, total in ((1.0, 200.0), (2.0, 50.0), (3.0, 200.0), (4.0, 300.0)):
        watch.add(Frame(total, 0, 0, 0, 0), now, 100.0)
    assert (watch.times().slow_s, watch.times().last_at) == (1.0, 4.0)
    watch.restart()
    assert (watch.times().slow_s, watch.times().last_at) == (0.0, None)
    watch.add(Frame(300.0, 0, 0, 0, 0), 50.0, 100.0)
    assert watch.times().slow_s == 0.0
    for now in range(300):
        watch.add(Frame(1.0, 0, 0, 0, 0), now, 100.0)
    assert len(watch.times().frames) == 200
    assert watch.times().slow_s == 0.0


def test_a_slow_run_does_not_go_on_in_silence() -> None:
    watch = Stopwatch()
    for now in range(10):
        watch.add(Frame(150.0, 0, 0, 0, 0), float(now), 100.0)
    assert levels(times=watch.times(), now=9.5)["inference"][0] == ERROR
    assert levels(times=watch.times(), now=60.0)["inference"] == (OK, "running")
