"""Every error that Spoolhouse raises on purpose. The message tells a person what to do next."""

from __future__ import annotations


class SpoolhouseError(Exception):
    """The root of them all."""


class SettingsError(SpoolhouseError):
    """Settings are missing or malformed; the message names every fault at once."""


class StartError(SpoolhouseError):
    """Something that Spoolhouse starts for itself (its Redis, a child process) cannot be started."""


class LogUnavailableError(SpoolhouseError):
    """Redis cannot be reached, or answered nothing in time. Nothing is known to be appended."""


class LogFullError(LogUnavailableError):
    """Redis is out of memory and refuses writes until something is trimmed or memory is added."""


class PartitionCountError(SpoolhouseError):
    """The log was created with another number of partitions."""


class ConflictError(SpoolhouseError):
    """The subject is no longer at the version that the writer expected."""

    def __init__(self, subject: str, expected: int, actual: int) -> None:
        super().__init__(
            f"{subject} is at version {actual}, not {expected}: someone else wrote first. "
            "Read the subject again and decide anew."
        )
        self.subject, self.expected, self.actual = subject, expected, actual


class FencedError(SpoolhouseError):
    """The lease under which this was written belongs to someone else by now; nothing was written."""


class UndecodableError(SpoolhouseError):
    """A log entry is not an event that this version can read."""

    def __init__(self, partition: int, pos: int, reason: str) -> None:
        super().__init__(f"entry {pos} of partition {partition:02d} cannot be read: {reason}")
        self.partition, self.pos, self.reason = partition, pos, reason


class GateClosedError(SpoolhouseError):
    """The log ends before, or differs from, what was already read from it: it lost its tail."""


class UnsupportedCatalogueError(SpoolhouseError):
    """The catalogue's database is of a version, or holds a table, that Spoolhouse cannot work with."""


class InapplicableError(SpoolhouseError):
    """An event cannot be put into a table: its projection stops until a person has helped."""


# How a processor says what kind of failure it met. Any other exception counts as transient.


class TransientError(SpoolhouseError):
    """It may work later: retried with backoff, then parked.

    `retry_after` (seconds) is what the other side asked for, where it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PoisonError(SpoolhouseError):
    """It will never work as it is: parked at once, with this message as the reason."""


class DrainingError(SpoolhouseError):
    """The worker is about to stop and asked for it (`Context.draining`): what is left is done elsewhere."""


class DependencyDownError(SpoolhouseError):
    """An outside thing cannot be used just now: the processor pauses, no attempt is spent.

    `retry_after` (seconds) is when to try again, where that is known; else soon, then ever later.
    `unreachable` is False where it answers but turns everything away (bad credentials, a limit for
    the day): the message then says all.
    """

    def __init__(
        self, dependency: str, message: str, *, retry_after: float | None = None, unreachable: bool = True
    ) -> None:
        super().__init__(f"{dependency} is unreachable: {message}" if unreachable else f"{dependency}: {message}")
        self.dependency, self.retry_after = dependency, retry_after


# How a door says no.


class RejectedError(SpoolhouseError):
    """What was handed in cannot be taken; `status` is the HTTP status that says so best."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(SpoolhouseError):
    """There is no such thing under that name."""
