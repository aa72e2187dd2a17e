#!/usr/bin/python3
"""TLS that others begin: STARTTLS and implicit TLS, certificates, tickets, reload, relaying."""
import json
import os
import re
import resource
import shutil
import socket
import ssl
import subprocess
import threading
import time

from support_py import certificates, scenario, smtp, wait
from support_py.certificates import Client, Pair, context
from support_py.daemon import USER
from support_py.tools import tool

CONTENT = b"From: <a@ext.example>\r\nTo: <b@us.example>\r\nSubject: TLS\r\n\r\nhello\r\n"


class Tls(scenario.Scenario):
    """A daemon with an EC and an RSA certificate for mx.us.example, one for other.example, and
    listeners with STARTTLS and with TLS at once."""

    def tls_daemon(self, **settings):
        self.secure_port = wait.free_port()
        self.user_port = wait.free_port()
        port = wait.free_port()
        self.files = self.own_folder("certificates")
        self.ec = Pair(self.files, "ec")
        self.rsa = Pair(self.files, "rsa", kind="RSA")
        self.other = Pair(self.files, "other", names=["other.example", "*.wild.example"])
        pairs = (self.ec, self.rsa, self.other)
        server = self.daemon(
            start=False,
            listeners=[{"address": f"127.0.0.1:{port}", "role": "mx", "tls": "starttls"},
                       {"address": f"127.0.0.1:{self.secure_port}", "role": "mx",
                        "tls": "implicit"},
                       {"address": f"127.0.0.1:{self.user_port}", "role": "submission",
                        "tls": "starttls"}],
            **{"tls": {"certificate": [str(pair.certificate) for pair in pairs],
                       "key": [str(pair.key) for pair in pairs]}, **settings})
        server.port = port
        return server.start()


