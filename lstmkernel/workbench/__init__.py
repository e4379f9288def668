"""What bench/ and the command line measure with: cases, workloads, comparisons, results."""
