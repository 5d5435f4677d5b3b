"""The colour camera: pictures of the same world by ray casting, with sun, shadow, texture and sky; class images;
visibility.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import Matrix, transform
from kd_seg.streets.layout.world import World
from kd_seg.streets.objects.materials import Cover, Material, ground_table
from kd_seg.streets.objects.mesh import Floats
from kd_seg.streets.sensors.rig import HEIGHT, TR, WIDTH, camera_centre, pixel_rays, project

SKY = 65535
"""Value of the sky in a class image."""
GROUND_COLOUR = ground_table("colour")


@lru_cache(maxsize=2)
def _rays(number: int) -> npt.NDArray[np.float32]:
    return pixel_rays(number).reshape(-1, 3).astype(np.float32)


def picture(
    world: World, pose: Matrix, frame: int, weather: int, number: int = 2, tr: Matrix = TR
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """RGB uint8 [H, W, 3] and raw class ids uint16 [H, W] (SKY where there is nothing) as camera ``number`` sees them.

    ``weather`` seeds the sun's place, its strength and the sky's colour; ``tr`` [4, 4] is LiDAR to camera 0.
    """
    rng = np.random.default_rng([weather, 77])
    turn = pose[:3, :3].T.astype(np.float32)
    directions = _rays(number) @ turn
    origin = transform(pose, camera_centre(number, tr)[None])[0]
    hits = world.cast(origin, directions, frame)
    seen = np.flatnonzero(hits.triangle >= 0)
    distance = hits.distance[seen]
    place = origin + directions[seen].astype(np.float64) * distance[:, None]
    word, cover = world.labels_at(hits.of(seen), place[:, :2])
    material = world.material[hits.triangle[seen]]
    ground = material == Material.GROUND
    colour = np.where(ground[:, None], GROUND_COLOUR[cover], world.colour[hits.triangle[seen]]).astype(np.float32)
    colour *= _texture(place, material, cover, ground, hits.normal[seen])[:, None]
    sun = np.array([np.cos(a := rng.uniform(-np.pi, np.pi)), np.sin(a), rng.uniform(0.6, 1.6)])
    normal = hits.normal[seen]
    normal = normal * np.where(np.einsum("ij,ij->i", normal, directions[seen]) > 0, -1.0, 1.0)[:, None]
    direct = _sunlight(world, frame, place, normal, sun / np.linalg.norm(sun))
    strength = rng.uniform(0.35, 0.9)
    ambient = 0.5 + 0.12 * normal[:, 2]
    shade = ambient + strength * direct
    shine = np.isin(material, (Material.GLASS, Material.WINDOW)) * (0.25 + 0.5 * np.clip(normal[:, 2] + 0.5, 0, 1))
    sky = _sky(directions, rng.uniform(0.0, 1.0))
    image = sky.copy()
    body = colour * shade[:, None] * np.array([1.0, 0.97, 0.92])
    body = body * (1 - shine[:, None]) + sky[seen] * shine[:, None]
    haze = (1 - np.exp(-distance / 420.0))[:, None]
    image[seen] = body * (1 - haze) + np.array([200.0, 208, 216]) * haze
    grain = np.random.default_rng([weather, frame]).normal(0, 2.0, (len(image), 1))
    rgb = np.clip(image + grain, 0, 255).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)
    classes = np.full(len(image), SKY, dtype=np.uint16)
    classes[seen] = (word & 0xFFFF).astype(np.uint16)
    return rgb, classes.reshape(HEIGHT, WIDTH)


def _sunlight(world: World, frame: int, place: Floats, normal: Floats, sun: Floats) -> npt.NDArray[np.float32]:
    """Light of the sun on places [N, 3], 0-1: the cosine of its angle to the normal, 0 in shadow."""
    facing = normal @ sun.astype(np.float32)
    lit = facing > 0.02
    shadow = world.cast(place[lit] + 0.03 * normal[lit], np.broadcast_to(sun, (int(lit.sum()), 3)), frame).triangle >= 0
    direct = np.zeros(len(place), dtype=np.float32)
    direct[lit] = facing[lit] * ~shadow
    return direct


def visible(
    world: World, pose: Matrix, frame: int, points: npt.NDArray[np.float32], number: int = 2, tr: Matrix = TR
) -> npt.NDArray[np.bool_]:
    """Which LiDAR points [N, 3] camera ``number`` sees: in the picture, and nothing in between.

    What a ray meets within 0.12 m + 0.5 % of the point counts as the point itself (noise). So does a surface within 1 m
    that the point lies on up to 0.12 m along its normal: rough ground scatters points below the mesh, and a flat ray
    then meets the mesh far ahead of them.
    """
    rows = np.flatnonzero(project(points, number, tr)[1])
    target = transform(pose, points[rows])
    origin = transform(pose, camera_centre(number, tr)[None])[0]
    delta = target - origin
    gap = np.linalg.norm(delta, axis=1)
    hits = world.cast(origin, (delta / gap[:, None]).astype(np.float32), frame)
    seen = np.zeros(len(points), dtype=bool)
    ahead = gap - np.minimum(hits.distance, 1e4)
    above = np.abs(np.einsum("ij,ij->i", hits.normal, delta)) / gap * ahead
    seen[rows] = (ahead < 0.12 + 0.005 * gap) | ((ahead < 1.0) & (above < 0.12))
    return seen


def _hash(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], z: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Noise in [0, 1) of whole-number places."""
    mixed = (x * 73856093) ^ (y * 19349663) ^ (z * 83492791)
    mixed = (mixed ^ (mixed >> 13)) * 1274126177
    return np.asarray((mixed & 0xFFFF) / 65536.0, dtype=np.float32)


