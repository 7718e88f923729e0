"""Experiments: who is in which variation, what they did, and what may be concluded from it."""
