#!/usr/bin/python3
"""Wrong configurations: every case of tests/bad_config gives exactly the errors expected, all at
once, and exit 78; the daemon refuses to start with the same words."""
import subprocess

from support_py import daemon, scenario

CASES = sorted((daemon.ROOT / "tests" / "bad_config").glob("*.toml"))


class Configuration(scenario.Scenario):
    def run_program(self, *arguments, cwd=None):
        done = subprocess.run([str(daemon.BIN / "postrider"), *map(str, arguments)], cwd=cwd,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def test_there_are_at_least_twenty_cases(self):
        self.assertGreaterEqual(len(CASES), 20)

    def test_a_good_file(self):
        server = self.daemon(start=False)
        code, out, err = self.run_program("check", "-c", server.config_file)
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(len(out.splitlines()), 1)

    def test_what_is_doubtful_is_allowed_and_told(self):
        server = self.daemon(delivery={"connections": 2})
        code, out, err = self.run_program("check", "-c", server.config_file)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("warning: delivery.connections: 2 are few", out)
        server.wait_for_log("doubtful", key="delivery.connections")

    def test_the_shipped_example_is_good(self):
        example = daemon.ROOT / "etc" / "postrider.toml"
        code, out, err = self.run_program("check", "-c", example)
        self.assertEqual((code, err), (0, ""), out + err)

    def test_config_prints_every_value_with_its_origin(self):
        server = self.daemon(start=False)
        code, out, err = self.run_program("config", "-c", server.config_file)
        self.assertEqual((code, err), (0, ""))
        self.assertIn("mx.us.example", out)
        self.assertRegex(out, r"(?i)default")
        self.assertRegex(out, r"postrider\.toml:\d+")

    def test_a_missing_file(self):
        code, out, err = self.run_program("check", "-c", "/nonexistent/postrider.toml")
        self.assertIn(code, (66, 78))
        self.assertIn("/nonexistent/postrider.toml", err + out)


class Names(scenario.Scenario):
    def test_names_with_underscores_work_all_the_way(self):
        """As Docker gives them: what `check` takes is what mail goes out by."""
        peer = self.sink()
        server = self.daemon(start=False, hostname="web_app_1", route=[
            {"domain": "my_dom.example", "next_hop": f"smtp://127.0.0.1:{peer.port}", "tls": "off"}])
        checked = server.tool("postrider", "check")
        self.assertNotIn("web_app_1", checked.stderr)
        server.start()
        server.sendmail("reader@my_dom.example", stdin="Subject: x\n\nx\n")
        peer.wait_for(1)
        message, = peer.messages
        self.assertEqual(message.addresses, ["reader@my_dom.example"])
        self.assertRegex(message.sender, r"@web_app_1\b")
        self.assertIn(b"by web_app_1 ", message.content)
        server.wait_until_empty()


def add(path):
    def test(self):
        expected = path.with_suffix(".expected").read_text()
        code, out, err = self.run_program("check", "-c", path.name, cwd=path.parent)
        self.assertEqual(out + err, expected)
        self.assertEqual(code, 78)
        code, out, err = self.run_program("run", "-c", path.name, cwd=path.parent)
        self.assertEqual(err, expected)
        self.assertEqual(code, 78)
    test.__doc__ = path.stem.replace("_", " ")
    setattr(Configuration, "test_bad_" + path.stem, test)


for case in CASES:
    add(case)


if __name__ == "__main__":
    scenario.main()
