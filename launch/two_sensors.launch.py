"""Two sensors, two nodes that share nothing but /diagnostics: namespaces front and rear."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

SHARED = {
    "checkpoint": ("", "Checkpoint of both; empty: the one in the parameter file."),
    "device": ("", "auto, cpu, cuda or cuda:N; empty: as the parameter files say."),
    "input_reliable": ("", "auto, true or false; empty: as the parameter file says."),
    "autostart": ("true", "Configure and activate at once."),
    "use_sim_time": ("", "Take the time from /clock: true or false; empty: as the parameter files say."),
    "log_level": ("info", "debug, info, warn or error."),
}


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare("kd_seg")
    single = PathJoinSubstitution([share, "launch", "segmentation.launch.py"])
    default = PathJoinSubstitution([share, "configs", "ros", "parameters.yaml"])
    actions = [
        DeclareLaunchArgument(name, default_value=value, description=text) for name, (value, text) in SHARED.items()
    ]
    for side in ("front", "rear"):
        topic, params = f"{side}_topic", f"{side}_params_file"
        actions.append(DeclareLaunchArgument(topic, default_value=f"/{side}/points", description=f"Cloud of {side}."))
        actions.append(DeclareLaunchArgument(params, default_value=default, description=f"Parameters of {side}."))
        arguments = {name: LaunchConfiguration(name) for name in SHARED}
        arguments |= {
            "namespace": side,
            "input_topic": LaunchConfiguration(topic),
            "params_file": LaunchConfiguration(params),
        }
        source = PythonLaunchDescriptionSource(single)
        actions.append(IncludeLaunchDescription(source, launch_arguments=arguments.items()))
    return LaunchDescription(actions)
