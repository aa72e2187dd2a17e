#!/usr/bin/python3
"""The probes of the daemon (base/probe.h): those of the source, of doc/monitoring.md and of the binary are the same."""
import json
import re
import subprocess

from support_py import daemon, scenario
from support_py.tools import tool

ROOMS = ("base", "mail", "dns", "queue", "smtpd", "delivery", "events", "daemon")


class Probes(scenario.Scenario):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.source, cls.probed = {}, set()
        for file in (path for room in ROOMS for path in (daemon.ROOT / room).rglob("*.cc")):
            found = re.findall(r"\bPOSTRIDER_PROBE(\d)\((\w+),", file.read_text())
            cls.source.update({name: int(arguments) for arguments, name in found})
            if found:
                cls.probed.add(file.relative_to(daemon.ROOT))

    def test_each_is_described(self):
        page = (daemon.ROOT / "doc/monitoring.md").read_text().partition("\n## Probes\n")[2]
        self.assertEqual(set(re.findall(r"^\| `(\w+)` \|", page, re.M)), set(self.source))

    def test_each_source_that_has_some_is_built_with_them(self):
        named = set()
        for path in (path for room in ROOMS for path in (daemon.ROOT / room).rglob("CMakeLists.txt")):
            for files in re.findall(r"^probed\(([^)]*)\)", path.read_text(), re.M):
                named |= {(path.parent / file).relative_to(daemon.ROOT) for file in files.split()}
        self.assertEqual(named, self.probed)

    def test_they_are_in_the_binary(self):
        commands = json.loads((daemon.BIN.parent / "compile_commands.json").read_text())
        notes = subprocess.run([tool("readelf"), "-n", daemon.BIN / "postrider"], capture_output=True, text=True, check=True).stdout
        found = {name: len(arguments.split()) for name, arguments in re.findall(
            r"Provider: postrider\n\s+Name: (\w+)\n.*\n\s+Arguments: (.*)", notes)}
        if not any("-DPOSTRIDER_PROBES" in entry["command"] for entry in commands):
            self.assertEqual(found, {})
            self.skipTest("built without probes: systemtap-sdt-dev was not there")
        self.assertEqual(found, self.source)


if __name__ == "__main__":
    scenario.main()
