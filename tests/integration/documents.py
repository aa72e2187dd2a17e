#!/usr/bin/python3
"""What the documents say of the tree and of the programs: each file that they name exists, each type stands
in the file beside it, each verb and option is there, and so are the tables of the database. And all say the same version."""
import itertools
import json
import pathlib
import re
import subprocess
import tomllib

from support_py import daemon, scenario, wait

ROOT = daemon.ROOT
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "doc").glob("*.md"))]
FOLDERS = "base|mail|mailauth|dns|tables|queue|smtpd|delivery|events|daemon|cli|tests|bench|etc|man|scripts|doc"


class Documents(scenario.Scenario):
    def test_files_that_are_named_exist(self):
        for page in PAGES:
            for name in re.findall(rf"[`(]((?:{FOLDERS})/[\w./*-]*)", page.read_text()):
                stem = name.rstrip("/.")
                found = list(ROOT.glob(stem)) or (not stem.endswith("*") and list(ROOT.glob(stem + "*")))
                self.assertTrue(found, f"{page.name}: {name}")
            for name in re.findall(r"\]\(([\w./-]+)\)", page.read_text()):
                self.assertTrue((page.parent / name).exists(), f"{page.name}: {name}")

    def test_ids_are_as_they_are_in_the_program(self):
        """11 letters and digits, for `show` takes no others."""
        seen = 0
        for page in (*PAGES, *(ROOT / "man").glob("*.[1-8]")):
            for name in re.findall(r"\b1K[0-9A-Z]{4,}\b", page.read_text()):
                self.assertEqual(len(name), 11, f"{page.name}: {name}")
                seen += 1
        self.assertGreater(seen, 2)

    def test_files_that_comments_name_exist(self):
        """In sources, tests and scripts: `folder/file.ext`, and pages by their name alone."""
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
        if listed.returncode != 0:
            self.skipTest("needs git, and a clone")
        files = set(listed.stdout.split())
        names = {name.rpartition("/")[2] for name in files}
        path = re.compile(rf"(?<![\w/.-])((?:{FOLDERS}|web|brokers)/[\w./-]*\w\.(?:h|cc|py|md|in|cmake))\b(?!\.)")
        page = re.compile(r"(?<![\w/.-])([a-z_-]+\.md)\b")
        seen = 0
        for name in sorted(files):
            if not name.endswith((".cc", ".h", ".py", ".cmake", ".in", "CMakeLists.txt")) or not (ROOT / name).is_file():
                continue
            for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1):
                comment = re.search(r'//|#(?!include)|"""', line)
                said = line[comment.start():] if comment else ""
                for cited, known in (*((one, files) for one in path.findall(said)), *((one, names) for one in page.findall(said))):
                    self.assertIn(cited, known, f"{name}:{number}")
                    seen += 1
        self.assertGreater(seen, 150)

    def test_faults_can_be_reported(self):
        text = (ROOT / "SECURITY.md").read_text()
        self.assertNotRegex(text, r"@[\w.-]*example\.")  # no mail reaches those names
        self.assertRegex(re.sub(r"\s+", " ", text), "private advisory")

    def test_types_stand_in_the_files_beside_them(self):
        text = (ROOT / "doc/architecture.md").read_text()
        named = re.findall(r"`(\w+)`[,.]?\s+\(`([\w/]+\.h)`\)", text)
        self.assertGreater(len(named), 20)
        for kind, file in named:
            self.assertRegex((ROOT / file).read_text(), rf"(class|struct) (\[\[nodiscard\]\] )?{kind}\b",
                             f"{kind} ({file})")

    def test_the_picture_is_of_the_tree(self):
        drawn = self.own_folder("svg") / "architecture.svg"
        subprocess.run([str(ROOT / "scripts/architecture"), "--svg", str(drawn)], check=True)
        rooms = set(re.findall(r">([\w/]+)</text>", drawn.read_text()))
        self.assertEqual(rooms, set(re.findall(r">([\w/]+)</text>", (ROOT / "doc/architecture.svg").read_text())),
                         "run scripts/architecture --svg doc/architecture.svg")

    def test_the_tables_are_those_of_the_database(self):
        server = self.daemon()
        made = subprocess.run(["sqlite3", "-readonly", str(server.spool / "queue.db"),
                               "SELECT name FROM sqlite_master WHERE type = 'table' "
                               "AND name NOT LIKE 'sqlite%'"], capture_output=True, text=True)
        if made.returncode != 0:
            self.skipTest("needs sqlite3: " + made.stderr)
        rows = re.findall(r"^### (\w+):", (ROOT / "doc/schema.md").read_text(), re.M)
        self.assertEqual(sorted(made.stdout.split()), sorted(rows))

    def test_verbs_and_options_of_the_readme(self):
        text = (ROOT / "README.md").read_text()
        for words in re.findall(r"^\| `postrider ([^`]*)`", text, re.M):
            verbs = re.match(r"[a-z-]+( (new|record|check|salvage|show|expire|reroute|summary|pause|resume|export))?", words)[0].split()
            helped = subprocess.run([str(daemon.BIN / "postrider"), *verbs, "--help"], capture_output=True,
                                    text=True)
            self.assertEqual(helped.returncode, 0, words)
            for option in re.findall(r"--[a-z0-9-]+", words):
                self.assertIn(option, helped.stdout, words)

    def test_the_readme_has_every_verb_and_page(self):
        text = (ROOT / "README.md").read_text()
        helped = subprocess.run([str(daemon.BIN / "postrider"), "--help"], capture_output=True, text=True)
        for verb in re.findall(r"^  ([a-z][a-z-]*)(?:, [a-z-]+)*  ", helped.stdout, re.M):
            self.assertRegex(text, rf"(?m)^\| `postrider {verb}\b", verb)
        table = re.search(r"(?ms)^## More$.*", text)[0]
        for page in (ROOT / "man").glob("*.[1-8]"):
            self.assertRegex(table, rf"`(man )?{re.escape(page.stem)}`", page.name)

    def test_the_readme_says_of_speed_what_was_measured(self):
        ratios = [float(text) for text in re.findall(r"\| ([\d.]+) x \|", (ROOT / "doc/speed.md").read_text())]
        self.assertGreater(len(ratios), 3)
        self.assertIn(f"{int(min(ratios))} to {int(max(ratios))} times as many messages a second as Postfix",
                      (ROOT / "README.md").read_text())

    def test_pages_name_each_other(self):
        """postrider(8) lists every page, each page what its text names, and nothing is named that is not there."""
        pages = {(page.stem, page.suffix[1:]) for page in (ROOT / "man").glob("*.[1-8]")}
        names = {name for name, _ in pages}
        for name, section in pages:
            text = (ROOT / f"man/{name}.{section}").read_text()
            body, _, rest = text.partition("\n.Sh SEE ALSO\n")
            listed = set(re.findall(r"(?m)^\.Xr (\S+) (\d)", rest.partition("\n.Sh ")[0]))
            named = {one for one in re.findall(r"(?m)^\.Xr (\S+) (\d)", body) if one[0] in names}
            self.assertEqual({one for one in listed | named if one[0].startswith("postrider")} - pages, set(), name)
            self.assertEqual({one for one in listed | named if one[0] in names} - pages, set(), name)
            self.assertEqual(named - listed - {(name, section)}, set(), f"{name}({section}), SEE ALSO")
            if (name, section) == ("postrider", "8"):
                self.assertEqual(pages - listed, {("postrider", "8")})
        for page in PAGES:
            for one in re.findall(r"`(postrider[\w.-]*|sendmail|mailq|newaliases|aliases)\((\d)\)`", page.read_text()):
                self.assertIn(one, pages, page.name)

    def test_the_sample_of_the_readme_is_what_is_printed(self):
        sample = re.search(r"(?m)^    \$ postrider explain (\S+)\n((?:    .*\n)+)", (ROOT / "README.md").read_text())
        port = wait.free_port()
        server = self.daemon(delivery={"retry": ["10m"]}, route=[{"domain": "example.com",
                                                                  "next_hop": f"smtp://127.0.0.1:{port}"}])
        self.assertEqual(server.send("a@src.example", sample[1], b"Subject: x\r\n\r\nx\r\n").code, 250)
        server.wait_for_log("site_blocked")

        def shape(text):
            """Without what differs: times, hosts and ports, and what the sample leaves out."""
            text = re.sub(r"relay\.example\.net\[192\.0\.2\.7\]|127\.0\.0\.1\[127\.0\.0\.1\]", "HOST", text)
            text = re.sub(r"relay\.example\.net|127\.0\.0\.1|192\.0\.2\.7", "HOST", text).replace("HOST:HOST", "HOST")
            text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
            return [re.sub(r":(2525|%d)\b" % port, ":PORT", line.strip()) for line in text.splitlines()]
        for said, printed in zip(shape(sample[2]), shape(server.postrider("explain", sample[1])), strict=True):
            if said.endswith(", ..."):
                printed = printed[:len(said) - 4] + " ..."
            self.assertEqual(said, printed)

    def test_manuals_have_every_verb(self):
        helped = subprocess.run([str(daemon.BIN / "postrider"), "--help"], capture_output=True, text=True)
        verbs = re.findall(r"^  ([a-z][a-z-]*)(?:, [a-z-]+)*  ", helped.stdout, re.M)
        self.assertGreater(len(verbs), 8)
        pages = "".join((ROOT / "man" / name).read_text() for name in ("postrider.8", "postrider-queue.8"))
        for verb in verbs:
            self.assertRegex(pages, rf"\.(It|Nm postrider) Cm {verb}\b", verb)

    def test_states_are_the_same_everywhere(self):
        """doc/glossary.md and postrider-queue(8) say the same of each, and the help and the manuals have all."""
        glossary = dict(re.findall(r"(?m)^\| (\w+) \| (.*) \|$", (ROOT / "doc/glossary.md").read_text()))
        page = (ROOT / "man/postrider-queue.8").read_text()
        listed = re.search(r"(?ms)^\.It Fl -status.*?\.El", page)[0]
        for state in ("active", "queued", "deferred", "held"):
            self.assertIn(f"\n.It Cm {state}\n{glossary[state]}\n", listed)
        helped = subprocess.run([str(daemon.BIN / "postrider"), "queue", "--help"], capture_output=True, text=True).stdout
        line = re.search(r"--status STATUS(.*(?:\n {20,}.*)*)", helped)[1]
        for state in re.findall(r"\.It Cm (.*)", listed):
            for word in state.split(" , "):
                self.assertIn(word, line)

    def test_the_manual_says_what_needs_a_restart(self):
        source = (ROOT / "daemon/settings.cc").read_text()
        fixed = re.findall(r'"([a-z_.]+)"', re.search(r"kFixed\[\] = \{(.*?)\};", source, re.S)[1])
        sentence = re.search(r"(?ms)^The keys\n(.*?)^need a restart", (ROOT / "man/postrider.toml.5").read_text())[1]
        said = re.sub(r"\.Ic |\band\b|,", " ", sentence).split()
        self.assertEqual(sorted(said), sorted(fixed))

    def test_the_package_is_built_with_what_the_tree_is(self):
        """Every header package of scripts/packages, in Build-Depends of the Debian package too."""
        wanted = subprocess.run([str(ROOT / "scripts/packages"), "list", "build", "tables"], check=True, capture_output=True,
                                text=True).stdout.split()
        control = (ROOT / "etc/debian/control").read_text()
        depends = re.split(r"[\s,|]+", re.search(r"(?ms)^Build-Depends:(.*?)^\S", control)[1])
        headers = [name for name in wanted if name.endswith("-dev") and not name.startswith("libclang-rt")]
        self.assertGreater(len(headers), 15)
        self.assertEqual([name for name in headers if name not in depends], [])


