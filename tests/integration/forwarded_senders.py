#!/usr/bin/python3
"""Mail that aliases send on to other systems has a sender of ours, its bounces find their way back,
and nobody can send mail through addresses that we did not make."""
import os
import socketserver
import subprocess
import threading
import time
import unittest

from support_py import daemon, mailauth, scenario, wait
from support_py.remote_postfix import Postfix

try:
    import spf
except ImportError:
    spf = None

CONTENT = b"From: <ann@a.example>\r\nSubject: forwarded\r\n\r\nx\r\n"
SENDER = "ann@a.example"
DAY = 86400


class Forwarding(scenario.Scenario):
    def forwarder(self, aliases="out: x@far.example\n", local=None, start=True, **settings):
        """Nobody may relay; mail for other domains goes to self.remote, if no route is given."""
        self.remote = getattr(self, "remote", None) or self.sink()
        settings.setdefault("route", [{"domain": "*",
                                       "next_hop": f"smtp://127.0.0.1:{self.remote.port}"}])
        settings.setdefault("accept", {"relay_from": ["192.0.2.1/32"]})
        server = daemon.Postrider(self.own_folder("forwarder"),
                                  local={"srs": True, **(local or {})}, **settings)
        (server.folder / "aliases").write_text(aliases)
        self.using(server)
        return server.start() if start else server

    def send(self, server, sender, recipient):
        reply = server.send(sender, [recipient], CONTENT)
        self.assertEqual(reply.code, 250, reply)

    def rcpt(self, server, address, sender=""):
        with server.client() as client:
            client.hello()
            client.command(f"MAIL FROM:<{sender}>")
            return str(client.command(f"RCPT TO:<{address}>"))

    def forwarded(self, server, sender=SENDER):
        """The address that was made of the sender."""
        before = len(self.remote.messages)
        self.send(server, sender, "out@us.example")
        return self.remote.wait_for(before + 1)[before].sender

    def keys(self, server):
        return [line for line in (server.spool / "srs_key").read_text().splitlines()
                if not line.startswith("#")]


