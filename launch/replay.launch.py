"""Play a bag into the node: ros2 launch kd_seg replay.launch.py bag:=drive.mcap input_topic:=/points rviz:=true

rosbag2 plays where it is installed; elsewhere the package's own player does, with the cloud topic alone. Both get the
profile for Fast DDS from segmentation.launch.py.
"""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PASSED_ON = ("checkpoint", "device", "input_topic", "input_reliable", "params_file", "log_level")


def has(package: str) -> bool:
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        return False
    return True


def check_rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Before anything is started: an RViz that cannot start would leave the node running alone."""
    if LaunchConfiguration("rviz").perform(context).lower() in ("true", "1") and not has("rviz2"):
        raise RuntimeError(
            "rviz:=true, but rviz2 is not installed here; sudo apt install ros-$ROS_DISTRO-rviz2, or leave rviz out "
            "and watch with Foxglove"
        )
    return []


def play(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    bag, rate = LaunchConfiguration("bag"), LaunchConfiguration("rate")
    delay = LaunchConfiguration("delay_s")
    if has("ros2bag") and has("rosbag2_transport"):
        command = ["ros2", "bag", "play", bag, "--rate", rate, "--delay", delay, "--clock"]
        player = ExecuteProcess(cmd=command, output="screen")
    else:
        topic = LaunchConfiguration("input_topic")
        arguments = ["--bag", bag, "--topic", topic, "--play", "--reliable", "--speed", rate, "--wait", delay]
        player = Node(package="kd_seg", executable="replay_latency", arguments=arguments, output="screen")
    handler = OnProcessExit(target_action=player, on_exit=[EmitEvent(event=Shutdown(reason="the bag is over"))])
    return [player, RegisterEventHandler(handler, condition=IfCondition(LaunchConfiguration("exit_at_end")))]


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare("kd_seg")
    single = PathJoinSubstitution([share, "launch", "segmentation.launch.py"])
    default = PathJoinSubstitution([share, "configs", "ros", "parameters.yaml"])
    view = PathJoinSubstitution([share, "configs", "ros", "segmentation.rviz"])
    declared = [
        DeclareLaunchArgument("bag", description="Bag folder or file."),
        DeclareLaunchArgument("rate", default_value="1.0", description="Speed of playing."),
        DeclareLaunchArgument("delay_s", default_value="15.0", description="Seconds before playing, for the warm-up."),
        DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with the shipped view."),
        DeclareLaunchArgument("frame", default_value="velodyne", description="The clouds' frame_id, for RViz."),
        DeclareLaunchArgument("exit_at_end", default_value="false", description="End the node with the bag."),
        DeclareLaunchArgument("input_topic", default_value="/points", description="Cloud topic of the bag."),
        DeclareLaunchArgument("input_reliable", default_value="", description="auto, true or false."),
        DeclareLaunchArgument(
            "checkpoint", default_value="", description="Checkpoint; empty: the one in the parameter file."
        ),
        DeclareLaunchArgument(
            "device", default_value="", description="auto, cpu, cuda or cuda:N; empty: as the parameter file says."
        ),
        DeclareLaunchArgument("params_file", default_value=default, description="Parameter YAML, keyed /**."),
        DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error."),
    ]
    arguments = {name: LaunchConfiguration(name) for name in PASSED_ON}
    node = IncludeLaunchDescription(PythonLaunchDescriptionSource(single), launch_arguments=arguments.items())
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", view, "-f", LaunchConfiguration("frame")],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    checked = OpaqueFunction(function=check_rviz)
    return LaunchDescription([*declared, checked, node, OpaqueFunction(function=play), rviz])
