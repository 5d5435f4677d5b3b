"""A published network, imported, serves clouds through the node. Skipped where rclpy is missing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 installation to run these tests")
pytestmark = [pytest.mark.ros, pytest.mark.slow]

import torch  # noqa: E402
from published_weights import fixtures, made_state  # noqa: E402
from ros_clouds import street  # noqa: E402
from ros_harness import REMAP, Peer, to_message, wait_for  # noqa: E402

from kd_seg.checkpoint import save_checkpoint  # noqa: E402
from kd_seg.importing import import_file  # noqa: E402
from kd_seg.serving.labeller import Labeller  # noqa: E402
from kd_seg.serving.parameters import InputSettings  # noqa: E402
from kd_seg.serving.segmenter import Segmenter  # noqa: E402


@pytest.mark.parametrize("case", ["2dpass", "mmdet3d_spconv", "cylinder3d"])
def test_an_imported_network_serves_as_the_segmenter_predicts(
    start: Any, peer: Peer, tmp_path: Path, case: str
) -> None:
    file, checkpoint = tmp_path / f"{case}.pth", tmp_path / f"{case}.safetensors"
    torch.save({"state_dict": made_state(fixtures()[case]["state"])}, file)
    imported = import_file(file)
    save_checkpoint(checkpoint, imported.network, imported.spec)
    node = start(*REMAP, checkpoint=checkpoint, autostart=True)
    found = peer.listen("output/segmentation")
    publisher = peer.publisher(reliable=True)
    wait_for(lambda: peer.status("lifecycle")[1] == "active", 120, "active node")
    wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
    time.sleep(0.5)
    cloud = street(4000, 3)
    publisher.publish(to_message(cloud))
    wait_for(lambda: found, 60, "the labelled cloud")
    expected = Labeller(Segmenter(checkpoint, "cpu", num_threads=1)).label(cloud, InputSettings().sensor).segmentation
    assert bytes(found[0].data) == expected.data.tobytes()
    assert len(np.unique(np.frombuffer(bytes(found[0].data), np.uint8))) > 1
    assert node.stop() == 0
    assert "Traceback" not in node.text
