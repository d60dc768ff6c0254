"""What a child that works on hostile files may not do. Linux; called in the child, before anything else."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from dataclasses import dataclass

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may use, for as long as it lives."""

    memory: int
    """Bytes of address space; of what is written to, where `reserves`."""
    nice: int
    """By how much others come first."""
    file_size: int | None = 0
    """Bytes of the largest file that it may write. None: as each job says."""
    open_files: int = 64
    reserves: bool = False
    """It may reserve more address space than it uses, as engines for JavaScript do."""
    offline: bool = True
    """It needs no network."""


def confine(parent: int, limits: Limits) -> None:
    """Bound memory, files and priority, and die with `parent` (its process id)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = resource.RLIMIT_DATA if limits.reserves else resource.RLIMIT_AS
    resource.setrlimit(memory, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.open_files, limits.open_files))
    if limits.file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size, limits.file_size))
    os.nice(limits.nice)
    libc = ctypes.CDLL(None, use_errno=True)
    if limits.offline:
        # FFmpeg is told to speak to files only; where we may (as root), there is no network to speak to either.
        libc.unshare(_CLONE_NEWNET)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked to die with it
        os._exit(0)


def allow_cpu(seconds: float) -> None:
    """Bound the processor time from now on; more than that ends the process with SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def allow_file_size(size: int | None) -> None:
    """Bound what may be written to one file from now on, in bytes; more than that fails with EFBIG."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    wanted = most if size is None else size
    resource.setrlimit(resource.RLIMIT_FSIZE, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
