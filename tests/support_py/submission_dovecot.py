"""A real Dovecot as the smarthost: its submission service asks for a login (by a password file, or
by introspection of access tokens) and hands messages on to a sink. Needs root, as Dovecot does."""
import http.server
import json
import os
import pathlib
import smtplib
import subprocess
import threading
import urllib.parse

from support_py import wait
from support_py.tools import tool

CONFIG = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = submission
ssl = required
ssl_cert = <{certificate}
ssl_key = <{certificate}
listen = 127.0.0.1
hostname = relay.example
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
auth_verbose = yes
mail_location = maildir:{folder}/mail/%n
submission_relay_host = 127.0.0.1
submission_relay_port = {sink}
submission_relay_trusted = no
passdb {{
  driver = passwd-file
  args = {folder}/passwd
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail/%n allow_all_users=yes
}}
service anvil {{
  chroot =
}}
service submission-login {{
  chroot =
  inet_listener submission {{
    port = {port}
  }}
}}
"""
OAUTH2 = """
introspection_url = http://127.0.0.1:{port}/introspect
introspection_mode = post
username_attribute = username
active_attribute = active
active_value = true
"""


class Introspection:
    """Says of each token in `tokens` (token: user) that it is active (RFC 7662)."""

    def __init__(self):
        self.tokens = {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = urllib.parse.parse_qs(
                    self.rfile.read(int(self.headers["Content-Length"])).decode())
                user = outer.tokens.get(form["token"][0])
                data = json.dumps({"active": user is not None, "username": user or ""}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class SubmissionDovecot:
    def __init__(self, folder, certificate, sink, users, mechanisms):
        self.folder = pathlib.Path(folder)
        self.introspection = Introspection()
        self.port = wait.free_port()
        (self.folder / "mail").mkdir()
        os.chown(self.folder / "mail", 65534, 65534)
        for path in [self.folder, *self.folder.parents]:
            if path != pathlib.Path("/") and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)
        (self.folder / "passwd").write_text(
            "".join(f"{user}:{{PLAIN}}{password}::::::\n" for user, password in users.items()))
        (self.folder / "oauth2").write_text(OAUTH2.format(port=self.introspection.port))
        config = self.folder / "dovecot.conf"
        config.write_text(CONFIG.format(
            folder=self.folder, certificate=certificate,
            mechanisms=mechanisms, sink=sink.port, port=self.port, uid=65534, gid=65534))
        self.process = subprocess.Popen(
            [tool("dovecot"), "-F", "-c", str(config)], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=open(self.folder / "stderr", "wb"))
        try:
            wait.until(self.greets, lambda: "Dovecot to listen:\n" + self.report())
        except BaseException:
            self.stop()
            raise

    def report(self):
        return "".join((self.folder / name).read_text() for name in ("stderr", "log")
                       if (self.folder / name).exists())

    def logins(self, text):
        return self.report().count(text)

    def greets(self):
        if self.process.poll() is not None:
            raise AssertionError("Dovecot ended:\n" + self.report())
        try:
            with smtplib.SMTP("127.0.0.1", self.port, timeout=5) as client:
                return client.ehlo()[0] == 250
        except (OSError, smtplib.SMTPException):
            return False

    def stop(self):
        self.introspection.stop()
        self.process.terminate()
        self.process.wait(wait.DEADLINE)
