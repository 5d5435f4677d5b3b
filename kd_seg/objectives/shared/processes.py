"""What objectives do over several training processes: share scans out, and add up."""

from __future__ import annotations

import torch
from torch import Tensor


def rank_and_world() -> tuple[int, int]:
    """(number of this process, number of processes); (0, 1) where training runs in one."""
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def summed(values: Tensor) -> Tensor:
    """The sum of a tensor over all processes, of its shape."""
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values
