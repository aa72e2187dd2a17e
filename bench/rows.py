"""The rows of the table: loads, and how they are named."""
KIB = 1024
SIZES = {"1 KiB": KIB, "4 KiB": 4 * KIB, "64 KiB": 64 * KIB, "1 MiB": KIB * KIB}


class Row:
    """One load. quick: also in a quick run; others: also for servers beside Postfix and Postrider."""

    def __init__(self, name, size=4 * KIB, sessions=50, a_message=False, recipients=1, domains=1,
                 tls=False, signed=False, quick=False, others=False):
        self.name, self.size, self.sessions, self.a_message = name, size, sessions, a_message
        self.recipients, self.domains, self.tls = recipients, domains, tls
        self.signed = signed  # with DKIM, by Postrider alone
        self.quick, self.others = quick, others

    def least(self):
        """The fewest messages that say anything."""
        return max(2 * self.sessions, 20)

    def load_arguments(self, messages):
        arguments = ["--size", self.size, "--sessions", self.sessions, "--messages", messages,
                     "--recipients", self.recipients, "--domains", self.domains]
        return ([str(a) for a in arguments] + (["--connection-a-message"] if self.a_message else [])
                + (["--tls"] if self.tls else []))


def relay_rows():
    """Every size, both connection modes, every number of sessions; the row that counts first."""
    rows = []
    for size, octets in SIZES.items():
        for a_message in (False, True):
            for sessions in (1, 10, 50, 200):
                mode = "one a message" if a_message else "reused"
                plural = "session" if sessions == 1 else "sessions"
                quick = sessions == 50 and (size == "4 KiB" or not a_message) and size != "1 KiB"
                quick = quick or (size == "4 KiB" and sessions == 1 and not a_message)
                rows.append(Row(f"{size}, {sessions} {plural}, {mode}", octets, sessions, a_message,
                                quick=quick, others=sessions == 50 and size in ("4 KiB", "64 KiB")))
    return sorted(rows, key=lambda row: not (row.size == 4 * KIB and row.sessions == 50))


ROWS = relay_rows() + [
    Row("100 recipients, 1 domain", sessions=10, recipients=100),
    Row("100 recipients, 100 domains", sessions=10, recipients=100, domains=100),
    Row("4 KiB, 50 sessions, reused, STARTTLS", tls=True),
    Row("4 KiB, 50 sessions, one a message, STARTTLS", a_message=True, tls=True),
    Row("4 KiB, 50 sessions, reused, DKIM", signed=True),
]
