"""First hits of rays on triangles, by Open3D or by embreex: two doors to Intel's Embree.

Both find the same triangles; distances differ in the last bits. Open3D is the reference: the bytes of a data set are
those of its hits.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import MissingDependencyError
from kd_seg.core.open3d import open3d

Caster = Literal["open3d", "embreex"]
CASTERS: tuple[Caster, ...] = ("open3d", "embreex")
"""In the order in which they are preferred."""
Vertices = npt.NDArray[np.float32]
Triangles = npt.NDArray[np.int32]


class FirstHits(NamedTuple):
    """What rays met first.

    Attributes:
        distance: metres [N] float32, inf on a miss.
        triangle: row of the scene's triangles [N] int32, -1 on a miss.
        normal: across the triangle [N, 3] float32, of any length and on either side; undefined on a miss.
    """

    distance: npt.NDArray[np.float32]
    triangle: npt.NDArray[np.int32]
    normal: npt.NDArray[np.float32]


class RayScene(Protocol):
    """Triangles that are ready for rays."""

    def cast(self, rays: npt.NDArray[np.float32]) -> FirstHits:
        """First hits of rays [N, 6] float32 (start, unit direction)."""


SceneMaker = Callable[[Vertices, Triangles], RayScene]


class _Open3DScene:
    def __init__(self, vertices: Vertices, triangles: Triangles) -> None:
        module = open3d()
        self._tensor: Any = module.core.Tensor
        self._scene: Any = module.t.geometry.RaycastingScene(nthreads=1)
        self._scene.add_triangles(
            self._tensor(np.ascontiguousarray(vertices, dtype=np.float32)),
            self._tensor(np.ascontiguousarray(triangles).astype(np.uint32)),
        )

    def cast(self, rays: npt.NDArray[np.float32]) -> FirstHits:
        hits = self._scene.cast_rays(self._tensor(np.ascontiguousarray(rays)), nthreads=1)
        distance = hits["t_hit"].numpy()
        triangle = hits["primitive_ids"].numpy().astype(np.int32)
        triangle[~np.isfinite(distance)] = -1
        return FirstHits(distance, triangle, hits["primitive_normals"].numpy())


class _EmbreexScene:
    def __init__(self, vertices: Vertices, triangles: Triangles) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        # Robust: without it Embree lets rays slip through between neighbouring triangles; Open3D asks for it too.
        self._scene = EmbreeScene(robust=True)
        self._mesh = TriangleMesh(
            self._scene,
            np.ascontiguousarray(vertices, dtype=np.float32),
            np.ascontiguousarray(triangles, dtype=np.int32),
        )

    def cast(self, rays: npt.NDArray[np.float32]) -> FirstHits:
        hits = self._scene.run(np.ascontiguousarray(rays[:, :3]), np.ascontiguousarray(rays[:, 3:]), output=True)
        triangle = hits["primID"]
        distance = np.where(triangle >= 0, hits["tfar"], np.float32(np.inf))
        return FirstHits(distance, triangle, hits["Ng"])


_MAKERS: dict[Caster, SceneMaker] = {"open3d": _Open3DScene, "embreex": _EmbreexScene}


def choose_caster(wanted: str = "auto") -> Caster:
    """The ray caster to use: ``wanted``, or with "auto" the first of CASTERS that can be imported.

    Raises:
        MissingDependencyError: it cannot be imported, or none can; the sentence says what to install.
    """
    if wanted == "open3d":
        open3d()
        return "open3d"
    if wanted == "embreex":
        if importlib.util.find_spec("embreex") is None:
            raise MissingDependencyError("embreex is not installed; run pip install embreex, or use --caster open3d.")
        return "embreex"
    try:
        return choose_caster("open3d")
    except MissingDependencyError as error:
        if importlib.util.find_spec("embreex") is None:
            raise MissingDependencyError(f"{error} Or run pip install embreex, which casts rays as well.") from None
    return "embreex"


def scene_maker(caster: Caster) -> SceneMaker:
    """Maker of scenes: (vertices [V, 3] float32, triangles [T, 3] int32) -> RayScene."""
    return _MAKERS[caster]
