"""Camera messages as pictures: raw and compressed images, and rectification by what CameraInfo gives."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_seg.core.errors import DataError
from kd_seg.core.geometry import Matrix

Picture = npt.NDArray[np.uint8]

CHANNELS = {"rgb8": "RGB", "bgr8": "BGR", "rgba8": "RGBA", "bgra8": "BGRA", "mono8": "L", "8UC3": "BGR", "8UC1": "L"}
"""Encodings of sensor_msgs/Image that are read, and the order of their channels."""


def decode_image(message: Any) -> Picture:
    """RGB [H, W, 3] of a sensor_msgs/Image or CompressedImage; DataError where it cannot be read."""
    if hasattr(message, "format"):
        return _decompressed(message)
    encoding = str(message.encoding)
    if encoding not in CHANNELS:
        raise DataError(
            f"image encoding {encoding!r} is not read (known: {', '.join(CHANNELS)}); debayer or convert it first, "
            "for example with image_proc."
        )
    order = CHANNELS[encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if step < width * len(order) or len(data) < height * step:
        raise DataError(f"image of {width} x {height} {encoding} has {len(data)} bytes, {height * step} are needed.")
    pixels = data[: height * step].reshape(height, step)[:, : width * len(order)].reshape(height, width, len(order))
    if order == "L":
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, [order.index(channel) for channel in "RGB"]])


def _decompressed(message: Any) -> Picture:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(bytes(message.data))) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"a compressed image ({message.format!r}) cannot be read ({error}).") from None


@dataclass(frozen=True)
class CameraModel:
    """What a sensor_msgs/CameraInfo tells.

    Attributes:
        width, height: of the picture, in pixels.
        frame: the camera's optical frame.
        k: [3, 3] of the raw picture. d: distortion coefficients. model: plumb_bob, rational_polynomial, equidistant.
        r: [3, 3] rectifying rotation, camera frame to rectified frame. p: [3, 4] of the rectified picture.
        done: whether the pictures of the topic were rectified before they were recorded.
    """

    width: int
    height: int
    frame: str
    k: Matrix
    d: npt.NDArray[np.float64]
    model: str
    r: Matrix
    p: Matrix
    done: bool = False

    @classmethod
    def of_message(cls, message: Any) -> CameraModel:
        """From the message (ROS 1 spells K, D, R, P).

        Raises DataError where it was never calibrated (P and K all zero), or holds NaN or infinity.
        """
        rows = {
            name: np.array(getattr(message, name, getattr(message, name.upper(), ())), np.float64) for name in "kdrp"
        }
        if not all(np.isfinite(row).all() for row in rows.values()):
            raise DataError("the CameraInfo holds NaN or infinity; calibrate the camera again.")
        k, r, p = rows["k"].reshape(3, 3), rows["r"].reshape(3, 3), rows["p"].reshape(3, 4)
        if k[0, 0] * k[1, 1] == 0 and p[0, 0] * p[1, 1] == 0:
            raise DataError("the CameraInfo holds no calibration (K and P are zero); calibrate the camera first.")
        if p[0, 0] * p[1, 1] == 0:
            p = np.hstack([k, np.zeros((3, 1))])
        if not r.any():
            r = np.eye(3)
        return cls(
            int(message.width),
            int(message.height),
            str(message.header.frame_id),
            k if k[0, 0] * k[1, 1] != 0 else p[:, :3],
            rows["d"],
            str(message.distortion_model) or "plumb_bob",
            r,
            p,
        )

    @property
    def is_rectified(self) -> bool:
        """Whether the recorded picture already is what ``p`` describes."""
        return self.done or (not self.d.any() and np.allclose(self.r, np.eye(3)) and np.allclose(self.k, self.p[:, :3]))

    def places(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Where each pixel [H, W] of the rectified picture lies in the raw one: columns and rows."""
        column, row = np.meshgrid(np.arange(self.width, dtype=np.float64), np.arange(self.height, dtype=np.float64))
        rays = np.stack([column, row, np.ones_like(column)], axis=-1) @ np.linalg.inv(self.p[:, :3]).T @ self.r
        x, y = distort(rays[..., 0] / rays[..., 2], rays[..., 1] / rays[..., 2], self.d, self.model)
        return self.k[0, 0] * x + self.k[0, 1] * y + self.k[0, 2], self.k[1, 1] * y + self.k[1, 2]


def distort(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], d: npt.NDArray[np.float64], model: str
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Normalised image coordinates as the lens bends them.

    plumb_bob and rational_polynomial: Brown-Conrady with k1 k2 p1 p2 k3 k4 k5 k6; equidistant: J. Kannala, S. Brandt,
    "A generic camera model", PAMI 2006, with k1 to k4. Raises DataError for another model, and for further coefficients
    that are not 0 (OpenCV's thin prism and tilted sensor).
    """
    fisheye = model in {"equidistant", "fisheye"}
    if not fisheye and model not in {"plumb_bob", "rational_polynomial", "none"}:
        raise DataError(f"distortion model {model!r} is unknown (plumb_bob, rational_polynomial, equidistant).")
    known = 4 if fisheye else 8
    if d[known:].any():
        raise DataError(
            f"the CameraInfo has {len(d)} distortion coefficients, of which {known} are known to {model}; calibrate "
            "without thin prism and tilt, or record rectified pictures."
        )
    c = np.zeros(8)
    c[: min(known, len(d))] = d[:known]
    if fisheye:
        radius = np.hypot(x, y)
        angle = np.arctan(radius)
        square = angle**2
        bent = angle * (1 + square * (c[0] + square * (c[1] + square * (c[2] + square * c[3]))))
        scale = np.divide(bent, radius, out=np.ones_like(radius), where=radius > 1e-12)
        return x * scale, y * scale
    square = x**2 + y**2
    radial = (1 + square * (c[0] + square * (c[1] + square * c[4]))) / (
        1 + square * (c[5] + square * (c[6] + square * c[7]))
    )
    return (
        x * radial + 2 * c[2] * x * y + c[3] * (square + 2 * x**2),
        y * radial + c[2] * (square + 2 * y**2) + 2 * c[3] * x * y,
    )


class Rectifier:
    """Rectifies the pictures of one camera; the table of places is made once."""

    def __init__(self, model: CameraModel) -> None:
        self.model = model
        self._places = None if model.is_rectified else model.places()

    def __call__(self, picture: Picture) -> Picture:
        """The rectified picture [H, W, 3], bilinear; black where the raw one ends. DataError if the size is another."""
        if picture.shape[:2] != (self.model.height, self.model.width):
            raise DataError(
                f"a picture has {picture.shape[1]} x {picture.shape[0]} pixels, its CameraInfo "
                f"{self.model.width} x {self.model.height}."
            )
        if self._places is None:
            return picture
        from scipy.ndimage import map_coordinates

        columns, rows = self._places
        bands = [map_coordinates(picture[..., band], [rows, columns], order=1, cval=0) for band in range(3)]
        return np.stack(bands, axis=-1)
