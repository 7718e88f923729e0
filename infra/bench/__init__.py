"""Benchmarks: each measures against a peer at its best or a bound, in the same run. `make bench`, `make bench ONLY=loader`."""
