"""Start the segmentation node on one sensor: ros2 launch kd_seg segmentation.launch.py input_topic:=/velodyne_points

Where the terminal names no profile for Fast DDS, the node gets the shipped one, for its own clouds.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

ARGUMENTS = {
    "namespace": ("", "Namespace of the node; several sensors need several."),
    "name": ("segmentation", "Name of the node; its topics lie below it."),
    "checkpoint": ("", "Checkpoint file or run folder; empty: the one in the parameter file."),
    "device": ("", "auto, cpu, cuda or cuda:N; empty: as the parameter file says."),
    "input_topic": ("/points", "PointCloud2 topic of the driver."),
    "input_reliable": ("", "auto, true or false; empty: as the parameter file says."),
    "autostart": ("true", "Configure and activate at once."),
    "use_sim_time": ("", "Take the time from /clock: true or false; empty: as the parameter file says."),
    "log_level": ("info", "debug, info, warn or error."),
    "respawn": ("false", "Start the node again when it ends."),
}
PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def give_profile(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """For this and all that is started after it: as Fast DDS comes, best-effort listeners get no large clouds."""
    if any(name in context.environment for name in PROFILES):
        return []
    profile = PathJoinSubstitution([FindPackageShare("kd_seg"), "configs", "ros", "fastdds.xml"])
    return [SetEnvironmentVariable(PROFILES[0], profile)]


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    overrides = {"autostart": ParameterValue(LaunchConfiguration("autostart"), value_type=bool)}
    # What is passed overrides the parameter file, so an empty argument must not be passed at all.
    for name, kind in (("checkpoint", str), ("device", str), ("use_sim_time", bool)):
        if LaunchConfiguration(name).perform(context):
            overrides[name] = ParameterValue(LaunchConfiguration(name), value_type=kind)
    reliable = LaunchConfiguration("input_reliable").perform(context).lower()
    if reliable:
        overrides["input_reliable"] = reliable == "true" if reliable in ("true", "false") else reliable
    respawn = LaunchConfiguration("respawn").perform(context).lower() in ("true", "1")
    return [
        LifecycleNode(
            package="kd_seg",
            executable="segmentation_node",
            namespace=LaunchConfiguration("namespace"),
            name=LaunchConfiguration("name"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            remappings=[("~/input/points", LaunchConfiguration("input_topic"))],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            respawn=respawn,
            respawn_delay=2.0,
            output="screen",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    default = PathJoinSubstitution([FindPackageShare("kd_seg"), "configs", "ros", "parameters.yaml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument("params_file", default_value=default, description="Parameter YAML, keyed /**."),
            *(
                DeclareLaunchArgument(name, default_value=value, description=text)
                for name, (value, text) in ARGUMENTS.items()
            ),
            OpaqueFunction(function=give_profile),
            OpaqueFunction(function=start),
        ]
    )
