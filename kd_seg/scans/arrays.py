"""The arrays that every room passes on: points and label words."""

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float32]
"""[N, 4] x, y, z in metres in the LiDAR frame, remission."""

Words = npt.NDArray[np.uint32]
"""[N] label words: raw class in the lower 16 bits, instance in the upper 16."""
