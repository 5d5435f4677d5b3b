"""The ROS 2 node and its tools: they translate between ROS and ``kd_seg``."""
