"""Cylinder3D: the original, PVKD (the same code), and mmdetection3d's."""

from __future__ import annotations

import math
from functools import partial

from kd_seg.core.errors import CheckpointError
from kd_seg.importing.folding import drop_column, fold_biases
from kd_seg.importing.layouts import shared, spconv1
from kd_seg.importing.table import Family, Rule, State, Variant, convolution, linear, norm
from kd_seg.networks import Encoding
from kd_seg.networks.cylinder import CUBE, LINES
from kd_seg.networks.cylinder3d import SHARED
from kd_seg.voxels import CylindricalGrid

PI = 3.1415926
"""As the released configuration writes it."""

KITTI, NUSCENES = 20, 17
"""Rows of the head with the ignored class."""

HEAD = ("head.convolution.weight", "bias")

Pair = tuple[str, str]
"""Names of a convolution and of the norm after it."""


def _step(at: str, names: Pair, target: str, cells: tuple[int, int, int]) -> tuple[Rule, Rule]:
    """A convolution that ran on the kernel map of ``cells``, and its norm."""
    return (
        convolution(rf"{at}\.{names[0]}\.weight", target + ".convolution", shared(cells)),
        norm(rf"{at}\.{names[1]}", target + ".norm"),
    )


def _asymmetric(
    at: str, target: str, one: tuple[Pair, Pair], other: tuple[Pair, Pair], cells: tuple[int, int, int]
) -> list[Rule]:
    """The four steps of an asymmetric block."""
    rules: list[Rule] = []
    for branch, pairs in (("one", one), ("other", other)):
        for number, names in enumerate(pairs):
            rules += _step(at, names, f"{target}.{branch}.{number}", cells)
    return rules


def _network(
    stem: str,
    down: list[str],
    up: list[str],
    context: str,
    head: str,
    one: tuple[Pair, Pair],
    other: tuple[Pair, Pair],
    stem_pairs: tuple[tuple[Pair, Pair], tuple[Pair, Pair]],
    before: Pair,
    lines: tuple[Pair, Pair, Pair],
) -> list[Rule]:
    """Rules of the sparse network; ``down`` and ``up`` name the blocks from the finest and from the coarsest level."""
    rules = _asymmetric(stem, "stem", *stem_pairs, SHARED.stem[0])
    for i, at in enumerate(down):
        rules += _asymmetric(at, f"encoders.{i}.block", one, other, SHARED.encoder[0])
        rules.append(convolution(rf"{at}\.pool\.weight", f"encoders.{i}.down", spconv1))
    for i, at in enumerate(up):
        rules += _step(at, before, f"decoders.{i}.before", CUBE)
        rules.append(convolution(rf"{at}\.up_subm\.weight", f"decoders.{i}.up", spconv1))
        for number in range(3):
            rules += _step(
                at, (f"conv{number + 1}", f"bn{number + 1}"), f"decoders.{i}.steps.{number}", SHARED.decoder[0]
            )
    for number, (line, after) in enumerate(lines):
        rules.append(convolution(rf"{context}\.{line}\.weight", f"context.convolutions.{number}", shared(LINES[0])))
        rules.append(norm(rf"{context}\.{after}", f"context.norms.{number}"))
    rules.append(convolution(rf"{head}\.weight", "head", spconv1))
    rules.append(Rule(rf"{head}\.bias", "bias"))
    return rules


def _original() -> tuple[Rule, ...]:
    points, net = r"cylinder_3d_generator\.PPmodel", r"cylinder_3d_spconv_seg"
    rules = [norm(rf"{points}\.0", "points.input_norm"), linear(rf"{points}\.10", "points.last")]
    for i in range(3):
        rules += [
            linear(rf"{points}\.{3 * i + 1}", f"points.layers.{i}"),
            norm(rf"{points}\.{3 * i + 2}", f"points.norms.{i}"),
        ]
    rules.append(linear(r"cylinder_3d_generator\.fea_compression\.0", "points.compress"))
    first, second = (("conv1", "bn0"), ("conv1_2", "bn0_2")), (("conv2", "bn1"), ("conv3", "bn2"))
    rules += _network(
        rf"{net}\.downCntx", [rf"{net}\.resBlock{i}" for i in (2, 3, 4, 5)], [rf"{net}\.upBlock{i}" for i in range(4)],
        rf"{net}\.ReconNet", rf"{net}\.logits", first, second, (first, second), ("trans_dilao", "trans_bn"),
        (("conv1", "bn0"), ("conv1_2", "bn0_2"), ("conv1_3", "bn0_3")),
    )  # fmt: skip
    return tuple(rules)


