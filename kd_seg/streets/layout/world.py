"""The world about a stretch of the path as triangles: one scene of what stands, one small scene per moving shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.geometry import yaw_of
from kd_seg.core.kernels import kernel
from kd_seg.streets.layout.ground import Plan
from kd_seg.streets.layout.paving import GroundMap, pave
from kd_seg.streets.layout.traffic import TrafficTrack
from kd_seg.streets.objects.catalogue import Item, shape
from kd_seg.streets.objects.materials import GROUNDS, Cover, Material
from kd_seg.streets.objects.mesh import Floats, Mesh, merge
from kd_seg.streets.raycast import RayScene, SceneMaker, scene_maker

REACH = 88.0
"""Metres about the path within which anything is built."""
GROUND_RAW = np.array([GROUNDS[c].raw for c in Cover], dtype=np.uint32)


@dataclass(frozen=True)
class Hits:
    """What rays met.

    Attributes:
        distance: [N] float32 metres, inf on a miss.
        triangle: [N] int32 row of the world's triangle tables, -1 on a miss.
        cosine: [N] float32 of the angle between ray and normal.
        normal: [N, 3] float32 in the world.
    """

    distance: npt.NDArray[np.float32]
    triangle: npt.NDArray[np.int32]
    cosine: npt.NDArray[np.float32]
    normal: npt.NDArray[np.float32]

    def of(self, rows: npt.NDArray[np.int64]) -> Hits:
        """Only some of the rays."""
        return Hits(self.distance[rows], self.triangle[rows], self.cosine[rows], self.normal[rows])


@dataclass(frozen=True)
class _Moving:
    track: TrafficTrack
    scenes: dict[int, tuple[RayScene, int]]
    radius: float
    height: float


class World:
    """Triangles near some places of the path, ready for rays; the same answer for any ray, whoever asks.

    Args:
        plan: the ground.
        items: what stands.
        tracks: what moves.
        near: places [K, 2] of the path.
        scene: makes triangles ready for rays.
    """

    def __init__(
        self,
        plan: Plan,
        items: list[Item],
        tracks: list[TrafficTrack],
        near: Floats,
        scene: SceneMaker = scene_maker("open3d"),
    ) -> None:
        self.centre = np.array([*near.mean(axis=0), 0.0])
        self.ground: GroundMap = pave(plan, near)
        meshes, words = [self.ground.mesh], [np.zeros(len(self.ground.mesh), dtype=np.uint32)]
        close = [i for i in items if np.min(np.hypot(near[:, 0] - i.x, near[:, 1] - i.y)) < REACH]
        heights = plan.height(np.array([[i.x, i.y] for i in close]).reshape(-1, 2)) if close else np.zeros(0)
        for item, z in zip(close, heights, strict=True):
            mesh = item.mesh().moved(item.x, item.y, float(z), item.yaw)
            meshes.append(mesh)
            words.append(np.full(len(mesh), item.word, dtype=np.uint32) if item.word else mesh.raw.astype(np.uint32))
        whole = merge(meshes)
        self._scene = scene(whole.vertices - self.centre.astype(np.float32), whole.triangles)
        self._moving: list[_Moving] = []
        tables: list[Mesh] = [whole]
        first = len(whole)
        for track in tracks:
            gap = np.linalg.norm(track.poses[:, None, :2, 3] - near[None, :: max(len(near) // 12, 1)], axis=2)
            if gap.min() > REACH:
                continue
            scenes, radius, height = {}, 0.0, 0.0
            for phase in np.unique(track.phase):
                mesh = shape(track.kind, track.variant, (float(phase) / 8,))
                scenes[int(phase)] = (scene(mesh.vertices, mesh.triangles), first)
                first += len(mesh)
                tables.append(mesh)
                words.append(np.full(len(mesh), track.word, dtype=np.uint32))
                height = float(mesh.vertices[:, 2].max())
                radius = float(np.linalg.norm(mesh.vertices - [0, 0, height / 2], axis=1).max())
            self._moving.append(_Moving(track, scenes, radius, height))
        self.word = np.concatenate(words)
        self.material = np.concatenate([m.material for m in tables])
        self.albedo = np.concatenate([m.albedo for m in tables])
        self.colour = np.concatenate([m.colour for m in tables])

    def cast(self, origins: Floats, directions: Floats, frame: int) -> Hits:
        """First hits of rays [N, 3] (unit directions; one origin [3] or [N, 3]) as the world stands at a scan."""
        rays = np.empty((len(directions), 6), dtype=np.float32)
        rays[:, :3] = origins - self.centre
        rays[:, 3:] = directions
        return self.meet(rays, frame)

    def meet(self, rays: npt.NDArray[np.float32], frame: int) -> Hits:
        """First hits of rays [N, 6] float32: start about ``centre``, unit direction."""
        distance, triangle, normal = self._scene.cast(rays)
        for moving in self._moving:
            self._meet(moving, rays, frame, distance, triangle, normal)
        cosine = _straighten(normal, rays)
        return Hits(distance, triangle, cosine, normal)

    def _meet(
        self,
        moving: _Moving,
        rays: npt.NDArray[np.float32],
        frame: int,
        distance: npt.NDArray[np.float32],
        triangle: npt.NDArray[np.int32],
        normal: npt.NDArray[np.float32],
    ) -> None:
        pose = moving.track.poses[frame]
        place = (pose[:3, 3] - self.centre).astype(np.float32)
        middle = place + np.array([0, 0, moving.height / 2], dtype=np.float32)
        if np.linalg.norm(middle[:2] - rays[0, :2]) > 95.0:
            return
        rows = _near(rays, middle, np.float32(moving.radius + 0.05))
        if len(rows) == 0:
            return
        yaw = yaw_of(pose)
        turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]], dtype=np.float32)
        local = np.concatenate([(rays[rows, :3] - place) @ turn, rays[rows, 3:] @ turn], axis=1)
        scene, first = moving.scenes[int(moving.track.phase[frame])]
        hits = scene.cast(local)
        nearer = hits.distance < distance[rows]
        where = rows[nearer]
        distance[where] = hits.distance[nearer]
        triangle[where] = hits.triangle[nearer] + first
        normal[where] = hits.normal[nearer] @ turn.T

    def labels_at(self, hits: Hits, xy: Floats) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint8]]:
        """Label word [N] and ground cover [N] (only meaningful on ground) of hits at world places [N, 2]; 0 on a
        miss.
        """
        row = np.maximum(hits.triangle, 0)
        word = self.word[row]
        cover = self.ground.at(xy[:, 0], xy[:, 1])
        word = np.where(self.material[row] == Material.GROUND, GROUND_RAW[cover], word)
        return np.where(hits.triangle >= 0, word, 0).astype(np.uint32), cover


@kernel
def _straighten(normal: npt.NDArray[np.float32], rays: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Bring normals to unit length in place; cosines with the rays, always positive."""
    cosine = np.zeros(len(rays), np.float32)
    for n in range(len(rays)):
        x, y, z = normal[n, 0], normal[n, 1], normal[n, 2]
        size = max(np.sqrt(x * x + y * y + z * z), 1e-12)
        normal[n, 0], normal[n, 1], normal[n, 2] = x / size, y / size, z / size
        cosine[n] = abs(x * rays[n, 3] + y * rays[n, 4] + z * rays[n, 5]) / size
    return cosine


@kernel
def _near(rays: npt.NDArray[Any], centre: npt.NDArray[Any], radius: np.floating[Any]) -> npt.NDArray[np.int64]:
    """Rows of the rays that pass a ball."""
    found = np.empty(len(rays), np.int64)
    count = 0
    for n in range(len(rays)):
        x, y, z = centre[0] - rays[n, 0], centre[1] - rays[n, 1], centre[2] - rays[n, 2]
        along = x * rays[n, 3] + y * rays[n, 4] + z * rays[n, 5]
        square = x * x + y * y + z * z
        if square < radius * radius or (along > 0 and square - along * along < radius * radius):
            found[count] = n
            count += 1
    return found[:count]
