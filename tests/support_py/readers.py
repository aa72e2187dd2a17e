"""Programs that read mail: Dovecot as an LMTP and IMAP server, mutt and mail as a user has them."""
import imaplib
import os
import pathlib
import pty
import select
import signal
import subprocess
import time

from support_py import wait

DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
ssl = no
protocols = imap lmtp
listen = 127.0.0.1
first_valid_uid = 1
mail_location = maildir:{folder}/mail/%n
auth_mechanisms = plain
disable_plaintext_auth = no
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n allow_all_users=yes
}}
service anvil {{
  chroot =
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {imap}
  }}
}}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
protocol lmtp {{
  auth_username_format = %Ln
}}
auth_username_format = %Ln
"""


class Dovecot:
    """Stays in the foreground; needs root, as Dovecot does."""

    def __init__(self, folder, uid, gid):
        self.folder = pathlib.Path(folder)
        self.imap, self.lmtp = wait.free_port(), wait.free_port()
        self.socket = self.folder / "lmtp"
        (self.folder / "mail").mkdir()
        os.chown(self.folder / "mail", uid, gid)
        os.chmod(self.folder, 0o755)
        file = self.folder / "dovecot.conf"
        file.write_text(DOVECOT.format(folder=self.folder, uid=uid, gid=gid, imap=self.imap,
                                       lmtp=self.lmtp))
        with open(self.folder / "stderr", "wb") as errors:
            self.process = subprocess.Popen(["dovecot", "-F", "-c", str(file)], stdout=errors,
                                            stderr=errors)
        wait.until(self.answers, lambda: "Dovecot to listen:\n" + self.report())

    def report(self):
        return "".join((self.folder / name).read_text() for name in ("stderr", "log")
                       if (self.folder / name).exists())

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError("Dovecot ended:\n" + self.report())
        try:
            imaplib.IMAP4("127.0.0.1", self.imap).logout()
            return self.socket.exists()
        except OSError:
            return False

    def messages(self, user):
        """What a mail program sees."""
        with imaplib.IMAP4("127.0.0.1", self.imap) as imap:
            imap.login(user, "secret")
            imap.select("INBOX")
            numbers = imap.search(None, "ALL")[1][0].split()
            return [imap.fetch(number, "(RFC822)")[1][0][1] for number in numbers]

    def stop(self):
        self.process.terminate()
        self.process.wait(wait.DEADLINE)


def on_terminal(command, environment, enough, deadline=wait.DEADLINE):
    """Runs a program on a terminal of its own until enough() says so."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment, TERM="vt100")
        os.execvp(command[0], command)
    shown, end = b"", time.monotonic() + deadline
    try:
        while not enough():
            if time.monotonic() > end:
                raise wait.Timeout(f"{command[0]} shows nothing: {shown[-2000:]!r}")
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 65536)
    except OSError:  # the program has ended
        wait.until(enough, lambda: f"{command[0]} to show something: {shown[-2000:]!r}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def mutt(mailbox, folder):
    """The first message of a mailbox as mutt reads it, decoded."""
    part, out = pathlib.Path(folder) / "mutt.part", pathlib.Path(folder) / "mutt.out"
    command = ["mutt", "-n", "-R", "-F", "/dev/null", "-f", str(mailbox), "-e",
               "set wait_key=no pipe_decode=yes; "
               f"push '<pipe-message>cat >{part} && mv {part} {out}<enter>'"]
    (pathlib.Path(folder) / "Mail").mkdir(exist_ok=True)  # else mutt asks
    on_terminal(command, {"HOME": str(folder)}, out.exists)
    return out.read_text("utf-8", "replace")


def mail(mailbox, commands):
    """bsd-mailx on a file."""
    done = subprocess.run(["bsd-mailx", "-n", "-f", str(mailbox)], input=commands.encode(),
                          capture_output=True, timeout=wait.DEADLINE, env={**os.environ, "PAGER": "cat"})
    return done.stdout.decode("utf-8", "replace")
