"""A machine of its own: a fresh Debian from debootstrap, booted with systemd in its own namespaces.

The base is made once and kept; each machine is an overlay above it, so nothing of an earlier run is
left. It has a loopback of its own and no other network: what apt-get installs was fetched before.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
BASE_PACKAGES = "systemd-sysv,procps"


def run(*command, **more):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, **more)


def debian_sources():
    """The (uri, suite, components) of Debian that this machine's apt uses, its release first."""
    release = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
    name = release["VERSION_CODENAME"].strip('"')
    form = "$(REPO_URI) $(CODENAME) $(COMPONENT) $(ORIGIN)"
    lines = subprocess.run(["apt-get", "indextargets", "--format", form, "Identifier: Packages"],
                           check=True, capture_output=True, text=True).stdout.splitlines()
    found = {}
    for uri, suite, component, origin in (line.split(" ", 3) for line in lines):
        if origin == "Debian" and suite.split("-")[0] == name:
            found.setdefault((uri, suite), []).append(component)
    sources = [(uri, suite, parts) for (uri, suite), parts in found.items()]
    sources.sort(key=lambda source: source[1] != name)
    if not sources or sources[0][1] != name:
        raise SystemExit("tests/package: no source of Debian's packages in /etc/apt")
    return sources


def make_base(folder):
    """debootstrap, once. Ends with apt's lists, so that packages can be fetched into it."""
    sources = debian_sources()
    uri, suite, _ = sources[0]
    base, done = folder / "base", folder / "base.done"
    made_of = f"{uri} {suite} {BASE_PACKAGES}\n"
    if done.exists() and done.read_text() == made_of:
        return base
    done.unlink(missing_ok=True)
    if base.exists():
        shutil.rmtree(base)
    with open(folder / "debootstrap.log", "wb") as log:
        run("debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", suite, str(base), uri,
            stdout=log, stderr=log)
    lines = [f"deb {uri} {suite} {' '.join(parts)}\n" for uri, suite, parts in sources]
    (base / "etc/apt/sources.list").write_text("".join(lines))
    (base / "etc/apt/apt.conf.d/90test").write_text(
        'APT::Install-Recommends "false";\nAPT::Keep-Downloaded-Packages "true";\n'
        'Acquire::Languages "none";\n')
    shutil.copy("/etc/resolv.conf", base / "etc/resolv.conf")
    run("chroot", str(base), "apt-get", "update", "-q", stdout=subprocess.DEVNULL)
    done.write_text(made_of)
    return base


def fetch(base, wanted):
    """Downloads packages, with what they need, into the base's cache. It does not install."""
    with open(base.parent / "fetch.log", "ab") as log:
        command = ["chroot", str(base), "apt-get", "install", "-q", "-y", "--download-only", *wanted]
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode != 0:
            run("chroot", str(base), "apt-get", "update", "-q", stdout=log, stderr=log)
            run(*command, stdout=log, stderr=log)


class Machine:
    def __init__(self, folder, base, files, name):
        self.root = folder / "root"
        self.upper = folder / "upper"
        work = folder / "work"
        for part in (self.upper, work):
            if part.exists():
                shutil.rmtree(part)
        for part in (self.root, self.upper, work):
            part.mkdir(parents=True, exist_ok=True)
        (self.upper / "srv").mkdir()
        for file in files:
            shutil.copy(file, self.upper / "srv")
        script = (f"mount --make-rprivate / && mount -t overlay overlay "
                  f"-o lowerdir={base},upperdir={self.upper},workdir={work} {self.root} && "
                  f"exec {HERE}/boot {self.root} {name}")
        (self.upper / "etc").mkdir()
        (self.upper / "etc/hostname").write_text(name + "\n")
        (self.upper / "etc/hosts").write_text(
            f"127.0.0.1 localhost\n127.0.1.1 {name}.example.net {name}\n::1 localhost\n")
        self.log = open(folder / "boot.log", "wb")
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc",
             "--cgroup", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        self.first = self._first_process()
        self.wait("systemd answers", lambda: self.sh("systemctl is-system-running", check=False)
                  .strip() in ("running", "degraded"))

    def _first_process(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def child():
            pids = children.read_text().split()
            return int(pids[0]) if pids and os.readlink(f"/proc/{pids[0]}/exe").endswith(
                "systemd") else None
        return self.wait("systemd starts", child)

    def wait(self, what, condition, seconds=60):
        """The condition's value as soon as it holds; ends the test after its deadline."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise AssertionError(f"not within {seconds} s: {what}")

    def run(self, command, user="root", text="", check=True):
        """A command, given as a list, as a user of the machine: its result, with one output."""
        home = "/root" if user == "root" else f"/home/{user}"
        inside = ["env", "-i", f"PATH={PATH}", f"HOME={home}", f"USER={user}", f"LOGNAME={user}",
                  "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
        if user != "root":
            inside += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        done = subprocess.run(["nsenter", "-t", str(self.first), "-m", "-u", "-i", "-n", "-p", "-C",
                               "-r", "-w", *inside, *command], input=text, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
        return done

    def sh(self, script, user="root", text="", check=True):
        return self.run(["sh", "-c", script], user, text, check).stdout

    def stop(self):
        """All of its processes end with its first."""
        try:
            os.kill(self.first, signal.SIGKILL)
        except (AttributeError, ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.log.close()
