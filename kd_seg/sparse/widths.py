"""How long the machine's vectors are, and what follows for streams, packed weights and micro-kernels."""

from __future__ import annotations

import math

import llvmlite.binding as llvm

from kd_seg.core.kernels import numba_config as config

LANES = 16
"""Channels are padded to this multiple in accumulators and packed weights, whatever the machine: weights packed on
one machine mean the same on another."""

GROUP = 8
"""Pairs of rows that are handled together; streams are padded to this multiple."""


def _features() -> set[str]:
    """Features of the processor that Numba compiles for: NUMBA_CPU_FEATURES, else the host's."""
    chosen: str | None = getattr(config, "CPU_FEATURES", None)
    if chosen is not None:
        return {word[1:] for word in chosen.split(",") if word.startswith("+")}
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def vector_width() -> int:
    """Floats per vector register of the processor that Numba compiles for: 16, 8 or 4."""
    features = _features()
    if "avx512f" in features:
        return 16
    return 8 if {"avx2", "fma"} <= features else 4


WIDTH = vector_width()
VECTORS = LANES // WIDTH
"""Vector registers per 16 channels."""

ROWS = {16: 8, 8: 6, 4: 2}[WIDTH]
"""Rows whose accumulators stay in registers together: 8 of one to three vectors fill 32 registers, 6 of two or 2 of
four fill 16. (With 4 of two a multiply-add would wait for the one before it.)"""

REST = math.gcd(ROWS, GROUP)
"""Rows of the micro-kernel for what is left of a cell's pairs, whose number is a multiple of GROUP."""

BLOCKS = (1, 2, 3) if WIDTH == 16 else (1,)
"""How many times 16 output channels a micro-kernel may keep in registers."""

ISA = {16: "AVX-512", 8: "AVX2", 4: "128-bit vectors"}[WIDTH]
