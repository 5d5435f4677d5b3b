"""``kd-seg import``: a published weight file as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kd_seg.cli.console import print_json, say, tracked


def command(
    file: Annotated[Path, typer.Argument(help="Weight file as its project published it (.pth, .pt, .ckpt).")],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write (.safetensors).")],
    family: Annotated[
        str | None, typer.Option("--as", help="Whose file it is; guessed from its tensors where it is left out.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--check", help="Data root with labels: score the checkpoint beside its own figure.")
    ] = None,
    sequences: Annotated[
        list[str] | None, typer.Option(help="Sequences to check on, such as 08; default: the validation split.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print what was found as JSON on stdout.")] = False,
) -> None:
    """Turn a published network's weights into a checkpoint that eval, predict, bags, training and the node take.

    Nothing from the file is run. Families: mmdet3d-minkunet-spconv, mmdet3d-minkunet-torchsparse,
    mmdet3d-minkunet-minkowski, mmdet3d-cylinder3d, openpcseg-minkunet, spvnas-minkunet, polarmix-minkunet,
    pointcept-spunet, 2dpass, cylinder3d, pvkd.

    Example: kd-seg import best_model.ckpt --as 2dpass --out 2dpass.safetensors

             kd-seg import minkunet34.pth --out minkunet34.safetensors --check DATA --sequences 08
    """
    from kd_seg.core.errors import UsageError
    from kd_seg.core.ownership import check_replaceable
    from kd_seg.importing import import_file
    from kd_seg.importing.check import check

    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out} must end in .safetensors.")
    check_replaceable(out)
    found = import_file(file, family)
    found.save(out)
    spec, variant = found.spec, found.variant
    say(f"{file} is {found.family.title}: {spec.network} {spec.size}, {len(spec.classes)} classes of {variant.data}")
    say(f"{found.tensors} tensors, {found.ignored} of them left out as they answer nothing; written: {out}")
    say(f"licence of the weights: {spec.licence}")
    content = {
        "checkpoint": str(out),
        "network": spec.network,
        "size": spec.size,
        "licence": spec.licence,
        "tensors": found.tensors,
        "ignored": found.ignored,
        **spec.training["imported"],
    }
    if data is not None:
        names = [n.strip() for part in sequences for n in part.split(",") if n.strip()] if sequences else None
        result = check(out, data, names, lambda scans: tracked(scans, "checking", len(scans)))
        content["check"] = result.to_json()
        for line in result.lines():
            say(line)
    if json_:
        print_json(content)
