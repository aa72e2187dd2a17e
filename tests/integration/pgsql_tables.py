#!/usr/bin/python3
"""Tables that PostgreSQL answers, a real one: aliases, virtual users and access from it. A key is never a part of the
statement, the password is nowhere but in its file, and what the server cannot tell is 451 and never 550."""
from support_py import scenario, wait
from support_py.policy_host import Authority
from support_py.daemon import USER
from support_py.table_servers import Anything, Asked, CONTENT, Postgresql

SCHEMA = """CREATE TABLE people (address text, place text);
CREATE TABLE access (address text, action text);
GRANT SELECT ON people, access TO postrider"""
QUERY = "SELECT action FROM access WHERE address = $1"


class PgsqlTables(Asked):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.needs("pgsql")
        cls.base = cls.shared(Postgresql(cls.folder / "postgresql"))
        cls.base.sql(SCHEMA, "mail")

    def setUp(self):
        super().setUp()
        self.base.sql("TRUNCATE people; TRUNCATE access", "mail")

    def table(self, query=QUERY, **settings):
        """A file of a table; its name for the configuration."""
        path = self.own_folder("table") / "table.toml"
        values = {"server": f"127.0.0.1:{self.base.port}", "dbname": "mail", "user": "postrider", "cache": "0s",
                  "password_file": str(self.base.password), "query": query, **settings}
        path.write_text("".join(f"{key} = {value if isinstance(value, list) else repr(value)}\n".replace("'", '"')
                                if key != "query" else f'{key} = """{value}"""\n' for key, value in values.items()))
        return f"pgsql:{path}"

    def access(self, **settings):
        return self.daemon(accept={"recipient_map": self.table(**settings)})

    def test_virtual_users_and_aliases(self):
        boxes = self.own_folder("boxes")
        self.base.sql(f"INSERT INTO people VALUES ('virt.example', 'yes'), ('box@virt.example', 'maildir:{boxes}/{{user}}/'), "
                      f"('two@virt.example', 'box@virt.example'), ('two@virt.example', '{USER}@us.example'), "
                      f"('team', '{USER}')", "mail")
        people = self.table("SELECT place FROM people WHERE address = $1", server=f"{self.base.own}:{self.base.port}",
                            cache="10s")
        server = self.daemon(local={"virtual": [people], "aliases": [people]})
        self.assertEqual(self.rcpt(server, "nosuch@virt.example").code, 550)
        self.assertEqual(self.rcpt(server, "nosuch@us.example").code, 550)
        self.assertEqual(server.send("x@src.example", ["two@virt.example", "team@us.example"], CONTENT).code, 250)
        wait.until(lambda: list(boxes.glob("box/new/*")), "the mail in the box")
        server.wait_for_mail(1)
        self.assertIn(f"{boxes}/box", server.postrider("explain", "two@virt.example"))
        for path in (server.log_file, server.stderr_file):
            self.assertNotIn(self.base.PASSWORD, path.read_text())

    def test_a_key_is_never_a_part_of_the_statement(self):
        self.base.sql("INSERT INTO access VALUES ('bad@us.example', 'reject Not there'), "
                      "('o''x@us.example', 'reject Quoted')", "mail")
        server = self.access()
        self.assertEqual(self.rcpt(server, "BAD@us.example").text, "5.7.1 Not there")
        self.assertEqual(self.rcpt(server, "o'x@us.example").text, "5.7.1 Quoted")
        for key in ("x'or'1'='1", '"x\';drop table access;--"', '"x\\\\\'or 1=1--"', "$1", "%s"):
            reply = self.rcpt(server, f"{key}@us.example")
            self.assertEqual((reply.code, reply.text[:5]), (550, "5.1.1"), key)
        self.assertEqual(self.rcpt(server, "bad@us.example").text, "5.7.1 Not there")

    def test_parts_of_the_key(self):
        self.base.sql("INSERT INTO access VALUES ('bad of us.example', 'reject Both')", "mail")
        server = self.access(query="SELECT action FROM access WHERE address = $1 || ' of ' || $2", parameters=["%u", "%d"],
                             domains=["us.example"])
        self.assertEqual(self.rcpt(server, "bad@us.example").text, "5.7.1 Both")

    def test_what_it_cannot_tell_is_451(self):
        cases = {"two columns": "SELECT address, action FROM access WHERE address <> $1",
                 "no table": "SELECT x FROM missing WHERE x = $1", "no number": "SELECT 'ok' WHERE 1 = $1",
                 "rows without end": "SELECT 'x' || $1 FROM generate_series(1, 20000)",
                 "a very long row": "SELECT repeat('x', 60000000) || $1", "for ever": "SELECT pg_sleep(600)::text || $1",
                 "nothing that answers": "DELETE FROM access WHERE address = $1", "a copy": "COPY access TO STDOUT -- $1"}
        for name, query in cases.items():
            with self.subTest(name):
                server = self.access(query=query, time_limit="2s")
                self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451)
                server.stop()

    def test_it_stops_hangs_and_comes_back(self):
        server = self.access(time_limit="2s")
        self.is_answered(server, "nosuch@us.example", 550)
        self.base.hold()
        self.addCleanup(self.base.hold, False)  # it is that of the other tests, too
        self.assertEqual(self.rcpt(server, "a@us.example").code, 451)
        self.base.hold(False)
        self.is_answered(server, "a@us.example", 550)
        self.base.stop()
        try:
            self.assertEqual(self.rcpt(server, "b@us.example").code, 451)
            later = self.access()  # it starts without its server
            self.assertEqual(self.rcpt(later, "b@us.example").code, 451)
        finally:
            self.base.start()
        self.is_answered(server, "b@us.example", 550)
        self.is_answered(later, "b@us.example", 550)
        backends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postrider'"
        self.base.sql(backends)
        self.assertEqual(self.rcpt(server, "c@us.example").code, 550, "it asks once more")

    def test_who_is_no_database(self):
        for octets in (b"", b"E\0\0\0\x08no\0\0", b"R\x7f\xff\xff\xff" + b"x" * 100_000, b"\r\n220 hello\r\n" * 100):
            with self.subTest(octets[:20]):
                other = self.using(Anything(octets))
                server = self.access(server=f"127.0.0.1:{other.port}", time_limit="1s")
                self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451)
                second = self.access(server=[f"127.0.0.1:{other.port}", f"127.0.0.1:{self.base.port}"], time_limit="8s")
                self.is_answered(second, "nosuch@us.example", 550)

    def test_tls_is_verified(self):
        right = {"server": f"localhost:{self.base.port}", "tls": "verify", "tls_ca": str(self.base.authority.roots)}
        server = self.access(**right)
        encrypted = "SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'postrider'"
        # A file that is new is read once more, and its table begins without connections.
        wait.until(lambda: self.rcpt(server, "nosuch@us.example").code == 550 and self.base.sql(encrypted) == "t",
                   "a connection with TLS")
        others = Authority(self.own_folder("others"))
        for wrong in ({"tls_ca": str(others.roots)}, {"server": f"127.0.0.1:{self.base.port}"}):
            server = self.access(**{**right, **wrong})
            self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451, wrong)

    def test_a_wrong_password(self):
        wrong = self.own_folder("wrong") / "password"
        wrong.write_text("very-wrong\n")
        wrong.chmod(0o600)
        server = self.access(password_file=str(wrong))
        self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451)
        self.assertNotIn("very-wrong", server.log_file.read_text())
        wrong.write_text(self.base.PASSWORD + "\n")
        self.is_answered(server, "nosuch@us.example", 550)

    def test_its_file_is_checked_and_followed(self):
        table = self.table()
        path = table.removeprefix("pgsql:")
        right = open(path).read()
        server = self.daemon(accept={"recipient_map": table})
        self.is_answered(server, "nosuch@us.example", 550)
        self.assertEqual(self.checked(server)[0], "", self.checked(server)[1])
        self.base.sql("INSERT INTO access VALUES ('here@us.example', 'reject Not there')", "mail")
        with open(path, "w") as file:
            file.write(right.replace(" = $1", " = $1 OR true"))
        wait.until(lambda: self.rcpt(server, "other@us.example").text == "5.7.1 Not there", "the new query")
        with open(path, "w") as file:
            file.write(right + "qurey = 1\n")
        wrong, said = self.checked(server)
        self.assertTrue(wrong)
        self.assertIn(f"{path}:7: qurey: unknown key; did you mean query?", said)
        server.wait_for_log("table_kept")
        self.assertEqual(self.rcpt(server, "another@us.example").text, "5.7.1 Not there")


if __name__ == "__main__":
    scenario.main()
