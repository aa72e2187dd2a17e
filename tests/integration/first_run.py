#!/usr/bin/python3
"""scripts/run where something is in its way: a port that is taken, a build folder of somebody else, no mirror, no
rights. Each answer names the remedy, and nothing is left behind. The scripts are those of the tree; what they
would build is here already, and apt-get is one that says what the real one says offline."""
import os
import pathlib
import shutil
import socket
import subprocess

from support_py import daemon, scenario, wait

SCRIPTS = daemon.ROOT / "scripts"
NOBODY = 65534
OFFLINE = """E: Failed to fetch http://deb.debian.org/debian/pool/main/n/ninja-build/ninja-build_1.11.1-2~deb12u1_amd64.deb
  Temporary failure resolving 'deb.debian.org'
E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?"""


class FirstRun(scenario.Scenario):
    def setUp(self):
        super().setUp()
        self.tree = self.own_folder("tree")
        for at in (self.tree, *self.tree.parents):
            if at != pathlib.Path("/"):
                os.chmod(at, os.stat(at).st_mode | 0o011)
        shutil.copytree(SCRIPTS, self.tree / "scripts")
        self.tools = self.tree / "tools"
        self.tools.mkdir()
        self.build = self.tree / "build"
        self.make("ninja", "echo '[1/1] nothing to do'")

    def make(self, name, text):
        (self.tools / name).write_text(f"#!/bin/sh\n{text}\n")
        os.chmod(self.tools / name, 0o755)

    def is_built(self):
        (self.build / "bin").mkdir(parents=True)
        (self.build / "build.ninja").touch()
        for name in ("postrider", "sendmail", "mailq"):
            (self.build / "bin" / name).symlink_to(daemon.BIN / name)

    def without_packages(self):
        (self.tree / "scripts" / "packages").write_text("#!/bin/sh\nexit 0\n")

    def run_it(self, *arguments, **more):
        environment = {**os.environ, "PATH": f"{self.tools}:{os.environ['PATH']}", "BUILD": str(self.build),
                       **more.pop("env", {})}
        return subprocess.run([str(self.tree / "scripts" / "run"), *arguments], env=environment, capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=2 * wait.DEADLINE, **more)

    def test_a_port_that_is_taken(self):
        self.without_packages()
        self.is_built()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = self.run_it("--check", env={"PORT": port})
        self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
        self.assertIn(f"another program listens on 127.0.0.1 port {port}", done.stderr)
        self.assertIn("PORT=NUMBER", done.stderr)
        self.assertFalse((self.build / "sandbox" / "daemon.pid").exists(), "a daemon was started")
        done = self.run_it("--check", env={"PORT": str(wait.free_port())})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("Subject: Hello", done.stdout)
        self.assertFalse((self.build / "sandbox" / "daemon.pid").exists(), "it was left running")

    def test_a_build_folder_of_somebody_else(self):
        if not scenario.is_root():
            self.skipTest("needs root, to be somebody else")
        self.without_packages()
        self.is_built()
        done = self.run_it("--check", user=NOBODY, group=NOBODY, extra_groups=[])
        self.assertEqual(done.returncode, 73, done.stdout + done.stderr)
        self.assertIn(f"{self.build} is not yours to write to; take another by BUILD=FOLDER", done.stderr)

    def offline(self):
        """The real script for packages, of which one is missing; its policy file is one of here."""
        packages = self.tree / "scripts" / "packages"
        policy = self.tree / "policy-rc.d"
        packages.write_text(packages.read_text().replace("/usr/sbin/policy-rc.d", str(policy)))
        asked = self.tree / "asked"
        asked.touch()
        os.chmod(asked, 0o666)
        self.make("dpkg-query", 'case "$*" in *ninja-build) exit 1 ;; *) printf "ii " ;; esac')
        self.make("debconf-set-selections", "cat >/dev/null")
        self.make("apt-get", f'echo "$*" >>{asked}; [ "$1" = update ] && exit 0; cat >&2 <<END\n{OFFLINE}\nEND\nexit 100')
        return policy, asked

    def test_no_mirror_can_be_reached(self):
        if not scenario.is_root():
            self.skipTest("needs root, to install")
        policy, asked = self.offline()
        done = self.run_it("--check")
        self.assertEqual(done.returncode, 69, done.stdout + done.stderr)
        self.assertIn("these packages could not be installed: ninja-build", done.stderr)
        self.assertIn("offline, no package mirror can be reached", done.stderr)
        self.assertIn("Temporary failure resolving", done.stderr)
        self.assertEqual([line.split()[0] for line in asked.read_text().splitlines()], ["install", "update", "install"])
        self.assertFalse(policy.exists(), "services would not start any more")
        self.assertFalse(self.build.exists(), "something was built")

    def test_who_may_not_install_is_told_what_to_ask_for(self):
        if not scenario.is_root():
            self.skipTest("needs root, to be somebody else")
        policy, asked = self.offline()
        self.make("sudo", "exit 1")
        done = self.run_it("--check", user=NOBODY, group=NOBODY, extra_groups=[])
        self.assertEqual(done.returncode, 77, done.stdout + done.stderr)
        self.assertIn("apt-get install --no-install-recommends ninja-build", done.stderr)
        self.assertEqual((asked.read_text(), policy.exists()), ("", False))


if __name__ == "__main__":
    scenario.main()
