"""Whole runs, serving and image teachers on a pretended CUDA device: no tensor stays behind, the numbers agree."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_runs import RUNS, assert_alike, image_network, placed, said, trained
from images_runs import WORK, World, check_everything, everything, lines, training_config, units_entry, write_world
from pretend_cuda import CUDA, DevicesMixed, pretend_cuda
from tiny_data import tiny_cloud
from torch import Tensor

from kd_seg.core.device import choose_device
from kd_seg.core.errors import MissingDependencyError
from kd_seg.doctor import convolve
from kd_seg.networks import Level, Output
from kd_seg.objectives.supervised.objective import Supervised
from kd_seg.serving.segmenter import Segmenter
from kd_seg.training import RunFolder, Trainer
from kd_seg.training.distributed import Processes
from kd_seg.training.loader import Batches
from kd_seg.training.prepare import prepare
from kd_seg.training.run_log import Totals


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if "published" in n else []) for n in RUNS])
def test_a_run_gives_the_same_numbers_there(world: World, tmp_path: Path, name: str) -> None:
    asked = RUNS[name](world, tmp_path)
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda() as mode:
        trainer = Trainer(placed(asked, tmp_path / "cuda", "cuda"))
        trainer.fit()
        assert trainer.device == CUDA
        for module in (trainer.student, *trainer.objectives):
            assert all(mode.holds(t) for t in (*module.parameters(), *module.buffers()))
        assert all(mode.holds(entry["exp_avg"]) for entry in trainer.optimiser.state.values())
    assert_alike(said(tmp_path / "cuda"), expected)
    judged = [tmp_path / device / "run/units.jsonl" for device in ("cpu", "cuda")]
    assert name.startswith(("units", "everything")) == judged[0].exists()
    if judged[0].exists():
        here, there = (leaves([json.loads(line) for line in path.read_text().splitlines()]) for path in judged)
        assert here.keys() == there.keys()
        assert all(value == there[key] or value == pytest.approx(there[key], abs=1e-3) for key, value in here.items())


def leaves(content: Any, name: str = "") -> dict[str, Any]:
    """Values of nested lists and dictionaries by their way there."""
    if not isinstance(content, (dict, list)):
        return {name: content}
    items = content.items() if isinstance(content, dict) else enumerate(content)
    return {key: value for part, inner in items for key, value in leaves(inner, f"{name}/{part}").items()}


def test_a_scaled_loss_trains_there(world: World, tmp_path: Path) -> None:
    asked = everything(world, tmp_path, "unet", batch=2)
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda():
        trainer = Trainer(placed(asked, tmp_path / "cuda", "cuda", amp=True))
        assert trainer.scaler.is_enabled()
        check_everything(trainer, tmp_path / "cuda")
    assert_alike(said(tmp_path / "cuda"), expected)


def test_an_image_network_teaches_from_there(world: World, tmp_path: Path) -> None:
    Trainer(placed(image_network(world, tmp_path), tmp_path / "cpu", "cpu")).fit()
    own = {"kind": "trained", "checkpoints": [str(tmp_path / "cpu/run")], "allow_seen": True}
    soft = {"min_pixels": 20, "soft": True, "min_confidence": 0.0}
    objectives = [
        units_entry(world, teacher=own, class_map="same", lift=soft),
        {"kind": "image_regions", "preset": "slidr", "teacher": own},
    ]
    here, there = (training_config(world, tmp_path / name, objectives, run={"steps": 1}) for name in ("a", "b"))
    prepare(here, WORK)
    with pretend_cuda():
        prepare(there, WORK)
        Trainer(placed(there, tmp_path / "b", "cuda")).fit()
    shards = sorted((tmp_path / "a/cache").rglob("*.safetensors"))
    assert len(shards) == 2
    for shard in shards:
        assert shard.read_bytes() == (tmp_path / "b/cache" / shard.relative_to(tmp_path / "a/cache")).read_bytes()


def test_a_tensor_left_behind_ends_the_run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch can bite: class weights as a plain attribute, which no ``to`` moves."""
    build = Supervised.__init__

    def forgetful(self: Supervised, *arguments: Any) -> None:
        build(self, *arguments)
        weights = self._buffers.pop("weights")
        object.__setattr__(self, "weights", weights)

    monkeypatch.setattr(Supervised, "__init__", forgetful)
    asked = training_config(world, tmp_path, [{"kind": "supervised"}], run={"steps": 1})
    trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda(), pytest.raises(DevicesMixed, match="cross_entropy"):
        trained(asked, tmp_path / "cuda", "cuda")


# ---------------------------------------------------------------- half precision, as far as a CPU can show it


class Halved(torch.nn.Module):
    """A student whose features come in float16, as under autocast; the logits too unless a float32 bias widens them."""

    def __init__(self, student: torch.nn.Module, wide: bool) -> None:
        super().__init__()
        self.student, self.wide = student, wide
        self.channels = student.channels

    def forward(self, batch: Any) -> Output:
        output: Output = self.student(batch)
        levels = {n: Level(v.features.half(), v.coordinates, v.stride) for n, v in output.levels.items()}
        return Output(output.logits if self.wide else output.logits.half(), levels)


