from __future__ import annotations

import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from patience import patience
from ros_clouds import FakeCloud, build, plain, street, street_points, tiny_checkpoint, vendor_fields

from kd_seg.serving.labeller import Labeller
from kd_seg.serving.parameters import InputSettings
from kd_seg.serving.segmenter import Segmenter
from ros_nodes.mailbox import Counts, Mailbox
from ros_nodes.stopwatch import Stopwatch
from ros_nodes.worker import FrameSettings, Worker


def test_newest_wins_and_is_counted() -> None:
    box = Mailbox()
    assert not box.put("early", 0.0)
    box.activate()
    for message in "abc":
        assert box.put(message, 0.0)
    received = box.take()
    assert received is not None
    assert received.message == "c"
    counts = box.counts()
    assert (counts.received, counts.dropped_newer, counts.in_flight) == (3, 2, 1)
    box.put("d", 0.0)
    assert box.counts().in_flight == 2
    box.published(all_invalid=True)
    box.deactivate()
    assert box.take() is None
    counts = box.counts()
    assert (counts.published, counts.dropped_deactivated, counts.all_invalid, counts.in_flight) == (1, 1, 1, 0)
    assert counts.balanced
    box.activate()
    assert box.counts().received == 4
    box.reset()
    assert box.counts() == Counts()


