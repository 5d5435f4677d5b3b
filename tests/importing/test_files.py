"""The five kinds of file that projects write, and files that would run code if they were trusted."""

from __future__ import annotations

import os
import pickle
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kd_seg.core.errors import CheckpointError
from kd_seg.importing.files import Inert, _pickled, globals_of, read_state

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


@pytest.fixture
def foreign() -> Iterator[dict[str, type]]:
    """Classes under the names of frameworks that are not installed, so that they can be pickled."""
    made: dict[str, type] = {}
    names = {
        "easydict": ("EasyDict", dict),
        "pytorch_lightning.callbacks.model_checkpoint": ("ModelCheckpoint", object),
        "pytorch_lightning.utilities.parsing": ("AttributeDict", dict),
        "mmengine.logging.history_buffer": ("HistoryBuffer", object),
    }
    for module, (name, base) in names.items():
        kind = type(name, (base,), {"__module__": module, "mean": lambda self: 0.0})
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
        setattr(sys.modules[module], name, kind)
        made[name] = kind
    yield made
    for module in names:
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            sys.modules.pop(".".join(parts[:depth]), None)


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_plain_state_and_distributed_prefix(tmp_path: Path) -> None:
    torch.save({f"module.{name}": tensor for name, tensor in STATE.items()}, tmp_path / "plain.pth")
    assert same(read_state(tmp_path / "plain.pth"))


@pytest.mark.parametrize("zipped", [True, False])
def test_both_pytorch_formats(tmp_path: Path, zipped: bool) -> None:
    torch.save({"model": STATE, "epoch": 3}, tmp_path / "spvnas.pt", _use_new_zipfile_serialization=zipped)
    assert same(read_state(tmp_path / "spvnas.pt"))


def test_openpcseg(tmp_path: Path) -> None:
    content = {"epoch": 36, "it": 1, "model_state": STATE, "optimizer_state": None, "version": "none"}
    torch.save(content, tmp_path / "openpcseg.pth")
    assert same(read_state(tmp_path / "openpcseg.pth"))


def test_pointcept_with_numpy_numbers(tmp_path: Path) -> None:
    torch.save({"epoch": 1, "state_dict": STATE, "best_metric_value": np.float64(0.6)}, tmp_path / "pointcept.pth")
    assert same(read_state(tmp_path / "pointcept.pth"))


def test_lightning_with_callbacks_and_settings(tmp_path: Path, foreign: dict[str, type]) -> None:
    settings = foreign["EasyDict"](gpu=[0], model_params=foreign["EasyDict"](width=64))
    settings.width = 64
    callback = foreign["ModelCheckpoint"]()
    callback.best = 0.7
    content = {"state_dict": STATE, "callbacks": {foreign["ModelCheckpoint"]: {"best": callback}}, "hyper": settings}
    torch.save(content, tmp_path / "2dpass.ckpt")
    assert same(read_state(tmp_path / "2dpass.ckpt"))


def test_mmengine_with_histories(tmp_path: Path, foreign: dict[str, type]) -> None:
    history = foreign["HistoryBuffer"]()
    history.values = np.arange(3.0)

    class Bound:
        """Pickles as a bound method does: by ``getattr``."""

        def __reduce__(self) -> Any:
            return getattr, (foreign["HistoryBuffer"], "mean")

    content = {"state_dict": STATE, "message_hub": {"loss": history, "statistic": Bound()}, "meta": {"epoch": 36}}
    torch.save(content, tmp_path / "mmengine.pth")
    assert same(read_state(tmp_path / "mmengine.pth"))


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "x.safetensors")
    assert same(read_state(tmp_path / "x.safetensors"))


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("call", ["system", "eval", "mkdir"])
def test_hostile_files_run_nothing(tmp_path: Path, call: str, zipped: bool) -> None:
    mark = tmp_path / "mark"
    harm = {
        "system": Runs(os.system, f"touch {mark}"),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w')"),
        "mkdir": Runs(os.mkdir, str(mark)),
    }[call]
    path = tmp_path / "hostile.pth"
    torch.save({"state_dict": STATE, "more": harm}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"could run code.*torch\.save"):
        read_state(path)
    assert not mark.exists()


def test_getattr_of_the_file_is_not_the_real_one(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "more": Runs(getattr, "abc", "upper")}, tmp_path / "x.pth")
    assert same(read_state(tmp_path / "x.pth"))
    more = _pickled(tmp_path / "x.pth")["more"]
    assert isinstance(more, Inert)
    assert more() is more


def test_plain_pickle_of_protocol_4_names_what_it_needs(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"state_dict": Runs(os.system, "true")}, protocol=4))
    assert globals_of(path) == ["posix.system"]
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        read_state(path)


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"PK\x03\x04 cut off", b"weights, really", bytes(200)])
def test_what_is_no_pytorch_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a readable PyTorch file") as refused:
        read_state(path)
    assert "weights_only" not in str(refused.value), "never how to read it unsafely"


def test_cut_off_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CheckpointError):
        read_state(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_mutated_files_are_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    torch.save({"state_dict": STATE, "best": np.float64(3)}, tmp_path / "a", _use_new_zipfile_serialization=zipped)
    content, path = (tmp_path / "a").read_bytes(), tmp_path / "x.pth"
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        mutated = bytearray(content)
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(len(mutated)))
            if rng.random() < 0.5:
                mutated[at] = int(rng.integers(256))
            else:
                del mutated[at : at + int(rng.integers(1, 30))]
        path.write_bytes(bytes(mutated))
        try:
            read_state(path)
        except CheckpointError:
            refused += 1
    assert refused > 200


def test_file_without_tensors_and_missing_file(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_state(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state(tmp_path / "y.pth")
    with zipfile.ZipFile(tmp_path / "z.pth", "w") as archive:
        archive.writestr("a.txt", "b")
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "z.pth")
