"""All that a CUDA device does, against the CPU; one command where there is one: python -m pytest -m cuda.

Sums are taken in another order there, and rows scattered by atomic additions: networks agree to 1e-4, a first training
step to 1e-2, later ones drift apart and need only stay finite.
"""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from console_script import kd_seg, kd_seg_json
from device_runs import RUNS, assert_alike, image_network, placed, said, trained
from images_runs import WORK, World, check_everything, everything, lines, training_config, write_world
from small_networks import NETWORKS, settled
from torch import nn

from kd_seg.benchmarks.choose import Request, bench
from kd_seg.checkpoint import shipped
from kd_seg.doctor import convolve
from kd_seg.images.projection.cameras import ProjectionSettings, shots
from kd_seg.images.teachers import Tools, build_teacher, teacher_settings
from kd_seg.networks import collate, encode
from kd_seg.networks.correspondence import find_rows
from kd_seg.objectives.shared.image_teacher import load_image_network
from kd_seg.scans import SemanticKitti
from kd_seg.serving.segmenter import Segmenter, made_up_cloud
from kd_seg.sparse import Down, Submanifold, Up, sparse_tensor
from kd_seg.training import Trainer
from kd_seg.training.prepare import prepare

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


# ---------------------------------------------------------------- networks


def test_a_sparse_convolution_and_its_gradient() -> None:
    convolve("cuda")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_answer_as_on_the_cpu(name: str) -> None:
    here, batch = settled(name)
    there = copy.deepcopy(here).cuda()
    with torch.no_grad():
        expected, found = here.eval()(batch), there.eval()(batch.to("cuda"))
    torch.testing.assert_close(found.logits.cpu(), expected.logits, rtol=1e-4, atol=1e-4)
    for level, own in expected.levels.items():
        other = found.levels[level]
        rows = find_rows(own.coordinates, other.coordinates.cpu())  # their order is open on CUDA
        assert bool((rows >= 0).all())
        assert len(other.features) == len(own.features)
        torch.testing.assert_close(other.features.cpu()[rows], own.features, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_the_cpu(name: str) -> None:
    """As a whole: behind many layers some activations stand on the edge of their kink."""
    here, batch = settled(name)
    there = copy.deepcopy(here).cuda()
    slopes = []
    for network, given in ((here, batch), (there, batch.to("cuda"))):
        network.train()(given).logits.square().mean().backward()
        found = [p.grad.reshape(-1).cpu() for p in network.parameters() if p.grad is not None]
        assert len(found) == len(list(network.parameters()))
        slopes.append(torch.cat(found))
    assert float((slopes[1] - slopes[0]).norm() / slopes[0].norm()) < 0.05


@pytest.mark.parametrize("wraps", [(False, False, False), (False, True, False)])
def test_sparse_layers_and_their_gradients(wraps: tuple[bool, bool, bool]) -> None:
    """Odd widths too; an axis that wraps around takes kernel maps of ours to CUDA."""
    rng = np.random.default_rng(0)
    cells = np.unique(rng.integers(0, 16, (1500, 4)) % [2, 16, 16, 8], axis=0)
    coordinates = torch.from_numpy(cells).int()
    torch.manual_seed(0)
    inner = [Submanifold(5, 7, (3, 3, 3), "level0"), Submanifold(7, 8, (1, 3, 3), "level0")]
    layers = nn.ModuleList([*inner, Down(8, 19, (3, 3, 3), (2, 2, 1), "down"), Up(19, 3, (3, 3, 3), "down")])
    start = torch.randn(len(cells), 5)
    goal = torch.randn(len(cells), 3)
    found: list[list[torch.Tensor]] = []
    for device in ("cpu", "cuda"):
        moved = copy.deepcopy(layers).to(device)
        features = start.detach().clone().to(device).requires_grad_()
        x = sparse_tensor(features, coordinates.to(device), (16, 16, 8), 2)
        for layer in moved:
            x = layer(x, wraps)
        (x.features * goal.to(device)).sum().backward()
        slopes = (features.grad, *(p.grad for p in moved.parameters()))
        found.append([x.features.detach().cpu(), *(slope.cpu() for slope in slopes if slope is not None)])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_half_precision_is_near_and_its_gradients_are_finite(name: str) -> None:
    here, batch = settled(name)
    there = copy.deepcopy(here).cuda()
    with torch.no_grad():
        expected = here.eval()(batch).logits
    moved = batch.to("cuda")
    with torch.autocast("cuda", torch.float16):
        found = there.eval()(moved)
        assert found.levels["penultimate"].features.dtype == torch.float16
        loss = there.train()(moved).logits.float().square().mean()
    same = (found.logits.float().cpu().argmax(1) == expected.argmax(1)).float().mean()
    assert float(same) > 0.95
    loss.backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in there.parameters())


