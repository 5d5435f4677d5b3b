"""2DPASS: the LiDAR branch alone answers once trained; images and fusion are left behind."""

from __future__ import annotations

from kd_seg.core.errors import CheckpointError
from kd_seg.importing.folding import drop_column, fold_shortcuts
from kd_seg.importing.layouts import spconv2_zyx
from kd_seg.importing.table import Family, Rule, State, Variant, convolution, linear, norm
from kd_seg.networks import Encoding
from kd_seg.networks.spv import BOXES, FEATURES, SIZES, Scales

KITTI, NUSCENES = 20, 17
"""Rows of the head, the ignored class first."""

PUBLISHED = {"4x64": 68.7, "6x256": 70.7}


def _rules() -> tuple[Rule, ...]:
    block = r"model_3d\.spv_enc\.(?P<i>\d+)"
    voxels, target = rf"{block}\.v_enc\.(?P<j>\d+)", "blocks.{i}.voxels.{j}"
    points, after = rf"{block}\.p_enc", "blocks.{i}.points"
    return (
        linear(r"model_3d\.voxel_3d_generator\.PPmodel\.0", "points.0"),
        linear(r"model_3d\.voxel_3d_generator\.PPmodel\.2", "points.1"),
        convolution(rf"{voxels}\.layers\.0\.weight", target + ".first", spconv2_zyx),
        norm(rf"{voxels}\.layers\.1", target + ".first_norm"),
        convolution(rf"{voxels}\.layers\.3\.weight", target + ".second", spconv2_zyx),
        norm(rf"{voxels}\.layers\.4", target + ".second_norm"),
        Rule(rf"{voxels}\.layers_in\.0\.weight", target + ".shortcut.weight", spconv2_zyx),
        norm(rf"{voxels}\.layers_in\.1", target + ".shortcut_norm"),
        linear(rf"{points}\.layer_in\.0", after + ".own"),
        linear(rf"{points}\.PPmodel\.0", after + ".around.0"),
        norm(rf"{points}\.PPmodel\.2", after + ".norms.0"),
        linear(rf"{points}\.PPmodel\.3", after + ".around.1"),
        norm(rf"{points}\.PPmodel\.5", after + ".norms.1"),
        linear(rf"{points}\.PPmodel\.6", after + ".widen"),
        linear(rf"{points}\.layer_out\.0", after + ".joined.0"),
        linear(rf"{points}\.layer_out\.2", after + ".joined.1"),
        linear(r"model_3d\.classifier\.0", "hidden"),
        linear(r"model_3d\.classifier\.2", "head"),
    )


def _finish(state: State) -> None:
    rows = len(state["head.bias"]) if "head.bias" in state else 0
    if rows not in (KITTI, NUSCENES):
        raise CheckpointError(
            f"The head of this file has {rows} classes; 2DPASS has {KITTI} on SemanticKITTI and {NUSCENES} on nuScenes."
        )
    fold_shortcuts(state)
    drop_column(state, ("head.weight", "head.bias"), 0)
    _split_by_scale(state)


def _split_by_scale(state: State) -> None:
    """The head's hidden layer on all scales side by side, as a matrix per scale; the bias goes with the first."""
    if not {"hidden.weight", "hidden.bias", "points.1.bias"} <= state.keys():
        raise CheckpointError("The file lacks a tensor of the head; it was cut off or is another network.")
    for number, part in enumerate(state.pop("hidden.weight").split(len(state["points.1.bias"]), dim=1)):
        state[f"hidden.{number}.weight"] = part.contiguous()
    state["hidden.0.bias"] = state.pop("hidden.bias")


def _variant(state: State) -> Variant:
    kitti = len(state["head.bias"]) == KITTI - 1
    blocks = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    # the released configurations: each halving once, then the coarsest again
    scales = tuple(min(2 ** (number + 1), 16) for number in range(blocks))
    width = len(state["points.0.bias"])
    box = "semantickitti" if kitti else "nuscenes"
    made = Scales(scales, width, box)
    size = next((name for name, known in SIZES.items() if known == made), made.text())
    encoding = Encoding(BOXES[box], FEATURES)
    if not kitti:
        return Variant(
            network="spv", size=size, encoding=encoding, classes="nuscenes_16", intensity="byte", range_m=70.0,
            height_m=1.84, fov_deg=(10.0, -30.0), data="nuScenes", trained_on=("train",), published=None,
        )  # fmt: skip
    return Variant(
        network="spv", size=size, encoding=encoding, classes="semantic_kitti_19", intensity="unit", range_m=80.8,
        height_m=1.73, fov_deg=(3.0, -25.0), data="SemanticKITTI",
        trained_on=("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"), published=PUBLISHED.get(size),
    )  # fmt: skip


FAMILY = Family(
    name="2dpass",
    title="2DPASS",
    source="https://github.com/yanx27/2DPASS",
    code="MIT",
    rules=_rules(),
    ignored=(
        r"model_2d\..*",
        r"fusion\..*",
        r"(?:.*\.)?criterion\..*",
        r"(?:model_3d\.)?(?:train_acc|val_acc|val_iou)\..*",
    ),
    finish=_finish,
    variant=_variant,
)
