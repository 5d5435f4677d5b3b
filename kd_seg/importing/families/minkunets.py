"""MinkUNets: mmdetection3d on three libraries, OpenPCSeg, SPVNAS, PolarMix, and Pointcept's SpUNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from kd_seg.core.errors import CheckpointError
from kd_seg.importing import layouts
from kd_seg.importing.folding import change_epsilon, drop_column, fold_shortcuts
from kd_seg.importing.table import Family, Rule, State, Variant, convolution, linear, norm
from kd_seg.networks import Encoding
from kd_seg.networks.minkunet import SIZES, MinkUNetLayout
from kd_seg.voxels import CartesianGrid

LEVELS = range(4)

ROUNDED = Encoding(
    CartesianGrid((0.05, 0.05, 0.05), (-100.025, -100.025, -40.025), (100.025, 100.025, 40.025)), ("xyz", "remission")
)
"""Cells of round(p / 0.05): the borders lie half a cell lower than those of a grid that begins at a whole cell."""

CLIPPED = Encoding(
    CartesianGrid((0.05, 0.05, 0.05), (-35.2, -35.2, -4.0), (35.2, 35.2, 2.0), clamp=True), ("clamped", "remission")
)
"""Pointcept's on SemanticKITTI: points moved into a box of 70.4 m."""

WHOLE = Encoding(CartesianGrid((0.05, 0.05, 0.05), (-100.0, -100.0, -40.0), (100.0, 100.0, 40.0)), ("xyz", "remission"))
"""Pointcept's on nuScenes: cells of floor(p / 0.05)."""


@dataclass(frozen=True)
class BlockNames:
    """Names of a residual block's parts, as regular expressions."""

    first: str
    first_norm: str
    second: str
    second_norm: str
    shortcut: str
    shortcut_norm: str

    def rules(self, at: str, target: str, layout: layouts.Layout, shift: int) -> tuple[Rule, ...]:
        """Rules of the blocks at ``at``, whose group j is their number less ``shift``."""
        here = target + ".blocks.{j}"
        return (
            convolution(rf"{at}\.{self.first}", here + ".first", layout, j=shift),
            norm(rf"{at}\.{self.first_norm}", here + ".first_norm", j=shift),
            convolution(rf"{at}\.{self.second}", here + ".second", layout, j=shift),
            norm(rf"{at}\.{self.second_norm}", here + ".second_norm", j=shift),
            Rule(rf"{at}\.{self.shortcut}", here + ".shortcut.weight", layout, {"j": shift}),
            norm(rf"{at}\.{self.shortcut_norm}", here + ".shortcut_norm", j=shift),
        )


def _simple(shortcut: str) -> BlockNames:
    return BlockNames(r"conv1\.weight", "bn1", r"conv2\.weight", "bn2", rf"{shortcut}\.0\.weight", rf"{shortcut}\.1")


SPCONV = _simple("downsample")
POINTCEPT = _simple("proj")
TORCHSPARSE = BlockNames(
    r"net\.0\.kernel", r"net\.1", r"net\.3\.kernel", r"net\.4", r"downsample\.0\.kernel", r"downsample\.1"
)
MINKOWSKI = BlockNames(
    r"conv1\.kernel", r"norm1\.bn", r"conv2\.kernel", r"norm2\.bn", r"downsample\.net\.0\.kernel",
    r"downsample\.net\.1\.bn",
)  # fmt: skip


def mmdetection3d(kernel: str, batch_norm: str, block: BlockNames, layout: layouts.Layout) -> tuple[Rule, ...]:
    """Rules for MinkUNetBackbone; ``kernel`` and ``batch_norm`` stand after the module of a convolution with norm."""
    rules: list[Rule] = []
    for i in range(2):
        at = rf"backbone\.conv_input\.{i}"
        rules += [
            convolution(rf"{at}\.{kernel}", f"stem.{i}.convolution", layout),
            norm(rf"{at}\.{batch_norm}", f"stem.{i}.norm"),
        ]
    for i in LEVELS:
        for at, target, way in (("encoder", "encoders", "down"), ("decoder", "decoders", "up")):
            first = rf"backbone\.{at}\.{i}\.0"
            rules += [
                convolution(rf"{first}\.{kernel}", f"{target}.{i}.{way}", layout),
                norm(rf"{first}\.{batch_norm}", f"{target}.{i}.norm"),
            ]
        rules += block.rules(rf"backbone\.encoder\.{i}\.(?P<j>[1-9]\d*)", f"encoders.{i}", layout, -1)
        rules += block.rules(rf"backbone\.decoder\.{i}\.1\.(?P<j>\d+)", f"decoders.{i}", layout, 0)
    return (*rules, linear(r"decode_head\.conv_seg", "head"))


