"""Child processes that do not outlive us."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the thread that forked it ends, so fork from a thread that lives long."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
