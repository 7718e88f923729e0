"""Playback: quality of experience per session, and the sessions playing now."""
