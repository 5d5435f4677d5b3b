"""Points to voxels: grids, voxelization (Numba), pooling over voxels, point features."""

from kd_seg.voxels.features import FEATURE_WIDTHS, feature_width, point_features
from kd_seg.voxels.grids import CartesianGrid, CylindricalGrid, Grid, cylindrical, grid_from_json
from kd_seg.voxels.pooling import majority_labels, max_features, mean_features
from kd_seg.voxels.voxelize import Voxels, voxelize

__all__ = [
    "FEATURE_WIDTHS",
    "CartesianGrid",
    "CylindricalGrid",
    "Grid",
    "Voxels",
    "cylindrical",
    "feature_width",
    "grid_from_json",
    "majority_labels",
    "max_features",
    "mean_features",
    "point_features",
    "voxelize",
]
