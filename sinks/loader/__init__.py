"""The loader: from topics to landing tables, each message exactly once, without decoding it here.

ranges      what is to be stored: a contiguous range of one partition, its token, and how an intent is written down
recovery    what to do about a range of which some, all or nothing is stored
lane        the protocol of one partition, as a generator of effects: pure, so that a test can crash it at every step
frames      where messages begin and which of them cannot be read: numpy over the joined bytes
table       the effects on a landing table: insert, count, mend, evolve
letters     the effect on the dead-letter topic
shell       a group consumer that drives one lane a partition
status      GET /healthz, GET /status
"""
