"""Mail of every kind at once, and the account of what became of it: small and large messages by SMTP,
by sendmail, and by the drop folder while the daemon is down; to hosts that take, defer and refuse,
to maildirs, mboxes and a list.

Promised is what a client read 250 for, or what sendmail took with exit code 0. Each promised
recipient must have the whole message, or its sender a notice about it."""
import calendar
import collections
import hashlib
import mailbox
import random
import re
import subprocess
import threading
import time

from support_py import daemon, sink, smtp, wait

HOSTS = ("take", "later", "refuse", "dot")  # what the host of NAME.example does
BOXES = 4  # of each kind
# Maildirs on the list, and one recipient elsewhere. They are not named beside the list: two ways to one
# mailbox are one copy only as long as the daemon runs.
LIST = 2
FORGETTABLE = 6.0  # seconds from a reply to the cut that can have forgotten it
MOST_WAITING = 400


def content(number, size):
    """Says its number in every line, and how it ends: a copy that is cut or mixed is seen."""
    line = b"%d line %%06d %s\r\n" % (number, b"x" * 50)
    lines = b"".join(line % at for at in range(max(1, size // 68)))
    return b"Subject: n%d\r\n\r\n%send %d %s\r\n" % (
        number, lines, number, hashlib.sha256(lines).hexdigest().encode())


def read_copy(text):
    """The number of a message and whether this copy of it is whole. text with LF line ends."""
    found = re.search(rb"^Subject: n(\d+)$", text, re.M)
    if not found:
        return None, False
    number = int(found.group(1))
    body = text[text.find(b"\n\n") + 2:].rstrip(b"\n") + b"\n"
    end = body.rfind(b"end %d " % number)
    lines = body[:max(end, 0)].replace(b"\n", b"\r\n")
    return number, end >= 0 and body[end:].split()[2] == hashlib.sha256(lines).hexdigest().encode()


class World:
    """The hosts and the daemon. mount: the folder of the spool and the mailboxes."""

    def __init__(self, scenario, mount, deliver=True, **settings):
        self.mount = mount
        self.deferred = set()
        self.has_power = True
        self.peers = {name: scenario.sink(keep_content=True) for name in HOSTS + ("src",)}
        self.peers["later"].script["rcpt"] = self.later
        self.peers["refuse"].script["rcpt"] = lambda *_: "550 5.1.1 nobody of that name"
        self.peers["dot"].script["end"] = lambda *_: "554 5.7.1 not this"
        routes = [{"domain": f"{name}.example", "next_hop": f"smtp://127.0.0.1:{peer.port}", "tls": "off"}
                  for name, peer in self.peers.items()]
        self.server = scenario.daemon(start=False, **daemon.merged({
            "spool": str(mount / "spool"), "route": routes,
            "delivery": {"retry": ["1s"]}, "accept": {"sessions_per_client": 200}},
            settings))
        folder = self.server.folder
        for name in ("maildir", "mbox"):
            (mount / name).mkdir()
        (folder / "list").write_text("".join(f"maildir{n}@v.example\n" for n in range(LIST)) +
                                     "member@take.example\n")
        (folder / "aliases").write_text(f"list: :include:{folder}/list\n")
        (folder / "virtual").write_text("v.example x\n" + "".join(
            f"{kind}{n}@v.example {kind}:{mount}/{kind}/{n}{'/' if kind == 'maildir' else ''}\n"
            for kind in ("maildir", "mbox") for n in range(BOXES)))
        self.server.write_config(local={"virtual": [f"text:{folder}/virtual"]})

    def later(self, _, address):
        if address in self.deferred:
            return None
        self.deferred.add(address)
        return "450 4.2.0 come again"

    def arrived(self):
        """(recipient, number) -> times of whole copies; and how many were not whole."""
        copies, torn = collections.defaultdict(list), []
        for peer in self.peers.values():
            for message in list(peer.messages):
                if not message.sender:
                    continue
                number, whole = read_copy(message.content.replace(b"\r\n", b"\n"))
                for address in message.addresses:
                    if whole:
                        copies[address, number].append(message.when)
                    else:
                        torn.append((address, number))
        for box in range(BOXES):
            for path in (self.mount / "maildir" / str(box) / "new").glob("*"):
                number, whole = read_copy(path.read_bytes())
                if whole:
                    copies[f"maildir{box}@v.example", number].append(path.stat().st_mtime)
                else:
                    torn.append((str(path), number))
            self.read_mbox(box, copies)
        return copies, torn

    def read_mbox(self, box, copies):
        """A copy that a cut has torn stays as it is; what follows it stands for itself."""
        path = self.mount / "mbox" / str(box)
        if not path.exists():
            return
        for message in mailbox.mbox(path, create=False):
            number, whole = read_copy(message.as_bytes())
            if whole:
                when = calendar.timegm(time.strptime(message.get_from().split(" ", 1)[1].strip()))
                copies[f"mbox{box}@v.example", number].append(when)

    def bounced(self):
        """(recipient, number) that a notice was sent about."""
        told = set()
        for peer in self.peers.values():
            for message in list(peer.messages):
                if message.sender:
                    continue
                # A notice whose original could not be read says less of it: the address has the number too.
                for name in re.findall(rb"^(?:Original|Final)-Recipient: rfc822; *(\S+)", message.content, re.M):
                    number = re.match(rb"r(\d+)\.", name)
                    if number:
                        told.add((name.decode(), int(number.group(1))))
        return told


class Load:
    """Clients that send numbered messages until stopped; what was promised, to whom, and when."""

    def __init__(self, world, clients=4, programs=2, sizes=(200, 3000, 3000, 70000, 66000, 400000)):
        self.world = world
        self.sizes = sizes
        self.lock = threading.Lock()
        self.next = 0
        self.tries = 0  # turns of all clients, whatever came of them
        self.promised = {}  # number -> recipients
        self.uncertain = {}  # number -> recipients: the reply was not read
        self.spans = {}  # number -> (began, ended), time.time()
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(work, seed)) for seed, work in
                        enumerate([self.by_smtp] * clients + [self.by_sendmail] * programs)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def run(self, work, seed):
        chance = random.Random(seed)
        while not self.stopping.is_set():
            with self.lock:
                self.tries += 1
            if len(self.promised) - sum(len(p.messages) for p in self.world.peers.values()) > MOST_WAITING:
                self.stopping.wait(0.05)
                continue
            try:
                work(chance)
            except (OSError, smtp.Closed, AssertionError, subprocess.TimeoutExpired):
                self.stopping.wait(0.02)

    def new_message(self, chance):
        with self.lock:
            number = self.next
            self.next += 1
        recipients = []
        for at in range(chance.choice((1, 1, 1, 2, 4))):
            kind = chance.choice(HOSTS + ("maildir", "mbox", "list"))
            recipients.append(f"r{number}.{at}@{kind}.example" if kind in HOSTS else
                              "list@us.example" if kind == "list" else
                              f"{kind}{chance.randrange(LIST if kind == 'maildir' else 0, BOXES)}@v.example")
        recipients = sorted(set(recipients))
        self.uncertain[number] = recipients
        return number, recipients, content(number, chance.choice(self.sizes))

    def keep(self, number, recipients, began):
        """A promise, unless it was read when the power had gone: nobody hears that. The kernel's stand-in for
        a cut leaves the processes their last moment, and a sync that meets it may report success (xfs)."""
        if not self.world.has_power:
            return
        with self.lock:
            self.promised[number] = recipients
            self.uncertain.pop(number, None)
            self.spans[number] = (began, time.time())

    def by_smtp(self, chance):
        with smtp.Client(self.world.server.port, timeout=wait.DEADLINE) as client:
            client.hello()
            for _ in range(chance.randrange(1, 12)):
                number, recipients, text = self.new_message(chance)
                began = time.time()
                if client.message(f"s{number}@src.example", recipients, text).code == 250:
                    self.keep(number, recipients, began)
                if self.stopping.is_set():
                    return

    def by_sendmail(self, chance):
        number, recipients, text = self.new_message(chance)
        began = time.time()
        done = subprocess.run(
            [str(daemon.BIN / "sendmail"), "-i", "-f", f"s{number}@src.example", *recipients],
            input=text.replace(b"\r\n", b"\n"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=self.world.server.environment(), timeout=wait.DEADLINE)
        if done.returncode == 0:
            self.keep(number, recipients, began)

    def expanded(self):
        """(recipient, number) for everything that was promised, the list by its members."""
        return {(one, number) for number, recipients in self.promised.items()
                for recipient in recipients for one in members(recipient)}


def members(recipient):
    if recipient != "list@us.example":
        return [recipient]
    return [f"maildir{n}@v.example" for n in range(LIST)] + ["member@take.example"]


class Account:
    """What became of what was promised."""

    def __init__(self, world, load, cuts):
        self.copies, self.torn = world.arrived()
        self.bounced = world.bounced()
        self.wanted = load.expanded()
        self.cuts = cuts
        self.load = load
        known = set(load.promised) | set(load.uncertain)
        self.lost = sorted(key for key in self.wanted if key not in self.copies and key not in self.bounced)
        self.both = sorted(key for key in self.wanted if key in self.copies and key in self.bounced)
        self.strange = sorted(key for key in self.copies if key[1] not in known)
        self.twice = {key: sorted(times) for key, times in self.copies.items() if len(times) > 1}
        self.unexplained = {key: times for key, times in self.twice.items() if not self.explained(key[1], times)}

    def explained(self, number, times):
        """In flight at a cut, or handed over twice by a sendmail whose daemon was cut off meanwhile."""
        began, ended = self.load.spans.get(number, (0, 0))
        if any(began - 0.1 <= cut <= ended + 0.1 for cut in self.cuts):
            return True
        if number in self.load.uncertain:
            return True
        return all(any(first - 1 <= cut <= second + 1.1 and cut - first < FORGETTABLE for cut in self.cuts)
                   for first, second in zip(times, times[1:]))

    def summary(self):
        return (f"{len(self.load.promised)} promised messages, {len(self.wanted)} recipients, "
                f"{sum(len(t) for t in self.copies.values())} copies, {len(self.bounced)} bounced, "
                f"{len(self.lost)} lost, {len(self.torn)} torn, "
                f"{sum(len(t) - 1 for t in self.twice.values())} duplicates, "
                f"{len(self.unexplained)} unexplained, {len(self.load.uncertain)} without an answer")
