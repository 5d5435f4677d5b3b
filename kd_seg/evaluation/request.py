"""From what a user names to an evaluation: a checkpoint, a run folder, a folder of .label files, or counts of parts."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from math import gcd
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kd_seg.caches import Work
from kd_seg.classes import load_classes
from kd_seg.core.errors import DataError, UsageError
from kd_seg.core.progress import Progress, Track, silent, untracked
from kd_seg.core.shard import WHOLE, parse_shard
from kd_seg.evaluation.evaluate import Selection, evaluate, intensity_warnings, select
from kd_seg.evaluation.predictors import FusedNetwork, LabelFolder, NetworkPredictor, Predictor
from kd_seg.evaluation.result import Evaluation, read_evaluation
from kd_seg.scans import FileFormat, IntensityRange

if TYPE_CHECKING:
    from kd_seg.training import TrainingConfig

What = Literal["checkpoint", "run", "labels", "counts"]


LOG = logging.getLogger("kd_seg.evaluation")

CLASSES = "semantic_kitti_19"
"""The class table of a folder of .label files, where none is named."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate on what.

    Attributes:
        what: a checkpoint, run folder or folder of .label files; or any number of evaluation.json files to add up.
        data: root that holds the labels; a run knows its own.
        split: official split, or None; sequences: names, or None. Neither: a run's ``data.valid``, else split valid.
        input: "own" for single scans, "fused" for fused clouds with own rows scored.
        distances: also score intervals of range.
        shard: "i/n" or None.
        classes: class table of a folder of .label files.
        device, num_threads: of the network.
        cache: folder for the instance library of fused clouds; None = the run's own, or the data root's.
        rebuild: delete that library and rebuild it.
        form: how the .bin files lie; a run knows its own.
        intensity_range: of the data's .bin files; None = as the run read its own data, else unit.
    """

    what: tuple[Path, ...]
    data: Path | None = None
    split: str | None = None
    sequences: tuple[str, ...] | None = None
    input: Literal["own", "fused"] = "own"
    distances: bool = False
    shard: str | None = None
    classes: str = CLASSES
    device: str = "auto"
    num_threads: int = 0
    cache: Path | None = None
    rebuild: bool = False
    form: FileFormat = field(default_factory=FileFormat)
    intensity_range: IntensityRange | None = None

    def command(self) -> str:
        """The ``kd-seg eval`` that asks for the same, as far as it matters for what is prepared on disk."""
        words = ["kd-seg", "eval", *map(str, self.what)]
        options = {"data": self.data, "split": self.split, "input": self.input, "cache": self.cache}
        options["sequences"] = ",".join(self.sequences) if self.sequences is not None else None
        options["intensity-range"] = self.intensity_range
        words += [w for k, v in options.items() if v is not None for w in (f"--{k}", str(v))]
        plain = FileFormat()
        for name in ("columns", "dtype"):
            if getattr(self.form, name) != getattr(plain, name):
                words += ["--set", f"input.{name}={getattr(self.form, name)}"]
        return shlex.join(words)


def kind_of(path: Path) -> What:
    """What a path is; UsageError says what could have been given."""
    if path.suffix == ".safetensors":
        return "checkpoint"
    if path.suffix == ".json":
        return "counts"
    if (path / "config.yaml").is_file() or (path / "checkpoints").is_dir():
        return "run"
    if (path / "sequences").is_dir() or any(path.glob("*.label")):
        return "labels"
    found = "does not exist" if not path.exists() else "is none of these"
    raise UsageError(
        f"{path} {found}: give a checkpoint (.safetensors), a run folder, a folder of .label files, "
        "or evaluation.json files of parts."
    )


def evaluate_request(request: EvaluationRequest, track: Track = untracked, progress: Progress = silent) -> Evaluation:
    """Evaluate as asked; ``track`` shows progress over the scans, ``progress`` over what fused clouds need first.

    What is odd about the data is logged as warnings.

    Raises:
        UsageError: paths or options that do not go together. DataError, CheckpointError: files at fault.
    """
    if request.rebuild and (request.input != "fused" or parse_shard(request.shard) != WHOLE):
        raise UsageError("--rebuild needs --input fused and no --shard: it deletes the library that fused clouds need.")
    kinds = {kind_of(path) for path in request.what}
    if kinds == {"counts"}:
        _check_nothing_else(request)
        return _sum(request.what)
    if request.cache is not None and request.input != "fused":
        raise UsageError("--cache is where --input fused keeps its library; leave it out.")
    if len(request.what) != 1:
        raise UsageError("Only evaluation.json files add up; give one checkpoint, run or folder of .label files.")
    selection = _selection(request)
    predictor = _predictor(request, selection, progress)
    about = {
        "what": str(request.what[0]),
        "kind": kind_of(request.what[0]),
        "data": str(selection.data.root),
        "sequences": list(selection.data.sequences),
        "input": request.input,
        "shard": request.shard,
    }
    if kind_of(request.what[0]) != "labels":
        for sentence in intensity_warnings(selection):
            LOG.warning("%s", sentence)
    result = evaluate(predictor, track(selection, "evaluating"), request.distances, about)
    if result.points and result.outside > 0.5 * result.points:
        share = 100 * result.outside / result.points
        LOG.warning(
            "%.0f %% of the points lie outside the checkpoint's range; are these metres in the sensor's frame?", share
        )
    return result


def _check_nothing_else(request: EvaluationRequest) -> None:
    """UsageError where an option asks for something that counts of the past cannot give."""
    plain = EvaluationRequest(request.what, device=request.device, num_threads=request.num_threads)
    given = [each.name for each in fields(request) if getattr(request, each.name) != getattr(plain, each.name)]
    if given:
        option = {"form": "set"}.get(given[0], given[0]).replace("_", "-")
        raise UsageError(f"evaluation.json files are added up as they are, so --{option} has no effect; leave it out.")


def _sum(paths: tuple[Path, ...]) -> Evaluation:
    """The evaluation of all parts together; DataError where scans of one part are in another too."""
    evaluations = [read_evaluation(path) for path in paths]
    known: list[tuple[Path, dict[str, Any]]] = []
    for path, evaluation in zip(paths, evaluations, strict=True):
        for part in evaluation.parts:
            for earlier, other in known:
                if _may_share_scans(part, other):
                    raise DataError(f"{path} holds scans that {earlier} holds too; name each part once.")
        known += [(path, part) for part in evaluation.parts]
    return reduce(add, evaluations)


def _may_share_scans(part: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two evaluations of the same predictions count a scan twice, as far as what they are about tells."""
    if any(key not in each for each in (part, other) for key in ("sequences", "shard")):
        return False
    if any(part.get(key) != other.get(key) for key in ("what", "kind", "data", "input")):
        return False
    if part["sequences"] != other["sequences"]:
        return bool({*part["sequences"]} & {*other["sequences"]})
    (i, n), (j, m) = parse_shard(part["shard"]), parse_shard(other["shard"])
    return (i - j) % gcd(n, m) == 0


