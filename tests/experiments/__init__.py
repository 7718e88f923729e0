"""Experiments, from exposure to sums."""
