"""A daemon with users of its own, and a sink for all mail that goes elsewhere."""
import os
import pathlib

from support_py import daemon, scenario

CONTENT = b"From: <a@far.example>\r\nSubject: aliases\r\n\r\nx\r\n"
USERS = ("ann", "bob", "carl", "dora")

# The accounts of these tests, for the daemon alone.
OWN_PASSWD = ["unshare", *([] if os.getuid() == 0 else ["-r"]), "-m", "sh", "-c",
              'mount --bind "$0" /etc/passwd && exec "$@"']


class LocalUsers(scenario.Scenario):
    def machine(self, aliases="", local=None, **settings):
        """A daemon with users of its own; mail for other domains goes to self.remote."""
        self.remote = self.sink()
        folder = self.own_folder("machine")
        folder.chmod(0o755)
        self.home = folder / "home"
        passwd = folder / "passwd"
        lines = [line for line in pathlib.Path("/etc/passwd").read_text().splitlines()
                 if line.split(":")[0] not in USERS]
        for number, user in enumerate(USERS):
            (self.home / user).mkdir(parents=True)
            lines.append(f"{user}:x:{900 + number}:900::{self.home / user}:/bin/sh")
        passwd.write_text("\n".join(lines) + "\n")
        server = daemon.Postrider(
            folder / "postrider", wrapper=OWN_PASSWD + [str(passwd)],
            route=[{"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.remote.port}"}],
            local=local or {}, **settings)
        self.aliases = server.folder / "aliases"
        self.write(self.aliases, aliases)
        self.using(server)
        return server

    def write(self, path, text, mode=0o644):
        beside = path.with_name(path.name + ".new")
        beside.write_text(text)
        beside.chmod(mode)
        beside.rename(path)
        return path

    def mail(self, server, recipient, sender="a@far.example"):
        reply = server.send(sender, recipient, CONTENT)
        self.assertEqual(reply.code, 250, reply)

    def rcpt(self, server, address):
        with server.client() as client:
            client.hello()
            client.command("MAIL FROM:<a@far.example>")
            return str(client.command(f"RCPT TO:<{address}>"))
