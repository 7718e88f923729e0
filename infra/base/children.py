"""Child processes that do not outlive us."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """For `preexec_fn`: the kernel signals this process when the thread that forked it ends, so fork from a thread that lives long."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
