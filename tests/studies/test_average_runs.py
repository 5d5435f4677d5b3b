"""python -m kd_seg.studies.average_runs: means that are means, of networks of one kind alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from random_student import write_student

from kd_seg.checkpoint import load_checkpoint, save_checkpoint
from kd_seg.core.errors import CheckpointError, UsageError
from kd_seg.studies.average_runs import average, main


def students(folder: Path, count: int) -> list[Path]:
    paths = [write_student(folder / f"{number}.safetensors") for number in range(count)]
    for path in paths[1:]:
        made = load_checkpoint(path)
        with torch.no_grad():
            for tensor in made.network.parameters():
                tensor += torch.randn_like(tensor)
        save_checkpoint(path, made.network, made.spec)
    return paths


def test_every_weight_is_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, out = students(tmp_path, 3), tmp_path / "mean.safetensors"
    monkeypatch.setattr(sys, "argv", ["average_runs", str(out), *map(str, paths)])
    main()
    found = load_checkpoint(out)
    states = [load_checkpoint(path).network.state_dict() for path in paths]
    differ = 0
    for name, tensor in found.network.state_dict().items():
        if tensor.is_floating_point():
            expected = sum(state[name].double() for state in states) / 3
            torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-7)
            differ += int(not torch.equal(states[0][name], states[1][name]))
    assert differ > 10
    assert found.spec.training["mean_of"] == 3


def test_what_has_no_mean_is_refused(tmp_path: Path) -> None:
    first, second = students(tmp_path, 2)
    with pytest.raises(UsageError, match="name two or more"):
        average(tmp_path / "mean.safetensors", [first])
    with pytest.raises(UsageError, match="exists"):
        average(second, [first, second])
    write_student(tmp_path / "other.safetensors", "nuscenes_16")
    with pytest.raises(UsageError, match=r"other\.safetensors is another kind of network"):
        average(tmp_path / "mean.safetensors", [first, tmp_path / "other.safetensors"])
    with pytest.raises(CheckpointError, match="does not exist"):
        average(tmp_path / "mean.safetensors", [first, tmp_path / "nothing.safetensors"])
    assert not (tmp_path / "mean.safetensors").exists()
