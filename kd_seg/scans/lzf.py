"""Decompression of LZF (Marc Lehmann's liblzf), which PCL compresses binary .pcd files with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kd_seg.core.kernels import kernel

Bytes = npt.NDArray[np.uint8]


def decompress(packed: memoryview, size: int) -> Bytes | None:
    """The ``size`` bytes of an LZF stream, or None where the stream is damaged or gives another number of bytes."""
    out = np.zeros(size, np.uint8)
    return out if unpack(np.frombuffer(packed, np.uint8), out) == size else None


@kernel
def unpack(packed: Bytes, out: Bytes) -> int:
    """Fill ``out`` from ``packed``; returns the bytes written, -1 where a run or reference leaves either array."""
    at, to, end, size = 0, 0, len(packed), len(out)
    while at < end:
        control = np.int64(packed[at])
        at += 1
        if control < 32:
            length = control + 1
            if at + length > end or to + length > size:
                return -1
            for _ in range(length):
                out[to] = packed[at]
                at, to = at + 1, to + 1
            continue
        length = control >> 5
        if length == 7:
            if at >= end:
                return -1
            length += np.int64(packed[at])
            at += 1
        if at >= end:
            return -1
        source = to - ((control & 31) << 8) - np.int64(packed[at]) - 1
        at += 1
        length += 2
        if source < 0 or to + length > size:
            return -1
        for _ in range(length):
            out[to] = out[source]
            source, to = source + 1, to + 1
    return to
