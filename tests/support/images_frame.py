"""One view of a scene as the lifting sees it, and a teacher that knows its classes without error."""

from __future__ import annotations

import numpy as np
from images_scene import HEIGHT, P2, TR, WIDTH, Scene, poses

from kd_seg.classes import load_classes
from kd_seg.images.projection.cameras import pairs
from kd_seg.images.projection.project import Optics
from kd_seg.images.projection.visibility import VisibilitySettings, see
from kd_seg.images.teachers import SemanticMap
from kd_seg.images.units.class_maps import ClassMap, load_class_map
from kd_seg.images.units.lifting import PictureFrame
from kd_seg.images.units.noise import Noise, NoiseSettings

CLASSES = load_classes()
SAME = load_class_map("same", CLASSES)
OPTICS = Optics(P2, TR, WIDTH, HEIGHT)


def frame(scene: Scene, class_map: ClassMap = SAME) -> tuple[PictureFrame, np.ndarray]:
    points, words = scene.scan(poses(1)[0])
    projected, mask = see(points, OPTICS, VisibilitySettings())
    found = pairs(projected, mask)
    made = PictureFrame(
        points,
        found,
        found,
        (HEIGHT, WIDTH),
        lambda: scene.picture(poses(1)[0])[0],
        class_map.mapped,
        class_map.things(CLASSES),
    )
    return made, CLASSES.to_train(words, "scene")


def class_image(scene: Scene) -> SemanticMap:
    raw = scene.picture(poses(1)[0])[1]
    train, _ = CLASSES.to_train_lenient(raw.astype(np.uint32))
    classes = CLASSES.train_to_class(train)
    classes[raw == 65535] = 255
    return SemanticMap(classes, np.full(classes.shape, 0.8, dtype=np.float32))


def quiet() -> Noise:
    return Noise(NoiseSettings(), SAME.sets, ("00", 0, 0))
