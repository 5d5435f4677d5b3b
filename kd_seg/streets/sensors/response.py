"""What comes back of a shot: whether there is a return, from how far, and how bright the sensor reports it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel
from kd_seg.streets.objects.materials import MATERIALS, Material
from kd_seg.streets.sensors.errors import BeamErrors
from kd_seg.streets.sensors.settings import Lidar
from kd_seg.streets.sensors.texture import texture

Array = npt.NDArray[Any]

OPTICS = np.dtype([("speckle", "f4"), ("gloss", "f4"), ("roughness", "f4"), ("loss", "f4")])
"""One material as the kernels read it, see MaterialOptics."""
GROUND, RETRO = int(Material.GROUND), int(Material.RETRO)
CELLS_PER_METRE = 10.0
"""Of the cover raster (paving.CELL)."""

# Fitted to the returns of KITTI's HDL-64E, as hdl64e.yaml describes it.
LEAST_COSINE = np.float32(0.01)
"""Of incidence, for the signal."""
LEAST_SLOPE = 0.05
"""Least cosine of incidence for the range error on rough ground."""
SIGNAL_LOST = 0.02
"""A signal below this is lost more often: WEAK_LOSS, and LOSS_PER_SIGNAL of what it lacks to 0."""
WEAK_LOSS, LOSS_PER_SIGNAL = 0.004, 3.0
BRIGHT, CONTRAST_OVER, CONTRAST_LIMIT = 0.40, 0.12, 1.2
"""The contrast between beams begins below BRIGHT, is 1 at CONTRAST_OVER below it (asphalt), and at most the limit."""
MIXED_FROM, MIXED_TO, MIXED_REACH = 0.15, 3.0, 0.8
"""Metres by which the next shot ends nearer for one to fall on both surfaces; share of that gap a range may lose."""
ROUGH_SHOT, ROUGH_FACTOR = 1.3, 3.5
"""Beyond this many sigma the scatter of a rough surface is this much wider: deep leaves, gaps between stones."""
ZERO_FROM, ZERO_OVER = 20.0, 28.0
"""Metres from which, and over which, the limit below which a signal is reported as 0 rises."""
FAR_SLACK = 1.5
"""Metres by which noise may bring a hit from beyond the farthest range back into it."""
POWER_FROM = 10.0
"""Metres beyond which an uncompensated signal falls with a power of the range."""


class Returns(NamedTuple):
    """What the rays of one scan met; see world.Hits. ``noise`` [2, R] is standard normal, ``chance`` [R] uniform."""

    distance: npt.NDArray[np.float32]
    triangle: npt.NDArray[np.int32]
    cosine: npt.NDArray[np.float32]
    noise: npt.NDArray[np.float32]
    chance: npt.NDArray[np.float32]


class SceneTables(NamedTuple):
    """Tables of what can be met: per triangle, per material, per ground cover; places about the world's centre."""

    material: npt.NDArray[np.uint8]
    albedo: npt.NDArray[np.float32]
    word: npt.NDArray[np.uint32]
    optics: npt.NDArray[np.void]
    grounds: npt.NDArray[np.void]
    cover: npt.NDArray[np.uint8]
    lower: npt.NDArray[np.float32]
    centre: npt.NDArray[np.float64]


class Receiver(NamedTuple):
    """One sensor with its errors, flat for the kernels; see Ranging, Fade, IntensityResponse and BeamErrors."""

    bias: npt.NDArray[np.float32]
    contrast: npt.NDArray[np.float32]
    noise: np.float32
    nearest: float
    farthest: float
    labelled: float
    lost: float
    weak_lost: float
    mixed: float
    mixed_from: float
    mixed_to: float
    fade_from: float
    fade_over: float
    fade_least: float
    lost_from: float
    lost_over: float
    lost_per_m: float
    power: float
    grazing: float
    gamma: float
    gain: float
    offset: float
    retro: float
    steps: float
    hundredths: bool
    zero_below: float
    zero_per_m: float


