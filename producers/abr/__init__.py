"""Adaptive bitrate: what a player fetches next."""
