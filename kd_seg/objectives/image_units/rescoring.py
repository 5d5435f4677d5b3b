"""Backward distillation: the student judges the units, without any label (Umam et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kd_seg.caches import Cache
from kd_seg.core.geometry import rotation_z
from kd_seg.images.projection.cameras import ProjectionSettings, SeenView, seen_views
from kd_seg.images.units.cache import read_units
from kd_seg.images.units.units import Units
from kd_seg.losses.units import mean_probability, overlap, precision
from kd_seg.networks import Encoding, collate, encode
from kd_seg.objectives.image_units.settings import BackwardSettings
from kd_seg.scans import Cloud, Key, Points, SemanticKitti


@dataclass(frozen=True)
class Judge:
    """Scores units by their agreement with a network.

    Attributes:
        store: of the units. data: scans; their labels are never opened.
        sets: [C2, C] bool of the class map.
        seed: of the augmentation that the network judges on.
    """

    store: Cache
    data: SemanticKitti
    encoding: Encoding
    projection: ProjectionSettings
    settings: BackwardSettings
    sets: Tensor
    device: torch.device
    seed: int

    def ratios(self, network: nn.Module, keys: Iterable[Key], first: dict[Key, int], count: int, turn: int) -> Tensor:
        """r_u and the mean probability of the units of some scans: [2, count] on the CPU, NaN for those not judged.

        Args:
            network: put into eval mode for the time being. turn: number of the round, for the augmentation.
        """
        ratios = torch.full((2, count), torch.nan)
        was = network.training
        network.eval()
        try:
            with torch.no_grad():
                for key in keys:
                    units = read_units(self.store, key)
                    if len(units):
                        ratios[:, first[key] : first[key] + len(units)] = self._scan(network, key, units, turn)
        finally:
            network.train(was)
        return ratios

    def _scan(self, network: nn.Module, key: Key, units: Units, turn: int) -> Tensor:
        scan = self.data.scan(*key)
        cloud = Cloud.of_scan(scan, with_labels=False)
        probabilities = self._predict(network, cloud.points, [self.seed, turn, key[1]])
        where = np.full(len(scan.points), -1, dtype=np.int64)
        where[cloud.source] = np.arange(len(cloud))
        claims = self.sets[torch.from_numpy(units.teacher_class.astype(np.int64))]
        point, unit = where[units.points], units.unit_of_pair()
        known = (point >= 0) & (probabilities[np.maximum(point, 0)].sum(dim=1) > 0).numpy()
        rows, unit_rows = torch.from_numpy(point[known]), torch.from_numpy(unit[known])
        measure = self.settings.measure
        likely = mean_probability(probabilities[rows], unit_rows, claims)
        if measure == "probability":
            ratio = likely
        elif measure == "precision":
            ratio = precision(probabilities[rows].argmax(dim=1), unit_rows, claims)
        else:
            around, inside, holder = self._around(
                units, seen_views(scan, self.data.sequences[key[0]], self.projection), where
            )
            sizes = torch.bincount(unit_rows, minlength=len(units))
            ratio = overlap(probabilities[around].argmax(dim=1), inside, holder, claims, sizes)
        judged = torch.bincount(unit_rows, minlength=len(units)) >= self.settings.min_points
        return torch.where(judged, torch.stack([ratio, likely]), torch.nan)

    def _predict(self, network: nn.Module, points: Points, seed: list[int]) -> Tensor:
        """Class probabilities [N, C] on the CPU, mean over the draws; 0 for points outside the grid."""
        total: Tensor | None = None
        seen = torch.zeros(len(points))
        rng = np.random.default_rng(seed)
        for _ in range(max(self.settings.judge_draws, 1)):
            turned = points if self.settings.judge_draws == 0 else _turned(points, rng)
            batch = collate([encode(turned, None, self.encoding)], self.encoding.grid).to(self.device)
            share = torch.softmax(network(batch).logits.float(), dim=1)
            inside = batch.inverse >= 0
            rows = (share[batch.inverse.clamp_min(0)] * inside[:, None]).cpu() if len(share) else seen[:, None]
            total = rows if total is None else total + rows
            seen += inside.cpu().float()
        assert total is not None
        return total / seen.clamp_min(1)[:, None]

    def _around(
        self, units: Units, views: list[SeenView], where: npt.NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Points visible in each unit's view within its enlarged box: (rows, whether they are the unit's, unit)."""
        rows, inside, holder = [], [], []
        for unit in range(len(units)):
            pairs = views[int(units.view[unit])].pairs
            box = units.box[unit]
            margin = (box[2:] - box[:2]) * self.settings.enlarge / 2.0
            near = ((pairs.pixels >= box[:2] - margin) & (pairs.pixels < box[2:] + margin)).all(axis=1)
            members = np.union1d(pairs.rows[near], units.rows(unit))
            own = np.isin(members, units.rows(unit))
            known = where[members] >= 0
            rows.append(where[members[known]])
            inside.append(own[known])
            holder.append(np.full(int(known.sum()), unit))
        return tuple(torch.from_numpy(np.concatenate(part)) for part in (rows, inside, holder))  # type: ignore[return-value]


def _turned(points: Points, rng: np.random.Generator) -> Points:
    """The cloud under a random yaw and random flips."""
    flips = rng.integers(0, 2, 2)
    matrix = rotation_z(rng.uniform(-np.pi, np.pi)) @ np.diag([1.0 - 2.0 * flips[0], 1.0 - 2.0 * flips[1], 1.0])
    turned = points.copy()
    turned[:, :3] = points[:, :3] @ matrix.T.astype(np.float32)
    return turned
