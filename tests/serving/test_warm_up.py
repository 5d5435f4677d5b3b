"""What the node compiles while it is configured is all that live clouds need."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import numba.core.dispatcher
import numpy as np
from ros_clouds import VENDORS, answers_of, build, plain, random_columns, street, tiny_checkpoint, vendor_fields

from kd_seg.serving.labeller import Labeller
from kd_seg.serving.pointcloud2 import CloudDecoder, encode_segmentation
from kd_seg.serving.segmenter import Segmenter
from kd_seg.serving.sensor_input import SensorSettings


def signatures() -> dict[str, int]:
    """Compiled signatures of every Numba kernel of ours."""
    dispatcher = numba.core.dispatcher.Dispatcher
    # by type, as isinstance follows weak references, to objects that may be gone
    kernels = [k for k in gc.get_objects() if issubclass(type(k), dispatcher)]
    ours = [k for k in kernels if k.py_func.__module__.startswith("kd_seg")]
    return {f"{k.py_func.__module__}.{k.py_func.__name__}": len(k.signatures) for k in ours}


def test_no_kernel_gains_a_signature_after_the_warm_up(tmp_path: Path) -> None:
    labeller = Labeller(Segmenter(tiny_checkpoint(tmp_path / "c.safetensors"), "cpu", num_threads=1))
    labeller.warm_up(1000, 0, SensorSettings())
    before = signatures()
    assert before["kd_seg.serving.pointcloud2_kernels.pack_segmentation"] == 1
    live = [street(700), plain(0), plain(1)]
    for name in VENDORS:
        fields, step = vendor_fields(name)
        live += [build(random_columns(60), fields, step, (6, 10), 3), build(random_columns(60), fields, step, big=True)]
    live[-1].fields = live[-1].fields[:3]
    live[0].data[:22] = 255
    fields, step = vendor_fields("pcl_xyzi")
    live.append(build(random_columns(60), fields, step))
    live[-1].data = live[-1].data.tobytes()
    for cloud in live:
        for settings in (SensorSettings(), SensorSettings("unit", 0.5, False)):
            labelled = labeller.label(cloud, settings)
            labeller.visualization(labelled)
            labeller.filtered(cloud, labelled, (0, 255))
            labelled.figures()
    assert signatures() == before


def test_decoding_and_encoding_a_whole_scan_is_quick() -> None:
    """A generous bound on CPU time, so that a step back to loops over points shows and a busy machine does not."""
    cloud = plain(125_000)
    decoder, spent = CloudDecoder(), []
    for _ in range(7):
        started = time.thread_time()
        decoded = decoder.decode(cloud)
        encode_segmentation(decoded, answers_of(*np.zeros((3, len(decoded.xyz)), np.float32)))
        spent.append(time.thread_time() - started)
    assert min(spent) < 0.01
