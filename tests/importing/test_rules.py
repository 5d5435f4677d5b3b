"""Rules that give tensors of other projects their place."""

from __future__ import annotations

import pytest
import torch

from kd_seg.core.errors import CheckpointError
from kd_seg.importing import layouts
from kd_seg.importing.table import Family, Rule, convolution, linear, norm


def family(*rules: Rule, ignored: tuple[str, ...] = ()) -> Family:
    return Family("test", "a test network", "x", "x", rules, ignored, lambda state: None, lambda state: None)  # type: ignore[arg-type, return-value]


def test_a_rule_matches_whole_names_and_shifts_numbers() -> None:
    rule = Rule(r"stage(?P<n>\d+)\.weight", "levels.{n}.weight", shift={"n": -1})
    assert rule.place("stage3.weight") == "levels.2.weight"
    assert rule.place("stage12.weight") == "levels.11.weight"
    for name in ("a.stage3.weight", "stage3.weights", "stage.weight", "stage3xweight"):
        assert rule.place(name) is None


def test_the_first_rule_that_matches_decides() -> None:
    made = family(Rule("a.b", "special"), Rule(r"a\.(?P<x>.*)", "plain.{x}")).translate(
        {"a.b": torch.zeros(1), "a.c": torch.ones(2)}
    )
    assert sorted(made) == ["plain.c", "special"]


def test_tensors_come_as_float32_and_contiguous_in_the_new_layout() -> None:
    weight = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    rule = Rule("w", "w", lambda tensor: tensor.T)
    made = family(rule).translate({"w": weight})["w"]
    assert made.dtype == torch.float32
    assert made.is_contiguous()
    assert torch.equal(made, weight.T.float())


def test_a_norm_is_placed_whole_and_nothing_but_a_norm() -> None:
    rule = norm(r"bn(?P<n>\d)", "norms.{n}")
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert [rule.place(f"bn4.{name}") for name in names] == [f"norms.4.{name}" for name in names]
    assert rule.place("bn4.scale") is None


def test_layers_and_kernels_go_to_their_modules() -> None:
    assert linear("head", "classifier").place("head.bias") == "classifier.bias"
    assert linear("head", "classifier").place("head.running_mean") is None
    kernel = convolution(r"conv(?P<n>\d)\.kernel", "blocks.{n}", layouts.spconv2, n=1)
    assert kernel.place("conv0.kernel") == "blocks.1.convolution.weight"


def test_what_has_no_place_or_the_place_of_another_is_refused() -> None:
    known = family(Rule("a", "x"), Rule("b", "x"), ignored=("loss.*",))
    assert known.translate({"a": torch.zeros(1), "loss.weight": torch.zeros(3)}).keys() == {"x"}
    with pytest.raises(CheckpointError, match=r"Tensor c \(2 in all\) has no place in a test network"):
        known.translate({"a": torch.zeros(1), "c": torch.zeros(1), "d": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="Tensor b is the second that belongs to x"):
        known.translate({"a": torch.zeros(1), "b": torch.zeros(1)})


def test_a_shape_that_cannot_be_is_named_with_its_tensor() -> None:
    made = family(Rule("w", "w", layouts.minkowski))
    with pytest.raises(CheckpointError, match=r"Tensor w does not fit a test network: 26 kernel cells are no cube"):
        made.translate({"w": torch.zeros(26, 2, 3)})
    with pytest.raises(CheckpointError, match="was expected, not"):
        made.translate({"w": torch.zeros(3)})
