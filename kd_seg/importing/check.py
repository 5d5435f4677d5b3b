"""Whether an imported network answers as its project published: its scores on labelled scans beside that figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from kd_seg.evaluation.evaluate import Selection, evaluate_scan, select
from kd_seg.evaluation.metrics import scores
from kd_seg.evaluation.predictors import NetworkPredictor
from kd_seg.scans import Scan
from kd_seg.serving.segmenter import Segmenter

Track = Callable[[Selection], Iterable[Scan]]
Verdict = Literal["as published", "below", "wrong", "nothing to compare with"]

MARGIN = 0.10
"""mIoU by which a subset of other scans and classes may miss the figure of the whole split."""

WRONG = 0.5
"""Share of right points below which a network was converted, or fed, wrongly: trained ones are above 0.8."""

DRAWS = 1000


@dataclass(frozen=True)
class PublishedCheck:
    """What labelled scans say of a checkpoint.

    Attributes:
        scans, sequences: what was scored. trained_on: which of the sequences were training data.
        accuracy: share of labelled points answered right. miou: mean over the classes that occur.
        low, high: 2.5 and 97.5 % quantiles of it over scans drawn with replacement.
        classes: how many classes occur. published: mIoU of the whole validation split as published, or None.
        outside: share of points that the network cannot see.
    """

    scans: int
    sequences: tuple[str, ...]
    trained_on: tuple[str, ...]
    accuracy: float
    miou: float
    low: float
    high: float
    classes: int
    published: float | None
    outside: float

    @property
    def verdict(self) -> Verdict:
        """The figures in a word; "wrong" where so few points are right that order, unit or layout must be."""
        if self.accuracy < WRONG:
            return "wrong"
        if self.published is None:
            return "nothing to compare with"
        return "as published" if self.high + MARGIN >= self.published else "below"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "verdict": self.verdict}

    def lines(self) -> list[str]:
        """For a person."""
        text = [
            f"checked on {self.scans} scans of {', '.join(self.sequences)}: {100 * self.accuracy:.1f} % of the points "
            f"right, mIoU {100 * self.miou:.1f} over {self.classes} classes (95 % of resamples of the scans: "
            f"{100 * self.low:.1f} to {100 * self.high:.1f}), {100 * self.outside:.1f} % of the points not seen"
        ]
        if self.published is not None:
            text.append(f"published: mIoU {100 * self.published:.1f} on the whole validation split")
        if self.trained_on:
            text.append(f"sequences {', '.join(self.trained_on)} were training data; expect more than published")
        text.append(f"verdict: {self.verdict}{_REASONS[self.verdict]}")
        return text


_REASONS: dict[Verdict, str] = {
    "as published": ", within what scans of another choice allow",
    "below": "; other scans, sensors and classes cost mIoU, a wrong intensity range and wrong heights do too",
    "wrong": "; classes in another order, intensities in another unit, or weights in another layout look like this",
    "nothing to compare with": "; no figure was published for this network and data",
}


def check(checkpoint: Path, root: Path, sequences: list[str] | None, track: Track) -> PublishedCheck:
    """Score a checkpoint on the labelled scans of a data root: the named sequences, or the validation split.

    Raises DataError for data without labels or with raw ids that the checkpoint's classes do not know.
    """
    segmenter = Segmenter(checkpoint)
    selection = select(root, sequences, None if sequences else "valid")
    network = NetworkPredictor(segmenter)
    each = [evaluate_scan(network, scan) for scan in track(selection)]
    record = segmenter.spec.training.get("imported", {})
    matrices = np.stack([one.matrix for one in each])
    total = sum(one.points for one in each)
    low, high = _interval(matrices, segmenter)
    found = scores(matrices.sum(axis=0), segmenter.classes)
    published = record.get("published_miou")
    return PublishedCheck(
        scans=len(each),
        sequences=tuple(selection.data.sequences),
        trained_on=tuple(name for name in selection.data.sequences if name in record.get("trained_on", ())),
        accuracy=float(found.accuracy or 0.0),
        miou=float(found.miou_present or 0.0),
        low=low,
        high=high,
        classes=int((matrices.sum(axis=0)[:, 1:].sum(axis=0) > 0).sum()),
        published=None if published is None else published / 100,
        outside=sum(one.outside for one in each) / max(total, 1),
    )


def _interval(matrices: npt.NDArray[np.int64], segmenter: Segmenter) -> tuple[float, float]:
    """Quantiles of the mIoU over the classes that occur, over scans drawn with replacement."""
    rng = np.random.default_rng(0)
    draws = [
        scores(matrices[rng.integers(len(matrices), size=len(matrices))].sum(axis=0), segmenter.classes).miou_present
        for _ in range(DRAWS)
    ]
    low, high = np.quantile([float(d or 0.0) for d in draws], (0.025, 0.975))
    return float(low), float(high)
