"""ADAPTATION: which bitrate to fetch next. Pure functions from a `State` to a level, and the environment that they are judged in."""
