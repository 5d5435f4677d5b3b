"""Clouds through the node with a real rclpy: its own process, real messages. Skipped where rclpy is missing."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 installation to run these tests")
pytestmark = [pytest.mark.ros, pytest.mark.slow]

from ros_clouds import plain, street  # noqa: E402
from ros_harness import OK, REMAP, ROOT, WARN, Peer, to_message, wait_for  # noqa: E402

from kd_seg.serving.labeller import Labeller  # noqa: E402
from kd_seg.serving.parameters import InputSettings  # noqa: E402
from kd_seg.serving.segmenter import Segmenter  # noqa: E402


def clouds(count: int) -> list[Any]:
    """Scans with ascending stamps, the second with a nanosec that drivers write and no clock has."""
    data = Path(os.environ.get("KD_SEG_REAL_DATA", ROOT.parent / "shared" / "data" / "semantic_kitti_mini"))
    files = sorted(data.glob("sequences/*/velodyne/*.bin"))[:count]
    made = [street(2000, k, sec=1000 + k, nanosec=1_000_000_000 if k == 1 else k) for k in range(count)]
    for cloud, file in zip(made, files, strict=False):
        points = np.fromfile(file, "<f4").reshape(-1, 4)[::8]
        points[:, 3] *= 255
        rows = np.zeros((len(points), 22), np.uint8)
        rows[:, :16] = points.view(np.uint8)
        cloud.data, cloud.width, cloud.row_step = rows.reshape(-1), len(points), 22 * len(points)
    return made


def test_scans_at_10_hz_come_back_labelled_in_order(start: Any, peer: Peer, checkpoint: Path, tmp_path: Path) -> None:
    node = start(*REMAP, checkpoint=checkpoint, autostart=True)
    segmentation, view, filtered = (peer.listen(f"output/{n}") for n in ("segmentation", "visualization", "filtered"))
    total, latency, cyclic = (
        peer.times(n) for n in ("processing_time/total_ms", "pipeline_latency_ms", "cyclic_time_ms")
    )
    publisher = peer.publisher(reliable=True)  # what the transport loses is not the subject
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    wait_for(lambda: peer.status("input")[2].get("reliability") == "reliable", 20, "reliable subscription")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)
    sent = clouds(25)
    for cloud in sent:
        publisher.publish(to_message(cloud))
        time.sleep(0.1)
    wait_for(lambda: peer.counters()["received"] == 25 and peer.counters()["in_flight"] == 0, 60, "an end")
    total_counts = peer.counters()
    assert total_counts["published"] + total_counts["dropped"] == 25
    assert total_counts["rejected"] == 0
    newest = sent[-1].header.stamp.sec
    wait_for(lambda: segmentation and segmentation[-1].header.stamp.sec == newest, 10, "the newest cloud's answer")
    # Outputs keep one cloud, so that a subscriber that is not let run misses some.
    assert total_counts["published"] // 2 <= len(segmentation) <= total_counts["published"]
    stamps = [answer.header.stamp.sec for answer in segmentation]
    assert stamps == sorted(stamps)
    assert stamps[-1] == newest, "the newest cloud is always served"
    labeller = Labeller(Segmenter(checkpoint, "cpu", num_threads=1))
    for answer in segmentation:
        cloud = sent[answer.header.stamp.sec - 1000]
        expected = labeller.label(cloud, InputSettings().sensor).segmentation
        assert bytes(answer.data) == expected.data.tobytes()
        assert (answer.header.stamp.sec, answer.header.stamp.nanosec) == (
            cloud.header.stamp.sec,
            cloud.header.stamp.nanosec,
        )
        assert answer.header.frame_id == "lidar"
        assert [(f.name, f.offset, f.datatype, f.count) for f in answer.fields] == [
            (f.name, f.offset, f.datatype, f.count) for f in expected.fields
        ]
        assert (answer.height, answer.width, answer.point_step, answer.row_step, answer.is_dense) == (
            1,
            cloud.width,
            24,
            24 * cloud.width,
            expected.is_dense,
        )
    assert min(len(view), len(filtered)) >= len(segmentation) // 2
    assert view[0].fields[3].name == "rgb"
    assert filtered[0].point_step == 22
    assert min(len(total), len(latency), len(cyclic) + 1) >= len(segmentation) // 2
    late = peer.label_text()
    wait_for(lambda: late, 10, "latched labels for a late subscriber")
    assert json.loads(late[0].data)["invalid"] == 255
    level, message, values = peer.status("model")
    assert (level, values["classes"], values["device"]) == (WARN, "19", "cpu")
    assert "running on the CPU" in message
    assert peer.status("input")[2]["layout"].startswith("x:<f4@0")
    assert node.stop() == 0
    assert "Traceback" not in node.text
    assert f"received 25, published {total_counts['published']}" in node.text


def test_label_info_of_vision_msgs(start: Any, peer: Peer, checkpoint: Path) -> None:
    label_info = pytest.importorskip("vision_msgs.msg", reason="vision_msgs is not installed").LabelInfo
    start(*REMAP, checkpoint=checkpoint, autostart=True)
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    box = peer.listen("label_info", label_info, latched=True)
    wait_for(lambda: box, 10, "label info")
    assert (box[0].class_map[-1].class_id, box[0].class_map[-1].class_name, len(box[0].class_map)) == (
        255,
        "invalid",
        20,
    )


@pytest.mark.parametrize("reliable_input", [False, True])
@pytest.mark.parametrize("reliable_driver", [False, True])
def test_qos_matching(start: Any, peer: Peer, checkpoint: Path, reliable_input: bool, reliable_driver: bool) -> None:
    node = start(*REMAP, checkpoint=checkpoint, autostart=True, input_reliable=reliable_input)
    best_effort, reliable = peer.listen("output/segmentation"), peer.listen("output/segmentation", reliable=False)
    assert best_effort is reliable
    publisher = peer.publisher(reliable=reliable_driver)
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    for _ in range(20):
        publisher.publish(to_message(street(300)))
        time.sleep(0.1)
    if reliable_input and not reliable_driver:
        assert "incompatible RELIABILITY policy" in wait_for(
            lambda: node.text if "incompatible" in node.text else "", 5, "warning"
        )
        assert not best_effort
    else:
        assert len(best_effort) >= 10


def test_bad_clouds_are_counted_and_survived(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start(*REMAP, checkpoint=checkpoint, autostart=True)
    answers, publisher = peer.listen("output/segmentation"), peer.publisher(reliable=True)
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)
    short, nameless, zero, empty = plain(50), plain(50), plain(50), plain(50)
    short.data = short.data[:9]
    nameless.fields = []
    zero.data = np.zeros(50 * 22, np.uint8)
    empty.height = empty.width = 0
    empty.data, empty.fields = b"", []
    for cloud in (short, nameless, street(500), short, zero, empty):
        publisher.publish(to_message(cloud))
        time.sleep(0.3)
    wait_for(lambda: len(answers) == 3, 10, "answers")
    assert answers[2].width == 0
    assert set(np.frombuffer(bytes(answers[1].data), np.uint8).reshape(-1, 24)[:, 12]) == {255}
    wait_for(lambda: peer.counters()["received"] == 6, 5, "diagnostics")
    assert peer.counters() == {"received": 6, "published": 3, "dropped": 0, "rejected": 3, "in_flight": 0}
    values = peer.status("inference")[2]
    assert (values["rejected_truncated"], values["rejected_no_fields"]) == ("2", "1")
    assert node.text.count("data has 9 bytes, 1100 needed") == 1


def test_mismatch_is_said_once_with_the_fix(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start(*REMAP, "-p", "input.intensity_range:=unit", checkpoint=checkpoint, autostart=True)
    publisher, answers = peer.publisher(), peer.listen("output/segmentation")
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    while len(answers) < 26:
        publisher.publish(to_message(street(2000)))
        time.sleep(0.1)
    wait_for(lambda: "set input.intensity_range to byte" in peer.status("input")[1], 5, "warning")
    assert node.text.count("set input.intensity_range to byte") == 1
    assert peer.set(input__intensity_range="byte") == (True, "")
    publisher.publish(to_message(street(2000)))
    wait_for(lambda: peer.status("input")[0] == OK, 5, "good input")


def test_two_nodes_in_two_namespaces_share_nothing(start: Any, peer: Peer, checkpoint: Path) -> None:
    nodes = {
        side: start(
            "-r", f"__ns:=/{side}", "-r", f"~/input/points:=/{side}/points", checkpoint=checkpoint, autostart=True
        )
        for side in ("front", "rear")
    }
    for side in nodes:
        wait_for(lambda s=side: peer.diagnostics.get(f"{s}/segmentation: lifecycle", (9, ""))[1] == "active", 120, side)
    names = dict(peer.node.get_topic_names_and_types())
    own = {side: {n for n in names if n.startswith(f"/{side}/")} for side in nodes}
    shared = set(names) - own["front"] - own["rear"]
    assert shared <= {"/diagnostics", "/parameter_events", "/rosout"}
    front = peer.publisher("/front/points", reliable=True)
    wait_for(lambda: front.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)
    for _ in range(5):
        front.publish(to_message(street(500)))
        time.sleep(0.1)

    def received(side: str) -> str:
        return peer.diagnostics[f"{side}/segmentation: input"][2]["received"]

    wait_for(lambda: received("front") == "5", 10, "counts")
    assert received("rear") == "0"
    assert nodes["front"].stop() == 0
    assert nodes["rear"].process.poll() is None
    for node in nodes.values():
        node.stop()
        assert "in_flight 0" in node.text
