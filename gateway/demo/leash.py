"""Run a command that the kernel kills when its parent dies: `python leash.py <parent's pid> <command> ...`.

A script of its own, run without site packages: it must be there before the command and may cost no time.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h; it survives exec

if __name__ == "__main__":
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted
