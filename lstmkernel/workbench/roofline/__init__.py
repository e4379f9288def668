"""The roofline: the least time that one core needs for a workload, and what part of it was reached."""