def receiver_of(sensor: Lidar, calibration: BeamErrors) -> Receiver:
    """The receiver of a sensor. Ranges and shares are rounded to single precision, as distances are."""
    ranging, intensity, fade = sensor.ranging, sensor.intensity, sensor.intensity.fade
    return Receiver(
        bias=calibration.reach, contrast=calibration.contrast, noise=np.float32(calibration.noise),
        nearest=_single(ranging.nearest_m), farthest=_single(ranging.farthest_m), labelled=_single(ranging.labelled_m),
        lost=_single(ranging.lost), weak_lost=ranging.weak_lost, mixed=_single(ranging.mixed),
        mixed_from=_single(MIXED_FROM), mixed_to=_single(MIXED_TO),
        fade_from=fade.from_m, fade_over=fade.over_m, fade_least=fade.least,
        lost_from=fade.lost_from_m, lost_over=fade.lost_over_m, lost_per_m=fade.lost_per_m,
        power=fade.power, grazing=intensity.grazing,
        gamma=intensity.gamma, gain=intensity.gain, offset=intensity.offset, retro=intensity.retro,
        steps=float(intensity.steps), hundredths=intensity.hundredths,
        zero_below=_single(intensity.zero_below), zero_per_m=intensity.zero_per_m,
    )  # fmt: skip


def _single(value: float) -> float:
    return float(np.float32(value))


def optics_table() -> npt.NDArray[np.void]:
    """MATERIALS [materials] as OPTICS."""
    rows = [(o.speckle, o.gloss, o.roughness, o.loss) for o in (MATERIALS[m] for m in Material)]
    return np.array(rows, dtype=OPTICS)


@kernel
def respond(
    local: Array, rays: Array, hidden: Array, ring: Array, returns: Returns, scene: SceneTables, receiver: Receiver
) -> tuple[Array, Array, Array]:
    """Points [K, 4] (metres, intensity 0-1), label words [K] and shot numbers [K] of the shots that give a return.

    Args:
        local: shots as reported [R, 6] float32: start and unit direction in the LiDAR frame.
        rays: shots as they ran [R, 6] float32, in the world about its centre.
        hidden, ring: whether the own car blocks each shot, and its beam [R].
        returns, scene, receiver: tables are arguments, as a cached kernel would freeze them.
    """
    points = np.empty((len(rays), 4), np.float32)
    words, kept = np.empty(len(rays), np.uint32), np.empty(len(rays), np.int64)
    found = 0
    for n in range(len(rays)):
        distance = returns.distance[n]
        if returns.triangle[n] < 0 or hidden[n] or distance > receiver.farthest + FAR_SLACK:
            continue
        label, bright, speckle, rough, loss, smooth, slant = _surface(n, rays, returns, scene)
        signal = _signal(bright * _slanted(slant, receiver), distance, speckle, returns.noise[1, n], receiver)
        signal = _contrasted(signal, receiver.contrast[ring[n]])
        lost = loss + _weakness(signal, receiver) + receiver.lost
        if returns.chance[n] < lost:
            continue
        luck = (returns.chance[n] - lost) / (1.0 - lost)
        reach = _mixed(n, ring, returns.distance, luck, receiver)
        reach += receiver.bias[ring[n]] + _error(returns.noise[0, n], rough, smooth, receiver)
        x, y, z = _along(local, n, reach)
        radius = np.sqrt(x * x + y * y + z * z)
        if radius > receiver.farthest or radius < receiver.nearest:
            continue
        points[found, 0], points[found, 1], points[found, 2] = x, y, z
        retro = scene.material[returns.triangle[n]] == RETRO
        points[found, 3] = _reported(signal, reach, retro, receiver)
        words[found] = label if radius <= receiver.labelled else np.uint32(0)
        kept[found] = n
        found += 1
    return points[:found], words[:found], kept[:found]


@kernel
def _slanted(slant: float, receiver: Receiver) -> float:
    """How much less a surface shines that is met at this cosine."""
    return slant**receiver.grazing if receiver.grazing != 1.0 else slant


@kernel
def _along(local: Array, n: int, reach: float) -> tuple[Any, Any, Any]:
    """The point ``reach`` metres from the start of shot ``n``."""
    return (
        local[n, 0] + reach * local[n, 3],
        local[n, 1] + reach * local[n, 4],
        local[n, 2] + reach * local[n, 5],
    )


@kernel
def _contrasted(signal: float, contrast: float) -> float:
    """The signal as a beam of this contrast shows it: dark surfaces darker."""
    if signal < BRIGHT:
        signal -= contrast * min((BRIGHT - signal) / CONTRAST_OVER, CONTRAST_LIMIT)
    return signal


