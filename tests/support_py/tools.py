"""Programs of other packages."""
import os
import shutil


def tool(name):
    """Daemons live where an ordinary user's path does not look."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        raise FileNotFoundError(name)
    return path
