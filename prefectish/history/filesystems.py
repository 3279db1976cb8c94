"""The type of the file system of a folder: SQLite's write-ahead log requires a local one."""

from __future__ import annotations

import os

import psutil

#: Names of network file systems, whose files can be opened by other machines at the same time.
NETWORK_TYPES = frozenset(
    {
        "9p", "acfs", "afpfs", "afs", "auristorfs", "beegfs", "ceph", "cifs", "coda", "davfs", "efs", "fhgfs", "gfs2",
        "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2",
        "smb3", "smbfs", "wekafs", "webdav",
    }
)  # fmt: skip
#: The same for FUSE, where the name of the program follows a dot.
FUSE_TYPES = frozenset(
    {
        "blobfuse", "blobfuse2", "ceph", "davfs2", "gcsfuse", "glusterfs", "goofys", "gpfs", "juicefs", "moosefs",
        "mfs", "rclone", "s3fs", "sshfs",
    }
)  # fmt: skip


def type_of(folder: str) -> str:
    """Return the type of the file system of an existing folder, "" if unknown."""
    place = os.path.join(os.path.realpath(folder), "")
    found, length = "", 0
    for partition in psutil.disk_partitions(all=True):
        mount = os.path.join(partition.mountpoint, "")
        if place.startswith(mount) and len(mount) >= length:  # a later mount covers an earlier one at the same place
            found, length = partition.fstype, len(mount)
    return found.lower()


def is_network(kind: str) -> bool:
    """Whether a type is that of a network file system.

    Examples
    --------
    >>> is_network("nfs4"), is_network("fuse.sshfs"), is_network("ext4"), is_network("fuse.ntfs")
    (True, True, False, False)
    """
    family, _, program = kind.partition(".")
    return family in NETWORK_TYPES or (family in ("fuse", "osxfuse", "macfuse") and program in FUSE_TYPES)