class Samples(scenario.Scenario):
    """Who takes the comment sign off a line of a shipped configuration gets what the line says."""
    # What `postrider config` shows then; a list holds these.
    WANTED = {"hostname": "mx.example.org", "origin": "example.org", "accept.success_notices": True,
              "auth.users": "{etc}/users", "sendmail.messages_per_hour": 500,
              "sendmail.unlimited": ["root", "www-data"], "dkim.folder": "{etc}/dkim",
              "route.domain": "*", "route.next_hop": "smtp://relay.example.net:587",
              "route.credentials": "{etc}/relay", "tls_report.contact": "postmaster@example.org",
              "delivery.retry": ["1m", "5m", "15m", "1h"]}
    # "... then its certificate must be in order"
    FOLLOWS = {"route.credentials": ("route.tls", "verify")}

    def setUp(self):
        super().setUp()
        self.etc = self.own_folder("etc")
        for name in ("users", "relay"):
            (self.etc / name).write_text("user = ann\npassword = x\n" if name == "relay" else "")
            (self.etc / name).chmod(0o640)
        self.run_tool("dkim", "new", "example.org", "--folder", str(self.etc / "dkim"))

    def run_tool(self, *arguments):
        done = subprocess.run([str(daemon.BIN / "postrider"), *arguments], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def in_effect(self, text):
        file = self.etc / "postrider.toml"
        file.write_text(text.replace("/etc/postrider", str(self.etc)).replace("/etc/mailname", str(self.etc / "mailname")))
        (self.etc / "mailname").write_text("example.org\n")
        checked = self.run_tool("check", "-c", str(file))
        self.assertNotRegex(checked, r"warning: (route|sendmail|dkim|auth|delivery|tls_report|accept)")
        return tomllib.loads(self.run_tool("config", "-c", str(file)))

    def value(self, config, key):
        section, _, name = key.rpartition(".")
        inside = config[section] if section else config
        return (inside[0] if isinstance(inside, list) else inside)[name]

    def test_each_line_that_is_taken_in_does_what_it_says(self):
        seen = set()
        for name in ("etc/postrider.toml", "etc/debian/postrider.toml"):
            lines = (ROOT / name).read_text().splitlines()
            section = is_commented = None
            for number, line in enumerate(lines):
                header = re.match(r"(#?)\[+(\w+)\]+", line)
                if header:
                    section, is_commented, opened = header[2], bool(header[1]), number
                    continue
                given = re.match(r"#(\w+) = ", line)
                if not given:
                    continue
                key = f"{section}.{given[1]}" if section else given[1]
                taken = {number}
                if section and is_commented:  # with the head of its section; a route with all of it
                    taken.add(opened)
                    if section == "route":
                        taken |= set(itertools.takewhile(lambda at: at < len(lines) and lines[at].startswith("#"),
                                                         itertools.count(opened)))
                text = "\n".join(one[1:] if at in taken else one for at, one in enumerate(lines)) + "\n"
                with self.subTest(f"{name}: {line}"):
                    config = self.in_effect(text)
                    seen.add(key)
                    for asked, wanted in filter(None, ((key, self.WANTED[key]), self.FOLLOWS.get(key))):
                        wanted = wanted.format(etc=self.etc) if isinstance(wanted, str) else wanted
                        self.assertEqual(self.value(config, asked), wanted, asked)
        self.assertEqual(seen, set(self.WANTED))


class Version(scenario.Scenario):
    """project(VERSION) of CMakeLists.txt is the one place; what else says a version says that one."""

    def setUp(self):
        super().setUp()
        self.version = re.search(r"^project\(postrider VERSION ([\d.]+) ", (ROOT / "CMakeLists.txt").read_text(), re.M)[1]

    def test_documents(self):
        short = self.version.rpartition(".")[0]
        for name, pattern, wanted in (("CHANGELOG.md", r"^## (\S+)", self.version),
                                      ("etc/debian/changelog", r"^postrider \(([^)]+)\)", self.version),
                                      ("etc/debian/NEWS", r"^postrider \(([^)]+)\)", self.version),
                                      ("README.md", r"^State: version ([\d.]+)", short)):
            self.assertEqual(re.search(pattern, (ROOT / name).read_text(), re.M)[1], wanted, name)

    def test_programs(self):
        asked = 0
        for name in ("postrider", "sendmail", "mailq", "newaliases", "postrider-web", "postrider-amqp", "postrider-mqtt"):
            program = daemon.BIN / name
            if name.startswith("postrider-") and not program.exists():
                continue
            said = subprocess.run([str(program), "--version"], capture_output=True, text=True)
            self.assertEqual((said.returncode, re.findall(r"\d+\.\d+\.\d+", said.stdout)), (0, [self.version]), name)
            asked += 1
        self.assertGreaterEqual(asked, 4)
        server = self.daemon()
        self.assertEqual(server.wait_for_log("started")[0]["version"], self.version)
        self.assertEqual(json.loads(server.postrider("status", "--json"))["version"], self.version)

    def test_manuals(self):
        pages = sorted((daemon.BIN.parent / "man").glob("*.[1578]"))
        self.assertGreaterEqual(len(pages), 8)
        for page in pages:
            source = (ROOT / "man" / page.name).read_text()
            self.assertEqual(page.read_text(), source.replace("\n.Os Postrider\n", f"\n.Os Postrider {self.version}\n", 1),
                             page.name)
            self.assertIn(f"\n.Os Postrider {self.version}\n", page.read_text(), page.name)

    def test_a_new_version_compiles_one_file(self):
        commands = json.loads((daemon.BIN.parent / "compile_commands.json").read_text())
        saying = [entry["file"] for entry in commands if self.version in entry["command"]]
        self.assertEqual([pathlib.Path(file).name for file in saying], ["version.cc"])


if __name__ == "__main__":
    scenario.main()
