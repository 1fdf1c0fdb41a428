"""Which file systems a ledger's file cannot be on, since several machines share them.

A lock of such a file system holds between the processes of one machine at best, and so does each of SQLite's (SQLite
documentation, "How To Corrupt An SQLite Database File", "Filesystems with broken or missing lock implementations"). Two
machines would both take the run lock, and bill twice.

Who has held the lock before is not looked at: a container has another name and id each time, and in a virtual machine
of its own another kernel too, while its volume stays the same.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from meter_sync.errors import ConfigurationError

MOUNTS = Path("/proc/self/mountinfo")

_SHARED = frozenset(
    (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "coda", "ncpfs"),
        *("ceph", "lustre", "gfs2", "ocfs2", "gpfs", "beegfs", "orangefs", "pvfs2"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.juicefs", "fuse.mfs"),
        *("fuse.s3fs", "fuse.gcsfuse", "fuse.rclone"),
    )
)
_OWN_SHARES = {"9p": "trans=fd"}
"""What has this among its options is a folder of this very machine: so gVisor shows all that a container has."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system, and where it is to be found."""

    point: Path
    kind: str
    """Its name in Linux, such as `ext4` or `nfs4`."""
    options: frozenset[str] = frozenset()
    """Those of the file system itself."""

    @property
    def is_shared(self) -> bool:
        """Whether other machines may have it too."""
        return self.kind in _SHARED and _OWN_SHARES.get(self.kind) not in self.options


def refuse_shared(ledger: Path, mounts: Path = MOUNTS) -> None:
    """Raise ConfigurationError where a ledger's file, or the lock beside it, is or would be on such a file system.

    `mounts` is where Linux lists what is mounted. Where nothing does, nothing is refused.
    """
    try:
        listed = os.fsdecode(mounts.read_bytes())
        places = [ledger.resolve(), ledger.parent.resolve()]
    except (OSError, RuntimeError):  # a circle of links: opening it says so
        return
    for mount in (mount_of(place, listed) for place in places):
        if mount is not None and mount.is_shared:
            raise ConfigurationError(
                f"the ledger {ledger} is on {mount.point}, a file system that machines share ({mount.kind}): no lock "
                "can be relied on there, and two machines would bill twice; nothing was written",
                "stop the schedule and the webhook on every machine, move the file, with those beside it, to a local "
                "disk of the one that is to run, and name it there with METER_SYNC_LEDGER; for several machines, move "
                "the books from there to PostgreSQL: meter-sync ledger copy",
                code="ledger_shared",
            )


def mount_of(path: Path, listed: str) -> Mount | None:
    """Return what a path without links is on, given what Linux lists (proc_pid_mountinfo(5)).

    That is the mount nearest to it; of several at one place the last covers the others.
    """
    found: Mount | None = None
    for line in listed.split("\n"):
        # "36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue"
        of_mount, _, of_file_system = (part.split(" ") for part in line.partition(" - "))
        if len(of_mount) < 5 or len(of_file_system) < 3:
            continue
        point = Path(_unescaped(of_mount[4]))
        if path.is_relative_to(point) and (found is None or point.is_relative_to(found.point)):
            found = Mount(point, of_file_system[0], frozenset(of_file_system[2].split(",")))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), text)
