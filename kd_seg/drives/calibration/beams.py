"""The shot pattern of a sensor from its clouds: beams, shots per turn, sector, directions that its vehicle hides."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from kd_seg.drives.calibration.own_vehicle import OwnVehicle
from kd_seg.drives.recording import RecordedCloud

FAR_M = 3.0
"""Elevations are measured beyond: nearer, the height at which a beam starts shows."""

LEAST_RETURNS = 5
"""Per cloud, on average: a beam with fewer sees nothing but its own vehicle."""

STEP_DEG = 0.05
DEEPEST_VALLEY = 0.2
"""Returns between two beams, of those on the weaker one, where no field tells beams apart: more are no beams."""

OCCUPIED, SHARED, NEAR_PEAKS_DEG = 0.3, 0.5, 0.8
"""Returns of a direction, of a peak's most, that count; share of directions below which two peaks this near are one."""

LEAST_BEAMS, MOST_BEAMS = 4, 256
WIDEST_DEG = 1.0
"""Median distance of a beam's returns from its elevation. The lines of a petal pattern lie everywhere."""

MOST_RETURNS = 3_000_000
BINS = 180
HIDDEN_SHARE = 0.1
"""Of the expected returns: with fewer, something at the vehicle hides the ground in that direction."""

GROUND_M = 40.0
"""Beams that meet flat ground nearer than this should return everywhere."""

NEAR_GROUND_M = (4.0, 15.0)
FULL_TURN_DEG = 340.0
LEAST_CLOUDS = 10


@dataclass(frozen=True)
class Beams:
    """A spinning sensor's shots.

    Attributes:
        elevation_deg: of every beam that returns anything, from the top.
        shots: of a beam per full turn.
        sector_deg: azimuth of the right and left end, None for a full turn.
        clockwise: seen from above.
        hidden: (beam, azimuths from, to, from, to ... within 0 to 360) that never return, though ground is there.
        lost: share of shots at near ground that do not return.
    """

    elevation_deg: tuple[float, ...]
    shots: int
    sector_deg: tuple[float, float] | None
    clockwise: bool
    hidden: tuple[tuple[int, tuple[float, ...]], ...]
    lost: float


@dataclass(frozen=True)
class _Returns:
    """All returns beyond the own vehicle: beam from the top, azimuth in radians, elevation in degrees, cloud."""

    beam: npt.NDArray[np.int64]
    azimuth: npt.NDArray[np.float64]
    elevation: npt.NDArray[np.float64]
    cloud: npt.NDArray[np.int64]


def find_beams(
    frames: list[RecordedCloud], height_m: float, own: OwnVehicle | None, azimuth_deg: float, moving: bool
) -> Beams | None:
    """The beams of clouds, by their ring field or else by peaks of elevation; None where there are neither.

    Of many dense clouds some are read, evenly spread.

    Args:
        height_m: of the sensor over the ground. azimuth_deg: degrees of azimuth that hold returns.
        moving: what never returns is then hidden by the vehicle, not by the world.
    """
    frames = _thinned(frames)
    found = _returns(frames, own)
    if found is None:
        return None
    found, elevations = _from_the_top(found, len(frames))
    if not LEAST_BEAMS <= len(elevations) <= MOST_BEAMS or _spread(found, elevations) > WIDEST_DEG:
        return None
    shots = _shots(found)
    counts, expected = _counts(found, len(elevations), shots, len(frames))
    ground_m = np.where(elevations < 0, height_m / np.maximum(np.sin(np.radians(-elevations)), 1e-6), np.inf)
    hidden = np.zeros_like(counts, dtype=bool)
    if moving and len(frames) >= LEAST_CLOUDS and azimuth_deg >= FULL_TURN_DEG:
        hidden[ground_m < GROUND_M] = counts[ground_m < GROUND_M] < HIDDEN_SHARE * expected
    near = (ground_m >= NEAR_GROUND_M[0]) & (ground_m < NEAR_GROUND_M[1])
    seen = counts[near][~hidden[near] & (counts[near] > 0)]
    return Beams(
        elevation_deg=tuple(round(float(value), 3) for value in elevations),
        shots=shots,
        sector_deg=_sector(found.azimuth) if azimuth_deg < FULL_TURN_DEG else None,
        clockwise=_clockwise(frames),
        hidden=tuple((beam, _ranges(row)) for beam, row in enumerate(hidden) if row.any()),
        lost=round(float(np.clip(1.0 - np.median(seen) / expected, 0.0, 0.5)), 3) if len(seen) else 0.0,
    )


