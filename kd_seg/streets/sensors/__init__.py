"""The simulated LiDAR and cameras."""