def _noise(place: Floats, cell: float) -> npt.NDArray[np.float32]:
    whole = np.floor(place / cell).astype(np.int64)
    return _hash(*whole.T)


def _texture(
    place: Floats,
    material: npt.NDArray[np.uint8],
    cover: npt.NDArray[np.uint8],
    ground: npt.NDArray[np.bool_],
    normal: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Brightness by place: grain on roads, tufts on grass, slabs on walks, courses on bricks, boards on wood."""
    fine, coarse = _noise(place, 0.04), _noise(place, 0.6)
    factor = 0.93 + 0.10 * fine + 0.06 * coarse
    grass = ground & np.isin(cover, (Cover.GRASS, Cover.SOIL, Cover.WEEDS))
    factor = np.where(grass, 0.7 + 0.45 * _noise(place, 0.08) + 0.2 * coarse, factor)
    slabs = ground & ((cover == Cover.SIDEWALK) | (cover == Cover.PAVED) | (cover == Cover.PARKING))
    joint = (place[:, 0] % 0.5 < 0.025) | (place[:, 1] % 0.5 < 0.025)
    factor = np.where(slabs, 0.86 + 0.22 * _noise(place, 0.5) - 0.25 * joint, factor)
    course = (place[:, 2] % 0.085 < 0.014) & (np.abs(normal[:, 2]) < 0.5)
    factor = np.where(material == Material.BRICK, 0.8 + 0.3 * _noise(place, 0.2) + 0.15 * course, factor)
    factor = np.where(
        material == Material.ROOF, 0.75 + 0.3 * _noise(place, 0.3) - 0.2 * (place[:, 2] % 0.18 < 0.03), factor
    )
    factor = np.where(material == Material.BARK, 0.7 + 0.5 * _noise(place, 0.05), factor)
    factor = np.where(material == Material.LEAF, 0.65 + 0.5 * _noise(place, 0.07) + 0.2 * coarse, factor)
    return np.asarray(factor, dtype=np.float32)


def _sky(directions: npt.NDArray[np.float32], cloudy: float) -> npt.NDArray[np.float64]:
    up = np.clip(directions[:, 2], 0, 1)[:, None]
    clear = np.array([205.0, 220, 238]) * (1 - up) + np.array([96.0, 142, 205]) * up
    wave = np.sin(directions[:, 0] * 7 + np.sin(directions[:, 1] * 5)) * np.sin(
        directions[:, 1] * 9 + directions[:, 2] * 21
    )
    cloud = np.clip(0.5 + 0.5 * wave + cloudy - 0.6, 0, 1)[:, None]
    return np.asarray(clear * (1 - cloud) + 235.0 * cloud)
