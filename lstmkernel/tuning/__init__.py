"""Which of several backends is the fastest: candidates, the contest between them, and what it measures with."""
