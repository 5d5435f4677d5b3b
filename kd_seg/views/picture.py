"""From what a user names to a finished sheet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kd_seg.classes import ClassTable, load_classes
from kd_seg.core.errors import UsageError
from kd_seg.core.progress import Track
from kd_seg.evaluation.confusion import TrainIds
from kd_seg.scans import FileFormat, Scan, is_bag
from kd_seg.scans.point_files import READERS
from kd_seg.scans.statistics import ScanStatistics, statistics
from kd_seg.serving.sources import sequences_of
from kd_seg.views.bag_source import open_bag_shot
from kd_seg.views.coloured import ColouredCloud, coloured
from kd_seg.views.sheet import Sheet
from kd_seg.views.sheets import comparison_sheet, scan_sheet
from kd_seg.views.source import ShownScan, is_network, is_prediction, open_shot, predicted, segmented

MEASURED = 24
"""Most scans that statistics are taken over."""


@dataclass(frozen=True)
class ViewRequest:
    """What to draw.

    Attributes:
        source: a point file, sequence, data root, bag, or predictions.
        against: predictions, a checkpoint or run, the data that predictions belong to, or another scan.
        scan: which scan of a data root, sequence or bag; against_scan: of ``against``, None = its first.
        topic: of a bag.
        extent: of the bird's-eye view, half its side in metres.
        classes: name of the class table.
        intensity_range: of points that a network is asked about; None = unit for KITTI's files, byte for bags.
        form: how point files lie.
    """

    source: Path
    against: Path | None = None
    scan: str | None = None
    against_scan: str | None = None
    topic: str | None = None
    extent: float = 50.0
    classes: str = "semantic_kitti_19"
    intensity_range: str | None = None
    form: FileFormat = field(default_factory=FileFormat)


def make_cloud(request: ViewRequest) -> tuple[ColouredCloud, ClassTable]:
    """The points of a scan in the colours of its labels, and of predictions and errors where ``against`` gives some.

    Raises UsageError where ``against`` is another scan, or ``source`` holds no points.
    """
    classes = load_classes(request.classes)
    source, against = request.source, request.against
    for path in (source, against):
        if path is not None:
            _check_exists(path)
    if against is not None and (is_prediction(source) or is_network(source)):
        source, against = against, source
    if against is not None and not (is_prediction(against) or is_network(against)):
        raise UsageError(f"{against} is another scan; a window or file of points shows one, alone or with predictions.")
    shot = _open(source, request.scan, request, classes)
    predicted = None
    if against is not None:
        predicted = _prediction(against, shot, classes, _range_of(source, request) if is_network(against) else "unit")
    return coloured(shot.name, shot.points, shot.train, predicted, classes), classes


def make_sheet(request: ViewRequest, track: Track) -> Sheet:
    """The sheet of a scan, of a scan with predictions on it, or of two scans side by side.

    Args:
        track: shows progress over scans that are measured.

    Raises:
        UsageError: the two paths do not go together. DataError: a file is at fault.
    """
    classes = load_classes(request.classes)
    source, against = request.source, request.against
    _check_exists(source)
    if against is None:
        if is_prediction(source) or is_network(source):
            raise UsageError(f"{source} holds no points; name the data that it belongs to with --against DATA.")
        return scan_sheet(_open(source, request.scan, request, classes), classes, request.extent)
    _check_exists(against)
    if is_prediction(source) or is_network(source):
        source, against = against, source
    shot = _open(source, request.scan, request, classes)
    if is_prediction(against) or is_network(against):
        prediction = _prediction(against, shot, classes, _range_of(source, request) if is_network(against) else "unit")
        if shot.train is None:
            labelled = ShownScan(f"{shot.name}: {against.name}", shot.points, prediction, None, shot.cameras, shot.scan)
            return scan_sheet(labelled, classes, request.extent)
        return comparison_sheet(shot, prediction, classes, against.name, request.extent)
    from kd_seg.views.side_by_side import side_by_side_sheet

    other = _open(against, request.against_scan, request, classes)
    pair = None
    if shot.scan is not None and other.scan is not None:
        pair = _statistics(source, shot.scan, request, track), _statistics(against, other.scan, request, track)
    return side_by_side_sheet((shot, other), (source.stem, against.stem), classes, request.extent, pair)


def _statistics(path: Path, scan: Scan, request: ViewRequest, track: Track) -> ScanStatistics:
    """Figures of a data root's or sequence's scans, evenly spread, or of the one scan that a file holds."""
    if not path.is_dir():
        return statistics([scan], request.classes)
    found = sequences_of(path, request.form) or []
    keys = [(sequence, index) for sequence in found for index in sequence.indices]
    scans = [keys[number][0].scan(keys[number][1]) for number in spread(len(keys))]
    return statistics(track(scans, f"measuring {path.name}"), request.classes)


def spread(count: int) -> list[int]:
    """At most MEASURED numbers of 0 .. count - 1, evenly spread."""
    step = max(1, -(-count // MEASURED))
    return list(range(0, count, step))


def _open(path: Path, which: str | None, request: ViewRequest, classes: ClassTable) -> ShownScan:
    if is_prediction(path) or is_network(path):
        raise UsageError(f"{path} holds no points; one of the two must be a scan or its data.")
    if is_bag(path):
        return open_bag_shot(path, which, request.topic, classes)
    return open_shot(path, which, classes, request.form)


def _range_of(source: Path, request: ViewRequest) -> str:
    if request.intensity_range is not None:
        return request.intensity_range
    if source.is_file() and source.suffix.lower() in READERS and source.suffix.lower() != ".bin":
        raise UsageError(
            f"{source.name} does not record the range of its intensities; add --intensity-range unit or byte."
        )
    return "byte" if is_bag(source) else "unit"


def _prediction(path: Path, shot: ShownScan, classes: ClassTable, intensity_range: str) -> TrainIds:
    if is_network(path):
        return segmented(path, shot, classes, intensity_range)
    return predicted(path, shot, classes)


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"{path} does not exist; check the path.")