def test_no_voxels_and_one() -> None:
    for name in NETWORKS:
        there = settled(name)[0].cuda()
        encoding = NETWORKS[name][2]
        for cloud in (np.zeros((0, 4), np.float32), np.array([[3.0, 0.5, 0.2, 0.1]], np.float32)):
            small = collate([encode(cloud, None, encoding)], encoding.grid).to("cuda")
            assert there.eval()(small).logits.shape == (len(cloud), 19)
            there.train()(small).logits.sum().backward()


# ---------------------------------------------------------------- serving


def test_the_shipped_student_answers_as_on_the_cpu() -> None:
    points = made_up_cloud(60_000, 0)
    here, there = Segmenter(device="cpu"), Segmenter(device="cuda", precision="fp32")
    expected, found = here.segment(points), there.segment(points)
    assert float(np.mean(found.class_id != expected.class_id)) < 1e-3
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-4)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=1e-4)
    assert len(there.segment(points[:0]).class_id) == 0


def test_the_shipped_student_answers_in_half_precision() -> None:
    points = made_up_cloud(60_000, 0)
    expected, served = Segmenter(device="cpu").segment(points), Segmenter(device="auto")
    assert (served.device.type, served.precision) == ("cuda", "fp16")
    served.warm_up(5000, 2)
    found = served.segment(points)
    assert float(np.mean(found.class_id == expected.class_id)) > 0.99
    assert float(np.abs(found.probability - expected.probability).mean()) < 5e-3
    assert np.isfinite(found.entropy).all()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device")
def test_the_second_device_serves_too() -> None:
    points = made_up_cloud(20_000, 0)
    first, second = (Segmenter(device=f"cuda:{n}", precision="fp32").segment(points) for n in (0, 1))
    np.testing.assert_allclose(second.probability, first.probability, atol=1e-4)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("name", RUNS)
def test_a_run_begins_as_on_the_cpu(world: World, tmp_path: Path, name: str) -> None:
    asked = RUNS[name](world, tmp_path)
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    found = trained(asked, tmp_path / "cuda", "cuda")
    assert_alike(found[:1], expected[:1], tolerance=1e-2, distance=1e-3)
    assert all(math.isfinite(line["loss"]) for line in found)


@pytest.mark.parametrize("network", ["unet", "cylinder"])
def test_everything_at_once_in_half_precision(world: World, tmp_path: Path, network: str) -> None:
    asked = everything(world, tmp_path, network, batch=2)
    prepare(asked, WORK)
    expected = trained(asked, tmp_path / "cpu", "cpu")
    trainer = Trainer(placed(asked, tmp_path / "cuda", "cuda", amp=True))
    assert trainer.scaler.is_enabled()
    check_everything(trainer, tmp_path / "cuda")
    assert said(tmp_path / "cuda")[0]["loss"] == pytest.approx(expected[0]["loss"], rel=0.05)


@pytest.mark.parametrize("amp", [False, True])
def test_training_learns(world: World, tmp_path: Path, amp: bool) -> None:
    """With batches accumulated, gradients clipped, and a loader that forks after CUDA has begun."""
    asked = training_config(world, tmp_path, [{"kind": "supervised"}], optim={"accumulation": 2, "clip": 1.0})
    found = trained(asked, tmp_path, "cuda", amp=amp, steps=30, workers=1)
    assert found[-1]["loss"] < 0.75 * found[0]["loss"]


