"""``kd-seg import`` from the console: a file becomes a checkpoint that every command takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from console_script import kd_seg, kd_seg_json
from published_weights import fixtures, made_state
from ros_clouds import street
from tiny_data import write_tiny

from kd_seg.core.errors import CheckpointError, UsageError
from kd_seg.importing import import_file
from kd_seg.importing.check import PublishedCheck, check
from kd_seg.serving.bag_io import CLOUD, CLOUD_QOS, PLUGINS, BagWriter, cloud_message, make_typestore
from kd_seg.serving.bags import label_bag
from kd_seg.serving.labeller import Labeller
from kd_seg.serving.parameters import InputSettings
from kd_seg.serving.pointcloud2 import Field, Packed, to_array
from kd_seg.serving.segmenter import Segmenter


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("data"), ("00", "08"), scans=2)


def file_of(case: str, folder: Path) -> Path:
    path = folder / f"{case}.pth"
    torch.save({"state_dict": made_state(fixtures()[case]["state"])}, path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("case", ["2dpass", "mmdet3d_spconv", "cylinder3d"])
def test_import_check_info_eval_predict(tmp_path: Path, data: Path, case: str) -> None:
    out = tmp_path / "net.safetensors"
    answer = kd_seg_json("import", file_of(case, tmp_path), "--out", out, "--check", data, "--sequences", "00,08")
    wanted = fixtures()[case]["family"]
    assert answer["family"] == wanted
    assert answer["check"]["scans"] == 4
    assert answer["check"]["trained_on"] == ["00"]
    # random weights: nothing like the published network
    assert answer["check"]["verdict"] == "wrong"
    told = kd_seg_json("info", out)
    assert told["training"]["imported"]["source"].startswith("https://github.com/")
    assert "non-commercial" in told["licence"]
    assert "licence" in kd_seg("info", out).stdout
    scored = kd_seg_json("eval", out, "--data", data, "--sequences", "08")
    assert scored["scans"] == 2
    kd_seg("predict", data / "sequences" / "08" / "velodyne" / "000000.bin", "--out", tmp_path / "a.label",
           "--checkpoint", out)  # fmt: skip
    words = np.fromfile(tmp_path / "a.label", np.uint32)
    assert len(words) == (data / "sequences" / "08" / "velodyne" / "000000.bin").stat().st_size // 16
    assert len(np.unique(words)) > 1


def test_mistakes_say_what_to_do(tmp_path: Path) -> None:
    path = file_of("2dpass", tmp_path)
    out = tmp_path / "net.safetensors"
    assert "must end in" in kd_seg("import", path, "--out", tmp_path / "net.pth", code=2).stderr
    assert not out.exists()
    with pytest.raises(UsageError, match="takes mmdet3d"):
        import_file(path, "2dpas")
    with pytest.raises(CheckpointError, match="has no place in SPVNAS"):
        import_file(path, "spvnas-minkunet")
    torch.save({"some.weight": torch.ones(3)}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="of no family that is known here"):
        import_file(tmp_path / "x.pth")


def test_check_of_random_weights(tmp_path: Path, data: Path) -> None:
    found = import_file(file_of("2dpass", tmp_path))
    found.save(tmp_path / "net.safetensors")
    result = check(tmp_path / "net.safetensors", data, ["00", "08"], iter)
    assert (result.scans, result.trained_on, result.published) == (4, ("00",), None)
    assert result.verdict == "wrong"
    assert 0 <= result.low <= result.miou <= result.high <= 1


def judged(**values: object) -> PublishedCheck:
    usual = {
        "scans": 20, "sequences": ("08",), "trained_on": (), "accuracy": 0.9, "miou": 0.6, "low": 0.55, "high": 0.64,
        "classes": 15, "published": 0.687, "outside": 0.01,
    }  # fmt: skip
    return PublishedCheck(**{**usual, **values})  # type: ignore[arg-type]


def test_verdicts() -> None:
    assert judged().verdict == "as published"
    assert judged(high=0.58).verdict == "below"
    assert judged(accuracy=0.2).verdict == "wrong"
    assert judged(published=None).verdict == "nothing to compare with"
    assert any("training data" in line for line in judged(trained_on=("00",)).lines())


def test_a_bag_is_labelled_as_the_node_would(tmp_path: Path) -> None:
    """A network that tells points of one voxel apart goes through the same code as any other."""
    import_file(file_of("2dpass", tmp_path)).save(tmp_path / "net.safetensors")
    segmenter = Segmenter(tmp_path / "net.safetensors", "cpu", num_threads=1)
    store = make_typestore()
    writer = BagWriter(tmp_path / "in", PLUGINS["mcap"], store)
    clouds = [street(400, number, sec=1_700_000_000 + number) for number in range(2)]
    for number, cloud in enumerate(clouds):
        fields = tuple(Field(f.name, f.offset, f.datatype, f.count) for f in cloud.fields)
        packed = Packed(cloud.height, cloud.width, fields, cloud.is_bigendian, cloud.point_step, cloud.row_step,
                        to_array(bytes(cloud.data)), cloud.is_dense)  # fmt: skip
        writer.write("/points", CLOUD, CLOUD_QOS, 10**9 * (number + 1), cloud_message(store, cloud.header, packed))
    writer.close()
    source = next(path for path in (tmp_path / "in").iterdir() if path.suffix == ".mcap")
    summary = label_bag(source, tmp_path / "out.mcap", segmenter)
    assert (summary["received"], summary["published"], summary["points"]) == (2, 2, 800)
    labelled = Labeller(segmenter).label(clouds[0], InputSettings().sensor)
    assert len(labelled.segmentation.data.tobytes()) == 400 * 24
