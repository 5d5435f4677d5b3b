"""The networks that come with the package: by name, and what they bear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from console_script import kd_seg_json
from random_student import write_student

from kd_seg import Segmenter
from kd_seg.benchmarks.choose import simulated
from kd_seg.checkpoint import SHIPPED, read_spec, resolve, shipped


def test_names_stand_for_files_that_are_there() -> None:
    assert resolve("taught") == shipped()
    for name, path in SHIPPED.items():
        spec = read_spec(resolve(name))
        assert path.is_file()
        assert (spec.network, spec.size, spec.licence) == ("unet", "nano", "Apache-2.0")
    assert resolve("nothing") == Path("nothing")


def test_a_file_or_run_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "general" / "checkpoints").mkdir(parents=True)
    write_student(tmp_path / "general" / "checkpoints" / "last.safetensors")
    assert resolve("general") == Path("general/checkpoints/last.safetensors")
    (tmp_path / "hdl64e").write_bytes(b"mine")
    assert resolve("hdl64e") == Path("hdl64e")


def test_commands_take_the_names(tmp_path: Path) -> None:
    told = kd_seg_json("info", "hdl64e")
    assert told["training"]["steps"] == 4000
    assert kd_seg_json("info", "general")["training"]["init"]["steps"] == 4000
    told = kd_seg_json("info", "taught")["training"]
    assert told["mean_of"] == 3
    assert [objective["kind"] for objective in told["objectives"]] == ["supervised", "multi_to_single"]


@pytest.mark.slow
def test_networks_for_any_sensor_bear_other_intensities(tmp_path: Path) -> None:
    scan = simulated(tmp_path, 1, images=False)[0]
    truth = np.asarray(scan.labels)
    scores: dict[str, list[float]] = {}
    for name in SHIPPED:
        segmenter = Segmenter(name, device="cpu", num_threads=1)
        for gain in (1.0, 0.1, 0.0):
            points = scan.points.copy()
            points[:, 3] *= np.float32(gain)
            found = segmenter.classes.class_to_train(segmenter.segment(points).class_id)
            known = segmenter.classes.to_train(truth, "truth")
            scores.setdefault(name, []).append(float((found == known)[known > 0].mean()))
    for name in ("taught", "general"):
        assert min(scores[name]) > 0.75
        assert scores[name][0] - min(scores[name]) < 0.1
        assert min(scores["hdl64e"]) < min(scores[name])
