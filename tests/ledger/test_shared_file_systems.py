"""A ledger's file is refused on a file system that several machines share."""

from pathlib import Path

import pytest

from meter_sync.errors import ConfigurationError
from meter_sync.ledger.file_systems import Mount, mount_of, refuse_shared

LISTED = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
31 27 0:40 / /srv rw - nfs4 files.example.com:/srv rw,vers=4.2
32 31 254:1 /books /srv/local rw,relatime - xfs /dev/vdb rw
33 27 0:41 / /mnt/my\\040books\\134\\011 rw - cifs //files/books rw,vers=3.1.1
34 27 0:42 / /auto rw,relatime - autofs systemd-1 rw,direct
35 34 0:43 / /auto rw - fuse.sshfs me@files: rw,user_id=0
36 27 0:44 / /volume rw - 9p none rw,trans=fd,rfdno=4,wfdno=4,aname=/,directfs
37 27 0:45 / /host rw - 9p host0 rw,access=client,trans=virtio
38 27 0:46 /one/ledger.sqlite3 /data/ledger.sqlite3 rw - nfs files:/one rw
cannot be understood
"""


@pytest.mark.parametrize(
    ("path", "point", "kind", "is_shared"),
    [
        ("/var/lib/meter-sync", "/", "ext4", False),
        ("/srv", "/srv", "nfs4", True),
        ("/srv/meter-sync/state", "/srv", "nfs4", True),
        ("/srvs/meter-sync", "/", "ext4", False),
        ("/srv/local/state", "/srv/local", "xfs", False),
        ("/srv/locals", "/srv", "nfs4", True),
        ("/mnt/my books\\\t/state", "/mnt/my books\\\t", "cifs", True),
        ("/auto/state", "/auto", "fuse.sshfs", True),
        ("/volume/state", "/volume", "9p", False),
        ("/host/state", "/host", "9p", True),
        ("/data/ledger.sqlite3", "/data/ledger.sqlite3", "nfs", True),
        ("/data/ledger.sqlite3.lock", "/", "ext4", False),
    ],
)
def test_a_path_is_on_the_mount_that_is_nearest_to_it(path: str, point: str, kind: str, is_shared: bool) -> None:
    found = mount_of(Path(path), LISTED)

    assert found is not None
    assert (found.point, found.kind, found.is_shared) == (Path(point), kind, is_shared)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "virtiofs", "fuse.mergerfs", "fuseblk"]
)
def test_what_one_machine_has_to_itself_is_not_refused(kind: str) -> None:
    assert not Mount(Path("/"), kind).is_shared


def test_the_folder_counts_that_a_link_leads_to_and_the_one_that_the_lock_is_in(tmp_path: Path) -> None:
    share, local, mounts = tmp_path / "share", tmp_path / "local", tmp_path / "mountinfo"
    for folder in (share, local):
        folder.mkdir()
    mounts.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n31 27 0:40 / {share} rw - nfs4 files:/srv rw\n")
    (local / "folder").symlink_to(share)
    (local / "file.sqlite3").symlink_to(share / "ledger.sqlite3")
    (share / "file.sqlite3").symlink_to(local / "ledger.sqlite3")

    refuse_shared(local / "ledger.sqlite3", mounts)
    for ledger in (local / "folder" / "not there yet" / "a.sqlite3", local / "file.sqlite3", share / "file.sqlite3"):
        with pytest.raises(ConfigurationError, match="nfs4") as refused:
            refuse_shared(ledger, mounts)
        assert refused.value.code == "ledger_shared"
        assert "PostgreSQL" in refused.value.hint


def test_where_the_system_lists_no_mounts_nothing_is_refused(tmp_path: Path) -> None:
    refuse_shared(tmp_path / "ledger.sqlite3", tmp_path / "none")
