"""From a device's name to the torch device of this process."""

from __future__ import annotations

import os

import torch

from kd_seg.core.errors import MissingDependencyError


def choose_device(name: str, rank: int = 0) -> torch.device:
    """The CPU or a CUDA device.

    Args:
        name: auto (CUDA where there is a device, else the CPU), cpu, cuda, or cuda:N for the N-th device. With "auto"
            and "cuda" each process of torchrun gets a CUDA device of its own.
        rank: of this process, where torchrun has not set LOCAL_RANK.

    Raises:
        MissingDependencyError: CUDA was asked for and is not there, there are fewer devices than asked for or than
            processes, or the name is unknown.
    """
    family, _, number = name.partition(":")
    if family not in ("auto", "cpu", "cuda") or (number and (family != "cuda" or not number.isdecimal())):
        raise MissingDependencyError(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:N.")
    if family == "cuda" and not torch.cuda.is_available():
        raise MissingDependencyError(f"device {name} requested, no CUDA device found; set the device to cpu or auto.")
    if family == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count, processes = torch.cuda.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if number:
        if int(number) >= count:
            raise MissingDependencyError(
                f"device {name} requested, there are {count} CUDA devices; the last is cuda:{count - 1}."
            )
        return torch.device("cuda", int(number))
    if processes > count:
        raise MissingDependencyError(
            f"{processes} processes were started beside {count} CUDA devices, and each needs its own; start at most "
            f"{count}, or set the device to cpu."
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank)) % count)
