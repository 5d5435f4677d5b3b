"""The input follows its publishers and says what gets lost, with a real rclpy. Skipped where rclpy is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 installation to run these tests")
pytestmark = [pytest.mark.ros, pytest.mark.slow]

from patience import patience  # noqa: E402
from ros_clouds import street  # noqa: E402
from ros_harness import ERROR, OK, REMAP, ROOT, WARN, Peer, environment, to_message, wait_for  # noqa: E402


def send_until(peer: Peer, publisher: Any, answers: list[Any], count: int) -> None:
    """Publish at 10 Hz until ``count`` more answers came."""
    wanted = len(answers) + count
    until = time.monotonic() + 30 * patience()
    while len(answers) < wanted and time.monotonic() < until:
        publisher.publish(to_message(street(300)))
        time.sleep(0.1)
    assert len(answers) >= wanted


def test_a_good_start_and_an_input_that_follows_its_publishers(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start(*REMAP, checkpoint=checkpoint, autostart=True)
    answers = peer.listen("output/segmentation")
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    assert re.search(r"configured in \d+\.\d s: nano, cpu, 1 thread$", node.text, re.MULTILINE)
    assert "active: waiting for /points (best effort)" in node.text
    assert peer.status("lifecycle")[2]["pid"] == str(node.process.pid)
    reliable = peer.publisher(reliable=True)
    wait_for(lambda: "listening to /points (reliable): every publisher is reliable" in node.text, 10, "reliable input")
    send_until(peer, reliable, answers, 5)
    wait_for(lambda: peer.status("input")[2].get("reliability") == "reliable", 5, "reliability in diagnostics")
    best_effort = peer.publisher(reliable=False)
    wait_for(lambda: "listening to /points (best effort): a publisher is best effort" in node.text, 10, "best effort")
    send_until(peer, best_effort, answers, 5)
    peer.node.destroy_publisher(best_effort)
    wait_for(lambda: node.text.count("(reliable): every publisher is reliable") == 2, 10, "reliable input again")
    send_until(peer, reliable, answers, 5)
    assert "incompatible" not in node.text
    assert node.stop() == 0
    assert "in_flight 0" in node.text


def test_a_driver_that_is_there_first_is_heard_as_it_sends(start: Any, peer: Peer, checkpoint: Path) -> None:
    publisher = peer.publisher(reliable=True)
    node = start(*REMAP, checkpoint=checkpoint)
    wait_for(lambda: peer.status("lifecycle")[1] == "unconfigured", 60, "node")
    assert peer.change("configure")
    assert peer.change("activate")
    wait_for(lambda: "active: listening to /points (reliable)" in node.text, 5, "reliable input")
    send_until(peer, publisher, peer.listen("output/segmentation"), 3)


def test_silence_names_publishers_middleware_and_fix(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start(*REMAP, "-p", "input_timeout_s:=0.5", checkpoint=checkpoint, autostart=True)
    wait_for(lambda: peer.status("input")[0] == ERROR, 90, "silence")
    assert "it has no publisher; remap the input to the driver's topic" in peer.status("input")[1]
    peer.publisher()
    rmw = peer.status("lifecycle")[2]["rmw"]
    words = f"from 1 publisher (best effort) over {rmw}; "
    _, message, _ = wait_for(lambda: peer.status("input") if words in peer.status("input")[1] else None, 10, words)
    assert "or use a reliable driver with input_reliable:=true" in message
    time.sleep(2.0)
    lines = [line for line in node.text.splitlines() if "no input on /points" in line]
    assert [words in line for line in lines] == [False, True], "one log line for each fix, not one a second"


def test_clouds_missing_between_stamps_are_said(start: Any, peer: Peer, checkpoint: Path) -> None:
    start(*REMAP, checkpoint=checkpoint, autostart=True)
    publisher, answers = peer.publisher(), peer.listen("output/segmentation")
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)
    tenths = [k for k in range(60) if k % 3]
    for tenth in tenths:
        publisher.publish(to_message(street(300, sec=1000 + tenth // 10, nanosec=tenth % 10 * 100_000_000)))
        time.sleep(0.05)
    wait_for(lambda: "clouds are missing" in peer.status("input")[1], 5, "warning")
    assert peer.status("input")[0] == WARN
    assert int(peer.status("input")[2]["missing_by_stamps"]) >= 10
    assert answers


def test_slow_frames_are_forgotten_with_deactivation(start: Any, peer: Peer, checkpoint: Path) -> None:
    start(*REMAP, "-p", "max_processing_ms:=1.0", "-p", "max_delay_s:=0.5", checkpoint=checkpoint, autostart=True)
    publisher, answers = peer.publisher(), peer.listen("output/segmentation")
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    send_until(peer, publisher, answers, 15)
    level, _, _ = peer.status("inference")
    assert level in (WARN, ERROR)
    wait_for(lambda: peer.status("inference")[0] == OK, 5, "an end of the warning in silence")
    assert peer.change("deactivate")
    assert peer.change("activate")
    wait_for(lambda: peer.status("inference")[1] == "running", 5, "no memory of slow frames")


@pytest.mark.parametrize("reliable", [False, True])
def test_check_transport_of_small_clouds(reliable: bool) -> None:
    command = [sys.executable, "-m", "ros_nodes.measure.check_transport", "--megabytes", "0.02", "--clouds", "10"]
    command += ["--json", "--once", *(["--reliable"] if reliable else [])]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=120 * patience(), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found, sentence = done.stdout.strip().splitlines()
    (trial,) = json.loads(found)["trials"]
    assert (trial["sent"], trial["received"]) == (10, 10)
    assert sentence.startswith("This machine delivers clouds of 0.02 MB at 10 Hz over rmw_")


def test_check_transport_refuses_nonsense() -> None:
    command = [sys.executable, "-m", "ros_nodes.measure.check_transport", "--rate", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "must be above 0" in done.stderr
