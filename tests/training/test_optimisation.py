"""Groups of parameters, and the shape of each schedule."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kd_seg.training.config import OptimSettings
from kd_seg.training.optimisation import build_optimiser, rate

SCHEDULES = ("one_cycle", "cosine", "constant")


def settings(schedule: str, warmup: float, final: float = 0.01) -> OptimSettings:
    return OptimSettings(lr=2.0, schedule=schedule, warmup=warmup, final_lr=final)


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(st.floats(0.0, 0.9), st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_rates_rise_to_the_peak_and_never_again(schedule: str, warmup: float, places: list[float]) -> None:
    made = settings(schedule, warmup)
    places = sorted(places)
    rates = [rate(place, made) for place in places]
    assert all(0.0 < r <= 2.0 + 1e-9 for r in rates)
    for (a, before), (b, after) in pairwise(zip(places, rates, strict=True)):
        if b < warmup:
            assert after >= before - 1e-9
        if a >= warmup:
            assert after <= before + 1e-9
    assert rate(warmup, made) == pytest.approx(2.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_have_no_jump_but_the_first_step(schedule: str) -> None:
    made = settings(schedule, 0.2)
    places = torch.linspace(0.001, 1.0, 2000).tolist()
    rates = [rate(place, made) for place in places]
    assert max(abs(b - a) for a, b in pairwise(rates)) < 0.02


def test_the_end_is_the_final_share_of_the_peak() -> None:
    for schedule in ("one_cycle", "cosine"):
        assert rate(1.0, settings(schedule, 0.1, final=0.25)) == pytest.approx(0.5)
    assert rate(1.0, settings("constant", 0.1)) == 2.0
    half = rate(0.1 + 0.9 / 2, settings("cosine", 0.1, final=0.0))
    assert half == pytest.approx(2.0 * 0.5 * (1 + math.cos(math.pi / 2)))


def network() -> nn.Module:
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, bias=False))
    made[2].weight.requires_grad_(False)
    return made


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_matrices_decay_and_norms_biases_and_frozen_ones_do_not(name: str) -> None:
    made = network()
    optimiser = build_optimiser(made, OptimSettings(optimiser=name, lr=0.1, weight_decay=0.5))
    decay = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decay == {
        id(made[0].weight): 0.5,
        id(made[0].bias): 0.0,
        id(made[1].weight): 0.0,
        id(made[1].bias): 0.0,
    }


def test_without_a_gradient_only_decay_moves_a_weight() -> None:
    made = network()
    before = [parameter.detach().clone() for parameter in made.parameters()]
    optimiser = build_optimiser(made, OptimSettings(optimiser="adamw", lr=0.1, weight_decay=0.5))
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    torch.testing.assert_close(made[0].weight, before[0] * (1 - 0.1 * 0.5))
    for after, old in list(zip(made.parameters(), before, strict=True))[1:]:
        assert torch.equal(after, old)


def test_adamw_in_one_call_steps_as_in_many() -> None:
    torch.manual_seed(0)
    ours = nn.Linear(6, 5)
    theirs = nn.Linear(6, 5)
    theirs.load_state_dict(ours.state_dict())
    optimiser = build_optimiser(ours, OptimSettings(lr=1e-2, weight_decay=0.1))
    assert isinstance(optimiser, torch.optim.AdamW)
    assert all(group["fused"] for group in optimiser.param_groups)
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=1e-2, foreach=False)
    for _ in range(5):
        rows = torch.randn(8, 6)
        for network, steps in ((ours, optimiser), (theirs, plain)):
            steps.zero_grad()
            network(rows).square().sum().backward()
            steps.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)
    plain.load_state_dict(optimiser.state_dict())  # and the state of one goes into the other
    optimiser.load_state_dict(plain.state_dict())


def test_layers_before_the_head_learn_at_their_share() -> None:
    student = nn.ModuleDict({"stem": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
    objective = nn.ModuleDict({"stem": nn.Linear(2, 2)})
    optimiser = build_optimiser(student, OptimSettings(lr=0.5, backbone_lr=0.25, weight_decay=0.1), [objective])
    found = {id(p): (g["lr"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}
    rates = {"stem.weight": (0.125, 0.1), "stem.bias": (0.125, 0.0), "head.weight": (0.5, 0.1), "head.bias": (0.5, 0.0)}
    assert {name: found[id(p)] for name, p in student.named_parameters()} == rates
    assert [found[id(p)] for p in objective.parameters()] == [(0.5, 0.1), (0.5, 0.0)]
    assert optimiser.param_groups[0]["lr"] == 0.5
