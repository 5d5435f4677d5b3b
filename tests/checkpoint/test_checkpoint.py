"""The checkpoint file: what is written is read back; every kind of broken file has its own sentence."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kd_seg.checkpoint import Spec, initialise, load_checkpoint, read_spec, resolve, save_checkpoint
from kd_seg.classes import load_classes
from kd_seg.core.errors import CheckpointError, KdSegError
from kd_seg.networks import Encoding, build_network
from kd_seg.scans import Sensor
from kd_seg.voxels import CartesianGrid

SPEC = Spec(
    network="unet",
    size="nano",
    classes=load_classes("semantic_kitti_25"),
    encoding=Encoding(CartesianGrid((0.2, 0.2, 0.2)), ("xyz", "remission")),
    sensor=Sensor("byte", 1.9),
    training={"config": "x"},
    licence="none",
)


@pytest.fixture(scope="module")
def network():
    return build_network("unet", "nano", 4, 25)


@pytest.fixture
def path(tmp_path, network):
    save_checkpoint(tmp_path / "a.safetensors", network, SPEC)
    return tmp_path / "a.safetensors"


def test_round_trip(path, network):
    loaded = load_checkpoint(path)
    assert loaded.spec.to_json() == SPEC.to_json()
    assert loaded.spec.encoding == SPEC.encoding
    np.testing.assert_array_equal(loaded.spec.classes.colours, SPEC.classes.colours)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.network.state_dict()[name])
    assert not loaded.network.training


def test_saving_twice_gives_the_same_bytes(path, network):
    before = path.read_bytes()
    save_checkpoint(path, network, SPEC)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s, m: m.update(format=3), r"written by format 3, this build reads 1\.\.1"),
        (lambda s, m: s.pop("head.bias"), "lacks tensor head.bias"),
        (lambda s, m: s.update(more=torch.zeros(1)), "unknown tensor more"),
        (lambda s, m: s.update({"head.bias": torch.zeros(3)}), r"head.bias has shape \[3\]"),
        (lambda s, m: m.pop("grid"), "metadata entry 'grid' is missing"),
        (lambda s, m: m["sensor"].update(intensity_range="half"), "intensity_range 'half'"),
        (lambda s, m: m.update(input_intensity="half"), "input_intensity 'half'"),
        (lambda s, m: m["classes"]["colours"].append([1, 2, 3]), "25 classes, palette has 26 colours"),
        (lambda s, m: m["network"].update(name="vnet"), "no network called 'vnet'"),
    ],
)
def test_each_fault_has_its_sentence(path, change, says):
    with safe_open(path, framework="pt") as file:
        state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()["kd_seg"])
    change(state, metadata)
    save_file(state, str(path), {"kd_seg": json.dumps(metadata)})
    with pytest.raises(Exception, match=says) as caught:
        load_checkpoint(path)
    assert type(caught.value).__module__ == "kd_seg.core.errors"


def test_cut_off_and_foreign_files(path, tmp_path):
    content = path.read_bytes()
    for length in (0, 5, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"not a readable \.safetensors file"):
            load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, str(path))
    with pytest.raises(CheckpointError, match="without a kd_seg entry"):
        read_spec(path)
    (tmp_path / "adapted" / "round_1" / "run").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"folder of kd-seg adapt; give the run .*round_1/run"):
        resolve(tmp_path / "adapted")
    with pytest.raises(CheckpointError, match=r"does not exist.*\(taught, general, hdl64e\)"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_mutated_bytes_never_escape_as_another_error(path):
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(200):
        broken = bytearray(content)
        for at in rng.integers(0, 3000, 3):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken)
        with contextlib.suppress(KdSegError):  # any other kind ends the test
            load_checkpoint(path)


def test_a_missing_file_to_start_from_is_not_called_broken(tmp_path, network):
    for missing in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(CheckpointError, match=r"safetensors does not exist; give a \.safetensors file"):
            initialise(network, missing)


def test_initialise_loads_what_fits_and_names_the_rest(path):
    other = build_network("unet", "nano", 4, 19)
    fresh = initialise(other, path)
    assert fresh == ["head.bias", "head.weight"]
    assert torch.equal(other.stem[0].norm.weight, load_checkpoint(path).network.stem[0].norm.weight)
    with pytest.raises(CheckpointError, match="no tensor that fits"):
        initialise(torch.nn.Conv2d(1, 1, 1), path)


def test_the_spec_can_be_changed_and_kept(path, network):
    save_checkpoint(path, network, replace(SPEC, licence="Apache-2.0"))
    assert read_spec(path).licence == "Apache-2.0"


def test_weights_outlive_their_file(tmp_path):
    """A memory-mapped tensor ended the process (SIGBUS) once its file was cut off."""
    import subprocess
    import sys

    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file({"w": torch.arange(1 << 20, dtype=torch.float32)}, path)
    code = (
        "import os, sys; from pathlib import Path; from kd_seg.checkpoint import read_tensors\n"
        "path = Path(sys.argv[1]); found = read_tensors(path); os.truncate(path, 10); print(int(found['w'][-1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str((1 << 20) - 1))
