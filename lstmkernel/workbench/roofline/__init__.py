"""The least time that the hardware allows for a workload."""
