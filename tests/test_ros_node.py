"""The node with a real rclpy: its own process, real messages, real services. Skipped where rclpy is missing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 installation to run these tests")
pytestmark = [pytest.mark.ros, pytest.mark.slow]

from ros_clouds import plain, street, tiny_checkpoint  # noqa: E402
from ros_harness import ROOT, NodeProcess, Peer, environment, to_message, wait_for  # noqa: E402

from kd_seg.labelling import Labeller  # noqa: E402
from kd_seg.parameters import CloudSettings  # noqa: E402
from kd_seg.segmenter import Segmenter  # noqa: E402

REMAP = ("-r", "~/input/points:=/points")
OK, WARN, ERROR = 0, 1, 2


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(tmp_path_factory.mktemp("numba")))
    return tiny_checkpoint(tmp_path_factory.mktemp("ck") / "tiny.safetensors")  # type: ignore[no-any-return]


@pytest.fixture
def peer() -> Iterator[Peer]:
    one = Peer()
    yield one
    one.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    running: list[NodeProcess] = []

    def begin(*extra: str, **parameters: Any) -> NodeProcess:
        running.append(NodeProcess(tmp_path, *extra, name=f"node{len(running)}", **parameters))
        return running[-1]

    yield begin
    for node in running:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()


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


def counters(peer: Peer) -> dict[str, int]:
    values = {**peer.status("input")[2], **peer.status("inference")[2]}
    names = ("received", "published", "dropped", "rejected", "in_flight")
    return {name: int(values.get(name, -1)) for name in names}


def test_scans_at_10_hz_come_back_labelled_in_order(start: Any, peer: Peer, checkpoint: Path, tmp_path: Path) -> None:
    node = start(*REMAP, checkpoint=checkpoint, autostart=True)
    segmentation, view, filtered = (peer.listen(f"output/{n}") for n in ("segmentation", "visualization", "filtered"))
    total, latency, cyclic = (
        peer.times(n) for n in ("processing_time/total_ms", "pipeline_latency_ms", "cyclic_time_ms")
    )
    publisher = peer.publisher()
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)
    sent = clouds(25)
    for cloud in sent:
        publisher.publish(to_message(cloud))
        time.sleep(0.1)
    wait_for(lambda: counters(peer)["received"] == 25 and counters(peer)["in_flight"] == 0, 60, "an end")
    total_counts = counters(peer)
    assert total_counts["published"] + total_counts["dropped"] == 25
    assert total_counts["rejected"] == 0
    wait_for(lambda: len(segmentation) == total_counts["published"], 10, "all answers")
    stamps = [answer.header.stamp.sec for answer in segmentation]
    assert stamps == sorted(stamps)
    assert stamps[-1] == sent[-1].header.stamp.sec, "the newest cloud is always served"
    labeller = Labeller(Segmenter(checkpoint, "cpu", num_threads=1))
    for answer in segmentation:
        cloud = sent[answer.header.stamp.sec - 1000]
        expected = labeller.label(cloud, CloudSettings().sensor).segmentation
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
    assert min(len(view), len(filtered)) >= len(segmentation) - 1
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
    total = counters(peer)
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
    wait_for(lambda: counters(peer)["received"] == 6, 5, "diagnostics")
    assert counters(peer) == {"received": 6, "published": 3, "dropped": 0, "rejected": 3, "in_flight": 0}
    values = peer.status("inference")[2]
    assert (values["rejected_truncated"], values["rejected_no_fields"]) == ("2", "1")
    assert node.text.count("data has 9 bytes, 1100 needed") == 1


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


def test_a_signal_that_comes_twice_is_one_and_a_later_one_ends_at_once(
    start: Any, peer: Peer, checkpoint: Path
) -> None:
    """A supervisor signals the whole group, and ros2 launch in it passes the signal on."""
    node = start(checkpoint=checkpoint, autostart=True)
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 90, "active node")
    node.process.send_signal(signal.SIGINT)
    assert node.stop(signal.SIGINT) == 0
    assert "in_flight 0" in node.text
    # Between two frames of a long warm-up nothing can stop it, so the second signal finds it alive.
    busy = start(checkpoint=checkpoint, autostart=True, warmup_frames=3, warmup_points=2_000_000)
    wait_for(lambda: peer.status("lifecycle")[1] == "warming up", 90, "warm-up")
    time.sleep(3.0)
    busy.process.send_signal(signal.SIGTERM)
    time.sleep(1.5)
    if busy.process.poll() is None:
        assert busy.stop(signal.SIGTERM) == 130


def test_exit_codes(start: Any, checkpoint: Path, tmp_path: Path) -> None:
    wrong_type = start(max_processing_ms=100)
    out_of_range = start(qos_depth=1000)
    wrong_choice = start(device="gpu")
    failing = start(checkpoint="/nowhere.safetensors", autostart=True, exit_on_autostart_failure=True)
    for node in (wrong_type, out_of_range, wrong_choice):
        assert node.process.wait(90) == 2
        assert "Traceback" not in node.text
        assert node.text.count("segmentation node: ") == 1
    assert "max_processing_ms" in wrong_type.text
    assert failing.process.wait(90) == 3
    assert "does not exist" in failing.text


def test_unknown_parameters_are_named_once(start: Any, peer: Peer, checkpoint: Path) -> None:
    node = start("-p", "auto_start:=true", "-p", "input.intensity.scale:=1.0", checkpoint=checkpoint)
    wait_for(lambda: peer.status("lifecycle")[1] == "unconfigured", 60, "node")
    assert node.text.count("unknown parameters are ignored: auto_start, input.intensity.scale") == 1


def test_mismatch_is_said_once_with_the_mend(start: Any, peer: Peer, checkpoint: Path) -> None:
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


def test_replay_latency_measures_a_node_of_its_own(checkpoint: Path) -> None:
    parameters = (f"checkpoint:={checkpoint}", "warmup_frames:=1", "warmup_points:=1000", "diagnostics_period_s:=0.2")
    command = [sys.executable, "-m", "ros_nodes.latency", "--start", "--reliable", "--depth", "20", "--node", "/a/b"]
    command += ["--rate", "10", "--duration", "3", "--points", "2000"]
    command += [part for parameter in parameters for part in ("-p", parameter)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=180, check=False)
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
