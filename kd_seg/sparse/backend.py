"""Imports spconv: late, fast without CUDA, and only together with a NumPy that does not kill the process."""

from __future__ import annotations

import logging
import warnings
from functools import lru_cache
from types import ModuleType

import numpy as np
import torch

from kd_seg.core.environment import installed
from kd_seg.core.errors import MissingDependencyError


@lru_cache
def spconv() -> ModuleType:
    """The ``spconv.pytorch`` module.

    Raises MissingDependencyError if it is not installed, or if NumPy >= 2 meets a cumm older than 0.7, which would end
    the process without a word at the first CUDA convolution.
    """
    check_numpy()
    try:
        import spconv.core as core
    except ImportError as error:
        raise MissingDependencyError(
            f"spconv is not installed or cannot be imported ({error}); run make setup, or pip install "
            "spconv-cu120==2.3.6 (Python 3.12: spconv-cu121==2.3.8)."
        ) from None
    if not torch.cuda.is_available():
        # 1456 descriptions of CUDA kernels are built in Python at import: 6-8 s that a CPU never needs.
        core.ALL_IMPGEMM_PARAMS.clear()
        core.ALL_NATIVE_PARAMS.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # spconv's use of torch.cuda.amp, nothing a user can fix
        import spconv.pytorch as module
    logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)  # spconv asks for is_fx_tracing at each call

    spconv_module: ModuleType = module
    return spconv_module


def check_numpy() -> None:
    """Raise MissingDependencyError where the installed NumPy and cumm cannot live together."""
    if int(np.__version__.split(".")[0]) < 2:
        return
    cumm = installed("cumm")
    if cumm is not None and tuple(int(part) for part in cumm.version.split(".")[:2]) < (0, 7):
        raise MissingDependencyError(
            f"NumPy {np.__version__} beside {cumm} ends the process at the first CUDA convolution; "
            'run pip install "numpy<2", or take spconv-cu121 2.3.8.'
        )
