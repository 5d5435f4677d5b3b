"""From counters, times and states to diagnostics as plain data. No ROS import; levels are those of DiagnosticStatus."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ros_nodes.mailbox import Counts

OK, WARN, ERROR = 0, 1, 2
FRAMES = 200
"""Percentiles are over the last so many frames."""

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


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile (0-1) of a few values; NaN without any."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


@dataclass(frozen=True)
class Frame:
    """Times of one published frame in milliseconds; latency against the input's stamp."""

    total: float
    voxelize: float
    inference: float
    outside_network: float
    latency: float


@dataclass(frozen=True)
class Times:
    """What the last frames took, and since when (monotonic seconds) every frame was too slow."""

    frames: tuple[Frame, ...] = ()
    slow_since: float | None = None

    def values(self, name: str) -> list[float]:
        """One figure of every frame."""
        return [float(getattr(frame, name)) for frame in self.frames]


class Stopwatch:
    """Collects frames' times; the worker writes, the diagnostics thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget all frames (at configure)."""
        with self._lock:
            self._frames: deque[Frame] = deque(maxlen=FRAMES)
            self._slow_since: float | None = None

    def add(self, frame: Frame, now: float, max_processing_ms: float) -> None:
        """Take in the times of one frame."""
        with self._lock:
            self._frames.append(frame)
            if frame.total <= max_processing_ms:
                self._slow_since = None
            elif self._slow_since is None:
                self._slow_since = now

    def times(self) -> Times:
        """The last frames at this moment."""
        with self._lock:
            return Times(tuple(self._frames), self._slow_since)


@dataclass(frozen=True)
class Thresholds:
    """The parameters that decide levels."""

    max_processing_ms: float = 100.0
    max_delay_s: float = 2.0
    input_timeout_s: float = 2.0
    max_drop_ratio: float = 0.2


@dataclass(frozen=True)
class Life:
    """Where the node is in its lifecycle."""

    state: str
    last_transition: str
    last_error: str
    uptime_s: float
    ros_distro: str
    rmw: str
    autostart: bool
    warming_up: bool


@dataclass(frozen=True)
class Input:
    """What comes in.

    Attributes:
        silent_s: seconds since the last message or, without one, since activation.
        warnings: sentences that hold now (sensor mismatches).
        details: further values to show (points, valid_ratio, layout ...).
    """

    topic: str
    publishers: int
    rate_hz: float
    last_age_s: float
    silent_s: float
    lost_in_transport: int
    warnings: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


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
    """The four statuses of /diagnostics (docs/vehicle.md)."""
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
    values = {
        "state": life.state,
        "last_transition": life.last_transition,
        "last_error": life.last_error,
        "uptime_s": life.uptime_s,
        "ros_distro": life.ros_distro,
        "rmw": life.rmw,
        "autostart": life.autostart,
    }
    return _status(snapshot, "lifecycle", found, life.state, values)


def _input(snapshot: Snapshot) -> Status:
    given, counts = snapshot.input, snapshot.counts
    found: list[tuple[int, str]] = []
    active = snapshot.life.state == "active"
    if active:
        if given.silent_s > snapshot.thresholds.input_timeout_s:
            found.append((ERROR, f"no input on {given.topic} for {given.silent_s:.1f} s"))
        if given.publishers == 0:
            found.append((WARN, f"no publisher on {given.topic}"))
        found += [(WARN, sentence) for sentence in given.warnings]
    values = {
        "topic": given.topic,
        "publishers": given.publishers,
        "received": counts.received,
        "rate_hz": given.rate_hz,
        "last_age_s": given.last_age_s,
        **given.details,
        "stamp_regressions": counts.stamp_regressions,
        "lost_in_transport": given.lost_in_transport,
    }
    return _status(snapshot, "input", found, "receiving" if active else "not active", values)


def _inference(snapshot: Snapshot) -> Status:
    counts, before, times, limits = snapshot.counts, snapshot.before, snapshot.times, snapshot.thresholds
    totals, latencies = times.values("total"), times.values("latency")
    last = totals[-1] if totals else math.nan
    values: dict[str, object] = {
        "published": counts.published,
        "dropped": counts.dropped,
        "dropped_newer": counts.dropped_newer,
        "dropped_deactivated": counts.dropped_deactivated,
        "rejected": counts.rejected,
        **{f"rejected_{reason}": count for reason, count in counts.reasons if count},
        "in_flight": counts.in_flight,
        "all_invalid": counts.all_invalid,
        "total_ms_last": last,
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
    active = snapshot.life.state == "active"
    found: list[tuple[int, str]] = []
    if active:
        if last > limits.max_processing_ms:
            found.append((WARN, f"last frame took {last:.1f} ms, limit {limits.max_processing_ms:.1f} ms"))
        if times.slow_since is not None and snapshot.now - times.slow_since > limits.max_delay_s:
            slow = snapshot.now - times.slow_since
            found.append((ERROR, f"every frame of the last {slow:.1f} s took over {limits.max_processing_ms:.1f} ms"))
        if counts.drop_ratio > limits.max_drop_ratio:
            found.append((WARN, f"{100 * counts.drop_ratio:.0f} % of the last clouds were dropped"))
        if counts.rejected > before.rejected:
            new = {reason: count - dict(before.reasons).get(reason, 0) for reason, count in counts.reasons}
            shown = ", ".join(f"{reason} {count}" for reason, count in new.items() if count > 0)
            found.append((WARN, f"rejected since the last report: {shown}"))
        if counts.all_invalid > before.all_invalid:
            found.append((WARN, "clouds without a valid point"))
        if counts.consecutive_errors >= TOO_MANY_ERRORS:
            found.append((ERROR, f"inference failed {counts.consecutive_errors} times in a row"))
    return _status(snapshot, "inference", found, "running" if active else "not active", values)


def _model(snapshot: Snapshot) -> Status:
    model = snapshot.model
    if model is None:
        return _status(snapshot, "model", [], "not configured", {})
    found = [(WARN, "no CUDA device found, running on the CPU")] if model.fell_back else []
    return _status(snapshot, "model", found, "configured", model.details)
