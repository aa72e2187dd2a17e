#!/usr/bin/python3
"""`cmake --install --prefix` into any folder: everything stays below it, and what names a program names it
there."""
import re
import shutil
import subprocess

from support_py import daemon, scenario, wait

BUILD = daemon.BIN.resolve().parent


class Installation(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.prefix = cls.folder / "some" / "where"
        if not (BUILD / "cmake_install.cmake").exists() or not shutil.which("cmake"):
            return
        cls.done = subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(cls.prefix)],
                                  capture_output=True, text=True, timeout=300)

    def setUp(self):
        super().setUp()
        if not hasattr(self, "done"):
            self.skipTest("needs cmake, and programs in their build folder")

    def test_nothing_is_written_elsewhere(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        for line in self.done.stdout.splitlines():
            if line.startswith("-- Installing: ") or line.startswith("-- Up-to-date: "):
                self.assertTrue(line.split(": ", 1)[1].startswith(str(self.prefix) + "/"), line)
        for name in ("sbin/postrider", "sbin/sendmail", "bin/mailq", "bin/newaliases", "lib/sendmail",
                     "libexec/postrider/postrider-pam", "etc/postrider/postrider.toml",
                     "etc/ufw/applications.d/postrider", "lib/sysusers.d/postrider.conf",
                     "lib/tmpfiles.d/postrider.conf", "lib/systemd/system/postrider.socket",
                     "share/doc/postrider/LICENSE", "share/doc/postrider/README.md", "share/doc/postrider/json.md",
                     "share/doc/postrider/log.md", "share/doc/postrider/examples/monitoring/check_postrider",
                     "share/doc/postrider/examples/tables/users.ldap.toml", "share/man/man8/postrider.8", "share/bash-completion/completions/postrider"):
            self.assertTrue((self.prefix / name).exists(), name)

    def test_what_the_manual_takes_from_a_prefix_is_there(self):
        page = (daemon.ROOT / "man/postrider.8").read_text()
        section = page[page.index(".Sh INSTALLATION"):page.index(".Sh SIGNALS")]
        named = re.findall(r"\bPREFIX(/\S+)", section)
        self.assertGreater(len(named), 4)
        for name in named:
            self.assertTrue((self.prefix / name[1:]).is_file(), name)

    def test_the_programs_run(self):
        for name in ("sbin/postrider", "sbin/sendmail", "bin/mailq", "bin/newaliases", "lib/sendmail"):
            done = subprocess.run([str(self.prefix / name), "--version"], capture_output=True, text=True,
                                  timeout=wait.DEADLINE)
            self.assertEqual(done.returncode, 0, name + done.stderr)
            self.assertIn("ostrider", done.stdout)
        done = subprocess.run([str(self.prefix / "sbin/postrider"), "check", "-c",
                               str(self.prefix / "etc/postrider/postrider.toml")],
                              capture_output=True, text=True, timeout=wait.DEADLINE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_units_name_the_programs_there(self):
        units = self.prefix / "lib/systemd/system"
        one, more = ((units / name).read_text() for name in ("postrider.service", "postrider@.service"))
        for text in (one, more):
            self.assertNotRegex(text, r"@[A-Z_]+@")
            for line in re.findall(r"^Exec(?:Start|Reload)=.*postrider.*$", text, re.M):
                self.assertIn(f"={self.prefix}/sbin/postrider ", line)
            self.assertIn(f"\nExecReload={self.prefix}/sbin/postrider reload", text)
            self.assertIn("\nSyslogFacility=mail\n", text)
            self.assertIn("\nLogRateLimitIntervalSec=0\n", text)
        self.assertIn("/sbin/postrider reload -c /etc/postrider/%i.toml\n", more)
        self.assertIn("Conflicts=postfix.service", one)
        self.assertNotIn("Conflicts=", more)
        self.assertIn("run -c /etc/postrider/%i.toml", more)
        self.assertIn("RuntimeDirectory=postrider-%i\n", more)
        self.assertNotIn("/var/spool/postrider ", more)
        self.assertIn("/var/lib/postrider-%i/drop 3733 ", more)

    def test_systemd_understands_the_units(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("needs systemd-analyze")
        # Paths with a space are not what a unit has.
        prefix = self.own_folder("prefix")
        done = subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(prefix)],
                              capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        units = prefix / "lib/systemd/system"
        for name in ("postrider.service", "postrider@second.service"):
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(units / name)],
                                  capture_output=True, text=True, timeout=wait.DEADLINE)
            about = [line for line in done.stderr.splitlines() if "postrider" in line]
            self.assertEqual(about, [], done.stderr)


if __name__ == "__main__":
    scenario.main()