def test_the_law_holds_in_every_snapshot_under_load() -> None:
    """Several senders, a worker with every outcome, deactivations in between, and a watcher."""
    box = Mailbox()
    stop = threading.Event()
    broken: list[Counts] = []
    outcomes = 0

    def send() -> None:
        while not stop.is_set():
            box.put(object(), time.monotonic())

    def work() -> None:
        nonlocal outcomes
        while not stop.is_set():
            if box.take() is None:
                time.sleep(1e-5)
                continue
            outcomes += 1
            [lambda: box.published(), lambda: box.rejected("truncated"), box.discarded][outcomes % 3]()

    def watch() -> None:
        while not stop.is_set():
            counts = box.counts()
            if not counts.balanced or counts.in_flight not in (0, 1, 2):
                broken.append(counts)

    def toggle() -> None:
        while not stop.is_set():
            box.activate()
            time.sleep(1e-3)
            box.deactivate()

    threads = [threading.Thread(target=job) for job in (send, send, work, watch, toggle)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    stop.set()
    box.deactivate()
    for thread in threads:
        thread.join(5)
    box.deactivate()
    assert not broken
    final = box.counts()
    assert final.balanced
    assert final.in_flight == 0
    assert min(final.published, final.rejected, final.dropped_newer, final.dropped_deactivated) > 0


def test_stamps_that_do_not_advance_are_counted() -> None:
    box = Mailbox()
    for stamp in (1, 2, 2, 1, 5):
        box.stamped(stamp)
    assert box.counts().stamp_regressions == 2


class Recorder:
    """Outputs and log of a worker, kept in lists."""

    def __init__(self) -> None:
        self.clouds: list[tuple[str, Any]] = []
        self.times: dict[str, float] = {}
        self.lines: list[str] = []
        self.broken = False
        self.gate: threading.Event | None = None

    def wanted(self, name: str) -> bool:
        return True

    def publish_cloud(self, name: str, header: Any, packed: Any) -> None:
        if self.broken:
            raise RuntimeError("publisher is gone\nsecond line")
        self.clouds.append((name, packed))

    def publish_time(self, name: str, milliseconds: float) -> None:
        self.times[name] = milliseconds

    def now_ns(self) -> int:
        return 5 * 10**9

    def stopping(self) -> bool:
        return False

    def info(self, message: str) -> None:
        self.lines.append(message)

    def warning(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter(tiny_checkpoint(tmp_path_factory.mktemp("ck") / "tiny.safetensors"), "cpu", num_threads=1)


def run(labeller: Any, messages: list[FakeCloud], broken: bool = False) -> tuple[Recorder, Counts]:
    box, recorder = Mailbox(), Recorder()
    recorder.broken = broken
    settings = FrameSettings(InputSettings(filter_classes=("car",)), 100.0)
    worker = Worker(box, labeller, Stopwatch(), recorder, lambda: settings, recorder)
    box.activate()
    worker.start()
    for message in messages:
        box.put(message, 0.0)
        until = time.monotonic() + 60 * patience()
        while box.counts().in_flight and time.monotonic() < until:
            time.sleep(0.001)
    box.deactivate()
    assert worker.join(10)
    return recorder, box.counts()


def test_worker_publishes_labels_times_and_warnings(segmenter: Segmenter) -> None:
    messages = [street(3000, k) for k in range(22)]
    recorder, counts = run(Labeller(segmenter), messages)
    assert (counts.published, counts.rejected, counts.balanced) == (22, 0, True)
    assert [name for name, _ in recorder.clouds[:3]] == ["segmentation", "visualization", "filtered"]
    assert {"processing_time/total_ms", "pipeline_latency_ms", "cyclic_time_ms"} <= set(recorder.times)
    total, network, outside, inference = (
        recorder.times[f"processing_time/{name}_ms"] for name in ("total", "network", "outside_network", "inference")
    )
    assert outside == pytest.approx(total - network)
    assert 0 < network < inference < total
    assert recorder.lines == ["input layout is x:<f4@0 y:<f4@4 z:<f4@8 intensity:<f4@12 step 22"]


def test_a_sensor_that_does_not_fit_is_said_once(segmenter: Segmenter) -> None:
    """Mounted 0.8 m higher than the checkpoint expects, intensities 0-1 declared as bytes: one line each."""
    points = street_points(3000)
    points[:, 2] -= 0.8
    points[:, 3] /= 255
    fields, step = vendor_fields("velodyne")
    columns = {name: points[:, k] for k, name in enumerate(("x", "y", "z", "intensity"))}
    recorder, counts = run(Labeller(segmenter), [build(columns, fields, step) for _ in range(26)])
    assert counts.published == 26
    height = [line for line in recorder.lines if "sensor appears" in line]
    assert len(height) == 1, recorder.lines
    assert height[0].startswith("sensor appears 2.6 m above ground, checkpoint expects 1.7 m; ")
    assert height[0].endswith("set input.z_offset_m to 0.8")
    assert sum("set input.intensity_range to unit" in line for line in recorder.lines) == 1


def test_worker_counts_every_rejection_and_says_each_once(segmenter: Segmenter) -> None:
    short, nameless, good = plain(50), plain(50), street(3000)
    short.data = short.data[:9]
    nameless.fields = []
    invalid = plain(50)
    invalid.data = np.zeros(50 * 22, np.uint8)
    recorder, counts = run(Labeller(segmenter), [short, nameless, good, short, invalid])
    assert dict(counts.reasons) == {"no_fields": 1, "truncated": 2}
    assert (counts.published, counts.all_invalid) == (2, 1)
    assert sum("data has 9 bytes" in line for line in recorder.lines) == 1


def test_inference_and_publish_errors_are_rejections(segmenter: Segmenter) -> None:
    labeller = Labeller(segmenter)
    fine = segmenter.predict_voxels
    try:
        segmenter.predict_voxels = lambda points: (_ for _ in ()).throw(MemoryError("no\nroom"))  # type: ignore[method-assign]
        recorder, counts = run(labeller, [street(2000)] * 6)
    finally:
        segmenter.predict_voxels = fine  # type: ignore[method-assign]
    assert dict(counts.reasons) == {"inference_error": 6}
    assert counts.consecutive_errors == 6
    assert recorder.lines == ["inference failed: MemoryError: no"]
    recorder, counts = run(labeller, [street(2000)], broken=True)
    assert dict(counts.reasons) == {"publish_error": 1}
    assert "publish failed: RuntimeError: publisher is gone" in recorder.lines


def test_worker_lets_go_of_the_message_before_it_waits(segmenter: Segmenter) -> None:
    class Marked(SimpleNamespace):
        pass

    box, recorder = Mailbox(), Recorder()
    settings = FrameSettings(InputSettings(), 100.0)
    worker = Worker(box, Labeller(segmenter), Stopwatch(), recorder, lambda: settings, recorder)
    box.activate()
    worker.start()
    message = Marked(**vars(street(2000)))
    gone = weakref.ref(message)
    box.put(message, 0.0)
    del message
    until = time.monotonic() + 30
    while gone() is not None and time.monotonic() < until:
        time.sleep(0.005)
    assert gone() is None
    box.deactivate()
    assert worker.join(5)
