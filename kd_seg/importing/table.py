"""What is known of a family of published files: where each tensor goes, how it is laid out, what it was trained on."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kd_seg.core.errors import CheckpointError
from kd_seg.core.failures import one_line
from kd_seg.importing import layouts
from kd_seg.networks import Encoding

State = dict[str, Tensor]


@dataclass(frozen=True)
class Rule:
    """Tensors whose whole name matches ``pattern`` go to ``target``.

    Attributes:
        pattern: regular expression; its named groups fill ``target``.
        target: name in this package's network, as a format string.
        layout: brings the tensor to this package's layout.
        shift: what is added to numeric groups before they are filled in.
    """

    pattern: str
    target: str
    layout: layouts.Layout = layouts.plain
    shift: Mapping[str, int] = field(default_factory=dict)

    def place(self, name: str) -> str | None:
        """The name in this package, or None where the rule does not match."""
        found = re.fullmatch(self.pattern, name)
        if found is None:
            return None
        groups = {key: int(v) + self.shift[key] if key in self.shift else v for key, v in found.groupdict().items()}
        return self.target.format(**groups)


@dataclass(frozen=True)
class Variant:
    """What a translated state turns out to be.

    Attributes:
        network, size: as ``build_network`` takes them. encoding: grid and point features.
        classes: name of a class table. intensity: range of the training data's intensities. range_m: farthest return.
        height_m: of the sensor above the ground. fov_deg: upper and lower end of its field of view.
        trained_on: sequences or split of the data. published: mIoU on the validation split as its README has it.
    """

    network: str
    size: str
    encoding: Encoding
    classes: str
    intensity: str
    range_m: float
    height_m: float
    fov_deg: tuple[float, float]
    data: str
    trained_on: tuple[str, ...]
    published: float | None


@dataclass(frozen=True)
class Family:
    """One project's files.

    Attributes:
        name: as ``--as`` takes it. title: for a person. source: address of the project. code: licence of its code.
        rules: in the order in which they are tried.
        ignored: names that belong to nothing that answers (losses, image branches), as regular expressions.
        finish: after the rules: folds norms, drops the column of the ignored class; changes the state in place.
        variant: tells size, grid and classes from the finished state; CheckpointError for none that is known.
    """

    name: str
    title: str
    source: str
    code: str
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...]
    finish: Callable[[State], None]
    variant: Callable[[State], Variant]

    def read(self, state: State) -> tuple[State, Variant]:
        """The state as a network of this package has it, and what it turns out to be.

        Raises CheckpointError as ``translate``, and where the tensors do not fit together.
        """
        made = self.translate(state)
        try:
            self.finish(made)
            return made, self.variant(made)
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            # A tensor that is missing or of another shape fails wherever it is used first.
            raise CheckpointError(
                f"The tensors do not fit together as those of {self.title} do ({one_line(error)}); the file was cut "
                "off or is another network."
            ) from None

    def translate(self, state: State) -> State:
        """The state under this package's names and in its layouts.

        Raises CheckpointError for a tensor with no place, of a shape that cannot be, or with a place already taken.
        """
        made: State = {}
        strange = []
        for name, tensor in state.items():
            if not self.uses(name):
                continue
            rule, target = self._place(name)
            if rule is None:
                strange.append(name)
                continue
            if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized or tensor.numel() == 0:
                raise CheckpointError(f"Tensor {name} is sparse, complex, quantized or empty; save plain numbers.")
            if target in made:
                raise CheckpointError(f"Tensor {name} is the second that belongs to {target}; this is no {self.title}.")
            try:
                made[target] = rule.layout(tensor.float()).contiguous()
            except ValueError as error:
                raise CheckpointError(f"Tensor {name} does not fit {self.title}: {error}.") from None
        if strange:
            raise CheckpointError(
                f"Tensor {strange[0]} ({len(strange)} in all) has no place in {self.title}; this is another network."
            )
        return made

    def uses(self, name: str) -> bool:
        """Whether a tensor of this name goes anywhere."""
        return not any(re.fullmatch(pattern, name) for pattern in self.ignored)

    def _place(self, name: str) -> tuple[Rule | None, str]:
        for rule in self.rules:
            target = rule.place(name)
            if target is not None:
                return rule, target
        return None, ""


STATISTIC = "(?P<what>weight|bias|running_mean|running_var|num_batches_tracked)"
"""The tensors of a batch norm."""


def norm(pattern: str, target: str, **shift: int) -> Rule:
    """All tensors of a batch norm at ``pattern`` go to the one at ``target``."""
    return Rule(rf"{pattern}\.{STATISTIC}", target + ".{what}", layouts.plain, shift)


def convolution(pattern: str, target: str, layout: layouts.Layout, **shift: int) -> Rule:
    """A kernel goes to the sparse convolution at ``target``."""
    return Rule(pattern, target + ".convolution.weight", layout, shift)


def linear(pattern: str, target: str) -> Rule:
    """Weight and bias of a linear layer."""
    return Rule(rf"{pattern}\.(?P<what>weight|bias)", target + ".{what}")
