"""Whole runs, serving and image teachers on a pretended CUDA device: no tensor stays behind, the numbers agree."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_runs import WORK, World, check_everything, everything, experiment, lines, units_entry, write_world
from pretend_cuda import CUDA, DevicesMixed, pretend_cuda
from tiny_data import tiny_cloud
from torch import Tensor

from kd_seg.doctor import convolve
from kd_seg.errors import MissingDependencyError
from kd_seg.networks import Level, Output
from kd_seg.objectives.supervised import Supervised
from kd_seg.segmenter import Segmenter
from kd_seg.training import Experiment, RunFolder, Trainer
from kd_seg.training.loader import Batches
from kd_seg.training.prepare import prepare
from kd_seg.training.setup import choose_device

torch.set_num_threads(1)  # a busy machine makes two threads ten times slower (field T18)
CYLINDER = {
    "grid": {"kind": "cylindrical", "cells": [160, 96, 16]},
    "student": {"network": "cylinder", "features": ["cylinder9"]},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


def placed(asked: Experiment, folder: Path, device: str, amp: bool = False, **run: Any) -> Experiment:
    """The same experiment in another run folder and on a device."""
    settings = {"folder": str(folder / "run"), "device": device, **run}
    return asked.model_copy(
        update={
            "run": asked.run.model_copy(update=settings),
            "optim": asked.optim.model_copy(update={"amp": amp}),
        }
    )


def trained(asked: Experiment, folder: Path, device: str, amp: bool = False) -> list[dict[str, Any]]:
    """Loss and terms of every step."""
    Trainer(placed(asked, folder, device, amp)).fit()
    return [{"loss": line["loss"], "terms": line["terms"]} for line in lines(folder)]


def assert_alike(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["terms"].keys() == other["terms"].keys()
        for name, term in other["terms"].items():
            assert one["terms"][name]["count"] == term["count"], name
            assert one["terms"][name]["value"] == pytest.approx(term["value"], rel=1e-3, abs=1e-5), name


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("network", ["unet", "cylinder"])
def test_every_objective_trains_and_judges_there(world: World, tmp_path: Path, network: str) -> None:
    """Labels, an averaged teacher, units with their backward pass and regions, with and without a scaled loss."""
    asked = everything(world, tmp_path, network, batch=2)
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda() as mode:
        trainer = Trainer(placed(asked, tmp_path / "cuda", "cuda", amp=network == "unet"))
        assert trainer.device == CUDA
        assert trainer.scaler.is_enabled() == (network == "unet")
        check_everything(trainer, tmp_path / "cuda")
        for module in (trainer.student, *trainer.objectives):
            assert all(mode.holds(t) for t in (*module.parameters(), *module.buffers()))
        state = trainer.optimiser.state.values()
        assert all(mode.holds(entry["exp_avg"]) for entry in state)
    found = [{"loss": line["loss"], "terms": line["terms"]} for line in lines(tmp_path / "cuda")]
    assert_alike(found, expected)


@pytest.mark.parametrize("network", ["unet", "cylinder"])
@pytest.mark.parametrize("mode", ["separate", "shared"])
def test_multi_scan_teachers_teach_there(world: World, tmp_path: Path, mode: str, network: str) -> None:
    changes: dict[str, Any] = copy.deepcopy(CYLINDER) if network == "cylinder" else {"student": {}}
    teacher: dict[str, Any] = {"mode": mode}
    if mode == "separate":
        first = {**changes, "student": {**changes["student"], "input": "fused"}}
        asked = experiment(world, tmp_path / "teacher", [{"kind": "supervised"}], run={"steps": 1}, **first)
        prepare(asked, WORK)
        Trainer(asked).fit()
        teacher["checkpoint"] = str(tmp_path / "teacher/run")
    memory = {"memory": True, "form": "instance"}
    entry = {"kind": "multi_to_single", "teacher": teacher, "feature": {"levels": ["enc1"]}, "affinity": memory}
    entry |= {"trust": False, "row_weights": "cube_root", "fused_weight": 2.0, "ramp": 0.0}
    asked = experiment(world, tmp_path, [{"kind": "supervised"}, entry], run={"steps": 2}, **changes)
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda():
        found = trained(asked, tmp_path / "cuda", "cuda")
    assert_alike(found, expected)


@pytest.mark.parametrize("preset", ["pointmcd", "slidr", "ppkt", "scalr"])
def test_regions_align_there(world: World, tmp_path: Path, preset: str) -> None:
    entry = {"kind": "image_regions", "preset": preset, "teacher": {"kind": "maps", "root": str(world[1])}}
    asked = experiment(world, tmp_path, [entry], run={"steps": 2})
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda():
        found = trained(asked, tmp_path / "cuda", "cuda")
    assert_alike(found, expected)


@pytest.mark.parametrize("measure", ["iou", "probability"])
def test_units_of_distributions_are_judged_there(world: World, tmp_path: Path, measure: str) -> None:
    backward = {"measure": measure, "start_epoch": 1, "every": 1, "rounds": 2, "student": "snapshot"}
    entry = units_entry(world, backward=backward, class_weights="root", lovasz=1.0)
    asked = experiment(world, tmp_path, [entry], run={"steps": 6})
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda():
        found = trained(asked, tmp_path / "cuda", "cuda")
    assert_alike(found, expected)
    one, other = ((tmp_path / name / "run/units.jsonl").read_text() for name in ("cpu", "cuda"))
    assert one == other


def test_an_image_network_trains_there_and_teaches_from_there(world: World, tmp_path: Path) -> None:
    entry = {"kind": "image_labels", "labels": "projected_3d", "resize": 1.0, "crop": [64, 128]}
    asked = experiment(world, tmp_path, [entry], student={"network": "image_unet"}, run={"steps": 3, "batch": 2})
    expected = trained(asked, tmp_path / "cpu", "cpu")
    with pretend_cuda():
        assert_alike(trained(asked, tmp_path / "cuda", "cuda"), expected)
    own = {"kind": "trained", "checkpoints": [str(tmp_path / "cpu/run")], "allow_seen": True}
    soft = {"min_pixels": 20, "soft": True, "min_confidence": 0.0}
    objectives = [
        units_entry(world, teacher=own, class_map="same", lift=soft),
        {"kind": "image_regions", "preset": "slidr", "teacher": own},
    ]
    here, there = (experiment(world, tmp_path / name, objectives, run={"steps": 1}) for name in ("a", "b"))
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
    asked = experiment(world, tmp_path, [{"kind": "supervised"}], run={"steps": 1})
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
        loss, terms, _ = trainer._optimise([batch])
        assert np.isfinite(loss)
        assert all(np.isfinite(term["value"]) for term in terms.values())
        assert asked_for == [("cuda", torch.float16, True)] * 2  # the student, and the teacher as it
        assert any(not torch.equal(p, old) for p, old in zip(trainer.student.parameters(), before, strict=True))


def test_infinite_gradients_of_a_head_on_another_process_are_skipped_here_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = {"kind": "image_regions", "preset": "slidr", "teacher": {"kind": "maps", "root": str(world[1])}}
    asked = experiment(world, tmp_path, [entry])
    prepare(asked, WORK)

    def add_infinity(gradient: Tensor) -> None:
        gradient += torch.inf

    with pretend_cuda():
        trainer = Trainer(placed(asked, tmp_path / "cuda", "cuda", amp=True))
        views = trainer.objectives[0].views()
        batch = Batches(replace(trainer.parts.pipeline, views=tuple(views)), 0, 1, 0, 1)[0]
        monkeypatch.setattr(torch.distributed, "all_reduce", add_infinity)
        trainer.world = 2
        before = copy.deepcopy(trainer.student.state_dict()), copy.deepcopy(trainer.objectives[0].state_dict())
        scale = trainer.scaler.get_scale()
        trainer._optimise([batch])
        assert trainer.scaler.get_scale() == scale / 2
    for old, module in zip(before, (trainer.student, trainer.objectives[0]), strict=True):
        for name, value in module.named_parameters():
            assert torch.equal(value, old[name]), name


# ---------------------------------------------------------------- resuming and choosing


def test_a_run_goes_from_the_cpu_to_cuda_and_back(world: World, tmp_path: Path) -> None:
    asked = experiment(world, tmp_path, [{"kind": "supervised"}])

    def part(device: str, steps: int, resume: bool = True) -> Trainer:
        made = Trainer(placed(asked, tmp_path, device, amp=True, steps=steps), resume=resume)
        made.fit()
        return made

    part("cpu", 2, resume=False)
    assert RunFolder(tmp_path / "run").read_state()["cuda_rng"] is None
    with pretend_cuda() as mode:
        made = part("cuda", 4)
        assert made.scaler.get_scale() > 1
        assert all(mode.holds(p) for p in made.student.parameters())
        kept = torch.rand(3, device="cuda").cpu()
        state = RunFolder(tmp_path / "run").read_state()
        assert state["student"]["head.weight"].device.type == "cpu"
    with pretend_cuda() as mode:
        mode.generator.manual_seed(77)
        again = Trainer(placed(asked, tmp_path, "cuda", amp=True, steps=4), resume=True)
        assert torch.equal(torch.rand(3, device="cuda").cpu(), kept)  # random numbers go on where they were
        assert again.scaler.state_dict() == made.scaler.state_dict()
    assert part("cpu", 6).step == 6
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
