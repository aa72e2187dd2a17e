#!/usr/bin/python3
"""Mail that waits behind a host that is dead, and whose route is changed then: it is due at once on
its new way, though the waits between attempts are of an hour."""
from support_py import scenario, sink, wait

CONTENT = b"From: <a@src.example>\r\nSubject: moved\r\n\r\nx\r\n"
MESSAGES = 20
SLOW = {"retry": ["1h"]}


def route(port, **more):
    return {"domain": "*", "next_hop": f"smtp://127.0.0.1:{port}", "tls": "off", **more}


class Moved(scenario.Scenario):
    def put_off(self, server, domain="far.test"):
        for number in range(MESSAGES):
            server.send("a@src.example", f"u{number}@{domain}", CONTENT)
        wait.until(lambda: [one["status"] for one in server.queue()] == ["deferred"] * MESSAGES,
                   "all mail put off")

    def check(self, server, peer):
        peer.wait_for(MESSAGES)
        server.wait_until_empty()
        self.assertEqual(len(peer.messages), MESSAGES)
        self.assertFalse(server.log("bounced"))

    def test_a_route_is_replaced(self):
        peer = self.sink()
        server = self.daemon(delivery=SLOW, route=[route(wait.free_port())])
        self.put_off(server)
        server.write_config(route=[route(peer.port)])
        server.reload()
        self.check(server, peer)
        self.assertFalse([one for one in server.postrider("status").splitlines()
                          if "blocked" in one], "nobody waits for the old host")

    def test_each_was_put_off_by_itself(self):
        busy = self.sink(script={"rcpt": lambda session, argument: "450 4.2.0 later"})
        peer = self.sink()
        server = self.daemon(delivery=SLOW, route=[route(busy.port)])
        self.put_off(server)
        server.write_config(route=[route(peer.port)])
        server.reload()
        self.check(server, peer)

    def test_a_route_is_removed(self):
        peer = self.sink(address="127.0.0.2")
        knot = self.knot(test="far MX 10 mx\nmx A 127.0.0.2\n")
        server = self.daemon(dns={"servers": [knot.server]}, delivery={"port": peer.port, **SLOW},
                             route=[route(wait.free_port())])
        self.put_off(server)
        del server.settings["route"]
        server.write_config()
        server.reload()
        self.check(server, peer)

    def test_a_route_is_added(self):
        peer = self.sink()
        knot = self.knot(test="far MX 10 mx\nmx A 127.0.0.9\n")
        server = self.daemon(dns={"servers": [knot.server]}, delivery={"port": peer.port, **SLOW})
        self.put_off(server)
        server.write_config(route=[route(peer.port)])
        server.reload()
        self.check(server, peer)

    def test_of_a_sender(self):
        peer = self.sink()
        server = self.daemon(delivery=SLOW, route=[
            {**route(wait.free_port()), "from": "a@src.example"}, route(wait.free_port())])
        self.put_off(server)
        server.write_config(route=[{**route(peer.port), "from": "a@src.example"},
                                   route(wait.free_port())])
        server.reload()
        self.check(server, peer)

    def test_a_table_changes(self):
        peer = self.sink()
        folder = self.own_folder("tables")
        table = folder / "routes"
        table.write_text(f"far.test smtp://127.0.0.1:{wait.free_port()}\n")
        server = self.daemon(delivery={"route_map": f"text:{table}", **SLOW})
        self.put_off(server)
        table.write_text(f"far.test smtp://127.0.0.1:{peer.port}\n")
        self.check(server, peer)

    def test_a_restart_does_not_undo_it(self):
        peer = self.sink()
        server = self.daemon(delivery=SLOW, route=[route(wait.free_port())])
        self.put_off(server)
        server.postrider("queue", "pause", "--all")
        server.write_config(route=[route(peer.port)])
        server.reload()
        server.wait_for_log("routes_changed")
        server.restart()
        self.assertEqual(len(peer.messages), 0)
        server.postrider("queue", "resume", "--all")
        self.check(server, peer)

    def test_it_was_replaced_while_the_daemon_was_down(self):
        peer = self.sink()
        server = self.daemon(delivery=SLOW, route=[route(wait.free_port())])
        self.put_off(server)
        server.stop()
        server.write_config(route=[route(peer.port)])
        server.start()
        self.check(server, peer)


if __name__ == "__main__":
    scenario.main()
