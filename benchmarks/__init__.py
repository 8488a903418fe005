"""What is timed against what, each one command: `python -m benchmarks.NAME`. Not tests, and not installed."""
