#!/usr/bin/python3
"""The trace of the application that mail belongs to (W3C Trace Context): from the header of a message, of an
HTTP request or of a request at a broker it comes to each event and to the log, over kills; a stranger's does not."""
import json
import pathlib
import unittest

import events
from support_py import daemon, mail_requests, scenario, wait
from web import Web

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
# What is passed over.
WRONG = {"upper case": TRACE.upper(), "version": "01" + TRACE[2:], "zeros": "00-" + "0" * 32 + TRACE[35:],
         "no parent": TRACE[:36] + "0" * 16 + TRACE[52:], "more": TRACE + "-00", "less": TRACE[:-1],
         "two": TRACE + "\r\ntraceparent: " + OTHER, "the same twice": TRACE + "\r\nTraceparent: " + TRACE,
         "folded": "\r\n " + TRACE, "gone on": TRACE + "\r\n x", "comment": TRACE + " (x)", "long": TRACE * 400,
         "JSON": TRACE[:40] + '","x":"' + TRACE[47:], "nothing": ""}


def content(value=None, more=""):
    field = "" if value is None else f"traceparent: {value}\r\n"
    return (f"From: <shop@us.example>\r\n{field}To: <x@far.example>\r\n{more}Subject: order\r\n\r\n"
            f"traceparent: {OTHER}\r\n").encode()


def kind(event):
    return event["type"].removeprefix("postrider.")


class Traces(scenario.Scenario):
    def events(self):
        return self.lines.events

    def of(self, tag):
        """What was told of the message with this reference: kind and trace."""
        found = self.events()
        names = {event["data"]["id"] for event in found if event["data"].get("tag") == tag}
        return [(kind(event), event.get("traceparent")) for event in found if event["data"].get("id") in names]

    def told(self, **settings):
        self.answers = {}
        self.peer = self.sink(script={"rcpt": lambda _, argument: self.answers.get(argument.lstrip("<").partition("@")[0])})
        self.lines = events.Lines(self.own_folder("events") / "events")
        return self.relay(self.peer, events=[{"name": "file", "file": str(self.lines.path)}], **settings)

    def wait_for(self, tag, *kinds):
        wait.until(lambda: {one for one, _ in self.of(tag)} >= set(kinds), lambda: f"{kinds} of {tag}: {self.of(tag)}")

    def check_schema(self):
        for event in self.events():
            problems = [problem.message for problem in events.SCHEMA.iter_errors(event)]
            self.assertEqual(problems, [], event)

    def test_each_end_of_a_message_is_told_with_its_trace(self):
        self.answers = {}
        server = self.told()
        self.answers.update(bad="550 5.1.1 nobody", later="450 4.2.1 later", stuck="450 4.2.1 stuck")
        for name in ("good", "bad", "later", "stuck"):
            server.send("shop@us.example", f"{name}@far.example", content(TRACE), f" ENVID={name}")
        self.wait_for("good", "accepted", "delivered")
        self.wait_for("bad", "accepted", "bounced")
        self.wait_for("later", "accepted", "deferred")
        self.wait_for("stuck", "deferred")
        server.kill()
        server.start()
        for verb in ("hold", "release", "remove"):
            server.postrider("queue", verb, "--to", "stuck@far.example")
        self.answers.pop("later")
        server.retry_all()
        self.wait_for("later", "delivered")
        self.wait_for("stuck", "held", "released", "removed")
        for name in ("good", "bad", "later", "stuck"):
            self.assertEqual({trace for _, trace in self.of(name)}, {TRACE}, self.of(name))
        self.check_schema()
        for event, verdict in (("accepted", None), ("attempted", "sent"), ("attempted", "deferred"), ("attempted", "bounced")):
            fields = {"verdict": verdict} if verdict else {}
            self.assertTrue(server.wait_for_log(event, traceparent=TRACE, **fields))
        notices = [event for event in self.events() if event["data"].get("from") == ""]
        self.assertEqual({event.get("traceparent") for event in notices} - {None}, set())

    def test_what_waits_for_a_site_in_trouble_says_its_trace(self):
        server = self.told(delivery={"retry": ["1h"]})
        self.peer.stop()
        for name in ("one", "two"):
            server.send("shop@us.example", f"{name}@far.example", content(TRACE), f" ENVID={name}")
            self.wait_for(name, "deferred")
            self.assertEqual({trace for _, trace in self.of(name)}, {TRACE}, self.of(name))
        # By the sender's own reference, too: a sink may ask for it.
        tags = [event["data"].get("tag") for event in self.events() if kind(event) == "deferred"]
        self.assertEqual(set(tags), {"one", "two"})

    def test_what_is_none_is_passed_over_and_the_mail_goes(self):
        server = self.told()
        for number, value in enumerate(WRONG.values()):
            server.send("shop@us.example", "x@far.example", content(value), f" ENVID=w{number}")
        server.send("shop@us.example", "x@far.example", content(), " ENVID=none")
        server.send("shop@us.example", "x@far.example", content(f"\t {TRACE}  "), " ENVID=good")
        self.wait_for("good", "delivered")
        for number, name in enumerate(WRONG):
            self.wait_for(f"w{number}", "delivered")
            self.assertEqual({trace for _, trace in self.of(f"w{number}")}, {None}, name)
        self.assertEqual({trace for _, trace in self.of("none")}, {None})
        self.assertEqual({trace for _, trace in self.of("good")}, {TRACE})
        self.check_schema()

    def test_the_field_goes_out_as_it_came_unless_it_is_stripped(self):
        server = self.told()
        server.send("shop@us.example", "x@far.example", content(TRACE), " ENVID=whole")
        self.peer.wait_for(1)
        self.assertIn(f"\r\ntraceparent: {TRACE}\r\nTo:".encode(), self.peer.messages[0].content)
        server.write_config(header_check=[{"pattern": "/^traceparent:/", "action": "strip",
                                           "mail": ["mx", "submission", "sendmail"]}])
        server.reload()
        server.wait_for_log("reloaded")
        server.send("shop@us.example", "x@far.example", content(TRACE), " ENVID=stripped")
        server.sendmail("-i", "-f", "shop@us.example", "-V", "local", "x@far.example", stdin=content(TRACE))
        self.peer.wait_for(3)
        for message in self.peer.messages[1:]:
            self.assertNotIn(TRACE.encode(), message.content)
        for name in ("stripped", "local"):
            self.wait_for(name, "delivered")
            self.assertEqual({trace for _, trace in self.of(name)}, {TRACE}, name)

    def test_a_strangers_is_not_taken(self):
        server = self.told(accept={"relay_from": []})
        server.send("x@ext.example", f"{daemon.USER}@us.example", content(TRACE), " ENVID=strange")
        server.wait_for_mail(1)
        self.wait_for("strange", "delivered")
        self.assertEqual({trace for _, trace in self.of("strange")}, {None})
        self.assertNotIn(TRACE, server.log_file.read_text())

    def test_mail_of_this_machine_has_it_from_its_header(self):
        server = self.told()
        server.sendmail("-t", "-i", "-V", "here", stdin=content(TRACE).replace(b"\r\n", b"\n"))
        self.wait_for("here", "delivered")
        server.stop()
        server.sendmail("-t", "-i", "-V", "dropped", stdin=content(OTHER), check=False)
        server.start()
        self.wait_for("dropped", "delivered")
        self.assertEqual({trace for _, trace in self.of("here")}, {TRACE})
        self.assertEqual({trace for _, trace in self.of("dropped")}, {OTHER})

    @unittest.skipUnless((daemon.BIN / "postrider-web").exists(), "postrider-web is not built")
    def test_over_http(self):
        server = self.told()
        web = self.using(Web(server))

        def post(tag, member=None, **fields):
            body = {"from": "shop@us.example", "to": "x@far.example", "text": "x", "tag": tag}
            if member is not None:
                body["traceparent"] = member
            status, text, _ = web.ask("POST", "/v1/messages", json.dumps(body), "send",
                                      Content_Type="application/json", **fields)
            self.assertEqual(status, 202, text)
            self.wait_for(tag, "delivered")
            return {trace for _, trace in self.of(tag)}
        self.assertEqual(post("field", traceparent=TRACE), {TRACE})
        self.assertEqual(post("member", TRACE), {TRACE})
        self.assertEqual(post("both", OTHER, traceparent=TRACE), {OTHER})
        self.assertEqual(post("wrong", traceparent=TRACE.upper()), {None})
        self.assertEqual(post("none"), {None})
        self.assertTrue(all(b"traceparent" not in message.content for message in self.peer.messages))