def _mmdetection3d() -> tuple[Rule, ...]:
    points = r"voxel_encoder"
    rules = [norm(rf"{points}\.pre_norm", "points.input_norm"), linear(rf"{points}\.vfe_layers\.3", "points.last")]
    for i in range(3):
        rules += [
            linear(rf"{points}\.vfe_layers\.{i}\.0", f"points.layers.{i}"),
            norm(rf"{points}\.vfe_layers\.{i}\.1", f"points.norms.{i}"),
        ]
    rules.append(linear(rf"{points}\.compression_layers\.0", "points.compress"))
    first, second = (("conv0_0", "bn0_0"), ("conv0_1", "bn0_1")), (("conv1_0", "bn1_0"), ("conv1_1", "bn1_1"))
    rules += _network(
        r"backbone\.down_context", [rf"backbone\.down_block_list\.{i}" for i in range(4)],
        [rf"backbone\.up_block_list\.{i}" for i in (3, 2, 1, 0)], r"backbone\.ddcm", r"decode_head\.conv_seg", first,
        second, (first, second), ("trans_conv", "trans_bn"), (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")),
    )  # fmt: skip
    return tuple(rules)


def _finish(state: State, column: int, title: str) -> None:
    rows = len(state["bias"]) if "bias" in state else 0
    if rows not in (KITTI, NUSCENES):
        raise CheckpointError(
            f"The head of this file has {rows} classes; {title} has {KITTI} (SemanticKITTI) or {NUSCENES} (nuScenes)."
        )
    fold_biases(state, {f"points.layers.{i}": f"points.norms.{i}" for i in range(3)})
    drop_column(state, HEAD, column)


def _variant(state: State, published: dict[str, float], pi: float) -> Variant:
    kitti = len(state["bias"]) == KITTI - 1
    size = f"w{state['stem.one.0.convolution.convolution.weight'].shape[0]}"
    low, high = (-4.0, 2.0) if kitti else (-5.0, 3.0)
    grid = CylindricalGrid((480, 360, 32), (0.0, -pi, low), (50.0, pi, high), clamp=True)
    encoding = Encoding(grid, ("cylinder9",))
    if not kitti:
        return Variant(
            network="cylinder3d", size=size, encoding=encoding, classes="nuscenes_16", intensity="byte", range_m=70.0,
            height_m=1.84, fov_deg=(10.0, -30.0), data="nuScenes", trained_on=("train",), published=None,
        )  # fmt: skip
    return Variant(
        network="cylinder3d", size=size, encoding=encoding, classes="semantic_kitti_19", intensity="unit",
        range_m=80.8, height_m=1.73, fov_deg=(3.0, -25.0), data="SemanticKITTI",
        trained_on=("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"), published=published.get(size),
    )  # fmt: skip


def _family(
    name: str, title: str, source: str, code: str, rules: tuple[Rule, ...], column: int, mious: dict[str, float],
    pi: float = PI, ignored: tuple[str, ...] = (),
) -> Family:  # fmt: skip
    return Family(
        name, title, source, code, rules, ignored, partial(_finish, column=column, title=title),
        partial(_variant, published=mious, pi=pi),
    )  # fmt: skip


FAMILIES = (
    _family(
        "cylinder3d", "Cylinder3D", "https://github.com/xinge008/Cylinder3D", "Apache-2.0", _original(), 0,
        {"w32": 66.9},
    ),
    _family("pvkd", "PVKD", "https://github.com/cardwing/Codes-for-PVKD", "MIT", _original(), 0, {}),
    _family(
        "mmdet3d-cylinder3d", "mmdetection3d's Cylinder3D", "https://github.com/open-mmlab/mmdetection3d", "Apache-2.0",
        _mmdetection3d(), -1, {"w32": 67.0}, math.pi, (r"data_preprocessor\..*",),
    ),
)  # fmt: skip
