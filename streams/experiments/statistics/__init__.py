"""Statistics of experiments: pure functions from sums to read-outs. No clock, no chance, no files.

`sufficient` holds what a variation is known by, `effects` what one variation does against another; `fixed`, `bayes`, `always_valid` and
`group_sequential` say how sure that is, `sample_ratio` whether it may be asked at all, `readout` all of it with its assumptions.
"""
