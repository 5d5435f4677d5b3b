"""One network from several runs that started from the same weights: the mean of each weight.

    python -m kd_seg.studies.average_runs OUT RUN RUN ...

Each RUN is a run folder or a checkpoint. The mean is about as good as the runs on what they were trained on, and varies
less elsewhere (Wortsman et al., ICML 2022, "Model soups"); nobody has to choose a seed. OUT bears the record of the
first run, and how many it is the mean of.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from kd_seg.checkpoint import load_checkpoint, resolve, save_checkpoint
from kd_seg.core.errors import KdSegError, UsageError


def average(out: Path, runs: list[Path]) -> None:
    """Write to ``out`` the mean of the weights and batch statistics of checkpoints, all of one kind.

    Raises:
        UsageError: fewer than two runs, ``out`` exists, or runs of other networks, grids, features or classes.
        CheckpointError: a file at fault.
    """
    if len(runs) < 2:
        raise UsageError("One run is its own mean; name two or more.")
    if out.exists():
        raise UsageError(f"{out} exists; give another name.")
    first, *others = [load_checkpoint(resolve(run)) for run in runs]
    kind = replace(first.spec, training={}).to_json()
    for other in others:
        if replace(other.spec, training={}).to_json() != kind:
            raise UsageError(f"{other.path} is another kind of network than {first.path}; kd-seg info shows both.")
    state = first.network.state_dict()
    states = [other.network.state_dict() for other in others]
    for name, tensor in state.items():
        if tensor.is_floating_point():
            stacked = torch.stack([tensor, *(each[name] for each in states)])
            state[name] = stacked.double().mean(dim=0).to(tensor.dtype)
    first.network.load_state_dict(state)
    save_checkpoint(out, first.network, replace(first.spec, training={**first.spec.training, "mean_of": len(runs)}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    try:
        average(arguments.out, arguments.runs)
    except KdSegError as error:
        parser.exit(2, f"error: {error}\n")
    print(f"written: {arguments.out}, the mean of {len(arguments.runs)}")


if __name__ == "__main__":
    main()
