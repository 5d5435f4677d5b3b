"""The rare and the moving: how many of each class a sequence gets, and where, so that shares of points come out
right.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from kd_seg.streets.layout.network import StreetNetwork
from kd_seg.streets.layout.site import StreetSite, footprint
from kd_seg.streets.layout.traffic import PERIOD, Ego, TrafficTrack, follow
from kd_seg.streets.objects.catalogue import Item
from kd_seg.streets.objects.mesh import Floats

SCAN = 123_400
"""Points of a scan."""
ROUND = 11
"""Sequences after which the number of objects fits the shares exactly; within them they are spread evenly."""
TRIES = 600
"""Places tried for one object."""
MISFIT = 0.7
"""Largest accepted |log| of an object's expected points over those wanted."""
PER_AREA = 49_000.0
"""Points that a square metre across the beams at one metre would return (0.166 by about 0.4 degrees)."""


@dataclass(frozen=True)
class Wanted:
    """One raw class to be placed.

    Attributes:
        raw: raw class.
        kind: key of the catalogue.
        share: share of all points.
        visit: points that one object gives in about 40 scans, so how many objects share the quota.
        area: square metres seen from the side, occlusion already taken off.
        size: length and width of its footprint.
        where: lane, edge (right end of the lane), walk, kerb or near (walk and lots).
        speed: range of metres per second; (0, 0) stands.
        hard: whether the rare-class knob applies.
    """

    raw: int
    kind: str
    share: float
    visit: float
    area: float
    size: tuple[float, float]
    where: str
    speed: tuple[float, float]
    hard: bool = True


WANTED: tuple[Wanted, ...] = (
    Wanted(18, "truck", 2.063e-3, 20000, 7.3, (8.5, 2.6), "kerb", (0, 0)),
    Wanted(20, "other-vehicle", 1.622e-3, 16000, 5.8, (6.0, 2.4), "kerb", (0, 0)),
    Wanted(13, "bus", 2.788e-5, 1500, 14.0, (12.0, 2.7), "kerb", (0, 0)),
    Wanted(11, "bicycle", 1.661e-4, 1500, 0.37, (1.8, 0.6), "walk", (0, 0)),
    Wanted(15, "motorcycle", 3.984e-4, 3000, 1.05, (2.1, 0.8), "walk", (0, 0)),
    Wanted(30, "person", 1.770e-4, 1500, 0.85, (0.6, 0.6), "near", (0, 0)),
    Wanted(252, "car", 1.789e-3, 9000, 3.3, (4.9, 2.0), "lane", (5.0, 12.0), False),
    Wanted(258, "truck", 1.016e-4, 4000, 9.0, (8.5, 2.6), "lane", (5.0, 10.0)),
    Wanted(257, "bus", 1.135e-4, 6000, 12.0, (12.0, 2.7), "lane", (4.0, 9.0)),
    Wanted(259, "other-vehicle", 4.384e-5, 2400, 5.0, (6.0, 2.4), "lane", (3.0, 7.0)),
    Wanted(254, "person", 1.606e-4, 1500, 0.85, (0.6, 0.6), "walk", (0.8, 1.8)),
    Wanted(253, "bicyclist", 1.271e-4, 1500, 0.66, (1.8, 0.6), "edge", (3.0, 6.5)),
    Wanted(255, "motorcyclist", 3.746e-5, 1100, 0.75, (2.1, 0.8), "lane", (5.0, 12.0)),
)
"""Shares as in SemanticKITTI's training set (semantic-kitti-api)."""


def populate(
    site: StreetSite, network: StreetNetwork, ego: Ego, seed: int, sequence: int, rare: float
) -> tuple[list[Item], list[TrafficTrack]]:
    """Standing and moving objects of all WANTED classes; their number follows share and ``rare``, spread evenly over
    sequences.
    """
    items: list[Item] = []
    tracks: list[TrafficTrack] = []
    scans = len(ego.poses)
    lanes: list[tuple[Floats, Floats]] = []
    for wanted in WANTED:
        quota = wanted.share * SCAN * scans * (rare if wanted.hard else 1.0)
        if quota == 0:
            continue
        objects = max(round(ROUND * quota / (wanted.visit * min(scans, 80) / 40.0)), 1)
        per_sequence, visit = objects / ROUND, ROUND * quota / objects
        start = np.random.default_rng([seed, crc32(str(wanted.raw).encode())]).random()
        count = int(np.floor((sequence + 1) * per_sequence + start) - np.floor(sequence * per_sequence + start))
        for number in range(count):
            word = wanted.raw | (number + 1) << 16
            if wanted.speed[1] > 0:
                track = _moving(site, network, ego, wanted, word, visit, lanes)
                if track is not None:
                    tracks.append(track)
            else:
                item = _standing(site, network, ego, wanted, word, visit)
                if item is not None:
                    items.append(item)
    return items, tracks


def expected(ego: Ego, places: Floats, area: float) -> Floats:
    """Points [F] that an object at places [F, 2] or [1, 2] gives in each scan if nothing hides it."""
    gap = np.linalg.norm(ego.poses[:, :2, 3] - places, axis=1)
    return np.where(gap < 50.0, area * PER_AREA / np.maximum(gap, 3.0) ** 2, 0.0)


def seen(site: StreetSite, ego: Ego, places: Floats, points: Floats) -> float:
    """Share of the expected ``points`` [F] that nothing placed hides, judged on ten of the scans."""
    frames = np.unique(np.linspace(0, len(points) - 1, min(len(points), 10)).astype(int))
    sight = [site.sight(ego.poses[k, :2, 3], places[min(k, len(places) - 1)]) for k in frames]
    return float(np.average(sight, weights=points[frames] + 1e-9))


