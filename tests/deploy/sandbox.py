"""Runs a program as user 1000 in a root folder of its own: Python and the system are read-only there."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/dev", "/proc", "/sys")
# $1 is the new root, $2 the folders to show there, $3 the folders that stay writable, $4 the working directory.
ENTER = """set -e
mount --make-rprivate /
mount --bind "$1" "$1"
for folder in $2; do mount --rbind "$folder" "$1$folder"; done
for folder in $3; do mount --bind "$1$folder" "$1$folder"; done
mount -o remount,bind,ro "$1"
root=$1 directory=$4; shift 4
exec chroot "$root" sh -c 'cd "$1"; shift; exec "$@"' sh "$directory" "$@"
"""


class Sandbox:
    """A root folder in which only some folders can be written to.

    As root, the program changes to user 1000. Any other user becomes user 1000 in a user namespace.
    """

    def __init__(self, root: Path, home: str, writable: Sequence[str]):
        """Creates the folders below ``root``, the home of the user and the writable ones included."""
        self.root, self.home, self.writable = root, home, writable
        self.shared = list(dict.fromkeys([*SYSTEM, sys.base_prefix, sys.prefix]))
        # A folder inside another one that is shared is there already.
        inside = [one for one in self.shared if any(one.startswith(other + "/") for other in self.shared)]
        self.shared = [one for one in self.shared if one not in inside and Path(one).is_dir()]
        for folder in [*self.shared, home, *writable]:
            self.path(folder).mkdir(parents=True, exist_ok=True)
        for folder in writable:
            self.path(folder).chmod(0o777)

    def path(self, inside: str) -> Path:
        """The path on this machine of a path inside."""
        return self.root / inside.lstrip("/")

    def command(self, arguments: Sequence[str], directory: str) -> list[str]:
        """A command line that runs ``arguments`` inside, in ``directory``."""
        if os.geteuid() == 0:
            namespace = ["unshare", "--mount"]
            change_user = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all"]
        else:
            namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "--mount"]
            change_user = ["setpriv", "--inh-caps=-all", "--ambient-caps=-all"]
        folders = [str(self.root), " ".join(self.shared), " ".join(self.writable), directory]
        return [*namespace, "sh", "-c", ENTER, "sh", *folders, *change_user, *arguments]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """The variables of a fresh login and ``variables``, with this Python first on the path."""
        path = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return {"HOME": self.home, "PATH": path, "LANG": "C.UTF-8", **variables}

    def run(self, arguments: Sequence[str], directory: str, variables: Mapping[str, str]) -> str:
        """Runs a program to its end and returns its output. Raises AssertionError if it fails."""
        done = subprocess.run(
            self.command(arguments, directory), env=self.environment(variables), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(
        self, arguments: Sequence[str], directory: str, variables: Mapping[str, str], log: Path
    ) -> subprocess.Popen:
        """Starts a program. Its output goes to ``log``."""
        with log.open("w") as output:
            return subprocess.Popen(
                self.command(arguments, directory), env=self.environment(variables), stdout=output, stderr=output
            )
