"""Encoders: from a source to a CMAF ladder that cache servers can serve, and the events that say so.

$ python -m producers.encoders          encode what is not in the cache
$ python -m producers.encoders --emit   tell the backbone what can be played
"""
