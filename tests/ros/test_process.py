"""Starting, measuring and stopping the node's process, with a real rclpy. Skipped where rclpy is missing."""

from __future__ import annotations

import json
import os
import re
import signal
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
from ros_harness import REMAP, Peer, environment, to_message, wait_for  # noqa: E402

from ros_nodes.measure.latency import options  # noqa: E402
from ros_nodes.process import ONE_REQUEST_S  # noqa: E402


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["unconfigured", "warm-up", "active"])
def test_stop_signals(start: Any, peer: Peer, checkpoint: Path, number: int, moment: str) -> None:
    frames = 100 if moment == "warm-up" else 1
    points = 20_000 if moment == "warm-up" else 1000
    node = start(
        *REMAP, checkpoint=checkpoint, autostart=moment != "unconfigured", warmup_frames=frames, warmup_points=points
    )
    words = {"unconfigured": "unconfigured", "warm-up": "warming up", "active": "active"}[moment]
    wait_for(lambda: peer.status("lifecycle")[1] == words, 90, words)
    publisher = peer.publisher()
    if moment == "active":
        wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
        for _ in range(10):
            publisher.publish(to_message(street(3000)))
            time.sleep(0.02)
    if moment == "warm-up":
        time.sleep(5.0)
    began = time.monotonic()
    assert node.stop(number, 30) == 0
    # stop_timeout_s + 2 s, stretched where more processes than cores want to run.
    assert time.monotonic() - began < 7.0 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert "Traceback" not in node.text
    assert "in_flight 0" in node.text
    names = ("received", "published", "dropped", "rejected")
    found = {name: int(re.findall(rf"stopped: .*?{name} (\d+)", node.text)[0]) for name in names}
    assert found["received"] == found["published"] + found["dropped"] + found["rejected"]


def test_a_signal_that_comes_twice_is_one(start: Any, peer: Peer, checkpoint: Path) -> None:
    """A supervisor signals the whole group, and ros2 launch in it passes the signal on."""
    node = start(checkpoint=checkpoint, autostart=True)
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    node.process.send_signal(signal.SIGINT)
    assert node.stop(signal.SIGINT) == 0
    assert "in_flight 0" in node.text


SLOW_TO_CLOSE = """
import sys, time
from rclpy.node import Node
from ros_nodes.process import serve

class Slow(Node):
    exit_code = None

    def __init__(self, stop):
        super().__init__("slow")
        print("ready", flush=True)

    def close(self):
        print("closing", flush=True)
        time.sleep(100)

sys.exit(serve(Slow, None))
"""


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_later_second_signal_ends_at_once(second: int) -> None:
    """A node that takes its time over the end outlives two signals within a second, and none after that."""
    command = [sys.executable, "-c", SLOW_TO_CLOSE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "closing\n"
            time.sleep(1.5 * ONE_REQUEST_S)
            assert process.poll() is None
            process.send_signal(second)
            assert process.wait(10 * patience()) == 130
        finally:
            process.kill()


def test_exit_codes(start: Any, checkpoint: Path, tmp_path: Path) -> None:
    wrong_type = start(max_processing_ms=100)
    out_of_range = start(qos_depth=1000)
    wrong_choice = start(device="gpu")
    failing = start(checkpoint="/nowhere.safetensors", autostart=True, exit_on_autostart_failure=True)
    for node in (wrong_type, out_of_range, wrong_choice):
        assert node.process.wait(90 * patience()) == 2
        assert "Traceback" not in node.text
        assert node.text.count("segmentation node: ") == 1
    assert "max_processing_ms" in wrong_type.text
    assert failing.process.wait(90 * patience()) == 3
    assert "does not exist" in failing.text


def test_replay_latency_measures_a_node_of_its_own(checkpoint: Path) -> None:
    parameters = (f"checkpoint:={checkpoint}", "warmup_frames:=1", "warmup_points:=1000", "diagnostics_period_s:=0.2")
    command = [
        sys.executable,
        "-m",
        "ros_nodes.measure.latency",
        "--start",
        "--reliable",
        "--depth",
        "20",
        "--node",
        "/a/b",
    ]
    command += ["--rate", "10", "--duration", "3", "--points", "2000"]
    command += [part for parameter in parameters for part in ("-p", parameter)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=180 * patience(), check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    end = report["end"]
    assert 25 <= report["sent"] == end["received"]
    assert (end["exit_code"], end["in_flight"], end["lost_before_the_node"]) == (0, 0, 0)
    assert end["every_received_cloud_accounted_for"]
    assert report["answered"] == end["published"] > 0
    times = {name: spread["p50"] for name, spread in report["node_ms"].items()}
    assert 0 < times["publish"] < times["outside_network"] < times["total"] <= times["since_reception"]
    assert times["network"] < times["total"]
    assert report["first_frame"]["ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--params-file", "/nothing/here.yaml"], "params file: '--params-file /nothing/here.yaml'"),
        (["--log-level", "nonsense"], "log level: '--log-level nonsense'"),
    ],
)
def test_a_command_line_that_ros_refuses_is_one_sentence(arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "ros_nodes.segmentation_node", "--ros-args", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("segmentation node: "))
    assert said in line
    assert ".c:" not in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--rate", "--duration", "--speed", "--points", "--depth"])
def test_a_measurement_of_nothing_is_a_wrong_call(option: str) -> None:
    with pytest.raises(SystemExit) as stop:
        options([option, "0"])
    assert stop.value.code == 2
