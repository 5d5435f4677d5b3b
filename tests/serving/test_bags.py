from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ros_bags import START, packed, write_bag
from ros_clouds import FakeCloud, answers_of, plain, street, tiny_checkpoint

import kd_seg.serving.bags
from kd_seg.core.errors import DataError, UsageError
from kd_seg.serving.bag_io import CLOUD, PLUGINS, BagWriter, cloud_message, make_typestore, open_bag
from kd_seg.serving.bags import BagOptions, Tally, count_messages, label_bag
from kd_seg.serving.labeller import Labeller, label_info_json
from kd_seg.serving.parameters import InputSettings
from kd_seg.serving.postprocess import PointPredictions
from kd_seg.serving.segmenter import Segmenter


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("ck") / "tiny.safetensors")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> Segmenter:
    return Segmenter(checkpoint, "cpu", num_threads=1)


def streets(count: int, points: int = 300) -> list[FakeCloud]:
    return [street(points, k, sec=1_700_000_000 + k, nanosec=1_000_000_000 if k == 1 else k) for k in range(count)]


def read_mcap(path: Path) -> list[tuple[str, int, Any, bytes]]:
    """Topic, time, message and raw bytes, read by the mcap project's own readers."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    with open(path, "rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return [(c.topic, m.log_time, decoded, m.data) for _, c, m, decoded in reader.iter_decoded_messages()]


def expected_data(segmenter: Segmenter, cloud: FakeCloud) -> bytes:
    labelled = Labeller(segmenter).label(cloud, InputSettings().sensor)
    return labelled.segmentation.data.tobytes()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_label_and_read_back_with_an_independent_reader(tmp_path: Path, segmenter: Segmenter, storage: str) -> None:
    clouds = streets(4)
    source = write_bag(tmp_path / "in", clouds, storage)
    options = BagOptions(outputs=kd_seg.serving.bags.OUTPUTS, settings=InputSettings(filter_classes=("car",)))
    done: list[int] = []
    summary = label_bag(source, tmp_path / "out.mcap", segmenter, options, done.append)
    assert (summary["received"], summary["published"], summary["rejected"], summary["dropped"]) == (4, 4, 0, 0)
    assert summary["points"] == 1200
    assert sum(done) == count_messages(source, options) == 4
    assert not (tmp_path / "out.mcap.part").exists()
    messages = read_mcap(tmp_path / "out.mcap")
    topics = [topic for topic, *_ in messages]
    assert topics[:2] == ["/segmentation/label_info", "/segmentation/label_info_json"]
    for name in kd_seg.serving.bags.OUTPUTS:
        assert topics.count(f"/segmentation/output/{name}") == 4
    info, text = messages[0][2], messages[1][2]
    assert [(c.class_id, c.class_name) for c in info.class_map][:1] == [(0, "car")]
    assert (info.class_map[-1].class_id, info.class_map[-1].class_name) == (255, "invalid")
    assert text.data == label_info_json(segmenter)
    labelled = [m for m in messages if m[0] == "/segmentation/output/segmentation"]
    for number, (_, time_ns, message, _) in enumerate(labelled):
        assert time_ns == START + number * 10**8
        assert (message.header.stamp.sec, message.header.frame_id) == (1_700_000_000 + number, "lidar")
        assert message.header.stamp.nanosec == clouds[number].header.stamp.nanosec
        assert bytes(message.data) == expected_data(segmenter, clouds[number])
        assert [f.name for f in message.fields] == ["x", "y", "z", "class_id", "probability", "entropy"]
    view = next(m for m in messages if m[0].endswith("visualization"))[2]
    assert (view.point_step, view.width) == (16, 300)
    filtered = next(m for m in messages if m[0].endswith("filtered"))[2]
    class_id = np.frombuffer(labelled[0][3], np.uint8)[-300 * 24 - 4 :]
    assert filtered.point_step == 22
    assert filtered.width <= 300
    assert len(class_id)


@pytest.mark.parametrize("name", ["out", "out.db3", "out.mcap"])
def test_every_kind_of_output_plays_in_rosbags(tmp_path: Path, segmenter: Segmenter, name: str) -> None:
    source = write_bag(tmp_path / "in", streets(2))
    out = tmp_path / name
    label_bag(source, out, segmenter)
    assert out.is_dir() == (name == "out")
    if out.is_dir():
        assert {p.suffix for p in out.iterdir()} == {".mcap", ".yaml"}
        metadata = (out / "metadata.yaml").read_text()
        assert "version: 8" in metadata
        assert "- out.mcap" in metadata
    with open_bag(out) as reader:
        assert reader.topics["/segmentation/output/segmentation"].msgcount == 2
        latched = next(c for c in reader.connections if c.topic == "/segmentation/label_info_json")
        assert latched.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"


def test_rejected_clouds_are_counted_and_skipped(tmp_path: Path, segmenter: Segmenter) -> None:
    clouds = streets(3)
    clouds[1].data = clouds[1].data[:100]
    clouds.append(FakeCloud([], b"", 0, 0, 0, 0))
    source = write_bag(tmp_path / "in", clouds)
    summary = label_bag(source, tmp_path / "out.mcap", segmenter)
    assert (summary["received"], summary["published"], summary["reasons"]) == (4, 3, {"truncated": 1})
    assert summary["ms"]["p50"] > 0


def test_damaged_messages_are_counted(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", streets(2))
    store = make_typestore()
    broken = tmp_path / "broken"
    writer = BagWriter(broken, PLUGINS["mcap"], store)
    with open_bag(source) as reader:
        for number, (connection, stamp, raw) in enumerate(reader.messages()):
            writer.copy(connection, stamp, raw if number else bytes(raw)[:30])
    writer.close()
    summary = label_bag(broken, tmp_path / "out.mcap", segmenter)
    assert (summary["published"], summary["reasons"]) == (1, {"unreadable": 1})


def test_copy_all_keeps_every_byte(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", streets(3), others=3)
    label_bag(source, tmp_path / "out.mcap", segmenter, BagOptions(copy_all=True))
    before = [(t, s, raw) for t, s, _, raw in read_mcap(source)]
    after = [(t, s, raw) for t, s, _, raw in read_mcap(tmp_path / "out.mcap") if not t.startswith("/segmentation/")]
    assert sorted(after) == sorted(before)
    with pytest.raises(UsageError, match="already has /segmentation/"):
        label_bag(tmp_path / "out.mcap", tmp_path / "again.mcap", segmenter, BagOptions("/points", copy_all=True))
    again = label_bag(tmp_path / "out.mcap", tmp_path / "again.mcap", segmenter, BagOptions("/points"))
    assert again["published"] > 0, "what was refused leaves nothing in the way"


def with_a_type_of_its_own(path: Path, defined: bool) -> Path:
    """A bag as Humble writes it, without hashes of types: an .mcap with definitions or a .db3 without."""
    cloud, store = streets(1)[0], make_typestore()
    raw = bytes(store.serialize_cdr(cloud_message(store, cloud.header, packed(cloud)), CLOUD))
    if defined:
        from mcap.writer import Writer

        with path.open("wb") as file:
            writer = Writer(file)
            writer.start(profile="ros2")
            text = store.generate_msgdef(CLOUD, ros_version=2)[0].encode()
            for topic, kind, definition, data in (
                ("/points", CLOUD, text, raw),
                ("/speed", "maker/msg/Speed", b"uint8 knots\n", bytes([0, 1, 0, 0, 7])),
            ):
                channel = writer.register_channel(topic, "cdr", writer.register_schema(kind, "ros2msg", definition))
                writer.add_message(channel, log_time=START, publish_time=START, data=data)
            writer.finish()
        return path
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL)")
        database.execute("INSERT INTO schema VALUES (3, 'humble')")
        database.execute(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT, "
            "offered_qos_profiles TEXT)"
        )
        database.execute(
            "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)"
        )
        for number, (topic, kind, data) in enumerate((("/points", CLOUD, raw), ("/speed", "maker/msg/Speed", b"1234"))):
            database.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', '')", (number + 1, topic, kind))
            database.execute("INSERT INTO messages VALUES (?, ?, ?, ?)", (number + 1, number + 1, START + number, data))
    return path


@pytest.mark.parametrize("name", ["out.mcap", "out.db3"])
def test_copy_all_takes_types_that_the_bag_defines_without_hashes(
    tmp_path: Path, segmenter: Segmenter, name: str
) -> None:
    source = with_a_type_of_its_own(tmp_path / "in.mcap", defined=True)
    label_bag(source, tmp_path / name, segmenter, BagOptions(copy_all=True))
    with open_bag(tmp_path / name) as reader:
        speeds = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages() if c.topic == "/speed"]
    assert [speed.knots for speed in speeds] == [7]


def test_copy_all_of_types_that_nothing_defines_is_refused_before_the_work(
    tmp_path: Path, segmenter: Segmenter
) -> None:
    source = with_a_type_of_its_own(tmp_path / "in.db3", defined=False)
    with pytest.raises(UsageError, match=r"does not define maker/msg/Speed of /speed .* drop --copy-all"):
        label_bag(source, tmp_path / "all.mcap", segmenter, BagOptions(copy_all=True))
    assert not list(tmp_path.glob("all*"))
    assert label_bag(source, tmp_path / "labels.mcap", segmenter)["published"] == 1


def test_a_killed_run_goes_on_in_the_folder_of_its_bag(tmp_path: Path, segmenter: Segmenter) -> None:
    bag = write_bag(tmp_path / "in", streets(2)).parent
    out, part = bag / "out.mcap", bag / "out.mcap.part"
    begun = kd_seg.serving.bags._fingerprint(bag, out, segmenter, BagOptions())
    part.mkdir()
    kd_seg.serving.bags._save(part, Tally(), begun)
    assert label_bag(bag, out, segmenter)["published"] == 2


def test_a_folder_that_has_no_name_is_no_bag_to_write(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", streets(1))
    for folder in (Path(), Path("/"), Path("..")):
        with pytest.raises(UsageError, match="name the bag to write"):
            label_bag(source, folder, segmenter)


def test_an_output_named_twice_is_written_once(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", streets(2))
    label_bag(source, tmp_path / "out.mcap", segmenter, BagOptions(outputs=("segmentation", "segmentation")))
    topics = [topic for topic, *_ in read_mcap(tmp_path / "out.mcap")]
    assert topics.count("/segmentation/output/segmentation") == 2


def test_suffixes_in_capitals_are_refused(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", streets(1))
    with pytest.raises(UsageError, match=r"suffix is written \.mcap"):
        label_bag(source, tmp_path / "OUT.MCAP", segmenter)
    (tmp_path / "IN.MCAP").write_bytes(b"any")
    with pytest.raises(DataError, match=r"suffix is written \.mcap; rename"), open_bag(tmp_path / "IN.MCAP"):
        pass


def test_ros1_bags(tmp_path: Path, segmenter: Segmenter) -> None:
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    cloud = streets(1)[0]
    message = cloud_message(make_typestore(), cloud.header, packed(cloud))
    types = store.types
    header = types["std_msgs/msg/Header"](
        seq=0, stamp=types["builtin_interfaces/msg/Time"](sec=5, nanosec=6), frame_id="a"
    )
    fields = [types["sensor_msgs/msg/PointField"](f.name, f.offset, f.datatype, f.count) for f in message.fields]
    old = types[CLOUD](header, 1, message.width, fields, False, 22, message.row_step, message.data, True)
    with Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/points", CLOUD, typestore=store)
        writer.write(connection, START, store.serialize_ros1(old, CLOUD))
    label_bag(tmp_path / "old.bag", tmp_path / "out.mcap", segmenter)
    labelled = [m for t, _, m, _ in read_mcap(tmp_path / "out.mcap") if t.endswith("/output/segmentation")]
    assert bytes(labelled[0].data) == expected_data(segmenter, cloud)
    with pytest.raises(UsageError, match="ROS 1 bag"):
        label_bag(tmp_path / "old.bag", tmp_path / "all.mcap", segmenter, BagOptions(copy_all=True))


RUN = """
import sys
from pathlib import Path
import kd_seg.serving.bags
from kd_seg.serving.segmenter import Segmenter
kd_seg.serving.bags.SEGMENT = 10
source, out, checkpoint = map(Path, sys.argv[1:])
kd_seg.serving.bags.label_bag(source, out, Segmenter(checkpoint, "cpu", num_threads=1))
"""


def test_a_killed_run_goes_on_without_loss_or_duplicates(
    tmp_path: Path, segmenter: Segmenter, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds = streets(85, 100)
    source = write_bag(tmp_path / "in", clouds)
    out = tmp_path / "out.mcap"
    progress = tmp_path / "out.mcap.part" / kd_seg.serving.bags.PROGRESS
    process = subprocess.Popen([sys.executable, "-c", RUN, str(source), str(out), str(checkpoint)])
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if progress.is_file() and json.loads(progress.read_text())["tally"]["segments"] >= 2:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists(), "the run ended before it could be killed"
    monkeypatch.setattr(kd_seg.serving.bags, "SEGMENT", 10)
    with pytest.raises(UsageError, match="another bag, checkpoint or settings"):
        label_bag(source, out, segmenter, BagOptions(outputs=("filtered",)))
    done: list[int] = []
    summary = label_bag(source, out, segmenter, advance=done.append)
    assert done[0] >= 20
    assert (summary["received"], summary["published"]) == (85, 85)
    messages = [m for m in read_mcap(out) if m[0] == "/segmentation/output/segmentation"]
    assert [stamp for _, stamp, _, _ in messages] == [START + k * 10**8 for k in range(85)]
    assert bytes(messages[40][2].data) == expected_data(segmenter, clouds[40])
    assert sum(t == "/segmentation/label_info" for t, *_ in read_mcap(out)) == 1


def test_a_run_killed_between_joining_and_cleaning_up_ends_well(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", streets(2))
    out, part = tmp_path / "out.mcap", tmp_path / "out.mcap.part"
    summary = label_bag(source, out, segmenter)
    part.mkdir()
    fingerprint = kd_seg.serving.bags._fingerprint(source, out, segmenter, BagOptions())
    kd_seg.serving.bags._save(part, Tally(received=2, published=2, complete=True), fingerprint)
    assert label_bag(source, out, segmenter)["published"] == summary["published"]
    assert not part.exists()


def test_usage_errors_are_named(tmp_path: Path, segmenter: Segmenter) -> None:
    source = write_bag(tmp_path / "in", streets(1), others=1)
    with pytest.raises(UsageError, match="no PointCloud2 topic /other; its PointCloud2 topics: /points"):
        label_bag(source, tmp_path / "a.mcap", segmenter, BagOptions("/other"))
    with pytest.raises(UsageError, match="--storage says sqlite3"):
        label_bag(source, tmp_path / "a.mcap", segmenter, BagOptions(storage="sqlite3"))
    with pytest.raises(UsageError, match="no output 'labels'"):
        BagOptions(outputs=("labels",))
    (tmp_path / "taken.mcap").touch()
    with pytest.raises(UsageError, match="exists; choose another"):
        label_bag(source, tmp_path / "taken.mcap", segmenter)
    with pytest.raises(DataError, match="does not exist"):
        label_bag(tmp_path / "none.mcap", tmp_path / "a.mcap", segmenter)
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(source.read_bytes()[:5])
    with pytest.raises(DataError, match=r"cut\.mcap is not a readable bag"):
        label_bag(cut, tmp_path / "b.mcap", segmenter)


def test_cut_off_and_scrambled_bags_give_errors_not_tracebacks(tmp_path: Path, segmenter: Segmenter) -> None:
    """A reader of damaged files may refuse or read what is left; it must not fail in another way."""
    rng = np.random.default_rng(5)
    for storage in ("mcap", "sqlite3"):
        content = write_bag(tmp_path / storage, streets(3, 200), storage).read_bytes()
        for number in range(25):
            spoilt = bytearray(content[: int(rng.integers(len(content)))] if number % 2 else content)
            for _ in range(10):
                if spoilt:
                    spoilt[int(rng.integers(len(spoilt)))] = int(rng.integers(256))
            source = tmp_path / f"{storage}_{number}{'.mcap' if storage == 'mcap' else '.db3'}"
            source.write_bytes(bytes(spoilt))
            try:
                summary = label_bag(source, tmp_path / f"{storage}_{number}_out.mcap", segmenter)
            except (DataError, UsageError):
                continue
            assert summary["received"] == summary["published"] + summary["rejected"]


def test_memory_stays_constant(tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 clouds of 1.1 MB each pass through; the network is left out, because its memory is not in question."""

    def quick(points: np.ndarray) -> tuple[PointPredictions, dict[str, float]]:
        return answers_of(*np.zeros((3, len(points)))), {"voxelize": 0.0, "inference": 0.0}

    source = write_bag(tmp_path / "in", [plain(50_000, k % 3) for k in range(150)])
    monkeypatch.setattr(segmenter, "predict_voxels", quick)
    monkeypatch.setattr(kd_seg.serving.bags, "SEGMENT", 40)
    process, sizes = psutil.Process(), []
    label_bag(source, tmp_path / "out.mcap", segmenter, advance=lambda _: sizes.append(process.memory_info().rss))
    assert max(sizes[-20:]) - max(sizes[20:40]) < 25 * 2**20


def test_the_command(tmp_path: Path, checkpoint: Path) -> None:
    source = write_bag(tmp_path / "in", streets(2))
    out = tmp_path / "out.mcap"
    command = [sys.executable, "-m", "kd_seg.cli.main", "predict", str(source), "--out", str(out), "--json"]
    command += ["--checkpoint", str(checkpoint), "--topic", "/points", "--set", "input.intensity_range=byte"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["published"], summary["dropped"], summary["out"]) == (2, 0, str(out))
    assert len(read_mcap(out)) == 4
