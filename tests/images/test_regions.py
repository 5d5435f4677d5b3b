"""Region alignment: every preset against a plain loop, poolings and distances, and coarse levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_runs import CLASSES, ENCODING, WORK, World, batch_of, write_world
from torch import Tensor, nn

from kd_seg.core.config import validate
from kd_seg.core.errors import ConfigError
from kd_seg.images.regions.cache import read_regions
from kd_seg.networks import Batch, Level, Output
from kd_seg.objectives import Context, Step
from kd_seg.objectives.image_regions import PRESETS, ImageRegions, ImageRegionsSettings
from kd_seg.objectives.image_regions.view import RegionBatch
from kd_seg.objectives.shared.image_rows import level_rows
from kd_seg.scans import SemanticKitti

DIM = 5


class Student(nn.Module):
    """Only its channels are asked for."""

    channels = {"penultimate": DIM}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


def context_of(root: Path, cache: Path) -> Context:
    data = SemanticKitti(root)
    return Context(CLASSES, ENCODING, Student(), data, data, torch.device("cpu"), cache)


def regions_objective(world: World, tmp_path: Path, **settings: Any) -> ImageRegions:
    root, maps = world
    entry = {"kind": "image_regions", "teacher": {"kind": "maps", "root": str(maps)}, **settings}
    checked = validate(ImageRegionsSettings, entry, "x")
    data = SemanticKitti(root)
    ImageRegions.prepare(checked, data, CLASSES, tmp_path, WORK)
    torch.manual_seed(0)
    return ImageRegions(checked, context_of(root, tmp_path))


def run(objective: ImageRegions, batch: Batch) -> tuple[Tensor, int, Tensor]:
    """Value and count of the regions' term, and the features it looked at."""
    torch.manual_seed(1)
    features = torch.randn(len(batch.coordinates), DIM, requires_grad=True)
    level = Level(features, batch.coordinates, (1, 1, 1))
    output = Output(torch.zeros(len(features), 19), {"penultimate": level})
    term = objective.terms(batch, output, Step(nn.Identity(), 0, 1, 0))["regions"]
    term.value.backward()
    return term.value.detach(), term.count, features


