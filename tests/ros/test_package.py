"""The package as ROS sees it: colcon's layout from a clean copy, and (with a real ROS) its launch files."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import patience

ROOT = Path(__file__).resolve().parents[2]
PROFILE = "FASTRTPS_DEFAULT_PROFILES_FILE"


def test_manifest_and_setup_agree() -> None:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    assert root.attrib["format"] == "3"
    depends = {element.text for element in root.findall("exec_depend")}
    assert depends == {
        "rclpy",
        "sensor_msgs",
        "std_msgs",
        "diagnostic_msgs",
        "lifecycle_msgs",
        "launch",
        "launch_ros",
        "ros2launch",
    }
    build_type = root.find("export/build_type")
    assert build_type is not None
    assert build_type.text == "ament_python"
    import kd_seg

    assert root.findtext("version") == kd_seg.__version__
    assert "$base/lib/kd_seg" in (ROOT / "setup.cfg").read_text()
    assert (ROOT / "resource" / "kd_seg").is_file()


def test_dds_profiles_and_view_are_well_formed() -> None:
    folder = ROOT / "configs" / "ros"
    cyclone = ElementTree.parse(folder / "cyclonedds.xml").getroot()
    names = {element.tag.rpartition("}")[2]: element for element in cyclone.iter()}
    assert names["SocketReceiveBufferSize"].attrib == {"min": "10MB"}
    fast = {
        element.tag.rpartition("}")[2]: element.text for element in ElementTree.parse(folder / "fastdds.xml").iter()
    }
    assert int(str(fast["segment_size"])) >= 4 * int(str(fast["maxMessageSize"]))
    assert fast["useBuiltinTransports"] == "false"
    import yaml

    view = yaml.safe_load((folder / "segmentation.rviz").read_text())
    displays = [one for one in view["Visualization Manager"]["Displays"] if "Topic" in one]
    assert [one["Topic"]["Value"].rpartition("/")[2] for one in displays] == ["visualization", "segmentation"]
    # Fast DDS as it comes loses large clouds on their way to a best-effort subscriber, of a reliable publisher too.
    assert {one["Topic"]["Reliability Policy"] for one in displays} == {"Reliable"}
    layout = json.loads((folder / "foxglove.json").read_text())
    panels = {layout["layout"]["first"], *layout["layout"]["second"].values()} & set(layout["configById"])
    assert panels == set(layout["configById"])
    assert "/segmentation/output/visualization" in layout["configById"]["3D!kd_seg"]["topics"]


def test_ros_free_modules_import_without_ros() -> None:
    code = (
        "import sys; sys.modules['rclpy'] = None\n"
        "import kd_seg.serving.bags, kd_seg.serving.labeller, ros_nodes.mailbox, ros_nodes.health, ros_nodes.worker\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The install folder of ``colcon build`` run on a clone of what is committed."""
    pytest.importorskip("colcon_core", reason="colcon is not installed: pip install colcon-common-extensions")
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so there is nothing to clone")
    workspace = tmp_path_factory.mktemp("workspace")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(workspace / "src" / "kd_seg")], check=True)
    command = [sys.executable, "-m", "colcon", "build", "--event-handlers", "console_cohesion+"]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "install" / "kd_seg"


@pytest.mark.slow
def test_colcon_layout(installed: Path) -> None:
    share = installed / "share" / "kd_seg"
    assert (installed / "share/ament_index/resource_index/packages/kd_seg").is_file()
    assert (share / "package.xml").is_file()
    for name in ("segmentation", "replay", "two_sensors"):
        assert (share / "launch" / f"{name}.launch.py").is_file()
    for name in ("parameters.yaml", "segmentation.rviz", "foxglove.json", "cyclonedds.xml", "fastdds.xml"):
        assert (share / "configs" / "ros" / name).is_file()
    assert (share / "configs" / "classes" / "semantic_kitti_19.yaml").is_file()
    for name in ("segmentation_node", "replay_latency", "check_transport", "kd-seg"):
        script = installed / "lib" / "kd_seg" / name
        assert os.access(script, os.X_OK)
        assert script.read_text().startswith(f"#!{sys.executable}")
    packages = next(installed.glob("lib/python3*/site-packages"))
    assert (packages / "ros_nodes" / "segmentation_node.py").is_file()
    assert not (packages / "tests").exists()


