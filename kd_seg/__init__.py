"""kd_seg: small sparse-convolution students for LiDAR segmentation, taught by several scans and by images."""

__version__ = "0.1.0"
