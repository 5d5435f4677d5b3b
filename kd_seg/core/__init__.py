"""The bottom: errors, configuration, registries, geometry, kernels and the machine."""