def _score(rng: np.random.Generator, points: float, visit: float) -> float:
    return abs(float(np.log(max(points, 1.0) / visit) + rng.normal(0, 0.1)))


def _standing(
    site: StreetSite, network: StreetNetwork, ego: Ego, wanted: Wanted, word: int, visit: float
) -> Item | None:
    rng, best, chosen = site.rng, MISFIT, None
    for _ in range(TRIES):
        if best < 0.2:
            break
        street = network.streets[int(rng.integers(len(network.streets)))]
        side = int(rng.choice([-1, 1]))
        section = street.left if side > 0 else street.right
        s = rng.uniform(0, street.length())
        if wanted.where == "kerb":
            out = street.half + section.parking / 2 if section.parking else street.half + rng.uniform(-0.8, 1.6)
        else:
            out = street.half + section.parking + rng.uniform(0.4, max(section.verge + section.walk, 1.2))
            if wanted.where == "near" and rng.random() < 0.4:
                out += rng.uniform(1.0, 6.0)
        place, heading = street.at(s, side * out)
        raw = expected(ego, place[None], wanted.area)
        if raw.sum() < 0.6 * visit:
            continue
        score = _score(rng, raw.sum() * seen(site, ego, place[None], raw), visit)
        if score >= best:
            continue
        along = wanted.where == "kerb" or rng.random() < 0.6
        yaw = float(heading) + (rng.choice([0.0, np.pi]) if along else rng.uniform(-np.pi, np.pi)) + rng.normal(0, 0.04)
        if site.free(footprint(place, yaw, *wanted.size)):
            best, chosen = score, (place, yaw)
    if chosen is None:
        return None
    place, yaw = chosen
    site.take(footprint(place, yaw, *wanted.size))
    size = (-1.0,) if wanted.kind == "person" else (0.0,)
    return Item(wanted.kind, float(place[0]), float(place[1]), yaw, int(rng.integers(1 << 31)), size, word=word)


def _moving(
    site: StreetSite,
    network: StreetNetwork,
    ego: Ego,
    wanted: Wanted,
    word: int,
    visit: float,
    lanes: list[tuple[Floats, Floats]],
) -> TrafficTrack | None:
    rng, best, chosen = site.rng, MISFIT, None
    for _ in range(TRIES):
        if best < 0.2:
            break
        line, s = _course(rng, network, ego, wanted)
        arc = np.arange(len(line))
        place = np.stack([np.interp(np.clip(s, 0, len(line) - 1.0), arc, line[:, k]) for k in range(2)], 1)
        inside = (s > 0) & (s < len(line) - 1)
        raw = expected(ego, np.where(inside[:, None], place, 1e4), wanted.area)
        if raw.sum() < 0.6 * visit:
            continue
        score = _score(rng, raw.sum() * seen(site, ego, place, raw), visit)
        if score >= best:
            continue
        if _unhindered(site, ego, wanted, place, lanes):
            best, chosen = score, (line, s, place)
    if chosen is None:
        return None
    line, s, place = chosen
    poses, velocity = follow(line, s, site.plan)
    pace = {"person": 1.4, "bicyclist": 5.0}.get(wanted.kind, 0.0)
    phase = np.floor(s / pace * 8).astype(np.int64) % 8 if pace else np.zeros(len(s), dtype=np.int64)
    lanes.append((place, np.array(wanted.size)))
    return TrafficTrack(wanted.kind, int(rng.integers(1 << 31)), word, poses, velocity, phase)


def _course(rng: np.random.Generator, network: StreetNetwork, ego: Ego, wanted: Wanted) -> tuple[Floats, Floats]:
    """A way [M, 2] at metre steps along a lane, a lane's edge or a pavement, and the arc length at each frame [F]."""
    street = network.streets[int(rng.integers(len(network.streets)))]
    lane, way = street.lanes[int(rng.integers(len(street.lanes)))]
    travelled: Floats = rng.uniform(*wanted.speed) * PERIOD * np.arange(len(ego.poses))
    if wanted.where == "lane" and street is network.streets[-1] and way > 0 and rng.random() < 0.3:
        travelled = ego.arc - ego.arc[0]  # drives ahead, as fast as the sensor
    if wanted.where == "walk":
        side = int(rng.choice([-1, 1]))
        section = street.left if side > 0 else street.right
        lane = side * (street.half + section.parking + section.verge + 0.5 * max(section.walk, 1.0))
        way = int(rng.choice([-1, 1]))
    elif wanted.where == "edge":
        lane = np.sign(lane) * min(abs(lane) + street.half / 2 - 0.6, street.half - 0.6)
    line, _ = street.at(np.arange(0, street.length(), 1.0)[::way], lane)
    return line, rng.uniform(-10, street.length()) + travelled


def _unhindered(site: StreetSite, ego: Ego, wanted: Wanted, place: Floats, lanes: list[tuple[Floats, Floats]]) -> bool:
    """Whether something at ``place`` [F, 2] stays clear of the sensor's car, of other traffic and of what stands."""
    gap = np.linalg.norm(place - ego.poses[:, :2, 3], axis=1)
    if gap.min() < 2.2 + wanted.size[0] / 2 and np.any(gap < 1.3 + wanted.size[1]):
        return False
    if gap.min() < 3.4 and wanted.where == "lane":
        return False
    for other, size in lanes:
        if np.min(np.linalg.norm(place - other, axis=1)) < wanted.size[0] / 2 + size[0] / 2 + 1:
            return False
    return wanted.where == "walk" or bool(site.free(place[:: max(len(place) // 20, 1)]))
