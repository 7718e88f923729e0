"""Steering: to which cache servers a play goes, and why."""
