"""CONTRACTS: what an event is, written once; everything else about it is derived from here. Pure: no network."""
