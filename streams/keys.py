"""Every key in Redis, named in one place, for a person at `redis-cli`.

All keys of one partition share a hash tag (`{07}`), so each script touches one slot of a cluster.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass


def partition_of(subject: str, partitions: int) -> int:
    """The partition in which everything about `subject` stands."""
    return zlib.crc32(subject.encode("utf-8", "surrogateescape")) % partitions


@dataclass(frozen=True, slots=True)
class Keys:
    """The names below one namespace (`spoolhouse`, or a Faust topic)."""

    namespace: str

    def _of(self, partition: int, *parts: str) -> str:
        return f"{self.namespace}:{{{partition:02d}}}:" + ":".join(parts)

    def log(self, partition: int) -> str:
        """Stream: the partition's entries; the id `<pos>-0` is the position."""
        return self._of(partition, "log")

    def meta(self, partition: int) -> str:
        """Hash: `partitions`, `epoch`, `created`, `log_id`, and `token:<group>` for each group."""
        return self._of(partition, "meta")

    def subject(self, partition: int, subject: str) -> str:
        """Hash: `ver` and the checkpoint fields of a subject."""
        return self._of(partition, "subject", subject)

    def seen(self, partition: int, subject: str) -> str:
        """Hash: the subject's event ids, each with its `<pos> <ver>`."""
        return self._of(partition, "seen", subject)

    def lease(self, partition: int, group: str) -> str:
        """String with a time to live: `<member> <token>` of the partition's owner in a group."""
        return self._of(partition, "lease", group)

    def delayed(self, partition: int, group: str) -> str:
        """Sorted set: subjects that wait for a retry, by due time (epoch milliseconds)."""
        return self._of(partition, "delayed", group)

    def parked(self, partition: int, group: str) -> str:
        """Hash: parked entries, `<pos>` → JSON (why, how often, since when)."""
        return self._of(partition, "parked", group)

    def behind(self, partition: int, group: str, subject: str) -> str:
        """Stream: a blocked subject's entries with their full bodies; the first is the blocking one."""
        return self._of(partition, "behind", group, subject)

    def attempts(self, partition: int, group: str) -> str:
        """Hash: `<pos>` → how often its handling began without an end."""
        return self._of(partition, "attempts", group)

    def producer(self, partition: int, producer: str) -> str:
        """String with a time to live: `<number> <pos>` of the last message that a Faust producer sent here."""
        return self._of(partition, "producer", producer)

    def members(self, group: str) -> str:
        """Sorted set: a group's members by the time of their last beat (epoch milliseconds)."""
        return f"{self.namespace}:{{members}}:{group}"

    def worker(self, member: str) -> str:
        """String with a time to live: a worker's own account of itself, as JSON."""
        return f"{self.namespace}:{{workers}}:{member}"

    def workers(self) -> str:
        """Sorted set: workers by the time of their last beat (epoch milliseconds)."""
        return f"{self.namespace}:{{workers}}"

    def requests(self) -> str:
        """List: what persons ask of the workers, as JSON, oldest first."""
        return f"{self.namespace}:{{workers}}:requests"

    def answers(self, request: str) -> str:
        """List with a time to live: what a worker answered to a request, line by line, as JSON."""
        return f"{self.namespace}:{{workers}}:answers:{request}"

    def progress(self) -> str:
        """Channel (pub/sub): how far work is, as JSON; nothing is kept of it."""
        return f"{self.namespace}:progress"
