"""``cylinder3d``: the network that Cylinder3D's released weights belong to (Zhu et al., CVPR 2021; also PVKD's).

spconv 1 and mmcv look kernel maps up by ``indice_key`` alone. The released code gives convolutions of different kernels
one key, so all of them ran, in training too, on the map of the first: nine cells of 1 x 3 x 3 in the stem and decoder,
of 3 x 1 x 3 in the encoder, three of 3 x 1 x 1 in the context module. This network has those kernels by intent.
"""

from __future__ import annotations

import re

from kd_seg.core.errors import ConfigError
from kd_seg.networks.cylinder import ACROSS, ALONG, LINES, Cylinder, Kernels
from kd_seg.networks.registry import NETWORKS

SHARED = Kernels(
    stem=(ALONG, ALONG), encoder=(ACROSS, ACROSS), decoder=(ALONG, ALONG, ALONG), context=(LINES[0], LINES[0], LINES[0])
)
"""The kernels that ran."""

HIDDEN = 256
"""Width of the widest layer on points, whatever the width of the network."""


@NETWORKS.register("cylinder3d")
def build(size: str, features: int, classes: int) -> Cylinder:
    """The network of size "w32" (Cylinder3D), "w16" (PVKD's small one) or of another width; ConfigError otherwise."""
    found = re.fullmatch(r"w([1-9]\d{0,3})", size)
    if found is None:
        raise ConfigError(f"cylinder3d has no size {size!r}; give a width, such as w32 (as published) or w16.")
    return Cylinder(int(found[1]), features, classes, SHARED, HIDDEN)
