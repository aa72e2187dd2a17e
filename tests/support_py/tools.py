"""Programs of other packages, and processes."""
import os
import pathlib
import shutil
import subprocess

from support_py import wait


def tool(name):
    """Daemons live where an ordinary user's path does not look."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise FileNotFoundError(name)
    return path


def processes_with(text):
    """The commands, alive, whose arguments hold the text."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            alive = (path.parent / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if alive and text in path.read_bytes().decode(errors="replace"):
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


def children_of(pid):
    """Of its first thread."""
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def name_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Tracer:
    """strace on a process that runs: from when it is held until the end of the block."""

    def __init__(self, arguments, pid):
        self.process = subprocess.Popen([tool("strace"), *arguments, "-p", str(pid)],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        status = pathlib.Path(f"/proc/{pid}/status")
        wait.until(lambda: self.process.poll() is not None or
                   f"TracerPid:\t{self.process.pid}\n" in status.read_text(), "strace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
