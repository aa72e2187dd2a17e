"""A world with users of its own: the daemon runs in a mount namespace where /etc/passwd and /etc/group
are ours, so that a test that needs root changes nothing of the machine."""
import grp
import os
import pathlib
import subprocess

DAEMON, ANN, BOB, LOW = 2901, 3001, 3002, 450
USERS = {"pridaemon": DAEMON, "ann": ANN, "bob": BOB, "low": LOW}
# Of the programs beside the daemon. The first is in the daemon's group, too.
WEB, EVENTS = 2904, 2905
SERVICES = {"postrider-web": WEB, "postrider-events": EVENTS}
MAIL_GROUP = 2908


class Machine:
    """Folders for homes and mailboxes below `folder`, which everybody may pass through."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        at = self.folder
        while at != pathlib.Path("/"):
            if not os.stat(at).st_mode & 0o001:
                os.chmod(at, os.stat(at).st_mode | 0o001)
            at = at.parent
        self.homes = self.make("home", 0, 0, 0o755)
        self.mail = self.make("mail", 0, MAIL_GROUP, 0o2775)
        lines = pathlib.Path("/etc/passwd").read_text()
        groups = pathlib.Path("/etc/group").read_text() + f"primail:x:{MAIL_GROUP}:pridaemon\n"
        # Groups that would be as good as root, and root's own: nobody's delivery is in them.
        groups = groups.replace("root:x:0:\n", "root:x:0:ann,bob\n") + "pridisk:x:2909:ann,bob\n"
        for name, uid in USERS.items():
            home = self.homes / name
            lines += f"{name}:x:{uid}:{uid}::{home}:/bin/sh\n"
            groups += f"{name}:x:{uid}:{'postrider-web' if uid == DAEMON else ''}\n"
            if name != "pridaemon":
                home.mkdir()
                os.chmod(home, 0o700)
                os.chown(home, uid, uid)
        for name, uid in SERVICES.items():
            lines += f"{name}:x:{uid}:{uid}::/nonexistent:/usr/sbin/nologin\n"
            groups += f"{name}:x:{uid}:\n"
        (self.folder / "passwd").write_text(lines)
        (self.folder / "group").write_text(groups)

    def give_password(self, user, password):
        """Of /etc/shadow, which is ours too from then on."""
        text = subprocess.run(["openssl", "passwd", "-6", password], capture_output=True, text=True,
                              check=True).stdout.strip()
        path = self.folder / "shadow"
        path.write_text(f"{user}:{text}:19000:0:99999:7:::\n")
        os.chown(path, 0, grp.getgrnam("shadow").gr_gid)
        os.chmod(path, 0o640)

    def make(self, name, uid, gid, mode):
        path = self.folder / name
        path.mkdir()
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def wrapper(self):
        """Before a command: runs it there, with its own process id."""
        mounts = " && ".join(f"mount --bind {self.folder}/{name} /etc/{name}"
                             for name in ("passwd", "group", "shadow")
                             if (self.folder / name).exists())
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                f'{mounts} && exec "$@"', "sh"]
