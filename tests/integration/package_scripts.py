#!/usr/bin/python3
"""The package's scripts run as root on a spool whose owner, the daemon's user, is an attacker: they touch
nothing through what that user put there. The scripts' own text, with the spool's path exchanged. Needs
root."""
import os
import pathlib
import re
import shutil
import stat
import subprocess
import tomllib

from support_py import daemon, scenario, smtp, wait

USER, UID = "nobody", 65534
SCRIPTS = daemon.ROOT / "etc" / "debian"


class Scripts(scenario.Scenario):
    def setUp(self):
        super().setUp()
        if not scenario.is_root() or not shutil.which("setpriv"):
            self.skipTest("needs root and setpriv")
        self.top = self.own_folder("package")
        at = pathlib.Path(self.top)
        while at != pathlib.Path("/"):
            os.chmod(at, os.stat(at).st_mode | 0o011)
            at = at.parent
        self.spool = self.folder_of(UID, "spool", 0o711)
        self.victim = self.folder_of(0, "etc", 0o755)

    def folder_of(self, uid, name, mode):
        path = pathlib.Path(self.top) / name
        path.mkdir()
        os.chmod(path, mode)
        os.chown(path, uid, uid)
        return path

    def text_of(self, name):
        text = (SCRIPTS / f"postrider.{name}").read_text()
        text = re.sub(r"(?m)^\s*rm -r?f /(run|etc)/postrider.*$", "", text)
        text = text.replace("rmdir /etc/postrider", "true")
        return text.replace("/var/spool/postrider", str(self.spool)).replace(
            "user=postrider", f"user={USER}")

    def make_folder(self, path, mode="3733"):
        """Of the postinst: its function, with all that stands above the first that it does not need."""
        text = self.text_of("postinst")
        begin = re.search(r"(?m)^(# [^\n]*\n)*as_user\(\) \{", text)
        functions = text[begin.start() if begin else text.index("make_folder() {"):
                         text.index("make_mailname() {")]
        group = f'chown() {{ command chown "$(echo "$1" | sed s/:{USER}/:nogroup/)" "$2"; }}\n'
        return subprocess.run(["sh", "-ec", f"user={USER}\n{group}{functions}\n"
                               f"make_folder {path} {mode}"], capture_output=True, text=True,
                              timeout=60)

    def run_script(self, name, argument, count="0 messages"):
        tools = pathlib.Path(self.top) / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "postrider").write_text(f"#!/bin/sh\necho '{count}'\n")
        os.chmod(tools / "postrider", 0o755)
        # What a tool says of itself when it is run as the user.
        self.groups = pathlib.Path(self.top) / "groups"
        self.groups.touch()
        os.chmod(self.groups, 0o666)
        self.surroundings = pathlib.Path(self.top) / "surroundings"
        self.surroundings.write_text("")
        os.chmod(self.surroundings, 0o666)
        for tool in ("touch", "rm", "ls"):
            # The descriptor first: the shell has some of its own later.
            (tools / tool).write_text(
                f'#!/bin/sh\nopen=; if [ -e /proc/$$/fd/3 ]; then open=3; fi\n'
                f'[ "$(id -u)" = 0 ] || {{ id -G >>{self.groups}; '
                f'echo "$(cut -d" " -f6 /proc/$$/stat) $(readlink /proc/$$/fd/0) $open" '
                f'>>{self.surroundings}; }}\nexec {shutil.which(tool)} "$@"\n')
            os.chmod(tools / tool, 0o755)
        os.chmod(tools, 0o755)
        # As debconf has it: descriptor 3 is its own.
        return subprocess.run(["sh", "-e", "-c", "exec 3>&1\n" + self.text_of(name), "sh", argument],
                              stdin=subprocess.PIPE, capture_output=True, text=True, timeout=60,
                              extra_groups=[0, 4, 6],
                              env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})

    def assert_nothing_of_roots_is_within_reach(self):
        """Of the tools that the last script ran as the user: a session of their own, and no input."""
        lines = self.surroundings.read_text().splitlines()
        self.assertTrue(lines)
        for line in lines:
            session, given, *opened = line.split()
            self.assertNotEqual(int(session), os.getsid(0))
            self.assertEqual((given, opened), ("/dev/null", []))

    def assert_own_group_only(self):
        """Of the tools that the last scripts ran as the user."""
        own = subprocess.run(["id", "-g", USER], capture_output=True, text=True, check=True).stdout
        self.assertEqual(set(self.groups.read_text().splitlines()), {own.strip()})

    def assert_untouched(self, path, mode=0o755):
        about = os.stat(path)
        self.assertEqual((about.st_uid, stat.S_IMODE(about.st_mode)), (0, mode), path)
        self.assertEqual(os.listdir(path), [], path)

    def stranded(self, queues):
        """What the postinst says of other servers' queues, which stand below this folder."""
        text = self.text_of("postinst")
        functions = text[text.index("queued_in() {"):text.index('if [ "$1" = configure ]')]
        done = subprocess.run(["sh", "-ec", functions.replace("/var/spool/", f"{queues}/") +
                               "\nfind_stranded_mail\n"], capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        return done.stderr

    def test_mail_in_the_queue_of_another_server_is_reported(self):
        queues = pathlib.Path(self.top) / "queues"
        queues.mkdir()
        self.assertEqual(self.stranded(queues), "")
        for name in ("postfix/deferred/4/4F1", "postfix/deferred/A/AB2", "postfix/hold/C3", "postfix/pid/master.pid",
                     "postfix/private/smtp", "exim4/input/1a-1-H", "exim4/input/1a-1-D", "exim4/msglog/1a-1",
                     "exim4/db/retry"):
            (queues / name).parent.mkdir(parents=True, exist_ok=True)
            (queues / name).touch()
        said = self.stranded(queues)
        self.assertIn(f"3 messages wait in the queue of Postfix, in {queues}/postfix.", said)
        self.assertIn(f"postrider queue import postfix {queues}/postfix; systemctl start postrider; }}\n", said)
        self.assertIn(f"1 message waits in the queue of Exim, in {queues}/exim4.", said)
        self.assertIn(f"postrider queue import exim {queues}/exim4; systemctl start postrider; }}\n", said)
        self.assertNotIn("Sendmail", said)
        (queues / "mqueue").mkdir()
        (queues / "mqueue" / "qf1").touch()
        self.assertIn("sendmail -q\n", self.stranded(queues))

    def test_the_advice_starts_the_daemon_whatever_becomes_of_the_import(self):
        """One damaged file among them: import leaves it where it is, ends with 65, and mail goes on."""
        queues = pathlib.Path(self.top) / "queues"
        damaged = queues / "postfix" / "deferred" / "4" / "4F1"
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b"no queue file\n")
        os.chmod(damaged, 0o700)
        line, = re.findall(r"(?m)^ +(systemctl .*)$", self.stranded(queues))
        server = self.daemon()
        server.stop()  # there is a queue now
        tools = pathlib.Path(self.top) / "advised"
        tools.mkdir()
        for name, text in (("systemctl", f'echo "$1 $2" >>{tools}/did'),
                           ("postrider", f'{daemon.BIN}/postrider "$@" -c {server.config_file}; code=$?\n'
                                         f'echo "import $code" >>{tools}/did; exit $code')):
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            os.chmod(tools / name, 0o755)
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
        self.assertEqual((tools / "did").read_text(), "stop postrider\nimport 65\nstart postrider\n",
                         done.stdout + done.stderr)
        self.assertIn("4F1", done.stdout + done.stderr)
        self.assertTrue(damaged.exists())

    def said_of_check(self, code, *lines):
        """What the postinst says where `postrider check` says this."""
        text = self.text_of("postinst")
        function = text[text.index("say_doubts() {"):text.index("# queued_in WHAT")]
        answer = "; ".join(f"echo '{line}'" for line in lines)
        done = subprocess.run(["sh", "-ec", f"postrider() {{ {answer}; return {code}; }}\n{function}\nsay_doubts\n"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        return done.stderr

    def test_what_check_finds_is_said_at_install(self):
        good = "/etc/postrider/postrider.toml: no problems"
        doubt = "warning: hostname: many hosts refuse mail from it"
        self.assertEqual(self.said_of_check(0, good), "")
        self.assertEqual(self.said_of_check(0, doubt, good), f"{doubt}\n")
        wrong = "/etc/postrider/postrider.toml:3: spool: is missing"
        said = self.said_of_check(78, wrong)
        self.assertTrue(said.startswith(f"{wrong}\n"), said)
        self.assertIn("cannot start", said)

    def test_a_removal_says_what_stays_in_the_queue(self):
        done = self.run_script("prerm", "remove", count="3 messages, 4 recipients, 5KiB")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 messages, 4 recipients, 5KiB in the queue", done.stderr)
        done = self.run_script("prerm", "remove")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_link_in_the_place_of_the_drop_folder(self):
        os.symlink(self.victim, self.spool / "drop")
        os.chown(self.spool / "drop", UID, UID, follow_symlinks=False)
        done = self.make_folder(self.spool / "drop")
        self.assert_untouched(self.victim)
        self.assertNotEqual(done.returncode, 0, "an attack is told")
        self.assertIn("drop", done.stderr)

    def test_a_file_or_somebody_elses_folder_in_the_place_of_the_drop_folder(self):
        (self.spool / "drop").write_text("")
        self.assertNotEqual(self.make_folder(self.spool / "drop").returncode, 0)
        (self.spool / "drop").unlink()
        theirs = self.spool / "drop"
        theirs.mkdir(0o755)
        os.chmod(theirs, 0o755)
        self.assertNotEqual(self.make_folder(theirs).returncode, 0)
        self.assert_untouched(theirs)

    def test_the_folders_as_they_shall_be(self):
        for _ in range(2):  # an installation, and an upgrade
            done = self.make_folder(self.spool / "drop")
            self.assertEqual(done.returncode, 0, done.stderr)
            about = os.stat(self.spool / "drop")
            self.assertEqual((about.st_uid, stat.S_IMODE(about.st_mode)), (UID, 0o3733))
        fresh = self.victim / "spool"
        done = self.make_folder(fresh, "0711")
        self.assertEqual(done.returncode, 0, done.stderr)
        about = os.stat(fresh)
        self.assertEqual((about.st_uid, stat.S_IMODE(about.st_mode)), (UID, 0o711))

    def test_no_file_is_made_through_a_link_by_a_removal(self):
        os.symlink(self.victim / "made", self.spool / ".empty")
        drop = self.spool / "drop"
        drop.mkdir()
        os.chown(drop, UID, UID)
        done = self.run_script("prerm", "remove")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_untouched(self.victim)
        self.assertEqual(os.stat(self.spool / ".empty").st_uid, UID)
        (drop / "msg.1").write_text("x")
        self.assertEqual(self.run_script("prerm", "remove").returncode, 0)
        self.assertFalse((self.spool / ".empty").exists(), "the drop folder held mail")
        self.assert_own_group_only()
        self.assert_nothing_of_roots_is_within_reach()

    def test_a_purge_removes_nothing_elsewhere(self):
        kept = self.victim / "kept"
        kept.write_text("x")
        os.symlink(self.victim, self.spool / "link")
        (self.spool / ".empty").write_text("")
        os.symlink(self.victim, self.spool / "drop")
        done = self.run_script("postrm", "purge")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(self.spool.is_dir(), "who knows what became of the drop folder")
        (self.spool / "drop").unlink()
        drop = self.spool / "drop"
        drop.mkdir(0o700)
        done = self.run_script("postrm", "purge")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(self.spool.is_dir(), "nobody could look into the drop folder")
        os.chown(drop, UID, UID)
        done = self.run_script("postrm", "purge")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(self.spool.exists())
        self.assert_own_group_only()
        self.assert_nothing_of_roots_is_within_reach()
        self.assertEqual(kept.read_text(), "x")

    def configure(self, name, **answers):
        """What the postinst makes of these answers to debconf: its functions, with the paths
        exchanged and debconf's calls answered."""
        text = (SCRIPTS / "postrider.postinst").read_text()
        functions = text[text.index("# The next hop of the answers"):text.index('if [ "$1" = configure ]')]
        etc = pathlib.Path(self.top) / name
        etc.mkdir(exist_ok=True)
        functions = functions.replace("/etc/postrider/", f"{etc}/").replace("/etc/postrider", str(etc))
        functions = functions.replace("/usr/share/postrider/", f"{SCRIPTS}/").replace("root:$user", "0:0")
        for path in (f'credentials = "{etc}/relay"',):  # in the configuration's text it is the real one
            functions = functions.replace(path, 'credentials = "/etc/postrider/relay"')
        values = {"smarthost": "", "smarthost_user": "", "smarthost_password": "", **answers}
        stubs = 'db_get() { eval "RET=\\$$(echo "$1" | tr / _)"; }\n'
        stubs += f'db_input() {{ echo "$2" >>{etc}/asked; }}\ndb_go() {{ :; }}\n'
        stubs += f'db_subst() {{ :; }}\ndb_reset() {{ echo "reset $1" >>{etc}/asked; }}\n'
        done = subprocess.run(["sh", "-ec", f"{stubs}{functions}\nmake_configuration"],
                              env={**os.environ, **{f"postrider_{key}": value
                                                    for key, value in values.items()}},
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        asked = (etc / "asked").read_text() if (etc / "asked").exists() else ""
        return etc, (etc / "postrider.toml").read_text(), asked

    def assert_is_good(self, text, name):
        path = pathlib.Path(self.top) / f"{name}.toml"
        path.write_text("\n".join(line for line in text.splitlines()
                                  if not line.startswith(("credentials", "origin"))))
        done = subprocess.run([str(daemon.BIN / "postrider"), "check", "-c", str(path)],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertNotIn("warning: route", done.stdout, "what serves badly is not for a package to write")

    def test_without_a_smarthost_the_configuration_is_the_shipped_one(self):
        etc, text, asked = self.configure("plain")
        self.assertEqual(text, (SCRIPTS / "postrider.toml").read_text())
        self.assertEqual((asked, (etc / "relay").exists()), ("", False))
        self.assertEqual(stat.S_IMODE(os.stat(etc / "postrider.toml").st_mode), 0o644)
        self.assertIn('address = "localhost:25"', text)

    def test_a_smarthost_becomes_a_route(self):
        for number, (given, wanted) in enumerate((
                ("relay.example.net", "smtp://relay.example.net:587"),
                ("relay.example.net:25", "smtp://relay.example.net:25"),
                ("[relay.example.net]:465", "smtps://relay.example.net:465"))):
            with self.subTest(given):
                etc, text, _ = self.configure(f"relay{number}", smarthost=given)
                self.assertIn('\n[[route]] ', text)
                self.assertIn(f'\ndomain = "*"\nnext_hop = "{wanted}"\n', text)
                self.assertNotIn("credentials", text)
                self.assertFalse((etc / "relay").exists())
                self.assert_is_good(text, f"relay{number}")

    def test_a_machine_may_keep_its_mail_to_itself(self):
        etc, text, asked = self.configure("none", smarthost="none", smarthost_user="ann", smarthost_password="x")
        self.assertEqual((asked, (etc / "relay").exists()), ("", False))
        self.assert_is_good(text, "none")
        given = tomllib.loads(text)
        server = self.daemon(start=False, local={"domains": ["box.example.net"], "mailbox": f"mbox:{self.top}/{{user}}"},
                             accept=given["accept"])
        server.write_config(route=given["route"])
        server.start()
        smtp.send(server.port, "root@box.example.net", ["someone@elsewhere.example"], b"Subject: x\r\n\r\nx\r\n")
        bounced, = server.wait_for_log("attempted", verdict="bounced")
        self.assertEqual(bounced["reason"], "this machine sends no mail to others")
        wait.until((pathlib.Path(self.top) / "root").exists, "its notice is delivered here")

    def test_its_password_is_for_nobody_elses_eyes(self):
        etc, text, asked = self.configure("login", smarthost="relay.example.net", smarthost_user="ann",
                                          smarthost_password="s3cr#t \\x")
        self.assertIn('\ncredentials = "/etc/postrider/relay"', text)
        self.assertEqual((etc / "relay").read_text(), "user = ann\npassword = s3cr#t \\x\n")
        self.assertEqual(stat.S_IMODE(os.stat(etc / "relay").st_mode), 0o640)
        self.assertNotIn("s3cr", text)
        self.assertIn("reset postrider/smarthost_password", asked, "debconf keeps no password")

    def test_what_is_no_relay_is_refused(self):
        for number, given in enumerate(('x"\ntls = "off', "a b/c", "relay:smtp", "relay:123456", "-x")):
            with self.subTest(given):
                _, text, asked = self.configure(f"wrong{number}", smarthost=given)
                self.assertEqual(text, (SCRIPTS / "postrider.toml").read_text())
                self.assertIn("postrider/wrong_smarthost", asked)

    def test_a_configuration_that_is_there_stays(self):
        etc = pathlib.Path(self.top) / "mine"
        etc.mkdir()
        (etc / "postrider.toml").write_text("# mine\n")
        _, text, asked = self.configure("mine", smarthost="relay.example.net", smarthost_user="ann",
                                        smarthost_password="x")
        self.assertEqual((text, asked, (etc / "relay").exists()), ("# mine\n", "", False))

    def questions(self, hostname, relay="given"):
        """Of the config script on a machine that has nothing yet: what is asked, with its priority."""
        etc = pathlib.Path(self.top) / "nothing"
        stub = pathlib.Path(self.top) / f"confmodule.{hostname}"
        stub.write_text(f"""hostname() {{ echo {hostname}; }}
db_get() {{ RET=; case $1 in */mailname) RET=$name ;; */smarthost*) RET={relay} ;; esac; }}
db_set() {{ name=$2; }}
db_input() {{ echo "$1 $2"; }}
db_go() {{ :; }}
name=
""")
        text = (SCRIPTS / "postrider.config").read_text().replace("/usr/share/debconf/confmodule", str(stub)).replace(
            "/etc/", f"{etc}/")
        said = subprocess.run(["sh", "-ec", text], capture_output=True, text=True, timeout=60)
        self.assertEqual(said.returncode, 0, said.stderr)
        return dict(reversed(line.split(" postrider/")) for line in said.stdout.splitlines())

    def test_what_decides_the_first_message_is_asked(self):
        """Debconf leaves out what is below high, unless it was told otherwise."""
        wanted = {"mailname": "medium", "root_recipient": "low", "smarthost": "high", "smarthost_user": "high",
                  "smarthost_password": "high"}
        self.assertEqual(self.questions("box.example.net"), wanted)
        self.assertEqual(self.questions("box"), {**wanted, "mailname": "high"})
        self.assertNotIn("smarthost_user", self.questions("box.example.net", relay="none"))

    def test_tmpfiles_follow_nothing_either(self):
        tool = shutil.which("systemd-tmpfiles")
        if tool is None:
            self.skipTest("needs systemd-tmpfiles")
        text = (daemon.ROOT / "etc" / "postrider.tmpfiles").read_text()
        rules = pathlib.Path(self.top) / "rules.conf"
        rules.write_text("".join(
            line.replace("/var/spool/postrider", str(self.spool)).replace(
                "postrider postrider", f"{USER} nogroup") + "\n"
            for line in text.splitlines() if line.startswith("d /var")))
        os.symlink(self.victim, self.spool / "drop")
        os.chown(self.spool / "drop", UID, UID, follow_symlinks=False)
        subprocess.run([tool, "--create", str(rules)], capture_output=True, timeout=60)
        self.assert_untouched(self.victim)


if __name__ == "__main__":
    scenario.main()
