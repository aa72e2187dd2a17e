#!/usr/bin/python3
"""Addresses by name: "localhost:25" and "*:25" take what the machine has of IPv4 and IPv6, and a machine
without IPv6 is no reason not to start."""
import shutil
import socket
import subprocess

from support_py import scenario, wait

NO_IPV6 = """ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 &&
echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6 && exec "$@" """


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


def can_live_without_ipv6():
    if not scenario.is_root() or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run(["unshare", "--net", "sh", "-c", NO_IPV6, "sh", "true"],
                          capture_output=True).returncode == 0


class Listening(scenario.Scenario):
    def addresses(self, server):
        return sorted(line["address"] for line in server.log("listening"))

    def both(self, name, v4, v6):
        port = wait.free_port(("127.0.0.1", "::1") if has_ipv6() else ("127.0.0.1",))
        server = self.daemon(listeners=[{"address": f"{name}:{port}"}])
        wanted = [f"{v4}:{port}"] + ([f"[{v6}]:{port}"] if has_ipv6() else [])
        wait.until(lambda: self.addresses(server) == sorted(wanted), "it listens")
        for host in ("127.0.0.1", "::1")[:len(wanted)]:
            with socket.create_connection((host, port), timeout=wait.DEADLINE) as client:
                self.assertTrue(client.recv(100).startswith(b"220 "), host)
        return server, port

    def test_localhost_is_both_loopback_addresses(self):
        self.both("localhost", "127.0.0.1", "::1")

    def test_a_star_is_every_address(self):
        self.both("*", "0.0.0.0", "::")

    def test_without_ipv6_there_is_one(self):
        if not can_live_without_ipv6():
            self.skipTest("needs root, unshare and ip")
        for name, v4 in (("localhost", "127.0.0.1"), ("*", "0.0.0.0")):
            with self.subTest(name):
                server = self.daemon(wrapper=["unshare", "--net", "sh", "-c", NO_IPV6, "sh"],
                                     listeners=[{"address": f"{name}:25"}])
                wait.until(lambda: f"{v4}:25" in self.addresses(server), "it listens")
                self.assertNotIn("[::1]:25", self.addresses(server))

    def test_an_address_that_was_asked_for_is_not_left_out(self):
        if not can_live_without_ipv6():
            self.skipTest("needs root, unshare and ip")
        server = self.daemon(start=False, wrapper=["unshare", "--net", "sh", "-c", NO_IPV6, "sh"],
                             listeners=[{"address": "[::1]:25"}])
        server.start(ready=False)
        self.assertEqual(server.process.wait(wait.DEADLINE), 71)
        self.assertIn("listen on [::1]:25", server.stderr())
        server.process = None

    def test_a_reload_adds_what_is_missing(self):
        if not has_ipv6():
            self.skipTest("needs IPv6")
        port = wait.free_port(("127.0.0.1", "::1"))
        server = self.daemon(listeners=[{"address": f"127.0.0.1:{port}"}])
        server.write_config(listener=[{"address": f"localhost:{port}"}])
        server.reload()
        wait.until(lambda: self.addresses(server) == [f"127.0.0.1:{port}", f"[::1]:{port}"], "both")
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port), timeout=wait.DEADLINE) as client:
                self.assertTrue(client.recv(100).startswith(b"220 "), host)


if __name__ == "__main__":
    scenario.main()
