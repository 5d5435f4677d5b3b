"""What needs no ROS of the measuring tools: verdicts, process ids."""

from __future__ import annotations

import math

import pytest

from kd_seg.core.errors import UsageError
from ros_nodes.measure.check_transport import complaint
from ros_nodes.measure.started_node import node_pid
from ros_nodes.measure.verdict import Trial, lost_on_the_way, verdict

FAST = "rmw_fastrtps_cpp"


def trial(received: int, setting: str = "", failure: str = "") -> Trial:
    return Trial(setting, 50, received, 8.4 if received else math.nan, FAST, failure)


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        (
            [trial(49)],
            "This machine delivers clouds of 2.7 MB at 10 Hz over rmw_fastrtps_cpp: 49 of 50 arrived, 8.4 ms",
        ),
        (
            [trial(21), trial(50, "export A=b")],
            "This machine does not deliver clouds of 2.7 MB at 10 Hz over rmw_fastrtps_cpp (21 of 50 arrived); "
            "export A=b does it: 50 of 50 arrived.",
        ),
        (
            [trial(0, failure="no room"), trial(3, "x"), trial(50, "a reliable driver")],
            "This machine does not deliver clouds of 2.7 MB at 10 Hz over rmw_fastrtps_cpp (no room); "
            "a reliable driver does it: 50 of 50 arrived.",
        ),
        (
            [trial(10), trial(0, "the profile", "failed to increase socket receive buffer size"), trial(20, "y")],
            "(10 of 50 arrived); with the profile failed to increase socket receive buffer size; with y 20 of 50 "
            "arrived; run sudo sysctl -w net.core.rmem_max=2147483647 and measure again",
        ),
    ],
)
def test_verdict_in_one_sentence(trials: list[Trial], sentence: str) -> None:
    assert sentence in verdict(trials, 2.7, 10.0)
    assert trials[0].delivers == (trials[0].received >= 49)


def test_clouds_that_did_not_reach_the_node_are_said() -> None:
    assert lost_on_the_way(100, 98) is None
    assert lost_on_the_way(0, 0) is None
    sentence = lost_on_the_way(100, 2)
    assert sentence is not None
    assert sentence.startswith("98 of 100 clouds did not reach the node; ros2 run kd_seg check_transport")


def test_which_process_is_measured() -> None:
    told = {"pid": "42", "host": "car"}
    assert node_pid([], told, "car") == 42
    assert node_pid([7], told, "car") == 7
    assert node_pid([], told, "desk") == 0
    assert node_pid([], {}, "car") == 0
    with pytest.raises(UsageError, match=r"--pid got 2 processes \(7, 8\); give one, or leave it out"):
        node_pid([7, 8], told, "car")


def test_the_line_that_tells_why_a_process_ended() -> None:
    cyclone = (
        "1 [1] python: failed to increase socket receive buffer size to at least 10485760 bytes\nRCLError: no node\n"
    )
    assert "socket receive buffer" in complaint(cyclone)
    assert complaint("Traceback\n  File\nValueError: x\n\n") == "ValueError: x"
    assert complaint("") == ""
