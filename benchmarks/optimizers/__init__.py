"""What `benchmarks.optimize` is made of: peers, models, verdicts."""