def _stages() -> tuple[Rule, ...]:
    """Rules for the MinkUNets in the manner of SPVNAS, on torchsparse."""
    layout = layouts.torchsparse
    rules: list[Rule] = []
    for i in range(2):
        rules += [
            convolution(rf"stem\.{3 * i}\.kernel", f"stem.{i}.convolution", layout),
            norm(rf"stem\.{3 * i + 1}", f"stem.{i}.norm"),
        ]
    for i in LEVELS:
        for at, target, way in (("stage", "encoders", "down"), ("up", "decoders", "up")):
            rules += [
                convolution(rf"{at}{i + 1}\.0\.net\.0\.kernel", f"{target}.{i}.{way}", layout),
                norm(rf"{at}{i + 1}\.0\.net\.1", f"{target}.{i}.norm"),
            ]
        rules += TORCHSPARSE.rules(rf"stage{i + 1}\.(?P<j>[1-9]\d*)", f"encoders.{i}", layout, -1)
        rules += TORCHSPARSE.rules(rf"up{i + 1}\.1\.(?P<j>\d+)", f"decoders.{i}", layout, 0)
    return (*rules, linear(r"classifier\.0", "head"))


def _pointcept() -> tuple[Rule, ...]:
    """Rules for SpUNet-v1m1, whose decoder counts from the finest level."""
    layout = layouts.spconv2
    rules = [
        convolution(r"backbone\.conv_input\.0\.weight", "stem.0.convolution", layout),
        norm(r"backbone\.conv_input\.1", "stem.0.norm"),
    ]
    for i in LEVELS:
        for at, target, way in (("down", f"encoders.{i}", "down"), ("up", f"decoders.{3 - i}", "up")):
            rules += [
                convolution(rf"backbone\.{at}\.{i}\.0\.weight", f"{target}.{way}", layout),
                norm(rf"backbone\.{at}\.{i}\.1", f"{target}.norm"),
            ]
        rules += POINTCEPT.rules(rf"backbone\.enc\.{i}\.block(?P<j>\d+)", f"encoders.{i}", layout, 0)
        rules += POINTCEPT.rules(rf"backbone\.dec\.{i}\.block(?P<j>\d+)", f"decoders.{3 - i}", layout, 0)
    return (
        *rules,
        Rule(r"backbone\.final\.weight", "head.weight", layout),
        Rule(r"backbone\.final\.bias", "head.bias"),
    )


