"""Pictures from files, of a sensible size, each failure one sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError

LARGEST_PICTURE = 1 << 26
"""Pixels; a header that declares more is refused before a pixel is read."""


def read_picture(path: Path, modes: tuple[str, ...] | None = None) -> npt.NDArray[np.uint8]:
    """A picture's pixels, RGB uint8 [H, W, 3], or as they are, [H, W], where ``modes`` names the allowed ones.

    Raises DataError where the file is missing, broken, too large or of another mode.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about the size that is checked here
            with Image.open(path) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    raise DataError(
                        f"{path} is {picture.width}x{picture.height} pixels, more than {LARGEST_PICTURE:,}; its header "
                        "is wrong, or scale it down."
                    )
                if modes is not None and picture.mode not in modes:
                    raise DataError(
                        f"{path} is of mode {picture.mode}, not 8-bit grey ({' or '.join(modes)}); export it again."
                    )
                return np.asarray(picture.convert("RGB") if modes is None else picture)
    except DataError:
        raise
    except Exception as error:  # a damaged picture makes Pillow fail in many ways; all mean the same
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path} is not a readable picture ({reason}); write or copy it again.") from None