def _heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, tests among them: SIGINT ignored, in all their children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def launched(installed: Path, tmp_path: Path) -> Iterator[Any]:
    """Starts ``ros2 launch`` on the installed package and stops it with SIGINT, as a terminal would."""
    pytest.importorskip("rclpy", reason="rclpy cannot be imported: source a ROS 2 installation to run these tests")
    pytest.importorskip("launch_ros", reason="launch_ros is not installed")
    ros2 = shutil.which("ros2")
    if ros2 is None:
        pytest.skip("ros2 is not on the path")
    from ros_harness import environment

    names = {**environment(), "ROS_LOG_DIR": str(tmp_path)}
    names["AMENT_PREFIX_PATH"] = os.pathsep.join([str(installed), os.environ.get("AMENT_PREFIX_PATH", "")])
    running: list[subprocess.Popen[bytes]] = []

    def begin(file: str, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = tmp_path / f"launch{len(running)}.log"
        command = [sys.executable, ros2, "launch", "kd_seg", file, *arguments]
        with open(log, "w") as out:
            started = subprocess.Popen(
                command, stdout=out, stderr=out, env=names, start_new_session=True, preexec_fn=_heed_interrupts
            )
        running.append(started)
        return running[-1], log

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def quick_parameters(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(
        "/**:\n  ros__parameters:\n    warmup_frames: 1\n    warmup_points: 1000\n    num_threads: 1\n"
        "    diagnostics_period_s: 0.2\n"
    )
    return path


@pytest.mark.ros
@pytest.mark.parametrize(
    ("given", "passed"),
    [
        ({}, {"autostart": True}),
        (
            {"device": "cpu", "use_sim_time": "true", "checkpoint": "a.safetensors", "autostart": "false"},
            {"autostart": False, "checkpoint": "a.safetensors", "device": "cpu", "use_sim_time": True},
        ),
        (
            {"use_sim_time": "false", "input_reliable": "True"},
            {"autostart": True, "use_sim_time": False, "input_reliable": True},
        ),
    ],
)
def test_only_arguments_that_were_given_override_the_parameter_file(
    given: dict[str, str], passed: dict[str, object]
) -> None:
    pytest.importorskip("launch_ros", reason="launch_ros is not installed")
    from launch import LaunchContext
    from launch_ros.utilities import evaluate_parameters

    file = runpy.run_path(str(ROOT / "launch" / "segmentation.launch.py"))
    context = LaunchContext()
    defaults = {name: value for name, (value, _) in file["ARGUMENTS"].items()}
    context.launch_configurations.update({**defaults, "params_file": "mine.yaml", **given})
    (node,) = file["start"](context)
    parameters = evaluate_parameters(context, node._Node__parameters)
    assert parameters == (Path("mine.yaml"), passed)


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize("file", ["segmentation", "replay", "two_sensors"])
def test_launch_files_show_their_arguments(launched: Any, file: str) -> None:
    process, log = launched(f"{file}.launch.py", "--show-args")
    assert process.wait(60 * patience()) == 0, log.read_text()
    assert "'checkpoint'" in log.read_text()


@pytest.mark.ros
@pytest.mark.slow
def test_launch_of_one_sensor(launched: Any, installed: Path, quick_parameters: Path, tmp_path: Path) -> None:
    from ros_clouds import street, tiny_checkpoint
    from ros_harness import Peer, to_message, wait_for

    checkpoint = tiny_checkpoint(tmp_path / "tiny.safetensors")
    process, log = launched(
        "segmentation.launch.py",
        f"checkpoint:={checkpoint}",
        f"params_file:={quick_parameters}",
        "input_topic:=/lidar/top",
        "namespace:=car",
        "name:=labels",
    )
    peer = Peer("/car/labels")
    try:
        wait_for(lambda: peer.status("lifecycle")[1] == "active", 120, "active node")
        answers, publisher = peer.listen("output/segmentation"), peer.publisher("/lidar/top", reliable=True)
        wait_for(lambda: publisher.get_subscription_count() > 0, 20, "subscription")
        time.sleep(0.5)
        publisher.publish(to_message(street(500)))
        wait_for(lambda: answers, 20, "answer")
        assert peer.status("model")[2]["checkpoint"] == str(checkpoint)
        given = Path("/proc", peer.status("lifecycle")[2]["pid"], "environ").read_text().split("\0")
        own = os.environ.get(PROFILE, str(installed / "share" / "kd_seg" / "configs" / "ros" / "fastdds.xml"))
        assert f"{PROFILE}={own}" in given
    finally:
        peer.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(30 * patience()) == 0, log.read_text()
    assert "received 1, published 1" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.ros
@pytest.mark.slow
def test_a_replay_without_rviz_starts_nothing(launched: Any, tmp_path: Path) -> None:
    """Where rviz2 is missing, the node would go on alone after the launch has failed."""
    packages = pytest.importorskip("ament_index_python.packages")
    if "rviz2" in packages.get_packages_with_prefixes():
        pytest.skip("rviz2 is installed here")
    process, log = launched("replay.launch.py", f"bag:={tmp_path / 'drive'}", "rviz:=true")
    assert process.wait(60 * patience()) == 1
    assert "rviz:=true, but rviz2 is not installed here" in log.read_text()
    assert "segmentation_node" not in log.read_text()


@pytest.mark.ros
@pytest.mark.slow
def test_launch_of_two_sensors(launched: Any, quick_parameters: Path, tmp_path: Path) -> None:
    from ros_clouds import tiny_checkpoint
    from ros_harness import Peer, wait_for

    checkpoint = tiny_checkpoint(tmp_path / "tiny.safetensors")
    process, log = launched(
        "two_sensors.launch.py",
        f"checkpoint:={checkpoint}",
        *(f"{side}_params_file:={quick_parameters}" for side in ("front", "rear")),
    )
    peer = Peer()
    try:
        for side in ("front", "rear"):
            name = f"{side}/segmentation: lifecycle"
            wait_for(lambda n=name: peer.diagnostics.get(n, (9, ""))[1] == "active", 120, name)
            topic = peer.diagnostics[f"{side}/segmentation: input"][2]["topic"]
            assert topic == f"/{side}/points"
    finally:
        peer.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(30 * patience()) == 0, log.read_text()
    assert log.read_text().count("in_flight 0") == 2


@pytest.mark.ros
@pytest.mark.slow
def test_launch_of_a_replay(launched: Any, quick_parameters: Path, tmp_path: Path) -> None:
    from ros_bags import write_bag
    from ros_clouds import street, tiny_checkpoint
    from ros_harness import Peer, wait_for

    checkpoint = tiny_checkpoint(tmp_path / "tiny.safetensors")
    bag = write_bag(tmp_path / "drive", [street(500, k, sec=k + 1) for k in range(10)])
    process, log = launched(
        "replay.launch.py",
        f"bag:={bag}",
        f"checkpoint:={checkpoint}",
        f"params_file:={quick_parameters}",
        f"delay_s:={25 * patience():.1f}",
        "exit_at_end:=true",
    )
    peer = Peer()
    try:
        answers = peer.listen("output/segmentation")
        wait_for(lambda: process.poll() is not None, 150, "end with the bag")
        assert answers
        assert {a.header.stamp.sec for a in answers} <= set(range(1, 11))
    finally:
        peer.close()
    assert process.returncode == 0
    assert "stopped: received 10," in log.read_text()
    assert "Traceback" not in log.read_text()
