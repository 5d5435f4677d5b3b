"""Evidence of pictures: how likely an image teacher's answers are at points of each class, counted without labels.

An answer of an image teacher stands for a set of classes (docs/image_teachers.md). How far it is worth believing is
counted on the drive itself, against the soft predictions of the point teacher, as annotators are judged by each other
in A. P. Dawid and A. M. Skene, "Maximum likelihood estimation of observer error-rates using the EM algorithm", Journal
of the Royal Statistical Society C, 1979 (a few steps; here the classes of a set share one rate).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.adaptation.teacher import Distribution
from kd_seg.images.units.class_maps import ClassMap

CONFIDENCE_BORDERS = (0.5, 0.8)
"""An image teacher's answers are judged apart below, between and above these."""

LEVELS = len(CONFIDENCE_BORDERS) + 1

NO_ANSWER = -1

LEAST = 0.05
"""What an answer leaves at least of the probability of a class that it speaks against."""

PRIOR = 0.1
"""Weight of what is assumed before anything is counted, as a share of the points that have an answer."""

STEPS = 2
"""How often answers are counted: against the point teacher alone, then against what the first count made of it."""

Answers = npt.NDArray[np.int16]
"""[N] ``LEVELS`` * teacher class + level of confidence of what a picture shows at a point; ``NO_ANSWER`` = none."""

Likelihood = npt.NDArray[np.float32]
"""[A, C] how likely an answer is where a point is of each class, as a share of the most likely one."""


def answers_of(teacher_class: npt.NDArray[np.int64], confidence: npt.NDArray[np.float32]) -> Answers:
    """Answers [n] from teacher classes [n] and their confidences [n], 0-1."""
    return (LEVELS * teacher_class + np.digitize(confidence, CONFIDENCE_BORDERS)).astype(np.int16)


class Confusion:
    """Counts of answers [A, C] by the classes that the point teacher predicts.

    Args:
        class_map: what the image teacher's classes stand for.
    """

    def __init__(self, class_map: ClassMap) -> None:
        self._map = class_map
        self.counts = np.zeros((LEVELS * len(class_map), class_map.sets.shape[1]))

    def add(self, answers: Answers, distribution: Distribution) -> None:
        """Count the answers [N] of one scan by the point teacher's probabilities [N, C]."""
        rows = np.flatnonzero(answers != NO_ANSWER)
        for column in range(self.counts.shape[1]):
            self.counts[:, column] += np.bincount(answers[rows], distribution[rows, column], len(self.counts))

    def likelihood(self) -> Likelihood:
        """How likely each answer is [A, C].

        The classes of an answer's set share one rate, h, that at which points of any of them get it: a picture
        restricts what a point can be, and does not choose within the set. Each class outside has its own rate, drawn to
        the mean rate of all of them, and at most h. So an answer that comes as often elsewhere changes nothing, and
        neither does one without a set.
        """
        result = np.ones(self.counts.shape)
        prior = PRIOR * self.counts.sum()
        points = self.counts.sum(axis=0)
        for answer, count in enumerate(self.counts):
            inside = self._map.sets[answer // LEVELS]
            if not inside.any() or count.sum() == 0:
                continue
            hit = count[inside].sum() / max(points[inside].sum(), 1e-9)
            stray = count[~inside].sum() / max(points[~inside].sum(), 1e-9)
            rates = (count + prior * stray) / (points + prior)
            if hit > 0:
                result[answer, ~inside] = np.clip(rates[~inside] / hit, LEAST, 1.0)
        return result.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """By teacher class: points with that answer, and the point teacher's mean probability of its set there."""
        counts = self.counts.reshape(len(self._map), LEVELS, -1).sum(axis=1)
        return {
            name: {
                "points": round(float(count.sum())),
                "agreement": float(count[inside].sum() / count.sum()) if count.sum() > 0 else None,
            }
            for name, count, inside in zip(self._map.vocabulary, counts, self._map.sets, strict=True)
        }


def estimate(
    scans: Callable[[], Iterable[tuple[Answers, Distribution]]], class_map: ClassMap
) -> tuple[Confusion, Likelihood]:
    """What an image teacher's answers are worth on a drive.

    Args:
        scans: gives the answers [N] and the point teacher's probabilities [N, C] of every scan, each time it is called.

    Returns:
        The counts against the point teacher alone, and the likelihood of each answer.
    """
    alone = Confusion(class_map)
    for answers, distribution in scans():
        alone.add(answers, distribution)
    likelihood = alone.likelihood()
    for _ in range(STEPS - 1):
        again = Confusion(class_map)
        for answers, distribution in scans():
            again.add(answers, weighed(distribution, answers, likelihood))
        likelihood = again.likelihood()
    return alone, likelihood


@dataclass(frozen=True)
class Evidence:
    """What pictures say about the points of a drive.

    Attributes:
        folder: holds a file per scan with the answers at its points. likelihood: of each answer.
    """

    folder: Path
    likelihood: Likelihood

    def apply(self, distribution: Distribution, sequence: str, index: int) -> Distribution:
        """The point teacher's probabilities [N, C] of a scan, weighed by what its pictures show."""
        return weighed(distribution, read_answers(self.folder, sequence, index), self.likelihood)


def weighed(distribution: Distribution, answers: Answers, likelihood: Likelihood) -> Distribution:
    """Probabilities [N, C] times the likelihood of the answers [N]; points without an answer keep theirs."""
    result = distribution.copy()
    rows = np.flatnonzero((answers != NO_ANSWER) & (distribution.sum(axis=1) > 0))
    product = distribution[rows] * likelihood[answers[rows]]
    result[rows] = product / product.sum(axis=1, keepdims=True)
    return result


def answers_path(folder: Path, sequence: str, index: int) -> Path:
    """File of the answers at a scan's points."""
    return folder / sequence / f"{index:06d}.npy"


def read_answers(folder: Path, sequence: str, index: int) -> Answers:
    """The answers [N] at a scan's points."""
    found: Answers = np.load(answers_path(folder, sequence, index))
    return found
