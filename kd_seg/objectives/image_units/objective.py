"""``image_units``: what 2D teachers claim about sets of points, forward and backward (PartDistill; methods 3)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd_seg.caches import Work
from kd_seg.classes import ClassTable
from kd_seg.images.units.cache import build_units, open_units
from kd_seg.images.units.class_maps import load_class_map
from kd_seg.losses.supervised import lovasz_softmax
from kd_seg.losses.units import class_weights, forward_distillation, heaviest_claim, root_weights, scale_scores
from kd_seg.losses.zero import exact_zero
from kd_seg.networks import Batch, Output
from kd_seg.objectives.image_units.rescoring import Judge, settled
from kd_seg.objectives.image_units.settings import BackwardSettings, ImageUnitsSettings
from kd_seg.objectives.image_units.view import UnitBatch, UnitsView
from kd_seg.objectives.interface import OBJECTIVES, Context, Objective, Step, Term, View
from kd_seg.objectives.shared.image_teaching import MEND, regime, tools
from kd_seg.scans import Key, SemanticKitti


@OBJECTIVES.register("image_units")
class ImageUnits(Objective):
    """Learn from knowledge units; with ``backward`` they are re-scored by the student itself, never by labels.

    State that is saved: r_u and s_u of every unit, the epoch losses, the round, and the EMA student.
    """

    Settings = ImageUnitsSettings
    needs_labels = False
    sets: Tensor
    likelihoods: Tensor
    root: Tensor
    usual: Tensor
    ratio: Tensor
    score: Tensor

    def __init__(self, settings: ImageUnitsSettings, context: Context) -> None:
        super().__init__()
        self.settings, self.context = settings, context
        source = settings.source()
        self.class_map = load_class_map(settings.class_map, context.classes)
        self.store = open_units(source, context.cache, context.data, context.classes, MEND)
        self.view = UnitsView(f"image_units {self.store.folder.name}", self.store, self._number())
        self.register_buffer("sets", torch.from_numpy(self.class_map.sets.copy()), persistent=False)
        likelihoods = torch.from_numpy(self.class_map.likelihoods(settings.secondary))
        self.register_buffer("likelihoods", likelihoods, persistent=False)
        usual = torch.from_numpy(self.class_map.usual)
        self.register_buffer("usual", usual, persistent=False)
        self.register_buffer("ratio", torch.full((self.units,), torch.nan))
        self.register_buffer("score", torch.ones(self.units))
        self.register_buffer("root", self._root_weights())
        self.ema: nn.Module | None = None
        if settings.backward is not None and settings.backward.student == "ema":
            self.ema = copy.deepcopy(context.student).requires_grad_(False)
        self.history: list[float] = []
        self.round, self.last = 0, 0
        self._sum, self._steps = 0.0, 0

    @staticmethod
    def prepare(
        settings: ImageUnitsSettings, data: SemanticKitti, classes: ClassTable, cache: Path, work: Work
    ) -> None:
        """Build the cache of units."""
        lent = tools(data, classes, work.device, load_class_map(settings.class_map, classes).vocabulary)
        build_units(settings.source(), cache, data, classes, lent, work)

    def _number(self) -> dict[Key, int]:
        """First unit of each scan in the numbering of the whole data set; class and points of each where asked for."""
        first: dict[Key, int] = {}
        self.units = 0
        klass, sizes = [torch.zeros(0, dtype=torch.int64)], [torch.zeros(0)]
        for key in self.context.data.keys():  # noqa: SIM118 - not a mapping
            first[key] = self.units
            self.units += self.store.count(key, "klass")
            if self.settings.class_weights == "root":
                record = self.store.record(key, ("klass", "offsets"))
                sizes.append(torch.from_numpy(record["offsets"]).diff().float())
                klass.append(torch.from_numpy(record["klass"].astype("int64")))
        self.claimed = torch.cat(klass), torch.cat(sizes)
        return first

    def _root_weights(self) -> Tensor:
        """``root`` weight [C2] of each teacher class, by the points claimed, as far as they are believed."""
        klass, sizes = self.claimed
        believed = torch.zeros(len(self.class_map))
        believed.index_add_(0, klass, sizes * self.score.cpu()[: len(sizes)])
        return root_weights(believed, self.usual.cpu(), len(self.context.classes)).to(self.score.device)

    def views(self) -> list[View]:
        """The units of each sample."""
        return [self.view]

    def terms(self, batch: Batch, output: Output, step: Step) -> dict[str, Term]:
        """ "units" over covered points, "units_lovasz" if asked for, and three counters: pairs outside the grid, live
        units, scans without units.
        """
        found: UnitBatch = batch.views[self.view.name]
        voxel = batch.inverse[found.point]
        inside = voxel >= 0
        point, unit = found.point[inside], found.unit[inside]
        covered, row = torch.unique(point, return_inverse=True)
        logits = output.logits[batch.inverse[covered]]
        claims = self.likelihoods[found.klass]
        weights, alive = self._weights(found, unit, self.sets[found.klass])
        distribution = (found.distribution, self.likelihoods) if found.distribution.shape[1] else None
        total = len(batch.features) if self.settings.average == "all" else None
        value, count = forward_distillation(logits, row, unit, claims, weights, distribution, total)
        if count == 0:
            value = exact_zero(output.logits)
        self._sum, self._steps = self._sum + float(value.detach()), self._steps + 1
        zero = exact_zero(output.logits)
        more = {}
        if self.settings.lovasz > 0:
            strength = self.score[found.identity] * found.confidence
            labels = heaviest_claim(row, unit, strength, self.usual[found.klass] + 1, len(covered))
            more["units_lovasz"] = Term(
                lovasz_softmax(logits, labels)[0], self.settings.lovasz, int((labels > 0).sum())
            )
        return {
            **more,
            "units": Term(value, self.settings.weight, count),
            "units_outside_grid": Term(zero, 0.0, int((~inside).sum())),
            "units_alive": Term(zero, 0.0, int(alive.sum())),
            "scans_without_units": Term(zero, 0.0, found.without),
        }

    def _weights(self, found: UnitBatch, unit: Tensor, claims: Tensor) -> tuple[Tensor, Tensor]:
        """Weight [U] of each unit of the batch, and whether it is alive."""
        score = self.score[found.identity]
        replaced = self.settings.backward is not None and self.settings.backward.replace and self.round > 0
        weights = score.clone()
        if self.settings.confidence and not replaced:
            weights = weights * found.confidence
        alive = score > 0
        if self.settings.class_weights == "log4" and len(found.klass):
            per_class = class_weights(unit[alive[unit]], claims)
            weights = weights * torch.where(claims, per_class, torch.zeros_like(per_class)).amax(dim=1)
        elif self.settings.class_weights == "root":
            weights = weights * self.root[found.klass]
        return weights, alive

    # ------------------------------------------------------------------ backward

    def after_step(self, step: Step) -> None:
        """The EMA student follows; its batch-norm statistics too, as both see the same kind of input."""
        if self.ema is None:
            return
        assert self.settings.backward is not None
        momentum = min(self.settings.backward.momentum, 1.0 - 1.0 / (step.number + 1))
        source = bare(step.student).state_dict()
        with torch.no_grad():
            for name, mine in self.ema.state_dict().items():
                if mine.dtype.is_floating_point:
                    mine.lerp_(source[name], 1.0 - momentum)
                else:
                    mine.copy_(source[name])

    def after_epoch(self, step: Step, mean_loss: float) -> bool:
        """Re-score the units where it is time; the loader need not be built anew, as scores live here."""
        self.history.append(self._mean())
        backward = self.settings.backward
        if backward is not None and self._due(backward, len(self.history)):
            self._rescore(backward, step)
        return False

    def _mean(self) -> float:
        """This epoch's mean of the unit loss, over all processes, so that all begin the backward pass together."""
        total = torch.tensor([self._sum, float(self._steps)], dtype=torch.float64)
        self._sum, self._steps = 0.0, 0
        if torch.distributed.is_initialized():
            total = total.to(self.score.device)
            torch.distributed.all_reduce(total)
        return float(total[0] / total[1].clamp_min(1))

    def _due(self, backward: BackwardSettings, epoch: int) -> bool:
        if self.round >= backward.rounds:
            return False
        if self.round > 0:
            return epoch - self.last >= backward.every
        if backward.start_epoch is not None:
            return epoch >= backward.start_epoch
        return settled(self.history, backward.window, backward.tolerance, backward.min_epochs)

    def _rescore(self, backward: BackwardSettings, step: Step) -> None:
        judge = Judge(
            store=self.store,
            data=self.context.data,
            encoding=self.context.encoding,
            projection=self.settings.projection,
            settings=backward,
            sets=self.sets.cpu(),
            device=self.score.device,
            seed=self.context.config.run.seed if self.context.config is not None else 0,
        )
        self.round, self.last = self.round + 1, len(self.history)
        keys = self.context.data.keys()
        parallel = torch.distributed.is_initialized()
        if parallel:
            keys = keys[torch.distributed.get_rank() :: torch.distributed.get_world_size()]
        ratios = judge.ratios(self.ema or bare(step.student), keys, self.view.first, self.units, self.round)
        ratios = ratios.to(self.score.device)
        if parallel:
            filled = torch.stack([torch.nan_to_num(ratios), (~torch.isnan(ratios)).float()])
            torch.distributed.all_reduce(filled)
            ratios = torch.where(filled[1] > 0, filled[0], torch.nan)
        ratio, likely = ratios
        judged = ~torch.isnan(ratio)
        klass, spoilt = self._columns()
        plain = torch.where(judged, ratio, torch.ones_like(ratio))
        if backward.replace:
            self.score.copy_(plain)
        else:
            self.score.copy_(
                scale_scores(
                    plain,
                    torch.nan_to_num(likely),
                    klass,
                    judged,
                    backward.quantile,
                    backward.power,
                    backward.floor,
                    backward.drop_below,
                    backward.unknown_below,
                )
            )
            self.root.copy_(self._root_weights())
        self.ratio.copy_(ratio)
        self._write(klass.cpu(), spoilt.cpu(), judged.cpu())

    def _columns(self) -> tuple[Tensor, Tensor]:
        """Teacher class, and how it was spoilt on purpose, of every unit of the data set."""
        klass = torch.zeros(self.units, dtype=torch.int64)
        spoilt = torch.zeros(self.units, dtype=torch.int64)
        for key, start in self.view.first.items():
            record = self.store.record(key, ("klass", "spoilt"))
            end = start + len(record["klass"])
            klass[start:end] = torch.from_numpy(record["klass"].astype("int64"))
            spoilt[start:end] = torch.from_numpy(record["spoilt"].astype("int64"))
        return klass.to(self.score.device), spoilt.to(self.score.device)

    def _write(self, klass: Tensor, spoilt: Tensor, judged: Tensor) -> None:
        """One line per round in the run folder's units.jsonl: what the backward pass made of each class."""
        config = self.context.config
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        if config is None or config.run.folder is None or not first:
            return
        ratio, score = self.ratio.cpu(), self.score.cpu()

        def summary(mask: Tensor) -> dict[str, Any]:
            seen = mask & judged
            return {
                "units": int(mask.sum()),
                "judged": int(seen.sum()),
                "ratio": round(float(ratio[seen].mean()), 4) if seen.any() else None,
                "score": round(float(score[mask].mean()), 4),
                "dropped": int((score[mask] == 0).sum()),
            }

        present = torch.unique(klass).tolist()
        line = {
            "epoch": len(self.history),
            "round": self.round,
            "classes": {self.class_map.vocabulary[k]: summary(klass == k) for k in present},
            "right": summary(spoilt == 0),
            "spoilt": summary(spoilt > 0) if bool((spoilt > 0).any()) else None,
        }
        path = Path(config.run.folder) / "units.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Rounds that an earlier run, or a resumed one after its last save, has written are said anew.
        before = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        kept = [old for old in before if json.loads(old)["round"] < self.round] if self.round > 1 else []
        path.write_text("".join(kept) + json.dumps(line) + "\n", encoding="utf-8")

    # ------------------------------------------------------------------ files

    def get_extra_state(self) -> dict[str, Any]:
        """Losses by epoch and the round."""
        return {
            "history": list(self.history),
            "round": self.round,
            "last": self.last,
            "sum": self._sum,
            "steps": self._steps,
        }

    def set_extra_state(self, state: Any) -> None:
        """Inverse of ``get_extra_state``."""
        self.history, self.round, self.last = list(state["history"]), state["round"], state["last"]
        self._sum, self._steps = state["sum"], state["steps"]

    def describe(self) -> dict[str, Any]:
        """Settings, what the teacher was trained on, and the name that such a run goes by."""
        provenance = self.store.header.provenance
        return {
            **self.settings.model_dump(mode="json"),
            "teacher_provenance": provenance,
            "regime": regime(provenance, self.context),
        }


def bare(student: nn.Module) -> nn.Module:
    """The network itself, out of its DDP wrapper."""
    return student.module if isinstance(student, nn.parallel.DistributedDataParallel) else student