@pytest.mark.parametrize("wide", [False, True])
def test_objectives_take_halves_and_the_teacher_runs_as_the_student_did(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: bool
) -> None:
    asked = everything(world, tmp_path, "unet", batch=2)
    prepare(asked, WORK)
    with pretend_cuda():
        trainer = Trainer(placed(asked, tmp_path / "cuda", "cuda", amp=True))
        trainer.callable = Halved(trainer.student, wide)
        views = tuple(view for objective in trainer.objectives for view in objective.views())
        batch = Batches(replace(trainer.parts.pipeline, views=views), 0, 2, 0, 1)[0]
        asked_for: list[tuple[Any, ...]] = []
        plain = torch.autocast

        def watched(device: str, dtype: torch.dtype, enabled: bool) -> Any:
            asked_for.append((device, dtype, enabled))
            return plain(device, dtype=dtype, enabled=enabled)

        monkeypatch.setattr(torch, "autocast", watched)
        before = [p.detach().clone() for p in trainer.student.parameters()]
        totals = Totals()
        loss = trainer._optimise([batch], totals)
        terms = totals.means()
        assert np.isfinite(loss)
        assert all(np.isfinite(term["value"]) for term in terms.values())
        assert asked_for == [("cuda", torch.float16, True)] * 2  # the student, and the teacher as it
        assert any(not torch.equal(p, old) for p, old in zip(trainer.student.parameters(), before, strict=True))


def test_infinite_gradients_of_a_head_on_another_process_are_skipped_here_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"kind": "image_regions", "preset": "slidr", "teacher": {"kind": "maps", "root": str(world[1])}}
    asked = training_config(world, tmp_path, [entry])
    prepare(asked, WORK)

    def add_infinity(gradient: Tensor) -> None:
        gradient += torch.inf

    with pretend_cuda():
        trainer = Trainer(placed(asked, tmp_path / "cuda", "cuda", amp=True))
        views = trainer.objectives[0].views()
        batch = Batches(replace(trainer.parts.pipeline, views=tuple(views)), 0, 1, 0, 1)[0]
        monkeypatch.setattr(torch.distributed, "all_reduce", add_infinity)
        trainer.processes = Processes(0, 2)
        before = copy.deepcopy(trainer.student.state_dict()), copy.deepcopy(trainer.objectives[0].state_dict())
        scale = trainer.scaler.get_scale()
        trainer._optimise([batch], Totals())
        assert trainer.scaler.get_scale() == scale / 2
    for old, module in zip(before, (trainer.student, trainer.objectives[0]), strict=True):
        for name, value in module.named_parameters():
            assert torch.equal(value, old[name]), name


# ---------------------------------------------------------------- resuming and choosing


def test_a_run_goes_from_the_cpu_to_cuda_and_back(world: World, tmp_path: Path) -> None:
    asked = training_config(world, tmp_path, [{"kind": "supervised"}])

    def part(device: str, steps: int, resume: bool = True) -> Trainer:
        made = Trainer(placed(asked, tmp_path, device, amp=True, steps=steps), resume=resume)
        made.fit()
        return made

    part("cpu", 2, resume=False)
    with pretend_cuda() as mode:
        made = part("cuda", 4)
        assert made.scaler.get_scale() > 1
        assert all(mode.holds(p) for p in made.student.parameters())
        state = RunFolder(tmp_path / "run").read_state()
        assert state["student"]["head.weight"].device.type == "cpu"
    with pretend_cuda():
        again = Trainer(placed(asked, tmp_path, "cuda", amp=True, steps=4), resume=True)
        assert again.scaler.state_dict() == made.scaler.state_dict()
    assert part("cpu", 6).progress.step == 6
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_each_process_has_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretend_cuda():
        assert choose_device("auto") == choose_device("cuda") == CUDA
        assert choose_device("cpu").type == "cpu"
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert choose_device("auto", rank=3) == torch.device("cuda", 1)  # the second process of the second machine
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
        with pytest.raises(MissingDependencyError, match="5 processes were started beside 4 CUDA devices"):
            choose_device("cuda")


# ---------------------------------------------------------------- serving


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_segmenter_answers_from_there(precision: str) -> None:
    points, _ = tiny_cloud(np.random.default_rng(5))
    expected = Segmenter(device="cpu").segment(points)
    with pretend_cuda() as mode:
        served = Segmenter(device="auto", precision=precision)
        assert (served.device.type, served.precision) == ("cuda", precision)
        assert all(mode.holds(p) for p in served.network.parameters())
        found = served.segment(points)
        assert len(served.segment(points[:0]).class_id) == 0
        served.warm_up(500, 1)
    np.testing.assert_array_equal(found.class_id, expected.class_id)
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)
    assert isinstance(found.entropy, np.ndarray)


def test_the_segmenter_makes_its_device_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """spconv launches kernels on the thread's current device; serving threads have their own."""
    points, _ = tiny_cloud(np.random.default_rng(5))
    entered: list[torch.device] = []

    class Entering:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def __enter__(self) -> None:
            entered.append(self.device)

        def __exit__(self, *_: object) -> None:
            pass

    with pretend_cuda():
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "device", Entering)
        Segmenter(device="cuda:1").segment(points)
    assert entered == [torch.device("cuda", 1)]


def test_the_doctor_convolves_there() -> None:
    with pretend_cuda():
        convolve("cuda")