@kernel
def _surface(n: int, rays: Array, returns: Returns, scene: SceneTables) -> tuple[Any, Any, Any, Any, Any, Any, Any]:
    """What shot ``n`` met: label word, albedo, speckle, roughness in metres, share lost, whether it is ground whose
    roughness is not scattered further, and the share of the albedo at this incidence.
    """
    tri, distance = returns.triangle[n], returns.distance[n]
    cos = max(returns.cosine[n], LEAST_COSINE)
    kind = scene.material[tri]
    if kind != GROUND:
        optics = scene.optics[kind]
        return (
            scene.word[tri], np.float64(scene.albedo[tri]), optics.speckle, np.float64(optics.roughness),
            np.float64(optics.loss), False, np.float64(cos**optics.gloss),
        )  # fmt: skip
    x, y = rays[n, 0] + distance * rays[n, 3], rays[n, 1] + distance * rays[n, 4]
    i = int((x - scene.lower[0]) * CELLS_PER_METRE)
    j = int((y - scene.lower[1]) * CELLS_PER_METRE)
    rows, columns = scene.cover.shape
    ground = scene.grounds[scene.cover[min(max(i, 0), rows - 1), min(max(j, 0), columns - 1)]]
    bright = ground.albedo * (1.0 + ground.texture * texture(x + scene.centre[0], y + scene.centre[1]))
    slant = min(max((cos - ground.slant_from) / ground.slant_over, 0.0), 1.0)
    rough = ground.roughness / max(cos, LEAST_SLOPE)
    return ground.raw, bright, ground.speckle, rough, 0.0, ground.slant_from > 0, slant


@kernel
def _signal(bright: float, distance: float, speckle: float, noise: float, receiver: Receiver) -> float:
    """Signal of a return as the HDL-64E's scale has it; may be negative."""
    fade = 1.0
    if distance >= receiver.fade_from:
        fade = max(1.0 - (distance - receiver.fade_from) / receiver.fade_over, receiver.fade_least)
    far = min(max(distance - receiver.lost_from, 0.0), receiver.lost_over)
    return bright * fade * (1.0 + noise * speckle) - far * receiver.lost_per_m


@kernel
def _weakness(signal: float, receiver: Receiver) -> float:
    """Share of returns lost because of a weak signal."""
    if signal >= SIGNAL_LOST:
        return 0.0
    return WEAK_LOSS + min(max(-signal, 0.0) * LOSS_PER_SIGNAL, receiver.weak_lost)


@kernel
def _mixed(n: int, ring: Array, distance: Array, luck: float, receiver: Receiver) -> Any:
    """Range of shot ``n``; some of those over an edge fall between the two surfaces."""
    reach = np.float64(distance[n])
    if n + 1 < len(distance) and ring[n + 1] == ring[n]:
        step = distance[n] - distance[n + 1]
        if receiver.mixed_from < step < receiver.mixed_to and luck < receiver.mixed:
            reach -= MIXED_REACH * step * luck / receiver.mixed
    return reach


@kernel
def _error(noise: float, rough: float, smooth: bool, receiver: Receiver) -> np.float64:
    """Metres by which a range is off: the sensor's noise and the surface's roughness, together ``noise`` sigma."""
    if not smooth and abs(noise) > ROUGH_SHOT:
        rough = ROUGH_FACTOR * rough
    error: np.float64 = noise * np.sqrt(receiver.noise * receiver.noise + rough * rough)
    return error


@kernel
def _reported(signal: float, reach: float, retro: bool, receiver: Receiver) -> float:
    """Intensity 0-1 as the sensor reports a signal from ``reach`` metres."""
    limit = receiver.zero_below + min(max(reach - ZERO_FROM, 0.0), ZERO_OVER) * receiver.zero_per_m
    if signal < limit:
        return 0.0
    signal = max(signal, 0.0)
    if receiver.power > 0.0 and reach > POWER_FROM:
        signal *= (POWER_FROM / reach) ** receiver.power
    if receiver.gamma != 1.0:
        signal = signal**receiver.gamma
    shown = receiver.gain * signal + receiver.offset
    if retro:
        shown *= receiver.retro
    stored: float = (
        np.floor(min(np.floor(shown * 255.0) / 2.55, 99.0) + 0.5) / 100.0
        if receiver.hundredths
        else np.floor(min(max(shown, 0.0), 1.0) * receiver.steps + 0.5) / receiver.steps
    )
    return stored
