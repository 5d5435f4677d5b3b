"""Lifecycle and parameters of the node by real services, with a real rclpy. Skipped where rclpy is missing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 installation to run these tests")
pytestmark = [pytest.mark.ros, pytest.mark.slow]

from ros_clouds import street  # noqa: E402
from ros_harness import ERROR, OK, REMAP, WARN, Peer, to_message, wait_for  # noqa: E402


def test_lifecycle_and_parameters_by_service(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start(*REMAP, checkpoint=checkpoint)
    wait_for(lambda: peer.status("lifecycle")[1] == "unconfigured", 60, "node")
    assert peer.status("lifecycle")[0] == WARN
    for illegal in ("activate", "deactivate", "cleanup", "nonsense"):
        assert not peer.change(illegal)
    assert peer.set(qos_depth=3) == (True, "")
    assert peer.change("configure")
    assert peer.state() == "inactive"
    assert peer.status("inference")[1] in ("not active", "")
    assert peer.set(qos_depth=4) == (False, "qos_depth: set while unconfigured")
    assert peer.change("activate")
    publisher, answers = peer.publisher(), peer.listen("output/segmentation")
    filtered = peer.listen("output/filtered")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)

    def send(count: int = 5) -> None:
        for _ in range(count):
            publisher.publish(to_message(street(500, 1)))
            time.sleep(0.1)

    send()
    wait_for(lambda: len(answers) >= 4, 10, "answers")
    assert peer.set(filter__classes=["dog"])[0] is False
    assert "has 'dog', which the checkpoint lacks; it has: car" in peer.set(filter__classes=["dog"])[1]
    ok, why = peer.set(max_processing_ms=100)
    assert not ok
    assert "max_processing_ms" in why or "type" in why.lower()
    assert not peer.set(input__intensity_range="bytes")[0]
    assert not peer.set(input__z_offset_m=11.0)[0]
    assert not peer.set(input__max_age_s=-1.0)[0]
    from collections import Counter

    row = np.frombuffer(bytes(answers[-1].data), np.uint8).reshape(-1, 24)
    peer.label_text()
    names = json.loads(_label(peer))["classes"]
    most, _ = Counter(row[:, 12][row[:, 12] != 255].tolist()).most_common(1)[0]
    kept = int(((row[:, 12] != most) & (row[:, 12] != 255)).sum())
    assert peer.set(filter__classes=[names[most]["name"]]) == (True, "")
    send()
    wait_for(lambda: filtered and filtered[-1].width == kept, 10, "filtered cloud")
    assert peer.set(input__z_offset_m=9.5) == (True, "")
    before = bytes(answers[-1].data)
    send()
    wait_for(lambda: bytes(answers[-1].data) != before, 10, "an effect of the offset")
    after = np.frombuffer(bytes(answers[-1].data), np.uint8).reshape(-1, 24)
    np.testing.assert_array_equal(after[:, :12], row[:, :12])
    assert peer.change("deactivate")
    count = len(answers)
    send(3)
    assert len(answers) == count
    assert peer.change("activate")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)
    send()
    wait_for(lambda: len(answers) > count, 10, "answers after reactivation")
    total = peer.counters()
    assert total["received"] >= count
    assert peer.change("deactivate")
    assert peer.change("cleanup")
    assert peer.state() == "unconfigured"
    assert peer.change("shutdown")
    assert peer.state() == "finalized"
    assert node.stop() == 0
    assert "is not possible in state unconfigured" in node.text
    assert "Traceback" not in node.text


def _label(peer: Peer) -> str:
    box = peer.received["/segmentation/label_info_json"]
    return str(wait_for(lambda: box, 10, "labels")[0].data)


def test_broken_checkpoints_can_be_mended_without_a_restart(
    start: Any, peer: Peer, checkpoint: Path, tmp_path: Path
) -> None:
    missing, cut = tmp_path / "missing.safetensors", tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:1000])
    node = start(*REMAP, checkpoint=missing)
    wait_for(lambda: peer.status("lifecycle")[0] == WARN, 60, "node")
    assert not peer.change("configure")
    level, message, values = wait_for(
        lambda: peer.status("lifecycle") if peer.status("lifecycle")[0] == ERROR else None, 5, "error"
    )
    assert level == ERROR
    assert f"configure failed: Checkpoint {missing} does not exist" in message
    assert values["last_error"] == message
    assert peer.state() == "unconfigured"
    for name, value, words in (
        ("checkpoint", str(cut), "not a readable .safetensors file"),
        ("device", "cuda:0", "device cuda:0 requested, no CUDA device found"),
    ):
        if name == "device":
            assert peer.set(checkpoint=str(checkpoint))[0]
        assert peer.set(**{name: value})[0]
        assert not peer.change("configure")
        wait_for(lambda w=words: w in peer.status("lifecycle")[1], 5, words)
    assert peer.set(device="cpu", filter__classes=["dog"])[0]
    assert not peer.change("configure")
    wait_for(lambda: "has 'dog'" in peer.status("lifecycle")[1], 5, "unknown class")
    assert peer.set(filter__classes=[""])[0]
    assert peer.change("configure")
    wait_for(lambda: peer.status("lifecycle")[:2] == (OK, "inactive"), 5, "good state")
    assert node.stop() == 0
    assert "Traceback" not in node.text


def test_unknown_parameters_are_named_once(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start("-p", "auto_start:=true", "-p", "input.intensity.scale:=1.0", checkpoint=checkpoint)
    wait_for(lambda: peer.status("lifecycle")[1] == "unconfigured", 60, "node")
    assert node.text.count("unknown parameters are ignored: auto_start, input.intensity.scale") == 1


def test_threads_and_period_can_be_changed_back(start: Any, peer: Peer, checkpoint: Path) -> None:
    start(*REMAP, "-p", "warmup_frames:=0", "-p", "diagnostics_period_s:=0.2", checkpoint=checkpoint)
    wait_for(lambda: peer.status("lifecycle")[1] == "unconfigured", 60, "node")
    assert peer.change("configure")
    all_threads = wait_for(lambda: peer.status("model")[2].get("threads"), 10, "diagnostics")
    for asked, threads in ((3, "3"), (0, all_threads)):
        assert peer.change("cleanup")
        assert peer.set(num_threads=asked) == (True, "")
        assert peer.change("configure")
        wait_for(lambda wanted=threads: peer.status("model")[2].get("threads") == wanted, 10, f"{threads} threads")
    assert peer.set(diagnostics_period_s=60.0) == (True, "")
    time.sleep(1.5)
    assert peer.set(diagnostics_period_s=0.2) == (True, "")
    uptime = float(peer.status("lifecycle")[2]["uptime_s"])
    wait_for(lambda: float(peer.status("lifecycle")[2]["uptime_s"]) > uptime, 10, "diagnostics within the new period")


def test_a_hundred_configure_and_cleanup_cycles_do_not_grow(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start(*REMAP, checkpoint=checkpoint, warmup_frames=0)
    wait_for(lambda: peer.status("lifecycle")[1] == "unconfigured", 60, "node")
    process = psutil.Process(node.process.pid)
    sizes, handles = [], []
    for _ in range(100):
        assert peer.change("configure")
        assert peer.change("cleanup")
        sizes.append(process.memory_info().rss / 2**20)
        handles.append(process.num_fds())
    print(
        f"RSS MiB at cycle 10, 50, 100: {sizes[9]:.1f} {sizes[49]:.1f} {sizes[99]:.1f}; fds {handles[9]} {handles[99]}"
    )
    assert sizes[99] < 1.05 * sizes[9]
    assert handles[99] <= handles[9] + 2