def test_a_run_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    entry = {"kind": "multi_to_single", "teacher": {"mode": "ema"}}
    asked = training_config(
        world, tmp_path, [{"kind": "supervised"}, entry], optim={"schedule": "constant", "warmup": 0.0}
    )
    prepare(asked, WORK)
    whole = trained(asked, tmp_path / "whole", "cuda", amp=True, steps=6)
    trained(asked, tmp_path / "parts", "cuda", amp=True, steps=3)
    torch.rand(5, device="cuda")  # what losses draw depends on the step alone
    again = Trainer(placed(asked, tmp_path / "parts", "cuda", amp=True, steps=6), resume=True)
    again.fit()
    assert_alike(said(tmp_path / "parts"), whole, tolerance=5e-2, distance=1e-3)
    # and on a CPU, which has no scaled loss, and back
    for device, steps in (("cpu", 7), ("cuda", 8)):
        Trainer(placed(asked, tmp_path / "parts", device, amp=True, steps=steps), resume=True).fit()
    assert [line["step"] for line in lines(tmp_path / "parts")] == list(range(1, 9))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device")
def test_two_processes_train_on_a_device_each(world: World, tmp_path: Path) -> None:
    import yaml

    asked = everything(world, tmp_path, "unet", batch=1)
    prepare(asked, WORK)
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(placed(asked, tmp_path, "cuda", amp=True).to_plain()))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "kd_seg.cli.main", "train", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env={**os.environ})
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path))


# ---------------------------------------------------------------- image teachers, commands, benchmarks


def test_an_image_network_says_there_what_it_says_here(world: World, tmp_path: Path) -> None:
    Trainer(placed(image_network(world, tmp_path), tmp_path, "cuda")).fit()
    shot = shots(SemanticKitti(world[0]).scan("00", 0), ProjectionSettings())[0]
    settings = teacher_settings({"kind": "trained", "checkpoints": [str(tmp_path / "run")], "allow_seen": True})
    expected, found = (
        build_teacher(settings, Tools(world[0], load_network=load_image_network, device=device)).predict(shot)
        for device in ("cpu", "cuda")
    )
    assert expected is not None
    assert found is not None
    assert expected.semantic is not None
    assert found.semantic is not None
    assert expected.features is not None
    np.testing.assert_allclose(found.features, expected.features, rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(found.semantic.confidence, expected.semantic.confidence, atol=1e-2)
    assert float(np.mean(found.semantic.classes == expected.semantic.classes)) > 0.98


def test_the_commands(world: World, tmp_path: Path) -> None:
    import yaml

    asked = training_config(world, tmp_path, [{"kind": "supervised"}])
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(placed(asked, tmp_path, "auto", amp=True, workers=1).to_plain()))
    done = kd_seg("train", str(path))
    assert "cuda:0" in done.stderr
    what = ("eval", tmp_path / "run", "--data", world[0], "--sequences", "00")
    scores = [kd_seg_json(*what, "--device", device) for device in ("cpu", "cuda")]
    assert scores[1]["accuracy"] == pytest.approx(scores[0]["accuracy"], abs=5e-3)
    checks = {check["name"]: check["ok"] for check in kd_seg_json("doctor")["checks"]}
    assert checks["convolution on CUDA"]


@pytest.mark.parametrize("what", ["train", "predict"])
def test_the_benchmarks(tmp_path: Path, what: str) -> None:
    """Rivals' answers are compared before they are timed; run with -s for the figures."""
    made_up_cloud(60_000, 0).tofile(tmp_path / "scan.bin")
    request = Request(scan=tmp_path / "scan.bin", device="cuda", checkpoint=shipped() if what == "predict" else None)
    found = bench(what, request)
    assert [row.ours for row in found] == [True, False, False]
    for row in found:
        print(f"{what} on {torch.cuda.get_device_name()}: {row.name} {row.ms:.2f} ms")
