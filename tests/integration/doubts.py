#!/usr/bin/python3
"""What `postrider check` says of configurations that are allowed and mostly a slip: warnings, with exit code 0;
and of an open relay, which is a mistake."""
import os
import subprocess

from support_py import certificates, daemon, scenario


class Doubts(scenario.Scenario):
    def check(self, *options, **settings):
        server = self.daemon(start=False, **settings)
        done = subprocess.run([str(daemon.BIN / "postrider"), "check", "-c", str(server.config_file), *options],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return server, done.returncode, done.stdout

    def assert_warned(self, key, words, **settings):
        _, code, said = self.check(**settings)
        self.assertEqual(code, 0, said)
        warnings = [line for line in said.splitlines() if line.startswith(f"warning: {key}: ")]
        self.assertEqual(len(warnings), 1, said)
        self.assertIn(words, warnings[0])
        self.assertIn("no problems", said)

    def test_what_suits_has_no_warning(self):
        _, code, said = self.check()
        self.assertEqual((code, said.count("\n")), (0, 1), said)

    def test_a_strict_check_fails_for_warnings(self):
        _, code, said = self.check("--strict")
        self.assertEqual((code, said.count("\n")), (0, 1), said)
        _, code, said = self.check("--strict", hostname="localhost")
        self.assertEqual(code, os.EX_CONFIG, said)
        self.assertIn("warning: hostname: ", said)
        self.assertIn("no problems, but warnings", said)

    def test_what_the_machine_does_not_have(self):
        folder = self.own_folder("places")
        self.assert_warned("user", '"nobody-here" is not a user', user="nobody-here")
        self.assert_warned("spool", f"lies in {folder}/missing", spool=f"{folder}/missing/spool")
        self.assert_warned("log.target", "which is not there: make it",
                           log={"target": f"{folder}/missing/log"})

    def test_a_name_that_is_none(self):
        self.assert_warned("hostname", "is not a name on the Internet", hostname="localhost")

    def test_certificates(self):
        pair = certificates.Pair(self.own_folder("pair"), "other", names=["other.example"])
        tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
        os.chmod(pair.key, 0o600)
        self.assert_warned("tls.certificate", "is for other.example and not for the hostname mx.us.example",
                           tls=tls)
        good = certificates.Pair(self.own_folder("pair"), "good", names=["mx.us.example"])
        tls = {"certificate": str(good.certificate), "key": str(good.key)}
        os.chmod(good.key, 0o644)
        self.assert_warned("tls.key", "can be read by everybody", tls=tls)
        os.chmod(good.key, 0o600)
        _, code, said = self.check(tls=tls)
        self.assertEqual((code, said.count("\n")), (0, 1), said)

    def test_an_open_relay_is_a_mistake(self):
        outside = [{"address": "0.0.0.0:2525", "role": "mx", "tls": "off"}]
        server, code, said = self.check(listeners=outside, accept={"relay_from": ["0.0.0.0/0"]})
        self.assertEqual(code, os.EX_CONFIG, said)
        self.assertRegex(said, r'postrider\.toml:\d+: accept\.relay_from: "0\.0\.0\.0/0" makes an open relay')
        server.start(ready=False)
        process, server.process = server.process, None
        self.assertEqual(process.wait(60), os.EX_CONFIG)
        self.assertIn("makes an open relay", server.stderr())
        _, code, said = self.check(listeners=outside,
                                   accept={"relay_from": ["0.0.0.0/0"], "open_relay": True})
        self.assertEqual(code, 0, said)
        _, code, said = self.check(accept={"relay_from": ["0.0.0.0/0"]})  # on loopback
        self.assertEqual(code, 0, said)


if __name__ == "__main__":
    scenario.main()
