"""Runs a program that ends when its parent does: `tethered.py SIGNAL PARENT PROGRAM ARGUMENT…`.

`spoolhouse up` starts everything through this. When it is killed with SIGKILL it can tell no one, so
the kernel is asked beforehand (Linux; elsewhere the program simply runs). Imports nothing of ours and
is run by its path, to cost a few milliseconds only.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, then become the program."""
    signal, parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(f"{command[0]}: its parent was gone before it began")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