def _thinned(frames: list[RecordedCloud]) -> list[RecordedCloud]:
    """Every n-th cloud, so that they hold about MOST_RETURNS together, and never fewer than LEAST_CLOUDS for that."""
    total = sum(len(frame.points) for frame in frames)
    step = min(-(-total // MOST_RETURNS), max(len(frames) // LEAST_CLOUDS, 1))
    return frames[::step]


def _spread(found: _Returns, elevations: npt.NDArray[np.float64]) -> float:
    """Median distance in degrees of the returns from their beam's elevation."""
    far = np.isfinite(found.elevation)
    return float(np.median(np.abs(found.elevation[far] - elevations[found.beam[far]])))


def _returns(frames: list[RecordedCloud], own: OwnVehicle | None) -> _Returns | None:
    parts = []
    for number, frame in enumerate(frames):
        xyz, rings = frame.points[:, :3].astype(np.float64), frame.rings
        keep = np.ones(len(xyz), bool)
        if own is not None:
            keep = ~((xyz >= own.lowest) & (xyz <= own.highest)).all(axis=1)
        flat = np.hypot(xyz[keep, 0], xyz[keep, 1])
        elevation = np.where(flat > FAR_M, np.degrees(np.arctan2(xyz[keep, 2], np.maximum(flat, 1e-6))), np.nan)
        azimuth = np.arctan2(xyz[keep, 1], xyz[keep, 0])
        beam = rings[keep] if rings is not None else np.full(len(flat), -1)
        parts.append((beam, azimuth, elevation, np.full(len(flat), number)))
    beam, azimuth, elevation, cloud = (np.concatenate(column) for column in zip(*parts, strict=True))
    if (beam < 0).any():
        peaks = _peaks(elevation[np.isfinite(elevation)])
        if len(peaks) == 0:
            return None
        borders = (peaks[1:] + peaks[:-1]) / 2
        part = np.searchsorted(borders, np.nan_to_num(elevation))
        beam = np.where(np.isfinite(elevation), _joined(part, azimuth, peaks)[part], -1)
    return _Returns(beam.astype(np.int64), azimuth, elevation, cloud)


def _peaks(elevation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Elevations, rising, at which returns gather; none where they gather at too few or too many, or hardly."""
    counts, edges = np.histogram(elevation, np.arange(-90.0, 90.0 + STEP_DEG, STEP_DEG))
    padded = np.pad(counts, 1)
    peak = (counts >= padded[:-2]) & (counts > padded[2:]) & (counts > 0.03 * counts.max())
    found, at = edges[:-1][peak] + STEP_DEG / 2, np.flatnonzero(peak)
    valleys = [counts[low:high].min() / min(counts[low], counts[high]) for low, high in itertools.pairwise(at)]
    enough = LEAST_BEAMS <= len(found) <= MOST_BEAMS and float(np.median(valleys)) <= DEEPEST_VALLEY
    beams: npt.NDArray[np.float64] = found if enough else found[:0]
    return beams


def _joined(
    part: npt.NDArray[np.int64], azimuth: npt.NDArray[np.float64], peaks: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """The beam of every peak [P]: neighbours that share hardly any azimuth are one beam.

    Where the motion within a sweep was undone, a beam's near ground lies higher in front than behind, in two or three
    peaks; different beams see ground, and what stands on it, in the same directions.
    """
    cell = _cells(azimuth)
    counts = np.bincount(part * BINS + cell, minlength=len(peaks) * BINS).reshape(len(peaks), BINS)
    seen = counts > OCCUPIED * np.percentile(counts, 95, axis=1)[:, None]
    beam, whole = np.zeros(len(peaks), np.int64), seen[0]
    for number in range(1, len(peaks)):
        shared = (seen[number] & whole).sum() / max(min(seen[number].sum(), whole.sum()), 1)
        one = shared < SHARED and peaks[number] - peaks[number - 1] < NEAR_PEAKS_DEG
        beam[number] = beam[number - 1] + (0 if one else 1)
        whole = (whole | seen[number]) if one else seen[number]
    return beam


def _cells(azimuth: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Number 0 .. BINS - 1 of the part of the circle that each azimuth lies in."""
    return (azimuth % (2 * np.pi) / (2 * np.pi) * BINS).astype(np.int64) % BINS


def _from_the_top(found: _Returns, clouds: int) -> tuple[_Returns, npt.NDArray[np.float64]]:
    """The returns of beams that return enough, renumbered from the top, and the beams' elevations [B]."""
    far = np.isfinite(found.elevation) & (found.beam >= 0)
    numbers, counts = np.unique(found.beam[far], return_counts=True)
    numbers = numbers[counts >= LEAST_RETURNS * clouds]
    middle = np.array([np.median(found.elevation[far & (found.beam == number)]) for number in numbers])
    order = np.argsort(-middle)
    keep = np.isin(found.beam, numbers)
    ranks = np.argsort(order)
    kept = replace(
        found,
        beam=ranks[np.searchsorted(numbers, found.beam[keep])],
        azimuth=found.azimuth[keep],
        elevation=found.elevation[keep],
        cloud=found.cloud[keep],
    )
    return kept, middle[order]


def _shots(found: _Returns) -> int:
    """Shots of a beam per full turn, from the commonest step between neighbours of a beam within a cloud."""
    order = np.lexsort((found.azimuth, found.beam, found.cloud))
    same = (np.diff(found.beam[order]) == 0) & (np.diff(found.cloud[order]) == 0)
    steps = np.diff(found.azimuth[order])[same]
    steps = steps[steps > 1e-5]  # a second return of the same shot is no step
    if len(steps) == 0:
        return 16
    middle = float(np.median(steps))
    step = float(np.median(steps[(steps > 0.5 * middle) & (steps < 1.5 * middle)]))
    return int(np.clip(round(2 * np.pi / step), 16, 8192))


def _counts(found: _Returns, beams: int, shots: int, clouds: int) -> tuple[npt.NDArray[np.float64], float]:
    """Returns per cloud, by beam and azimuth [B, BINS], and how many shots there are."""
    cell = _cells(found.azimuth)
    counts = np.bincount(found.beam * BINS + cell, minlength=beams * BINS).reshape(beams, BINS)
    return counts / clouds, shots / BINS


def _ranges(hidden: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """Degrees from, to, from, to ... of runs of True in the bins of a turn [BINS]."""
    edges = np.flatnonzero(np.diff(np.pad(hidden.astype(np.int8), 1)))
    return tuple((edges * (360.0 / BINS)).tolist())


def _sector(azimuth: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """Right and left end in degrees of the azimuths seen; None where they reach over the back."""
    counts = np.histogram(np.degrees(azimuth), 360, (-180, 180))[0]
    seen = np.flatnonzero(counts > counts.max() / 50)
    if seen[0] == 0 or seen[-1] == 359:
        return None
    return float(seen[0] - 180), float(seen[-1] + 1 - 180)


def _clockwise(frames: list[RecordedCloud]) -> bool:
    """Which way the sensor turns, by per-point times; True where there are none."""
    for frame in frames:
        if frame.times is not None and np.ptp(frame.times) > 0:
            order = np.argsort(frame.times, kind="stable")
            turn = np.diff(np.arctan2(frame.points[order, 1], frame.points[order, 0]))
            turn = (turn + np.pi) % (2 * np.pi) - np.pi
            return bool(np.median(turn[np.abs(turn) > 1e-6]) < 0) if (np.abs(turn) > 1e-6).any() else True
    return True
