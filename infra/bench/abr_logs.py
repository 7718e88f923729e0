"""The published decisions of nine algorithms on the 142 HSDPA test traces, and how our implementations meet them.

Each log is a run of the authors over all traces in one process, and shows what they did not write down:

- `bb`, `bola`, `quetra`: nothing; ours decide the same, chunk by chunk.
- `rb`, `hyb`: the window of throughputs goes on from one session into the next, in the order of the names; `rb`, whose first trace was
  played once more at the end, goes round. `rb` counts a kilobyte as 1,024 bytes when it estimates, and as 1,000 when it compares.
- `mpc`: the window of errors goes on likewise; 49 chunks are planned for, although 48 are played; of equally good plans the last is
  taken, and which are equally good depends a little on how the authors' sums round.

`rl`, `cmc` and `ppo` are learnt: their decisions are replayed, not made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from producers.abr import bb, bola, hyb, quetra, rb, robust_mpc
from producers.abr.environment import Policy, Session, Trace, Video, decided, play
from producers.abr.state import State

REPLAYED = ("bb", "rb", "bola", "hyb", "quetra", "mpc", "rl", "cmc", "ppo")
REFERENCES: Mapping[str, Policy] = {
    "bb": bb.choose, "rb": rb.choose, "bola": bola.choose, "hyb": hyb.choose, "quetra": quetra.choose, "mpc": robust_mpc.choose,
}  # fmt: skip
"""As their papers have them: a session knows nothing of the one before."""

CHUNKS_PLANNED_FOR = 49
GOING_ROUND = ("rb",)
"""Their run played the first trace once more at the end, and only that was logged."""


@dataclass(frozen=True)
class Logged:
    """What one algorithm decided on one trace, and its mean reward over the scored chunks."""

    levels: tuple[int, ...]
    reward: float


def read(folder: Path, name: str) -> dict[str, Logged]:
    """The log of algorithm `name`, by trace. Raises FileNotFoundError."""
    rows = json.loads((folder / f"{name}.json").read_text())
    return {trace: Logged(tuple(row["levels"]), row["mean_reward"]) for trace, row in rows.items()}


@dataclass(frozen=True)
class Carried:
    """What a session of the authors knew of the sessions before it: throughputs and delays, and errors of prediction; oldest first."""

    throughputs_kbps: tuple[float, ...] = ()
    delays_s: tuple[float, ...] = ()
    errors: tuple[float, ...] = ()

    def into(self, state: State) -> State:
        """The state as the authors' code saw it."""
        return replace(
            state,
            throughputs_kbps=self.throughputs_kbps + state.throughputs_kbps,
            delays_s=self.delays_s + state.delays_s,
        )


AsLogged = Callable[[State, Carried], int]


def as_logged(video: Video) -> dict[str, AsLogged]:
    """The references as the logs have them; `video` is of all 49 chunks."""
    beyond = video.sizes[CHUNKS_PLANNED_FOR - 1 : CHUNKS_PLANNED_FOR]

    def mpc(state: State, carried: Carried) -> int:
        return robust_mpc.choose(replace(state, sizes=(*state.sizes, *beyond)), errors_before=carried.errors)

    return {
        "bb": lambda state, _: bb.choose(state),
        "rb": lambda state, carried: rb.choose(carried.into(state), scale=1.024),
        "bola": lambda state, _: bola.choose(state),
        "hyb": lambda state, carried: hyb.choose(carried.into(state)),
        "quetra": lambda state, _: quetra.choose(state),
        "mpc": mpc,
    }


@dataclass(frozen=True)
class Agreement:
    """How a reference meets its log."""

    sessions: list[Session]
    """Played on its own, by trace in the order of names."""
    agreeing: int
    decisions: int
    """On the log's path: of so many decisions, so many are the same."""


def compare(name: str, traces: Sequence[Trace], video: Video, logged: Mapping[str, Logged]) -> Agreement:
    """Play reference `name` on its own, and ask it what it would have done on the log's path. `video` is of all 49 chunks."""
    policy, played = as_logged(video)[name], replace(video, sizes=video.sizes[:48], vmaf=video.vmaf[:48])
    order = sorted(traces, key=lambda trace: trace.name)

    def own(_: Trace, carried: Carried) -> Policy:
        return lambda state: policy(state, carried)

    def as_it_went(trace: Trace, carried: Carried) -> Policy:
        unlogged = name in GOING_ROUND and carried == Carried()
        return own(trace, carried) if unlogged else decided(logged[trace.name].levels)

    agreeing = decisions = 0
    for turn in _turns(name, order, as_it_went, played):
        path = logged[turn.trace.name].levels
        agreeing += sum(policy(state, turn.carried) == path[-state.left] for state in turn.states)
        decisions += len(turn.states)
    return Agreement([turn.session for turn in _turns(name, order, own, played)], agreeing, decisions)


@dataclass(frozen=True)
class _Turn:
    trace: Trace
    carried: Carried
    states: list[State]
    session: Session


def _turns(name: str, order: Sequence[Trace], make: Callable[[Trace, Carried], Policy], video: Video) -> list[_Turn]:
    """The sessions of a run over `order`, each after what the one before it left."""
    turns: list[_Turn] = []
    carried = Carried()
    for trace in [*order, order[0]] if name in GOING_ROUND else order:
        states, policy = list[State](), make(trace, carried)

        def watched(state: State, policy: Policy = policy, states: list[State] = states) -> int:
            states.append(state)
            return policy(state)

        session = play(watched, trace, video)
        turns.append(_Turn(trace, carried, states, session))
        carried = Carried(session.throughputs_kbps, session.delays_s, tuple(robust_mpc.errors(session.throughputs_kbps)))
    return turns[1:] if name in GOING_ROUND else turns
