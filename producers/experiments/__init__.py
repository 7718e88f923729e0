"""Definitions of experiments, as teams write them, and what is done to them: told to the backbone."""
