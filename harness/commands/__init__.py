"""The commands of `python -m harness`, one file for each group. Nothing heavy is imported before a command runs."""