def own_record(request: EvaluationRequest) -> Path | None:
    """A run's evaluation.json if its own validation scans are scored, plainly, whole and read as it read them."""
    plain = request.data is None and request.split is None and request.sequences is None
    plain = plain and request.intensity_range is None and not request.form.names_layout
    whole = request.input == "own" and request.shard is None and len(request.what) == 1
    if plain and whole and kind_of(request.what[0]) == "run":
        from kd_seg.training import RunFolder

        return RunFolder(request.what[0]).evaluation
    return None


def _selection(request: EvaluationRequest) -> Selection:
    """The scans to score, read as the run read its own where they are its own."""
    root, sequences, split = request.data, request.sequences, request.split
    if sequences is not None and split is not None:
        raise UsageError("Give either --split or --sequences.")
    known = _own_config(request.what[0])
    form, own_range = request.form, "unit"
    if known is not None:
        if root is None:
            root, own_range = Path(known.data.root), known.data.sensor.intensity_range
        if sequences is None and split is None:
            sequences = tuple(known.data.valid)
            if not sequences:
                raise UsageError(f"{request.what[0]}/config.yaml names no data.valid; name --sequences or --split.")
        if not form.names_layout:
            form = FileFormat(known.data.columns, known.data.dtype)
    if root is None:
        raise UsageError("Name the folder that holds sequences/ with their labels: --data ROOT.")
    form = replace(form, intensity_range=request.intensity_range or own_range)
    names = list(sequences) if sequences is not None else None
    return select(root, names, split or "valid", request.shard, form)


def _own_config(what: Path) -> TrainingConfig | None:
    """The configuration of a run folder; None for anything else, and for a folder of checkpoints alone."""
    if kind_of(what) != "run":
        return None
    from kd_seg.training import RunFolder

    run = RunFolder(what)
    return run.read_config() if run.config.is_file() else None


def _predictor(request: EvaluationRequest, selection: Selection, progress: Progress) -> Predictor:
    what = request.what[0]
    if kind_of(what) == "labels":
        if request.input == "fused":
            raise UsageError("--input fused needs a network; a folder of .label files is scored as it is.")
        folder = LabelFolder(what, load_classes(request.classes))
        folder.check(selection.stems())
        return folder
    from kd_seg.serving.segmenter import Segmenter

    segmenter = Segmenter(what, device=request.device, num_threads=request.num_threads)
    if request.classes != CLASSES and load_classes(request.classes).names != segmenter.classes.names:
        raise UsageError(f"{what} predicts the classes of {segmenter.classes.name}, not {request.classes}; "
                         "leave --classes out, which is for folders of .label files.")  # fmt: skip
    if request.input == "own":
        return NetworkPredictor(segmenter)
    from kd_seg.evaluation.fused import make_fuse, unskipped
    from kd_seg.instances.settings import FusionSettings

    known = _own_config(what)
    settings = unskipped(known.fusion if known is not None else FusionSettings())
    own = known.data.cache if known is not None and request.data is None else None
    cache = request.cache or (Path(own) if own else None)
    work = Work(request.command(), progress, rebuild=request.rebuild)
    return FusedNetwork(segmenter, make_fuse(selection.data, segmenter.classes, settings, cache, work))
