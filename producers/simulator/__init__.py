"""Simulated playback: sessions drawn from a seed, the reports a player would have sent of them, and, apart, what was true.

$ python -m producers.simulator --events 200000 --seed 1                   into the topics of this namespace
$ python -m producers.simulator --events 200000 --to LOG --truth FILE      into a recorded log, with the true figures beside it

The state of the player comes first (`timeline`); its reports (`reports`) and the truth (`truth`) are both derived from it and neither
from the other. Nothing downstream may know whether an event was real, and nothing in streams, sinks or edge imports this.
"""
