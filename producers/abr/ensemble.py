"""One policy of several whose networks began differently.

After L. K. Hansen, P. Salamon, "Neural Network Ensembles", IEEE Trans. PAMI 12(10), 1990: such networks err differently, so their mean errs
less than one. The mean is itself a network, only wider, so the evaluators need not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from producers.abr.environment import Floats
from producers.abr.network import Network
from producers.abr.policy import Policy, Trained
from producers.abr.train import rounded

DIGITS = 4
"""Of a weight in what is joined: its file is several times as large."""


def mean(parts: Sequence[Network]) -> Network:
    """One network whose outputs are the mean of those of `parts`: their first layers side by side, the next in blocks along the diagonal,
    the last below one another and divided by how many they are. Raises ValueError where they are not alike in inputs, outputs and number of
    layers, or have fewer than two.
    """
    shapes = {(len(one.weights), one.weights[0].shape[0], one.weights[-1].shape[1]) for one in parts}
    if len(shapes) != 1 or min(shapes)[0] < 2:
        raise ValueError("networks alike in inputs, outputs and number of layers, at least two, are wanted")
    first, *between, last = zip(*(one.weights for one in parts), strict=True)
    *shifts, shift = zip(*(one.biases for one in parts), strict=True)
    return Network(
        (np.hstack(first), *map(diagonal, between), np.vstack(last) / len(parts)),
        (*map(np.concatenate, shifts), np.asarray(np.mean(shift, 0))),
    )


def diagonal(blocks: Sequence[Floats]) -> Floats:
    """The matrix that has `blocks` along its diagonal and 0 elsewhere."""
    found = np.zeros(np.sum([block.shape for block in blocks], 0))
    row = column = 0
    for block in blocks:
        found[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return found


def joined(parts: Sequence[Policy], share: float, cut: float, caution: float, provenance: Mapping[str, Any]) -> Policy:
    """The first of `parts` with the mean of all their networks, which counts `share` and at most `cut`, beside a plan to which stalls are
    `caution` times as bad as the reward says. Raises ValueError where one has no network, or one for something else than the first.
    """
    networks = [one.trained for one in parts if one.trained is not None]
    alike = {(one.reward, one.aim, one.tuning) for one in parts} | {(one.ladder_kbps, one.segment_s) for one in networks}
    if len(networks) != len(parts) or len(alike) != 2:
        raise ValueError("policies with networks, of one plan, reward, ladder and segment length, are wanted")
    found = mean([one.network for one in networks])
    network = Network(*(tuple(rounded(one, DIGITS) for one in arrays) for arrays in (found.weights, found.biases)))
    provenance = {**provenance, "parts": [dict(one.provenance) for one in networks]}
    known = Trained(network, networks[0].ladder_kbps, networks[0].segment_s, share, cut, caution, provenance)
    return replace(parts[0], trained=known)
