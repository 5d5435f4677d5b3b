"""From counters, times and states to diagnostics as plain data. No ROS import; levels are those of DiagnosticStatus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ros_nodes.input_health import ERROR, OK, WARN, Input, Thresholds, input_findings, input_values
from ros_nodes.mailbox import Counts
from ros_nodes.stopwatch import Times, percentile

TOO_MANY_ERRORS = 5


@dataclass(frozen=True)
class Status:
    """One DiagnosticStatus: level, message and values, all but the hardware id."""

    name: str
    level: int
    message: str
    values: dict[str, str]


def text(value: object) -> str:
    """A value as diagnostics show it: booleans true/false, numbers with 6 significant digits."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


@dataclass(frozen=True)
class Life:
    """Where the node is in its lifecycle, and which process it is."""

    state: str
    last_transition: str
    last_error: str
    uptime_s: float
    ros_distro: str
    rmw: str
    autostart: bool
    warming_up: bool
    pid: int = 0
    host: str = ""


@dataclass(frozen=True)
class Model:
    """What runs. ``details`` are shown as they are; ``fell_back``: device "auto" found no CUDA."""

    details: Mapping[str, object]
    fell_back: bool


@dataclass(frozen=True)
class Snapshot:
    """All that one report is made of; ``before`` are the counts of the last report."""

    node: str
    life: Life
    input: Input
    counts: Counts
    before: Counts
    times: Times
    thresholds: Thresholds
    model: Model | None
    now: float


def report(snapshot: Snapshot) -> list[Status]:
    """The statuses of the four tasks: lifecycle, input, inference, model."""
    return [_lifecycle(snapshot), _input(snapshot), _inference(snapshot), _model(snapshot)]


def _status(
    snapshot: Snapshot, task: str, found: Sequence[tuple[int, str]], good: str, values: Mapping[str, object]
) -> Status:
    level = max((one[0] for one in found), default=OK)
    message = "; ".join(sentence for one, sentence in found if one == level) if found else good
    shown = {key: text(value) for key, value in values.items()}
    return Status(f"{snapshot.node}: {task}", level, message, shown)


def _lifecycle(snapshot: Snapshot) -> Status:
    life = snapshot.life
    found: list[tuple[int, str]] = []
    if life.last_error:
        found.append((ERROR, life.last_error))
    elif life.warming_up:
        found.append((WARN, "warming up"))
    elif life.state == "unconfigured":
        found.append((WARN, "unconfigured"))
    names = ("state", "last_transition", "last_error", "uptime_s", "ros_distro", "rmw", "autostart", "pid", "host")
    return _status(snapshot, "lifecycle", found, life.state, {name: getattr(life, name) for name in names})


def _input(snapshot: Snapshot) -> Status:
    active = snapshot.life.state == "active"
    found = input_findings(snapshot.input, snapshot.thresholds) if active else []
    good = "receiving" if active else "not active"
    return _status(snapshot, "input", found, good, input_values(snapshot.input, snapshot.counts))


def _inference(snapshot: Snapshot) -> Status:
    active = snapshot.life.state == "active"
    found = [*_speed_findings(snapshot), *_count_findings(snapshot)] if active else []
    good = "running" if active else "not active"
    return _status(snapshot, "inference", found, good, _inference_values(snapshot.counts, snapshot.times))


def _inference_values(counts: Counts, times: Times) -> dict[str, object]:
    totals, latencies = times.values("total"), times.values("latency")
    return {
        "published": counts.published,
        "dropped": counts.dropped,
        "dropped_newer": counts.dropped_newer,
        "dropped_deactivated": counts.dropped_deactivated,
        "rejected": counts.rejected,
        **{f"rejected_{reason}": count for reason, count in counts.reasons if count},
        "in_flight": counts.in_flight,
        "all_invalid": counts.all_invalid,
        "total_ms_last": totals[-1] if totals else math.nan,
        "total_ms_p50": percentile(totals, 0.5),
        "total_ms_p95": percentile(totals, 0.95),
        "voxelize_ms_p50": percentile(times.values("voxelize"), 0.5),
        "inference_ms_p50": percentile(times.values("inference"), 0.5),
        "outside_network_ms_p50": percentile(times.values("outside_network"), 0.5),
        "latency_ms_p50": percentile(latencies, 0.5),
        "latency_ms_p95": percentile(latencies, 0.95),
        "drop_ratio": counts.drop_ratio,
        "consecutive_errors": counts.consecutive_errors,
    }


def _speed_findings(snapshot: Snapshot) -> list[tuple[int, str]]:
    """Too slow frames, as long as frames come: silence makes nothing slower."""
    times, limits = snapshot.times, snapshot.thresholds
    if not times.frames or times.last_at is None:
        return []
    last = times.frames[-1].total
    if snapshot.now - times.last_at > limits.max_delay_s + 1e-3 * last:
        return []
    found = []
    if last > limits.max_processing_ms:
        found.append((WARN, f"last frame took {last:.1f} ms, limit {limits.max_processing_ms:.1f} ms"))
    if times.slow_s > limits.max_delay_s:
        slow = f"every frame of the last {times.slow_s:.1f} s took over {limits.max_processing_ms:.1f} ms"
        found.append((ERROR, slow))
    return found


def _count_findings(snapshot: Snapshot) -> list[tuple[int, str]]:
    counts, before = snapshot.counts, snapshot.before
    found = []
    if counts.drop_ratio > snapshot.thresholds.max_drop_ratio:
        found.append((WARN, f"{100 * counts.drop_ratio:.0f} % of the last clouds were dropped"))
    if counts.rejected > before.rejected:
        new = {reason: count - dict(before.reasons).get(reason, 0) for reason, count in counts.reasons}
        shown = ", ".join(f"{reason} {count}" for reason, count in new.items() if count > 0)
        found.append((WARN, f"rejected since the last report: {shown}"))
    if counts.all_invalid > before.all_invalid:
        found.append((WARN, "clouds without a valid point"))
    if counts.consecutive_errors >= TOO_MANY_ERRORS:
        found.append((ERROR, f"inference failed {counts.consecutive_errors} times in a row"))
    return found


def _model(snapshot: Snapshot) -> Status:
    model = snapshot.model
    if model is None:
        return _status(snapshot, "model", [], "not configured", {})
    found = [(WARN, "no CUDA device found, running on the CPU")] if model.fell_back else []
    return _status(snapshot, "model", found, "configured", model.details)