def by_region(objective: ImageRegions, batch: Batch, features: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each region with points: student rows, teacher cells and their weights, by a plain loop."""
    found: RegionBatch = batch.views[objective.view.name]
    parts = []
    for region in range(found.count):
        points = found.point[found.region == region]
        voxel = batch.inverse[points]
        rows = features.detach()[voxel[voxel >= 0]]
        mine = found.target == region
        if len(rows) and mine.any():
            parts.append((rows, found.features[found.cell[mine]].float(), found.weight[mine][:, None]))
    return parts


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=-1, keepdim=True)


def test_pointmcd_exactly(world: World, tmp_path: Path) -> None:
    """Mean |ReLU(BN(W max_n F_n)) - t| over views and channels, BN in train mode over the views of the batch."""
    objective = regions_objective(world, tmp_path, preset="pointmcd")
    batch = batch_of(world[0], objective, [0, 1, 2])
    value, count, features = run(objective, batch)
    parts = by_region(objective, batch, features)
    assert count == len(parts) == 2  # scan 1 has no picture
    pooled = torch.stack([rows.amax(dim=0) for rows, _, _ in parts]) @ objective.head.linear.weight.T  # type: ignore[union-attr]
    normal = (pooled - pooled.mean(0)) / torch.sqrt(pooled.var(0, unbiased=False) + 1e-5)
    target = torch.stack([(cells * weight).sum(0) for _, cells, weight in parts])
    expected = (torch.relu(normal) - target).abs().mean()
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)
    whole = np.load(world[1] / "sequences/00/features/000000.npy").astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(target[0].detach(), whole.reshape(6, -1).mean(1), atol=0.02)


@pytest.mark.parametrize("preset", ["slidr", "slidr_corrected"])
def test_slidr_exactly(world: World, tmp_path: Path, preset: str) -> None:
    """InfoNCE at 0.07 between means of unit rows, over all regions; slidr_corrected: renormalised, 5 points, 0.9."""
    superpixel = {"segments": 30, "sigma": 1.0}
    objective = regions_objective(world, tmp_path, preset=preset, regions={"superpixel": superpixel})
    batch = batch_of(world[0], objective, [0, 2], keep=0.5)
    value, count, features = run(objective, batch)
    parts = [p for p in by_region(objective, batch, features) if preset == "slidr" or len(p[0]) >= 5]
    with torch.no_grad():
        k = torch.stack([unit(objective.head(rows)).mean(0) for rows, _, _ in parts])
        q = torch.stack([(unit(objective.teacher_head(cells)) * weight).sum(0) for _, cells, weight in parts])
        if preset == "slidr_corrected":
            k, q = unit(k), unit(q)
        total = 0.0
        for s in range(len(k)):
            alike = torch.cosine_similarity(q[s : s + 1], q) > 0.9
            alike[s] = False
            logits = k[s] @ q.T / 0.07
            kept = logits[~alike] if preset == "slidr_corrected" else logits
            total += float(torch.logsumexp(kept, 0) - logits[s])
    assert count == len(parts) > 20
    assert value.item() == pytest.approx(total / len(k), rel=1e-4)
    assert objective.teacher_head.weight.grad is not None  # type: ignore[union-attr]
    assert features.grad is not None


@pytest.mark.parametrize("preset", ["scalr", "ppkt"])
def test_points_exactly(world: World, tmp_path: Path, preset: str) -> None:
    """ScaLR: mean norm of the difference of unit rows; PPKT: InfoNCE over sampled points."""
    changes = {"samples": 64} if preset == "ppkt" else {}
    objective = regions_objective(world, tmp_path, preset=preset, **changes)
    batch = batch_of(world[0], objective, [0, 2], keep=0.2)
    value, count, features = run(objective, batch)
    parts = by_region(objective, batch, features)
    assert all(len(rows) == 1 and len(weight) == 4 for rows, _, weight in parts)
    with torch.no_grad():
        k = torch.cat([unit(objective.head(rows)) for rows, _, _ in parts])
        q = torch.stack([unit(objective.teacher_head((cells * weight).sum(0))) for _, cells, weight in parts])
        if preset == "scalr":
            expected = float((k - q).norm(dim=1).mean())
        else:
            logits = k @ q.T / 0.07
            expected = float((torch.logsumexp(logits, 1) - logits.diagonal()).mean())
    assert count == len(parts)
    assert (count == 128) == (preset == "ppkt")
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_presets_are_those_of_the_papers() -> None:
    def of(name: str) -> ImageRegionsSettings:
        return validate(ImageRegionsSettings, {"preset": name, "teacher": {"kind": "maps", "root": "x"}}, "x")

    assert (of("pointmcd").regions.kind, of("pointmcd").pooling, of("pointmcd").loss) == ("view", "max", "l1")
    slidr = of("slidr")
    assert (slidr.regions.kind, slidr.pooling, slidr.loss, slidr.temperature) == (
        "superpixel",
        "mean",
        "info_nce",
        0.07,
    )
    cut = slidr.regions.superpixel
    assert (cut.segments, cut.compactness, cut.sigma) == (150, 6.0, 3.0)
    assert (of("scalr").regions.kind, of("scalr").loss, of("scalr").norm) == ("point", "unit_l2", "rows")
    assert (of("ppkt").samples, of("ppkt").regions.kind) == (4096, "point")
    assert set(PRESETS) == {"pointmcd", "slidr", "slidr_corrected", "ppkt", "scalr"}
    changed = validate(
        ImageRegionsSettings, {"preset": "slidr", "temperature": 0.1, "teacher": {"kind": "maps", "root": "x"}}, "x"
    )
    assert (changed.temperature, changed.loss) == (0.1, "info_nce")
    with pytest.raises(ConfigError, match="trivial"):
        validate(ImageRegionsSettings, {"preset": "slidr", "loss": "l1", "teacher": {"kind": "maps", "root": "x"}}, "x")


def test_small_regions_drop_out_and_are_counted(world: World, tmp_path: Path) -> None:
    objective = regions_objective(world, tmp_path, regions={"kind": "tile"}, min_points=200)
    batch = batch_of(world[0], objective, [0, 1])
    sizes = torch.bincount(batch.views[objective.view.name].region, minlength=48)
    output = Output(
        torch.zeros(len(batch.coordinates), 19),
        {"penultimate": Level(torch.randn(len(batch.coordinates), DIM), batch.coordinates, (1, 1, 1))},
    )
    terms = objective.terms(batch, output, Step(nn.Identity(), 0, 1, 0))
    assert terms["regions"].count == int((sizes >= 200).sum()) > 0
    assert terms["regions_dropped"].count == 48 - terms["regions"].count
    assert terms["scans_without_regions"].count == 1
    # a batch without any picture: an exact zero with a gradient path, everywhere
    batch = batch_of(world[0], objective, [1])
    value, count, features = run(objective, batch)
    assert (value.item(), count) == (0.0, 0)
    assert features.grad is not None
    assert all(p.grad is not None for p in objective.parameters())
    assert read_regions(objective.store, ("00", 1)) == []


def test_every_pooling_and_distance_runs(world: World, tmp_path: Path) -> None:
    first = regions_objective(world, tmp_path, regions={"kind": "tile"})
    batch = batch_of(world[0], first, [0], keep=0.1)
    for pooling in ("mean", "max", "attention"):
        for loss in ("l1", "smooth_l1", "cosine", "unit_l2", "kl"):
            for on in ("rows", "pooled"):
                changes = {"pooling": pooling, "loss": loss, "head": {"kind": "mlp", "on": on}}
                settings = first.settings.model_dump() | changes
                objective = ImageRegions(validate(ImageRegionsSettings, settings, "x"), context_of(world[0], tmp_path))
                value, count, features = run(objective, batch)
                assert torch.isfinite(value)
                assert count > 0
                assert features.grad is not None
                assert features.grad.abs().sum() > 0


def test_level_rows() -> None:
    rng = np.random.default_rng(0)
    fine = np.unique(rng.integers(0, 9, (200, 4)) % [2, 9, 9, 9], axis=0)
    coarse, parent = np.unique(fine // [1, 2, 2, 2], axis=0, return_inverse=True)
    shuffled = rng.permutation(len(coarse))
    batch = Batch(
        torch.zeros(0, 1), torch.zeros(0), torch.from_numpy(fine).int(), (9, 9, 9), torch.tensor([0, 0, 0]),
        torch.tensor([0, 0, 0]), torch.zeros(len(fine)),
    )  # fmt: skip
    level = Level(torch.zeros(len(coarse), 1), torch.from_numpy(coarse[shuffled]).int(), (2, 2, 2))
    np.testing.assert_array_equal(shuffled[level_rows(batch, level).numpy()], parent.reshape(-1))
    same = Level(torch.zeros(len(fine), 1), torch.from_numpy(fine).int(), (1, 1, 1))
    np.testing.assert_array_equal(level_rows(batch, same), np.arange(len(fine)))


def test_a_preset_of_0_1_0_goes_by_its_former_name() -> None:
    teacher = {"kind": "maps", "root": "x"}
    former = ImageRegionsSettings.model_validate({"preset": "slidr_mended", "teacher": teacher})
    assert former == ImageRegionsSettings.model_validate({"preset": "slidr_corrected", "teacher": teacher})
    assert former.alike == 0.9
