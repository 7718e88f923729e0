"""Headless players: press play at the gateway, fetch real segments through a shaped network, adapt, fail over, report CMCD.

$ python -m producers.players --count 24 --seconds 120 --seed 1
"""
