"""Recommendations in the warehouse."""
