#!/usr/bin/python3
"""Addresses by name: "localhost:25" and "*:25" take what the machine has of IPv4 and IPv6, and a machine
without IPv6 is no reason not to start."""
import json
import shutil
import socket
import subprocess

from support_py import certificates, scenario, wait

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

    def answers(self, port, host="127.0.0.1"):
        with socket.create_connection((host, port), timeout=wait.DEADLINE) as client:
            self.assertTrue(client.recv(100).startswith(b"220 "), host)
            client.sendall(b"EHLO here.example\r\n")
            said = b""
            while b"250 " not in said:
                said += client.recv(1000)
            return said

    def reload(self, server, code=0):
        done = server.tool("postrider", "reload", check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr

    def test_a_reload_takes_a_port_from_its_own_listener(self):
        """Loopback becomes every address, and back: the port is taken by nobody but the daemon itself."""
        for threads in (1, 2):
            with self.subTest(threads=threads):
                port = wait.free_port(("127.0.0.1",))
                here, everywhere = f"127.0.0.1:{port}", f"0.0.0.0:{port}"
                server = self.daemon(listeners=[{"address": here}], threads=threads)
                for address in (everywhere, here, everywhere):
                    server.write_config(listener=[{"address": address}])
                    self.reload(server)
                    self.assertEqual(json.loads(server.postrider("status", "--json"))["listeners"], [address])
                    self.answers(port)
                self.answers(port, "127.0.0.2")

    def test_a_reload_changes_what_a_listener_offers(self):
        port = wait.free_port(("127.0.0.1",))
        address = f"127.0.0.1:{port}"
        server = self.daemon(listeners=[{"address": address, "tls": "off"}])
        pair = certificates.Pair(server.folder, "one")
        self.assertNotIn(b"STARTTLS", self.answers(port))
        server.write_config(listener=[{"address": address, "tls": "starttls"}],
                            tls={"certificate": str(pair.certificate), "key": str(pair.key)})
        self.reload(server)
        self.assertIn(b"STARTTLS", self.answers(port))

    def test_a_certificate_that_cannot_be_used_is_named(self):
        """Where there was none before, and the listener wants one now."""
        server = self.daemon()
        missing = str(server.folder / "missing.pem")
        server.write_config(listener=[{"address": f"127.0.0.1:{server.port}", "tls": "starttls"}],
                            tls={"certificate": missing, "key": missing})
        said = self.reload(server, 78)
        self.assertIn(f'tls.certificate: "{missing}" cannot be read: No such file or directory', said)
        self.assertNotIn(b"STARTTLS", self.answers(server.port))

    def test_another_program_keeps_its_port(self):
        """Also where a listener of the daemon that goes has the same one at another address, and that one stays."""
        with socket.socket() as busy:
            busy.bind(("127.0.0.2", 0))
            busy.listen()
            port = busy.getsockname()[1]
            server = self.daemon(listeners=[{"address": f"127.0.0.1:{port}"}])
            server.write_config(listener=[{"address": f"0.0.0.0:{port}"}])
            self.assertIn("another program listens there", self.reload(server, 78))
            self.answers(port)
        self.reload(server)
        self.answers(port, "127.0.0.2")


if __name__ == "__main__":
    scenario.main()