def read_size(state: State, cut: bool = False) -> str:
    """The size of a translated MinkUNet by its shapes: the name of a known one, else its widths.

    Raises CheckpointError where a layer is missing.
    """
    try:
        stem = _count(state, "stem")
        first = state["stem.0.convolution.convolution.weight"].shape
        encoder = tuple(_level(state, f"encoders.{i}") for i in LEVELS)
        decoder = tuple(_level(state, f"decoders.{i}") for i in LEVELS)
        halved = state["encoders.1.down.convolution.weight"].shape
        layout = MinkUNetLayout(
            stem=tuple(state[f"stem.{i}.convolution.convolution.weight"].shape[0] for i in range(stem)),
            encoder=encoder,
            decoder=decoder,
            stem5=first[1] == 5,
            down=halved[0] != halved[-1],
            three="coarse_heads.0.weight" in state,
            cut=cut,
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(f"The file has no tensor for {error}; it was cut off or is another network.") from None
    names = [name for name, known in SIZES.items() if known == layout]
    return names[0] if names else layout.text()


def _count(state: State, part: str) -> int:
    """How many numbered modules there are under ``part``."""
    return len({name.split(".")[part.count(".") + 1] for name in state if name.startswith(f"{part}.")})


def _level(state: State, at: str) -> tuple[int, int]:
    """(width, residual blocks) of an encoder or decoder level."""
    return state[f"{at}.blocks.0.second.convolution.weight"].shape[0], _count(state, f"{at}.blocks")


def semantic_kitti(size: str, encoding: Encoding, published: float | None) -> Variant:
    """A MinkUNet trained on SemanticKITTI's training split."""
    return Variant(
        network="minkunet", size=size, encoding=encoding, classes="semantic_kitti_19", intensity="unit", range_m=80.8,
        height_m=1.73, fov_deg=(3.0, -25.0), data="SemanticKITTI",
        trained_on=("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"), published=published,
    )  # fmt: skip


def need_classes(state: State, count: int, title: str) -> None:
    """CheckpointError unless the head has ``count`` rows."""
    rows = len(state["head.weight"]) if "head.weight" in state else 0
    if rows != count:
        raise CheckpointError(f"The head of this file has {rows} classes; {title} on SemanticKITTI has {count}.")


def _variant(state: State, title: str, encoding: Encoding, published: dict[str, float], cut: bool = False) -> Variant:
    need_classes(state, 19, title)
    size = read_size(state, cut)
    return semantic_kitti(size, encoding, published.get(size))


def _finish(state: State) -> None:
    """Fold the shortcuts' norms, and split a head of strides 16, 4 and 1 side by side into one per stride."""
    fold_shortcuts(state)
    needed = ("head.weight", *(f"{at}.blocks.0.second_norm.bias" for at in ("encoders.3", "decoders.1", "decoders.3")))
    if missing := [name for name in needed if name not in state]:
        raise CheckpointError(f"The file has no tensor for {missing[0]}; it was cut off or is another network.")
    widths = [len(state[name]) for name in needed[1:]]
    if state["head.weight"].shape[1] == sum(widths):
        parts = [part.contiguous() for part in state["head.weight"].split(widths, dim=1)]
        state["coarse_heads.0.weight"], state["coarse_heads.1.weight"], state["head.weight"] = parts


def _finish_openpcseg(state: State) -> None:
    need_classes(state, 20, "OpenPCSeg's MinkUNet")
    drop_column(state, ("head.weight", "head.bias"), 0)
    _finish(state)


def _finish_pointcept(state: State) -> None:
    change_epsilon(state, 1e-3)
    _finish(state)


def _pointcept_variant(state: State) -> Variant:
    if len(state["head.weight"]) != 16:
        return _variant(state, "Pointcept's SpUNet", CLIPPED, {"spunet": 63.8})
    return Variant(
        network="minkunet", size=read_size(state), encoding=WHOLE, classes="nuscenes_16", intensity="unit",
        range_m=70.0, height_m=1.84, fov_deg=(10.0, -30.0), data="nuScenes", trained_on=("train",), published=None,
    )  # fmt: skip


def _family(
    name: str,
    title: str,
    source: str,
    code: str,
    rules: tuple[Rule, ...],
    published: dict[str, float],
    ignored: tuple[str, ...] = (),
    finish: Callable[[State], None] = _finish,
    cut: bool = False,
) -> Family:
    variant = partial(_variant, title=title, encoding=ROUNDED, published=published, cut=cut)
    return Family(name, title, source, code, rules, ignored, finish, variant)


MMDETECTION3D = "https://github.com/open-mmlab/mmdetection3d"

FAMILIES = (
    _family(
        "mmdet3d-minkunet-spconv", "mmdetection3d's MinkUNet on spconv", MMDETECTION3D, "Apache-2.0",
        mmdetection3d(r"0\.weight", "1", SPCONV, layouts.spconv),
        {"34-w32-cut": 69.3},
        ignored=(r"data_preprocessor\..*",), cut=True,
    ),
    _family(
        "mmdet3d-minkunet-torchsparse", "mmdetection3d's MinkUNet on torchsparse", MMDETECTION3D, "Apache-2.0",
        mmdetection3d(r"net\.0\.kernel", r"net\.1", TORCHSPARSE, layouts.torchsparse),
        {"18-w16": 60.3, "18-w20": 61.6, "18-w32": 63.1, "34-w32": 68.7, "34v2-w32": 70.3},
        ignored=(r"data_preprocessor\..*",),
    ),
    _family(
        "mmdet3d-minkunet-minkowski", "mmdetection3d's MinkUNet on MinkowskiEngine", MMDETECTION3D, "Apache-2.0",
        mmdetection3d(r"net\.0\.kernel", r"net\.1\.bn", MINKOWSKI, layouts.minkowski),
        {"34-w32": 69.2}, ignored=(r"data_preprocessor\..*",),
    ),
    _family(
        "openpcseg-minkunet", "OpenPCSeg's MinkUNet", "https://github.com/PJLab-ADG/OpenPCSeg", "Apache-2.0", _stages(),
        {"34v2-w51": 70.0}, ignored=(r"criterion_losses\..*",), finish=_finish_openpcseg,
    ),
    _family(
        "spvnas-minkunet", "SPVNAS's MinkUNet", "https://github.com/mit-han-lab/spvnas", "MIT", _stages(),
        {"18-w16": 59.3, "18-w20": 60.0, "18-w32": 61.9}, ignored=(r"point_transforms\..*",),
    ),
    _family(
        "polarmix-minkunet", "PolarMix's MinkUNet", "https://github.com/xiaoaoran/polarmix", "MIT", _stages(),
        {"18-w16": 65.0}, ignored=(r"point_transforms\..*",),
    ),
    Family(
        "pointcept-spunet", "Pointcept's SpUNet", "https://github.com/Pointcept/Pointcept", "MIT", _pointcept(),
        (r"criteria\..*",), _finish_pointcept, _pointcept_variant,
    ),
)  # fmt: skip
