"""A segmentation node in its own process for the length of a measurement. No ROS import."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from kd_seg.core.errors import UsageError

STOP_S = 30.0
FINAL = re.compile(r"stopped: received (\d+), published (\d+), dropped (\d+) .*?rejected (\d+).*in_flight (\d+)")


class StartedNode:
    """Starts the node with this Python and this environment; its log is a temporary file.

    Args:
        name: full name, such as /front/segmentation.
        topic: remapped to its input.
        parameters: NAME:=VALUE.
    """

    def __init__(self, name: str, topic: str, parameters: Sequence[str]) -> None:
        space, _, base = name.rpartition("/")
        names = ["-r", f"__node:={base}", *(["-r", f"__ns:={space}"] if space else [])]
        given = [part for parameter in parameters for part in ("-p", parameter)]
        command = [sys.executable, "-m", "ros_nodes.segmentation_node", "--ros-args", *names]
        self._log = tempfile.NamedTemporaryFile(prefix="kd_seg_node_", suffix=".log", delete=False)  # noqa: SIM115
        self._process = subprocess.Popen(
            [*command, "-r", f"~/input/points:={topic}", *given], stdout=self._log, stderr=self._log
        )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def end(self, sent: int) -> dict[str, object]:
        """Stop it with SIGTERM; its exit code, log, final counters, and whether these account for every cloud."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(STOP_S)
        found = FINAL.search(Path(self._log.name).read_text(encoding="utf-8", errors="replace"))
        answer: dict[str, object] = {"exit_code": code, "log": self._log.name}
        if found is not None:
            received, published, dropped, rejected, in_flight = (int(text) for text in found.groups())
            answer |= {
                "received": received,
                "published": published,
                "dropped": dropped,
                "rejected": rejected,
                "in_flight": in_flight,
                "lost_before_the_node": sent - received,
                "every_received_cloud_accounted_for": received == published + dropped + rejected,
            }
        return answer

    def kill(self) -> None:
        """End it whatever it does; nothing if it has ended."""
        if self.running():
            self._process.kill()
            self._process.wait()
        self._log.close()


def node_pid(given: Sequence[int], told: Mapping[str, str], host: str) -> int:
    """Process id of the measured node: the one given, else the one that the node's diagnostics tell; 0 where the node
    runs on another machine.

    Raises UsageError where several are given, as by a search that also finds ``ros2 run``.
    """
    if len(given) > 1:
        found = ", ".join(str(one) for one in given)
        raise UsageError(
            f"--pid got {len(given)} processes ({found}); give one, or leave it out: the node tells its own."
        )
    if given:
        return given[0]
    return int(told.get("pid", 0)) if told.get("host") == host else 0
