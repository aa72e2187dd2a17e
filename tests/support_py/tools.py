"""Programs of other packages, and processes."""
import os
import pathlib
import shutil


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