class Halves(Tls):
    def test_records_and_handshakes_that_do_not_end_have_a_bound(self):
        """Each session has 16 KiB of a record of which the end is missing; half of them in the handshake."""
        if scenario.SANITIZED:
            self.skipTest("a sanitized program's memory says nothing")
        server = self.tls_daemon(accept={"sessions": 1000})
        before, halves = server.memory(), []
        self.addCleanup(lambda: [one.close() for one in halves])
        rest = b"\x40\x00" + b"x" * 16000  # of a record of 16 KiB
        for number in range(300):
            plain = socket.create_connection(("127.0.0.1", self.secure_port), timeout=wait.DEADLINE)
            if number % 2:
                halves.append(plain)
                plain.sendall(b"\x16\x03\x01" + rest)
                continue
            one = context().wrap_socket(plain, server_hostname="mx.us.example")
            halves.append(one)
            one.recv(4096)
            os.write(one.fileno(), b"\x17\x03\x03" + rest)
        with Client(server.port) as client:
            client.hello()
            client.start_tls()
            client.message("a@ext.example", [f"{USER}@us.example"], CONTENT)
        server.wait_for_mail(1)
        each = (server.memory() - before) / len(halves)
        print(f"\n  {each / 1024:.1f} KiB a half", flush=True)
        self.assertLess(each, 64 << 10)


    def test_a_flood_of_broken_handshakes_fills_no_log(self):
        """Strangers choose how often; of each kind of event 2,000 stand there, and then 100 a second."""
        server = self.tls_daemon(threads=1, accept={"relay_from": []})
        many, threads = 3000, 4

        def flood():
            for _ in range(many // threads):
                with socket.create_connection(("127.0.0.1", self.secure_port), timeout=wait.DEADLINE) as plain:
                    plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    try:
                        while plain.recv(100):
                            pass
                    except ConnectionError:
                        pass
        began = time.monotonic()
        workers = [threading.Thread(target=flood) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        allowed = 2000 + 100 * (time.monotonic() - began + 1)
        if allowed < many:
            server.wait_for_log("log_limited", of="tls_failed")
        server.stop()
        logged = len(server.log("tls_failed"))
        self.assertGreater(logged, 1000)
        self.assertLessEqual(logged, allowed)

    def test_thousands_that_do_not_end_share_one_sum(self):
        """Of one client: half of 64 MiB, beside what every session costs. Who has waited longest gives way, and a
        good client is served all the while."""
        if scenario.SANITIZED:
            self.skipTest("a sanitized program's memory says nothing")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        server = self.tls_daemon(accept={"sessions": 10000})
        rest = b"\x40\x00" + b"x" * 16000  # of a record of 16 KiB
        halves = []
        self.addCleanup(lambda: [one.close() for one in halves])

        def connect():
            one = socket.create_connection(("127.0.0.1", self.secure_port), timeout=wait.DEADLINE)
            halves.append(one)
            return one

        def hello():
            """A client's first message, whole; it never answers the server's."""
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            try:
                context().wrap_bio(incoming, outgoing, server_hostname="mx.us.example").do_handshake()
            except ssl.SSLWantReadError:
                pass
            return outgoing.read()

        def answered(plain):
            plain.sendall(hello())
            plain.recv(1)

        def record(plain):
            one = context().wrap_socket(plain, server_hostname="mx.us.example")
            halves[-1] = one
            one.recv(4096)
            os.write(one.fileno(), b"\x17\x03\x03" + rest)

        def has_ended(one):
            try:
                while (said := one.recv(65536)) and b"421 4.3.0" not in said:
                    pass
                return True
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            except OSError:
                return True
        rows = []
        for kind, make, count in (
                ("an answer that does not come", answered, 2500),
                ("half a first record", lambda plain: plain.sendall(b"\x16\x03\x01" + rest), 3000),
                ("an octet of one", lambda plain: plain.sendall(b"\x16"), 2000),
                ("half a record of a session", record, 2500)):
            before = server.memory()
            for _ in range(count):
                make(connect())
            with Client(server.port) as client:
                client.hello()
                client.start_tls()
                client.message("a@ext.example", [f"{USER}@us.example"], CONTENT)
            grown, ended = server.memory() - before, 0
            for one in halves:
                one.setblocking(False)
                ended += has_ended(one)
            rows.append((kind, count, ended, f"{grown / count / 1024:.1f} KiB each", f"{grown >> 20} MiB"))
            print("\n ", *rows[-1], sep="  ", flush=True)
            base = 28 if make is record else 14
            self.assertLess(grown, (36 << 20) + count * (base << 10), rows)
            while halves:
                halves.pop().close()
            wait.until(lambda: json.loads(server.postrider("status", "--json"))["sessions"] == 0,
                       "the end of all sessions")
        self.assertEqual([ended > 300 for _, _, ended, *_ in rows], [True, True, False, True], rows)
        server.wait_for_mail(4)


class Sessions(Tls):
    """What sessions under TLS keep while they do nothing."""

    def setUp(self):
        super().setUp()
        if scenario.SANITIZED:
            self.skipTest("a sanitized program's memory says nothing")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.held = []
        self.addCleanup(lambda: [one.close() for one in self.held])

    def greeting(self, how, source="127.0.0.1"):
        """Of a session that stays."""
        plain = socket.create_connection(("127.0.0.1", self.secure_port), timeout=wait.DEADLINE,
                                         source_address=(source, 0))
        one = how.wrap_socket(plain, server_hostname="mx.us.example")
        self.held.append(one)
        return one.recv(4096)

    @staticmethod
    def has_ended(one):
        one.setblocking(False)
        try:
            return one.recv(4096)[:9] in (b"", b"421 4.3.0")
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True

    def certificate(self, names):
        """That a client shows, of as many names of one letter: each takes three octets, and a hundred in memory."""
        return context(pair=Pair(self.own_folder(f"client {names}"), "client", ["a"] * names))

    def test_certificates_of_very_many_parts_have_a_bound(self):
        """Whoever may show one shows what takes half a megabyte for as long as the session lasts. Of one client they
        have its share of what is kept for TLS, 32 MiB: who has waited longest gives way."""
        server = self.tls_daemon(accept={"sessions": 1000, "relay_certificates": ["00" * 32]})
        before = server.memory()
        how = self.certificate(4500)
        self.assertEqual({self.greeting(how)[:4] for _ in range(300)}, {b"220 "})
        grown = server.memory() - before
        stay = [one for one in self.held if not self.has_ended(one)]
        print(f"\n  {grown >> 20} MiB, {len(stay)} of {len(self.held)} stay", flush=True)
        self.assertGreater(len(stay), 20)
        self.assertLess(len(stay), 100)
        self.assertLess(grown, 64 << 20)
        for some in (context(), self.certificate(3)):
            with Client(self.secure_port, implicit=True, with_context=some) as client:
                client.hello()
                client.message("a@ext.example", [f"{USER}@us.example"], CONTENT)
        server.wait_for_mail(2)

    def test_a_client_shows_no_long_chain(self):
        server = self.tls_daemon(accept={"relay_certificates": ["00" * 32]})
        how = self.certificate(6000)
        with self.assertRaises(OSError):
            self.greeting(how)
        server.wait_for_log("tls_failed")

    def test_idle_sessions_have_one_sum(self):
        """128 MiB, 16 KiB each; a client that may have no more is told so, and there is room again when one goes."""
        server = self.tls_daemon(accept={"sessions": 10000})
        before, how = server.memory(), context()
        answers = [self.greeting(how)[:4] for _ in range(8192 + 50)]
        each = (server.memory() - before) / 8192
        print(f"\n  {each / 1024:.1f} KiB an idle session under TLS", flush=True)
        self.assertEqual([answers[:8192].count(b"220 "), answers[8192:].count(b"421 ")], [8192, 50])
        self.assertLess(each, 28 << 10)
        with server.client() as client:
            client.hello()
        for one in self.held[:10]:
            one.close()
        wait.until(lambda: self.greeting(how).startswith(b"220 "), "room for another")


class Handshakes(Tls):
    def setUp(self):
        super().setUp()
        self.server = self.tls_daemon()

    def test_a_message_over_STARTTLS_and_how_it_is_told(self):
        with Client(self.server.port) as client:
            self.assertIn(b"STARTTLS", client.hello().lines)
            client.start_tls(hello=False)
            self.assertNotIn(b"STARTTLS", client.hello().lines)
            client.message("a@ext.example", [f"{USER}@us.example"], CONTENT)
        text, = self.server.wait_for_mail(1)
        self.assertRegex(text.decode(), r"with ESMTPS id \w+\s+\(using TLSv1\.3 with cipher "
                         r"TLS_AES_256_GCM_SHA384 256 bits,\s+no client certificate\)")
        self.assertRegex(text.decode(), r"\s+tls TLS_AES_256_GCM_SHA384;")
        event, = self.server.wait_for_log("encrypted")
        self.assertEqual((event["tls_protocol"], event["cipher"], event["bits"], event["resumed"],
                          event["verify"]),
                         ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "256", "no", "none"))
        accepted, = self.server.wait_for_log("accepted")
        self.assertEqual(accepted["tls"], "TLSv1.3:TLS_AES_256_GCM_SHA384")

    def test_TLS_at_once_and_what_show_says(self):
        with Client(self.secure_port, implicit=True) as client:
            client.hello()
            reply = client.message("a@ext.example", ["b@far.example"], CONTENT)
        queue_id = reply.text.split()[-1]
        shown = self.server.postrider("show", queue_id)
        self.assertRegex(shown, r"tls\s+using TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 256 bits")
        self.assertIn("(ESMTPS)", shown)
        self.assertIn('"tls":"using TLSv1.3', self.server.postrider("show", queue_id, "--json"))

    def test_large_messages_and_pipelined_ones(self):
        large = b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * 300_000
        with Client(self.server.port) as client:
            client.start_tls()
            self.assertEqual(client.message("a@ext.example", [f"{USER}@us.example"], large).code,
                             250)
            client.send(b"".join(
                b"MAIL FROM:<a@ext.example>\r\nRCPT TO:<%s@us.example>\r\nBDAT %d LAST\r\n%s"
                % (USER.encode(), len(CONTENT), CONTENT) for _ in range(20)))
            self.assertEqual([reply.code for reply in client.replies(60)], [250] * 60)
        texts = self.server.wait_for_mail(21)
        self.assertTrue(any(text.endswith(large.replace(b"\r\n", b"\n")) or text.endswith(large)
                            for text in texts))

    def test_swaks_and_openssl_and_curl(self):
        for arguments in (["--tls", "-p", self.server.port],
                          ["--tlsc", "-p", self.secure_port],
                          ["--tls", "--tls-protocol", "tlsv1_2", "-p", self.server.port]):
            done = subprocess.run(
                [tool("swaks"), "-s", "127.0.0.1", "-t", f"{USER}@us.example", "-f", "a@ext.example",
                 *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.assertEqual(done.returncode, 0, done.stdout.decode())
        self.server.wait_for_mail(3)
        done = subprocess.run(
            [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{self.server.port}", "-starttls",
             "smtp", "-alpn", "smtp", "-servername", "mx.us.example", "-brief"],
            input=b"EHLO x\r\nQUIT\r\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertIn(b"Protocol version: TLSv1.3", done.stdout)
        url = f"smtps://127.0.0.1:{self.secure_port}/client.example"
        done = subprocess.run(
            [tool("curl"), "-sS", "-k", url, "--mail-from", "a@ext.example", "--mail-rcpt",
             f"{USER}@us.example", "-T", "-"], input=CONTENT, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.server.wait_for_mail(4)

    def test_both_kinds_of_certificates_and_SNI(self):
        old = ssl.TLSVersion.TLSv1_2
        cases = [("mx.us.example", "ECDHE-ECDSA-AES128-GCM-SHA256", self.ec),
                 ("mx.us.example", "ECDHE-RSA-AES128-GCM-SHA256", self.rsa),
                 (None, "ECDHE-RSA-AES128-GCM-SHA256", self.rsa),
                 ("other.example", "ECDHE-ECDSA-AES128-GCM-SHA256", self.other),
                 ("a.wild.example", "ECDHE-ECDSA-AES128-GCM-SHA256", self.other),
                 ("unknown.example", "ECDHE-ECDSA-AES128-GCM-SHA256", self.ec)]
        for name, cipher, pair in cases:
            with self.subTest(name=name, cipher=cipher), \
                    Client(self.server.port, server_name=name,
                           with_context=context(maximum=old, ciphers=cipher)) as client:
                client.start_tls()
                self.assertEqual(client.certificate(), pair.fingerprint)
                self.assertEqual(client.socket.cipher()[0], cipher)

    def test_handshakes_are_counted_by_their_version(self):
        def counted():
            return json.loads(self.server.postrider("status", "--json"))["tls_handshakes"]
        before = counted()
        for version, times in ((ssl.TLSVersion.TLSv1_2, 1), (ssl.TLSVersion.TLSv1_3, 2)):
            for _ in range(times):
                with Client(self.server.port, with_context=context(minimum=version, maximum=version)) as client:
                    client.start_tls()
        with socket.create_connection(("127.0.0.1", self.secure_port), timeout=wait.DEADLINE) as plain:
            plain.sendall(b"EHLO x\r\n")  # is no handshake
        wanted = {"TLSv1.2": 1, "TLSv1.3": 2, "failed": 1, "older": 0}
        wait.until(lambda: {name: count - before[name] for name, count in counted().items()} == wanted, lambda: str(counted()))

    def test_sessions_are_resumed_and_each_ticket_is_a_new_one(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version=version.name):
                shared = context(minimum=version, maximum=version)
                session = None
                for resumed in (False, True, True):
                    with Client(self.server.port, with_context=shared, server_name="mx.us.example",
                                session=session) as client:
                        client.start_tls()
                        self.assertEqual(client.socket.session_reused, resumed)
                        session = client.socket.session

    def s_client(self, port, *more):
        """OpenSSL's own client to the end of a session; how it says it got there: New or Reused."""
        start = ["-starttls", "smtp"] if port != self.secure_port else []
        client = subprocess.Popen(
            [tool("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername",
             "mx.us.example", "-ign_eof", *start, *map(str, more)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = b""
        for line in client.stdout:
            said += line
            if line.startswith((b"220 ", b"250 HELP")):  # it is our turn
                break
        said += client.communicate(b"QUIT\r\n", timeout=60)[0]
        self.assertIn(b"221 2.0.0", said)
        return re.search(rb"^(New|Reused), TLSv1\.[23], Cipher is", said, re.M)[1].decode()

    def test_tickets_are_good_at_their_listener_and_until_its_keys_are_gone(self):
        """T16 as openssl s_client sees it; keys are in memory alone, so a restart ends them"""
        ports = {"mx": self.server.port, "implicit": self.secure_port, "users": self.user_port}
        tickets = {}
        for version in ("-tls1_2", "-tls1_3"):
            for name, port in ports.items():
                tickets[version, name] = self.files / f"ticket{version}-{name}"
                self.assertEqual(
                    self.s_client(port, version, "-sess_out", tickets[version, name]), "New")
            for giver in ports:
                for taker, port in ports.items():
                    with self.subTest(version=version, giver=giver, taker=taker):
                        self.assertEqual(
                            self.s_client(port, version, "-sess_in", tickets[version, giver]),
                            "Reused" if giver == taker else "New")
        self.server.restart()
        for (version, name), ticket in tickets.items():
            with self.subTest(version=version, name=name):
                self.assertEqual(self.s_client(ports[name], version, "-sess_in", ticket), "New")

    def test_the_submission_listener_wants_TLS_1_2_at_least(self):
        with Client(self.user_port) as client:
            client.start_tls()
            self.assertIn(client.socket.version(), ("TLSv1.2", "TLSv1.3"))


class Relaying(Tls):
    def test_a_certificate_authorises_relaying(self):
        files = self.own_folder("client")
        known, stranger = Pair(files, "known", names=["sender.example"]), Pair(files, "stranger")
        colons = ":".join(re.findall("..", known.fingerprint.upper()))
        server = self.tls_daemon(accept={"relay_from": ["127.0.0.9/32"],
                                         "relay_certificates": [colons]})
        for pair, verify, code in ((known, "trusted", 250), (stranger, "unverified", 550),
                                   (None, "none", 550)):
            with self.subTest(verify=verify), \
                    Client(server.port, with_context=context(pair=pair)) as client:
                client.start_tls()
                client.expect("MAIL FROM:<a@ext.example>", 250)
                self.assertEqual(client.command("RCPT TO:<b@far.example>").code, code)
                if code == 250:
                    client.expect("DATA", 354)
                    client.send(CONTENT + b".\r\n")
                    queue_id = client.reply().text.split()[-1]
                    self.assertIn("client certificate trusted",
                                  re.sub(r"\s+", " ", server.postrider("show", queue_id)))
        events = server.wait_for_log("encrypted", count=3)
        self.assertEqual([event["verify"] for event in events], ["trusted", "unverified", "none"])
        self.assertEqual(events[0]["certificate"], known.fingerprint)
        self.assertEqual(events[0]["subject"], "sender.example")


class Changing(Tls):
    def shown(self):
        with Client(self.server.port, server_name="mx.us.example") as client:
            client.start_tls()
            return client.certificate()

    def test_files_that_change_are_taken_up_and_no_session_ends(self):
        self.server = self.tls_daemon()
        shared = context()
        before = Client(self.server.port, with_context=shared, server_name="mx.us.example")
        before.start_tls()
        session = before.socket.session
        self.assertEqual(before.certificate(), self.ec.fingerprint)
        fresh = Pair(self.files, "fresh")
        fresh.copy_over(self.ec)
        wait.until(lambda: self.shown() == fresh.fingerprint, "the new certificate", 30, pause=0.5)
        self.assertTrue(before.in_sync())
        before.message("a@ext.example", [f"{USER}@us.example"], CONTENT)
        before.close()
        self.server.wait_for_mail(1)
        with Client(self.server.port, with_context=shared, server_name="mx.us.example",
                    session=session) as client:
            client.start_tls()
            self.assertTrue(client.socket.session_reused)

    def test_SIGHUP_takes_them_up_at_once(self):
        self.server = self.tls_daemon()
        before = Client(self.server.port)
        before.start_tls()
        fresh = Pair(self.files, "fresh")
        fresh.copy_over(self.ec)
        self.server.reload()
        self.server.wait_for_log("reloaded")
        self.assertEqual(self.shown(), fresh.fingerprint)
        self.assertTrue(before.in_sync())
        before.close()

    def test_a_bad_pair_leaves_the_old_one(self):
        self.server = self.tls_daemon()
        good = self.ec.key.read_bytes()
        self.ec.key.write_bytes(self.other.key.read_bytes())
        self.server.reload()
        refused, = self.server.wait_for_log("certificate_refused")
        self.assertEqual((refused["key"], refused["kept"]), ("tls.key", "the old ones"))
        self.assertIn("is not the key of", refused["problem"])
        self.server.wait_for_log("reloaded")
        self.assertEqual(self.shown(), self.ec.fingerprint)
        self.ec.key.write_bytes(good)
        self.assertIn("no problems", self.server.postrider("check"))


class Checking(Tls):
    def test_check_and_run_name_what_is_wrong(self):
        server = self.tls_daemon()
        server.stop()
        folder = self.files
        cases = [(self.ec.certificate, self.rsa.key, "is not the key of"),
                 (folder / "absent.pem", self.ec.key, "cannot be read: No such file"),
                 (self.ec.key, self.ec.key, "no certificate in PEM form"),
                 (self.ec.certificate, self.ec.certificate, "no private key in PEM form")]
        for certificate, key, words in cases:
            with self.subTest(words=words):
                server.write_config(tls={"certificate": str(certificate), "key": str(key)})
                for verb in ("check", "run"):
                    done = server.tool("postrider", verb, check=False)
                    self.assertEqual(done.returncode, 78, done)
                    text = done.stdout + done.stderr
                    self.assertRegex(text, rf"postrider\.toml:\d+: tls\.(certificate|key): "
                                           rf".*{words}.*expected")


    def test_a_certificate_out_of_its_time_is_used(self):
        """The mail system goes on, and says so everywhere: in check, in the log, in status."""
        folder = self.own_folder("pairs")
        for pair, words in ((certificates.expired(folder, "old"), "has expired on"),
                            (certificates.early(folder, "early"), "is not valid before")):
            with self.subTest(words):
                server = self.tls_daemon(tls={"certificate": str(pair.certificate), "key": str(pair.key)})

                def shown():
                    with Client(server.port) as client:
                        return client.start_tls().certificate()
                self.assertEqual(shown(), pair.fingerprint)
                self.assertIn(words, server.wait_for_log("certificate_out_of_time", level="warn")[0]["problem"])
                status = json.loads(server.postrider("status", "--json"))
                self.assertEqual(len([one for one in status["alarms"] if words in one]), 1, status["alarms"])
                checked = server.tool("postrider", "check")
                self.assertRegex(checked.stdout, f"warning: tls.certificate: .*{words}.*renew it")
                self.assertEqual(server.tool("postrider", "check", "--strict", check=False).returncode, 78)
                self.assertEqual(server.tool("postrider", "reload").stdout, "reloaded\n")
                # A valid one ends it, and is not given up for one that is not.
                for name in ("ec.pem", "ec.key"):
                    shutil.copy(self.files / name, folder)
                server.write_config(tls={"certificate": f"{folder}/ec.pem", "key": f"{folder}/ec.key"})
                server.tool("postrider", "reload")
                self.assertEqual(shown(), self.ec.fingerprint)
                self.assertNotIn(words, server.postrider("status"))
                server.write_config(tls={"certificate": str(pair.certificate), "key": str(pair.key)})
                server.tool("postrider", "reload", check=False)
                server.wait_for_log("certificate_refused", kept="the old ones")
                self.assertEqual(shown(), self.ec.fingerprint)
                server.stop()


class Formats(Tls):
    def test_the_Postfix_form_of_the_log(self):
        server = self.tls_daemon(log={"format": "postfix"})
        with Client(server.port) as client:
            client.start_tls()
        with smtp.Client(self.secure_port, greet=False) as client:
            client.send(b"EHLO x\r\n")
            client.rest()
        text = lambda: server.log_file.read_text()  # noqa: E731
        wait.until(lambda: "SSL_accept error from unknown[127.0.0.1]" in text(), text)
        self.assertRegex(text(), r"postfix/smtpd\[\d+\]: Anonymous TLS connection established from "
                         r"unknown\[127\.0\.0\.1\]: TLSv1\.3 with cipher TLS_AES_256_GCM_SHA384 "
                         r"\(256/256 bits\)")


if __name__ == "__main__":
    scenario.main()
