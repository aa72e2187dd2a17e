"""A peer that speaks AMQP 1.0 and says what it is told to of each message: RabbitMQ's plugin accepts all, or says
nothing. By Proton's own Python binding."""
import itertools
import threading

from support_py import rabbitmq, wait

ADDRESS = "mail"
CONDITION, REASON = "amqp:not-allowed", "the shelf is full"


def need():
    try:
        import proton  # noqa: F401
    except ImportError:
        rabbitmq.install()


class Peer:
    """answers: of the next messages that come, "rejected", "released" or "modified"; then they are accepted.
    offer() has a message for who asks for one, as often as it is given back."""

    def __init__(self):
        from proton import Message
        from proton.reactor import ApplicationEvent, Container, EventInjector
        self.port = wait.free_port()
        self.ports = {"amqp10": self.port}
        self.answers, self.came, self.kept = [], [], []
        self.offered, self.told = [], []  # (key, body); (key, disposition)
        self.events, self.make_message, self.make_event = EventInjector(), Message, ApplicationEvent
        self.container = Container(make_handler(self))
        self.container.selectable(self.events)
        self.thread = threading.Thread(target=self.container.run, daemon=True)
        self.thread.start()
        wait.until(lambda: self.is_there, "the peer")

    is_there = False

    def offer(self, key, body):
        self.offered.append((key, body))
        self.events.trigger(self.make_event("offered"))

    def stop(self):
        self.events.trigger(self.make_event("over"))
        self.thread.join(wait.DEADLINE)


def make_handler(peer):
    from proton import Condition, Delivery
    from proton.handlers import MessagingHandler

    class Handler(MessagingHandler):
        def __init__(self):
            super().__init__(auto_accept=False)
            self.links, self.under_way, self.tags = [], {}, itertools.count()

        def on_start(self, event):
            self.listener = event.container.listen(f"127.0.0.1:{peer.port}")
            peer.is_there = True

        def on_link_opening(self, event):
            event.link.source.address = event.link.remote_source.address
            event.link.target.address = event.link.remote_target.address
            if event.link.is_sender:
                self.links.append(event.link)

        # Events

        def on_message(self, event):
            answer = peer.answers.pop(0) if peer.answers else "accepted"
            peer.came.append(answer)
            delivery = event.delivery
            if answer == "accepted":
                peer.kept.append(bytes(event.message.body))
                self.accept(delivery)
            elif answer == "rejected":
                delivery.local.condition = Condition(CONDITION, REASON)
                delivery.update(Delivery.REJECTED)
                delivery.settle()
            else:
                self.release(delivery, delivered=answer == "modified")

        # Requests

        def on_sendable(self, event):
            self.give(event.link)

        def on_offered(self, _):
            for link in self.links:
                self.give(link)

        def give(self, link):
            while link.credit > 0 and peer.offered:
                key, body = peer.offered.pop(0)
                tag = str(next(self.tags))  # else each link has the same ones
                self.under_way[tag] = key, body
                link.send(peer.make_message(body=body, id=key), tag=tag)

        def on_accepted(self, event):
            self.end(event, "accepted")

        def on_rejected(self, event):
            self.end(event, "rejected")

        def on_released(self, event):
            key, body = self.end(event, "released")
            peer.offered.append((key, body))
            self.give(event.link)

        def end(self, event, how):
            one = self.under_way.pop(event.delivery.tag)
            peer.told.append((one[0], how))
            return one

        def on_link_closed(self, event):
            self.links = [link for link in self.links if link != event.link]

        def on_disconnected(self, event):
            self.links = [link for link in self.links if link.connection != event.connection]
            peer.offered += self.under_way.values()
            self.under_way = {}

        def on_over(self, event):
            self.listener.close()
            event.container.stop()

    return Handler()
