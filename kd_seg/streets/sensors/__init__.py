"""The simulated LiDARs and cameras."""
