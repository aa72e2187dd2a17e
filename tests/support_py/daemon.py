"""The server under test: its configuration, its process, its log, its tools."""
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time

from support_py import manuals, smtp, wait

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("POSTRIDER_BIN", ROOT / "build" / "bin"))
USER = pwd.getpwuid(os.getuid()).pw_name
SANITIZER = re.compile(
    r"ERROR: (Address|Leak|Undefined)Sanitizer|WARNING: ThreadSanitizer|runtime error:|assertion")


def toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(str(value), ensure_ascii=False)


def toml_file(settings):
    """Plain keys first, then tables, then arrays of tables."""
    plain, tables, arrays = [], [], []
    for key, value in settings.items():
        if isinstance(value, dict):
            tables.append(f"\n[{key}]\n" + "".join(
                f"{name} = {toml(item)}\n" for name, item in value.items()))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            arrays += [f"\n[[{key}]]\n" + "".join(
                f"{name} = {toml(item)}\n" for name, item in table.items()) for table in value]
        else:
            plain.append(f"{key} = {toml(value)}\n")
    return "".join(plain + tables + arrays)


def unique(pairs):
    """Members of a JSON object, each of which has a name of its own."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise AssertionError(f"a member stands twice in {pairs}")
    return members


def merged(base, changes):
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


class Postrider:
    """Keyword arguments are sections of the configuration, merged into one that suits tests:
    everything in `folder`, a free port, mail for us.example delivered here."""

    def __init__(self, folder, wrapper=(), listeners=None, **settings):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.wrapper = list(wrapper)
        self.port = wait.free_port()
        self.config_file = self.folder / "postrider.toml"
        self.log_file = self.folder / "log"
        self.stderr_file = self.folder / "stderr"
        self.process = None
        self.starts = 0
        self.settings = merged({
            "hostname": "mx.us.example",
            "spool": str(self.folder / "spool"),
            "user": "",
            "log": {"format": "json", "level": "info", "target": str(self.log_file)},
            "listener": listeners or [{"address": f"127.0.0.1:{self.port}", "role": "mx",
                                       "tls": "off"}],
            "local": {"domains": ["us.example"],
                      "mailbox": f"maildir:{self.folder}/mail/{{user}}/",
                      "aliases": str(self.folder / "aliases")},
            "dns": {"servers": ["127.0.0.1:9"]},  # discard: a test that wants DNS says so
            "delivery": {"retry": ["1s", "2s"]},
            "control": {"socket": str(self.folder / "control")},
        }, settings)
        self.spool = pathlib.Path(self.settings["spool"])  # a test may have placed it elsewhere
        (self.folder / "aliases").touch()
        self.write_config()

    def write_config(self, **changes):
        self.settings = merged(self.settings, changes)
        self.config_file.write_text(toml_file(self.settings), "utf-8")

    # The process

    def environment(self):
        environment = dict(os.environ)
        environment.update(POSTRIDER_CONFIG=str(self.config_file),
                           ASAN_OPTIONS="abort_on_error=0:exitcode=86:detect_leaks=1",
                           UBSAN_OPTIONS="print_stacktrace=1:exitcode=86",
                           TSAN_OPTIONS="exitcode=86:halt_on_error=0")
        return environment

    def start(self, ready=True, settled=True):
        """Starts the daemon and, unless told otherwise, waits for its readiness notice. settled: nobody is
        at the configuration, which is as if it had been there for long."""
        self.starts += 1
        if settled and self.config_file.is_file():
            old = min(self.config_file.stat().st_mtime, time.time() - 10)
            os.utime(self.config_file, (old, old))
        environment = self.environment()
        notices = None
        if ready:
            path = str(self.folder / "notify")
            pathlib.Path(path).unlink(missing_ok=True)
            notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            notices.bind(path)
            os.chmod(path, 0o777)  # the daemon may be somebody else by then
            notices.settimeout(0.1)
            environment["NOTIFY_SOCKET"] = path
        with open(self.stderr_file, "ab") as errors:
            self.process = subprocess.Popen(
                self.wrapper + [str(BIN / "postrider"), "run", "-c", str(self.config_file)],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment)
        if ready:
            with notices:
                self.wait_for_notice(notices, b"READY=1")
        return self

    def wait_for_notice(self, notices, wanted):
        end = time.monotonic() + wait.DEADLINE
        while time.monotonic() < end:
            try:
                if wanted in notices.recv(4096):
                    return
            except socket.timeout:
                pass
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode} at start:\n"
                                     + self.stderr())
        raise wait.Timeout("the daemon sent no readiness notice")

    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """kill -9, as a crash."""
        self.process.kill()
        self.process.wait()
        self.process = None
        self.assert_no_report()

    def stop(self, deadline=wait.DEADLINE):
        """SIGTERM; the exit must be clean."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self.process = None
            raise AssertionError(f"the daemon did not stop in {deadline:g} s")
        self.process = None
        self.assert_no_report()
        assert code == 0, f"the daemon's exit code is {code}:\n{self.stderr()[-4000:]}"

    def restart(self):
        self.stop()
        return self.start()

    def reload(self):
        self.signal(signal.SIGHUP)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if kind is None:
            return self.stop()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        return None

    def stderr(self):
        return self.stderr_file.read_text("utf-8", "backslashreplace") \
            if self.stderr_file.exists() else ""

    def assert_no_report(self):
        text = self.stderr()
        assert not SANITIZER.search(text), "the daemon reported:\n" + text[-8000:]

    def memory(self):
        """Resident octets, from /proc."""
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_time(self):
        """Seconds that its threads have worked, from the process's own clock."""
        return time.clock_gettime(~self.process.pid << 3 | 2)

    # Its mail

    def client(self, **arguments):
        return smtp.Client(self.port, **arguments)

    def send(self, sender, recipients, content, parameters="", **arguments):
        return smtp.send(self.port, sender, recipients, content, parameters, **arguments)

    def mailbox(self, user=USER):
        """Contents of the delivered messages."""
        folder = self.folder / "mail" / user / "new"
        return [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []

    def wait_for_mail(self, count=1, user=USER, deadline=wait.DEADLINE):
        wait.until(lambda: len(self.mailbox(user)) >= count,
                   lambda: f"{count} messages for {user}, {len(self.mailbox(user))} came", deadline)
        return self.mailbox(user)

    # Its tools

    def tool(self, name, *arguments, stdin=b"", check=True, text=True):
        if isinstance(stdin, str):
            stdin = stdin.encode()
        done = subprocess.run([str(BIN / name), *map(str, arguments)], input=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.environment(), timeout=wait.DEADLINE)
        if text:
            done.stdout = done.stdout.decode("utf-8", "backslashreplace")
        done.stderr = done.stderr.decode("utf-8", "backslashreplace")
        codes = manuals.documented(name, arguments)
        if codes is not None and 0 < done.returncode != 86 and done.returncode not in codes:
            raise AssertionError(f"{name} {' '.join(map(str, arguments))}: exit {done.returncode} is in no manual\n"
                                 + done.stderr)
        if check and done.returncode != 0:
            raise AssertionError(f"{name} {' '.join(map(str, arguments))}: exit {done.returncode}\n"
                                 f"{done.stdout}{done.stderr}")
        return done

    def postrider(self, *arguments, **settings):
        return self.tool("postrider", *arguments, **settings).stdout

    def mailq(self, *arguments):
        return self.tool("mailq", *arguments).stdout

    def sendmail(self, *arguments, stdin=b"", **settings):
        return self.tool("sendmail", *arguments, stdin=stdin, **settings)

    def queue(self, *filters):
        """The queue's messages as dictionaries."""
        lines = self.postrider("queue", *filters, "--json").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    def queued(self):
        return len(self.queue())

    def wait_until_empty(self, deadline=wait.DEADLINE):
        """And nothing waits in the drop folder; what was refused stays there."""
        def kept():
            return [message for message in self.queue() if message["status"] != "refused"]
        wait.until(lambda: not kept(), lambda: "an empty queue; it holds {}, such as {}".format(
            len(found := kept()), found[:3]), deadline, pause=0.1)

    def retry_all(self):
        """`queue retry`, once nothing is under way: an attempt's end is logged before the queue has
        its message back, and until then there is nothing to retry."""
        wait.until(lambda: not self.queue("--status", "active"),
                   lambda: f"the end of what is under way: {self.queue()[:3]}", pause=0.1)
        self.postrider("queue", "retry", "--all")

    # Its log

    @staticmethod
    def as_written(value):
        """A value of the log as the text that the format "text" has for it."""
        if isinstance(value, bool):
            return "yes" if value else "no"
        return value if isinstance(value, str) else json.dumps(value)

    def log(self, event=None, **fields):
        """Events of the log, oldest first, that have these fields; all values are texts."""
        if not self.log_file.exists():
            return []
        found = []
        with open(self.log_file, "r", encoding="utf-8", errors="backslashreplace") as file:
            for line in file:
                if not line.endswith("\n"):
                    break
                members = json.loads(line, object_pairs_hook=unique)
                entry = {key: self.as_written(value) for key, value in members.items()}
                if event in (None, entry.get("event")) and all(
                        entry.get(key) == value for key, value in fields.items()):
                    found.append(entry)
        return found

    def wait_for_log(self, event=None, count=1, deadline=wait.DEADLINE, **fields):
        return wait.until(
            lambda: (lambda found: found if len(found) >= count else None)(
                self.log(event, **fields)),
            f"log event {event} {fields}", deadline, pause=0.05)

    def clear(self):
        """Forgets the spool and the mail of a stopped daemon."""
        shutil.rmtree(self.spool, ignore_errors=True)
        shutil.rmtree(self.folder / "mail", ignore_errors=True)
