"""Say whether this machine delivers clouds of a size from one process to another, and what to set where it does not.

Example: ros2 run kd_seg check_transport --megabytes 2.7 --rate 10

Run it in the driver's terminal: with Fast DDS the sender's settings decide. Where clouds get lost it tries the shipped
profile and a reliable sender too, and names the first that works. Exit codes: 0 this terminal's settings deliver,
1 they do not, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from kd_seg.core.config import config_folders
from ros_nodes.measure.verdict import Trial, verdict
from ros_nodes.transport import largest_receive_buffer, profile_setting

SLOWEST_START_S = 150.0


def options(args: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="check_transport", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=float, default=2.7, help="size of a cloud; points * point_step / 1e6")
    parser.add_argument("--rate", type=float, default=10.0, help="clouds a second")
    parser.add_argument("--clouds", type=int, default=50, help="how many are sent in each trial")
    parser.add_argument("--reliable", action="store_true", help="send and subscribe reliably")
    parser.add_argument("--once", action="store_true", help="only this terminal's own settings")
    parser.add_argument("--json", action="store_true", help="print the trials as JSON too")
    asked = parser.parse_args(list(args))
    if not (asked.megabytes > 0 and asked.rate > 0 and asked.clouds > 0):
        parser.error("--megabytes, --rate and --clouds must be above 0")
    return asked


def trial(asked: argparse.Namespace, setting: str, reliable: bool, extra: dict[str, str]) -> Trial:
    """Send clouds between two processes whose environment is this one's and ``extra``."""
    quality = "reliable" if reliable else "best_effort"
    topic = f"/check_transport_{os.getpid()}"
    sizes = [str(round(1e6 * asked.megabytes)), str(asked.rate), str(asked.clouds)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "ros_nodes.measure.one_way", role, topic, *sizes, quality],
            env={**os.environ, **extra},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in ("receive", "send")
    ]
    receiver, sender = (_result(process, SLOWEST_START_S + asked.clouds / asked.rate) for process in running)
    return Trial(
        setting=setting,
        sent=sender.get("sent", 0),
        received=receiver.get("received", 0),
        ms=receiver.get("ms", float("nan")),
        rmw=str(receiver.get("rmw", os.environ.get("RMW_IMPLEMENTATION", "the default middleware"))),
        failure=str(sender.get("failure", "") or receiver.get("failure", "")),
    )


def _result(process: subprocess.Popen[str], timeout_s: float) -> dict[str, Any]:
    """What a process printed as JSON, or the last line of what it complained about."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"failure": f"no end within {timeout_s:.0f} s"}
    if process.returncode != 0:
        return {"failure": complaint(err or out) or f"exit code {process.returncode}"}
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


def complaint(text: str) -> str:
    """The line that says why a process ended: what a middleware wrote of its socket buffers, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "buffer size" in line]
    return (telling or lines or [""])[-1][:300]


def trials(asked: argparse.Namespace) -> list[Trial]:
    """This terminal's settings; where they do not deliver also the shipped profile, then a reliable sender."""
    done = [trial(asked, "", asked.reliable, {})]
    if done[0].delivers or asked.once:
        return done
    folders = config_folders()
    setting = profile_setting(done[0].rmw, folders[0] / "ros") if folders else None
    if setting is not None and setting[0] not in os.environ:
        name, value = setting
        done.append(trial(asked, f"export {name}={value} in the driver's terminal", asked.reliable, {name: value}))
    if not done[-1].delivers and not asked.reliable:
        done.append(trial(asked, "a reliable driver with input_reliable:=true", True, {}))
    return done


def main(args: list[str] | None = None) -> int:
    """Entry point; the sentence goes to stdout."""
    asked = options(sys.argv[1:] if args is None else args)
    done = trials(asked)
    if asked.json:
        shown = [{**vars(one), "ms": one.ms if one.ms == one.ms else None} for one in done]
        print(json.dumps({"rmem_max": largest_receive_buffer(), "trials": shown}))
    print(verdict(done, asked.megabytes, asked.rate))
    return 0 if done[0].delivers else 1


if __name__ == "__main__":
    sys.exit(main())