class OneForwarder(Forwarding):
    def test_there_and_back(self):
        server = self.forwarder()
        made = self.forwarded(server)
        self.assertRegex(made, "^SRS0=[A-Za-z0-9+/]{4}=[A-Z2-7]{2}=a.example=ann@us.example$")
        for number, address in enumerate((made, made.lower(), made.upper()), 1):
            self.send(server, "", address)
            bounce = self.remote.wait_for(number + 1)[number]
            self.assertEqual(bounce.sender, "")
            self.assertEqual(bounce.addresses[0].lower(), SENDER)
        self.send(server, "bob@b.example", made)  # an answer from a person
        answer = self.remote.wait_for(5)[4]
        self.assertEqual(answer.addresses, [SENDER])
        self.assertIn("=b.example=bob@us.example", answer.sender)
        server.wait_until_empty()
        self.assertEqual(0o600, (server.spool / "srs_key").stat().st_mode & 0o777)

    def test_local_deliveries_and_own_senders_are_left_alone(self):
        user = daemon.USER
        server = self.forwarder(f"both: {user}, x@far.example\n")
        self.send(server, SENDER, "both@us.example")
        self.assertIn("=a.example=ann@us.example", self.remote.wait_for(1)[0].sender)
        mail, = server.wait_for_mail(1)
        self.assertIn(f"Return-Path: <{SENDER}>".encode(), mail)
        self.send(server, "bob@us.example", "both@us.example")
        self.assertEqual(self.remote.wait_for(2)[1].sender, "bob@us.example")
        server.sendmail("-f", SENDER, "both@us.example", stdin=CONTENT.replace(b"\r", b""))
        self.assertEqual(self.remote.wait_for(3)[2].sender, SENDER)

    def test_dsn_parameters_stay(self):
        server = self.forwarder()
        with server.client() as client:
            client.hello()
            client.expect(f"MAIL FROM:<{SENDER}> RET=HDRS ENVID=QQ1", 250)
            client.expect("RCPT TO:<out@us.example> NOTIFY=FAILURE ORCPT=rfc822;z@us.example", 250)
            client.expect("DATA", 354)
            client.send(CONTENT + b".\r\n")
            self.assertEqual(client.reply().code, 250)
        message, = self.remote.wait_for(1)
        for word in ("RET=HDRS", "ENVID=QQ1"):
            self.assertIn(word, message.parameters)
        (_, parameters), = message.recipients
        for word in ("NOTIFY=FAILURE", "ORCPT=rfc822;z@us.example"):
            self.assertIn(word, parameters)

    def test_what_the_next_host_refuses_is_told_to_the_first_sender_at_once(self):
        self.remote = self.sink(script={"rcpt": {"x@far.example": "550 5.1.1 no such user"}})
        server = self.forwarder()
        self.send(server, SENDER, "out@us.example")
        notice, = self.remote.wait_for(1)
        self.assertEqual((notice.sender, notice.addresses), ("", [SENDER]))
        self.assertNotIn(b"Delivered-To: SRS0", notice.content)
        server.wait_until_empty()
        self.assertEqual(len(self.remote.messages), 1)

    def test_I18_forged_and_expired(self):
        server = self.forwarder(local={"catch_all": "postmaster"})
        made = self.forwarded(server)
        self.assertTrue(self.rcpt(server, made).startswith("250"))
        for forged in (made.replace("ann@", "bob@"), made.replace("a.example", "b.example"),
                       made[:5] + "AAAA" + made[9:], "SRS0=AAAA=AA=a.example=ann@us.example",
                       "SRS1=AAAA=far.example==AAAA=AA=a.example=ann@us.example"):
            for sender in ("", SENDER, "bob@us.example"):
                self.assertTrue(self.rcpt(server, forged, sender).startswith("550 5.1.1"), forged)
        # Of another domain: no address of ours.
        self.assertRegex(self.rcpt(server, made.replace("@us.", "@far.")), "^55[04] 5.7.1")
        said = server.postrider("explain", made)
        self.assertIn(f"-> {SENDER} (local.srs)", said)
        self.assertIn("is refused", server.postrider("explain", made.replace("ann@", "bob@")))
        with mailauth.Probe() as probe:
            key, = self.keys(server)
            self.assertTrue(self.rcpt(server, probe.srs(
                True, "us.example", key, time.time() - 20 * DAY, SENDER)).startswith("250"))
            old = probe.srs(True, "us.example", key, time.time() - 24 * DAY, SENDER)
        self.assertTrue(self.rcpt(server, old).startswith("550 5.1.1"))
        self.assertIn("too old", server.postrider("explain", old))

    def test_keys_are_changed(self):
        folder = self.own_folder("keys")
        file = folder / "srs"
        file.write_text("# ours\nthe first key of all\n")
        file.chmod(0o600)
        server = self.forwarder(local={"srs_key": str(file)})
        made = self.forwarded(server)

        def keep(*keys, mode=0o600):
            reloads = len(server.log("reloaded"))
            beside = folder / "new"
            beside.write_text("\n".join(keys) + "\n")
            beside.chmod(mode)
            beside.rename(file)
            server.reload()
            return reloads

        reloads = keep("the second key of all", "the first key of all")
        server.wait_for_log("reloaded", reloads + 1)
        fresh = self.forwarded(server)
        self.assertNotEqual(fresh, made)
        for address in (made, fresh):
            self.assertTrue(self.rcpt(server, address).startswith("250"))
        for keys, mode, problem in ((["too short"], 0o600, f"{file}:1: is a key of 9 octets"),
                                    ([""], 0o600, "holds no key"),
                                    (["a key that others read"], 0o644, "may be read by others")):
            refused = len(server.log("config_refused"))
            keep(*keys, mode=mode)
            server.wait_for_log("config_refused", refused + 1)
            done = server.tool("postrider", "check", check=False)
            self.assertEqual(done.returncode, 78)
            self.assertIn(problem, done.stdout + done.stderr)
            self.assertTrue(self.rcpt(server, fresh).startswith("250"))
        reloads = keep("the second key of all")
        server.wait_for_log("reloaded", reloads + 1)
        self.assertTrue(self.rcpt(server, made).startswith("550 5.1.1"))
        self.assertTrue(self.rcpt(server, fresh).startswith("250"))

    def test_wrong_keys_stop_the_start(self):
        file = self.own_folder("keys") / "srs"
        file.write_text("a key that is long enough\nshort\n")
        file.chmod(0o600)
        server = self.forwarder(local={"srs_key": str(file)}, start=False)
        done = server.tool("postrider", "run", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertEqual(done.stderr.count("is a key of 5 octets"), 1, done.stderr)
        self.assertIn(f"{file}:2: ", done.stderr)


class Chains(Forwarding):
    def two_forwarders(self, alias):
        """us.example and far.example, which forwards x@far.example to alias; all else goes to self.remote."""
        self.remote = self.sink()
        port = wait.free_port()
        first = self.forwarder(start=False)
        rest = {"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.remote.port}"}
        first.write_config(route=[{"domain": "far.example", "next_hop": f"smtp://127.0.0.1:{port}"}, rest])
        first.start()
        second = self.using(daemon.Postrider(
            self.own_folder("second"), hostname="mx.far.example",
            listeners=[{"address": f"127.0.0.1:{port}"}],
            accept={"relay_from": ["192.0.2.1/32"]},
            local={"srs": True, "domains": ["far.example"]},
            route=[{"domain": "us.example", "next_hop": f"smtp://127.0.0.1:{first.port}"}, rest]))
        second.port = port
        (second.folder / "aliases").write_text(f"x: {alias}\n")
        second.start()
        return first, second

    def test_two_forwarders_in_a_row(self):
        first, second = self.two_forwarders("y@last.example")
        self.send(first, SENDER, "out@us.example")
        message, = self.remote.wait_for(1)
        self.assertRegex(message.sender, "^SRS1=....=us.example==....=..=a.example=ann@far.example$")
        self.send(second, "", message.sender)
        bounce = self.remote.wait_for(2)[1]
        self.assertEqual((bounce.sender, bounce.addresses), ("", [SENDER]))
        for server in (first, second):
            server.wait_until_empty()

    def test_a_circle_of_two_forwarders_ends(self):
        first, second = self.two_forwarders("out@us.example")
        self.send(first, SENDER, "out@us.example")
        notice, = self.remote.wait_for(1)
        self.assertEqual((notice.sender, notice.addresses), ("", [SENDER]))
        self.assertIn(b"5.4.6", notice.content)
        for server in (first, second):
            server.wait_until_empty()
        self.assertEqual(len(self.remote.messages), 1)


class SpfPolicy(socketserver.ThreadingTCPServer):
    """Postfix's policy protocol with the verdicts of pyspf; our loopback stands for 203.0.113.5."""
    allow_reuse_address = daemon_threads = True
    ZONE = {"us.example": "v=spf1 ip4:203.0.113.5 -all", "a.example": "v=spf1 ip4:192.0.2.1 -all"}

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            asked = {}
            for line in self.rfile:
                name, equals, value = line.decode().rstrip("\n").partition("=")
                if equals:
                    asked[name] = value
                    continue
                sender = asked.get("sender", "")
                verdict = "none"
                if sender:
                    verdict = spf.query(i="203.0.113.5", s=sender, h=asked["helo_name"]).check()[0]
                self.server.verdicts.append((sender, verdict))
                action = "550 5.7.23 SPF says no" if verdict == "fail" else "DUNNO"
                self.wfile.write(f"action={action}\n\n".encode())
                asked = {}

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.verdicts = []
        spf.DNSLookup = self.look_up
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def look_up(self, name, kind, *_, **__):
        text = self.ZONE.get(name.lower().rstrip("."))
        return [((name, kind), (text.encode(),))] if text and kind == "TXT" else []

    def stop(self):
        self.shutdown()
        self.server_close()


@unittest.skipUnless(scenario.is_root() and spf and os.path.exists("/usr/sbin/postsrsd"),
                     "needs Postfix, pyspf and postsrsd, as root")
class PostfixWithSpf(Forwarding):
    """Postrider sends on to Postfix, which asks SPF and sends on itself, with postsrsd."""

    def chain(self, srs):
        self.remote = self.sink(script={"rcpt": {"gone@last.example": "550 5.1.1 no such user"}})
        policy = self.using(SpfPolicy())
        folder = self.own_folder("postsrsd")
        (folder / "secret").write_text("the secret of the second\n")
        ports = [wait.free_port() for _ in range(2)]
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                ["/usr/sbin/postsrsd", f"-f{ports[0]}", f"-r{ports[1]}", "-d", "far.example", "-s",
                 folder / "secret", "-l", "127.0.0.1", "-u", "nobody"], stdout=log, stderr=log)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        first = self.forwarder("out: x@far.example\nlost: y@far.example\n", local={"srs": srs},
                               start=False)
        postfix = self.using(Postfix(
            self.own_folder("postfix"), {"127.0.2.1": {}}, myhostname="mx.far.example",
            smtpd_recipient_restrictions=
            f"check_policy_service inet:127.0.0.1:{policy.server_address[1]}, permit",
            virtual_alias_domains="far.example",
            virtual_alias_maps="inline:{ x@far.example=x@last.example, y@far.example=gone@last.example }",
            sender_canonical_maps=f"tcp:127.0.0.1:{ports[0]}",
            sender_canonical_classes="envelope_sender",
            recipient_canonical_maps=f"tcp:127.0.0.1:{ports[1]}",
            recipient_canonical_classes="envelope_recipient",
            default_transport=f"smtp:[127.0.0.1]:{self.remote.port}",
            transport_maps=f"inline:{{ us.example=smtp:[127.0.0.1]:{first.port} }}"))
        first.write_config(route=[
            {"domain": "far.example", "next_hop": f"smtp://127.0.2.1:{postfix.port}"},
            {"domain": "*", "next_hop": f"smtp://127.0.0.1:{self.remote.port}"}])
        return first.start(), policy

    def test_spf_passes(self):
        first, policy = self.chain(srs=True)
        self.send(first, SENDER, "out@us.example")
        message, = self.remote.wait_for(1)
        self.assertRegex(message.sender, "^SRS1=....=us.example==....=..=a.example=ann@far.example$")
        (sender, verdict), = policy.verdicts
        self.assertRegex(sender, "^SRS0=.*@us.example$")
        self.assertEqual(verdict, "pass")
        # What the third refuses comes back through both.
        self.send(first, SENDER, "lost@us.example")
        bounce = self.remote.wait_for(2)[1]
        self.assertEqual((bounce.sender, bounce.addresses), ("", [SENDER]))
        self.assertIn(b"gone@last.example", bounce.content)
        first.wait_until_empty()

    def test_without_it_spf_fails(self):
        first, policy = self.chain(srs=False)
        self.send(first, SENDER, "out@us.example")
        notice, = self.remote.wait_for(1)
        self.assertEqual((notice.sender, notice.addresses), ("", [SENDER]))
        self.assertIn(b"SPF says no", notice.content)
        self.assertEqual(policy.verdicts[0], (SENDER, "fail"))


if __name__ == "__main__":
    scenario.main()