class AtBroker(mail_requests.AtRabbitMq):
    test_each_request_is_one_message_whoever_is_killed = None
    test_what_is_wrong_is_told_and_holds_up_nothing = None
    test_a_daemon_that_is_away_is_waited_for = None

    def test_a_header_or_a_member_of_the_request(self):
        import pika
        folder = self.own_folder("events")
        self.settings = {"events": [{"name": "file", "file": str(folder / "events")}]}
        self.carried()
        channel = self.rabbit.channel()
        wanted = {}
        for number, (headers, member) in enumerate((
                ({"traceparent": TRACE}, None), ({"traceparent": TRACE, "x": 1}, OTHER), ({}, TRACE), (None, None),
                ({"traceparent": TRACE.upper()}, None), ({"traceparent": 17}, None), ({"traceparent": "0" * 10_000}, None),
                ({"traceparent": {"a": [TRACE]}}, None))):
            body = mail_requests.request(number, tag=f"order {number}", **({"traceparent": member} if member else {}))
            wanted[f"order {number}"] = member or (TRACE if headers and headers.get("traceparent") == TRACE else None)
            channel.basic_publish("", mail_requests.REQUESTS, json.dumps(body), pika.BasicProperties(
                message_id=f"t{number}", delivery_mode=2, headers=headers))
        channel.connection.close()
        lines = events.Lines(pathlib.Path(folder / "events"))

        def accepted():
            return {event["data"]["tag"]: event.get("traceparent") for event in lines.events if kind(event) == "accepted"}
        wait.until(lambda: len(accepted()) >= len(wanted), lambda: f"all requests: {accepted()}", 2 * wait.DEADLINE)
        self.assertEqual(accepted(), wanted)


@unittest.skipUnless((daemon.BIN / "postrider-amqp").exists(), "postrider-amqp is not built")
class ByAmqp(AtBroker, scenario.Scenario):
    program, protocol = "postrider-amqp", "amqp"


@unittest.skipUnless((daemon.BIN / "postrider-stomp").exists(), "postrider-stomp is not built")
class ByStomp(AtBroker, scenario.Scenario):
    program, protocol = "postrider-stomp", "stomp"

    def source(self, name):
        return f"/amq/queue/{name}"


if __name__ == "__main__":
    scenario.main()
