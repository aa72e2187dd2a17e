#!/usr/bin/python3
"""Tables that an LDAP server answers, a real slapd: a key is one value whatever is in it, the password is nowhere but in
its file, and what the server cannot tell is 451 and never 550."""
from support_py import scenario, wait
from support_py.policy_host import Authority
from support_py.daemon import USER
from support_py.table_servers import Anything, Asked, CONTENT, Slapd

BOXES = "/nonexistent"


class LdapTables(Asked):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.needs("ldap")
        cls.boxes = cls.folder / "boxes"
        cls.boxes.mkdir()
        people = {
            "bad": [("mail", "bad@us.example"), ("description", "reject Not there")],
            "star": [("mail", "a*b@us.example"), ("description", "reject Starred")],
            "virt": [("mail", "virt.example"), ("title", "yes")],
            "box": [("mail", "box@virt.example"), ("title", f"maildir:{cls.boxes}/{{user}}/")],
            "two": [("mail", "two@virt.example"), ("title", "box@virt.example"), ("title", f"{USER}@us.example")],
            "picture": [("mail", "picture@us.example"), ("jpegPhoto:", "AP8A/w==")],
            "many": [("mail", "many@us.example"), *(("description", "x" * 1000 + str(n)) for n in range(1200))],
        }
        cls.base = cls.shared(Slapd(cls.folder / "slapd", people))

    def table(self, **settings):
        path = self.own_folder("table") / "table.toml"
        values = {"server": f"ldap://127.0.0.1:{self.base.port}", "bind_dn": self.base.NAME, "cache": "0s",
                  "password_file": str(self.base.password), "base": f"ou=people,{self.base.SUFFIX}",
                  "filter": "(&(objectClass=inetOrgPerson)(mail=%s))", "attribute": "description", **settings}
        path.write_text("".join(f"{key} = {value}\n".replace("'", '"') if isinstance(value, list) else f'{key} = "{value}"\n'
                                for key, value in values.items() if value is not None))
        return f"ldap:{path}"

    def access(self, **settings):
        return self.daemon(accept={"recipient_map": self.table(**settings)})

    def test_virtual_users(self):
        server = self.daemon(local={"virtual": [self.table(attribute="title", server=f"ldapi://{self.base.socket}",
                                                                  cache="10s")]})
        self.assertEqual(self.rcpt(server, "nosuch@virt.example").code, 550)
        self.assertEqual(server.send("x@src.example", ["two@virt.example"], CONTENT).code, 250)
        wait.until(lambda: list(self.boxes.glob("box/new/*")), "the mail in the box")
        server.wait_for_mail(1)
        self.assertIn(f"{self.boxes}/box", server.postrider("explain", "two@virt.example"))
        for path in (server.log_file, server.stderr_file):
            self.assertNotIn(self.base.PASSWORD, path.read_text())

    def test_a_key_is_one_value(self):
        server = self.access()
        self.assertEqual(self.rcpt(server, "BAD@us.example").text, "5.7.1 Not there")
        self.assertEqual(self.rcpt(server, "a*b@us.example").text, "5.7.1 Starred")
        for key in ("*", "b*", "\"x)(mail=*\"", "\"x)(|(mail=*\"", "\"\\\\2a\"", "%s"):
            reply = self.rcpt(server, f"{key}@us.example")
            self.assertEqual((reply.code, reply.text[:5]), (550, "5.1.1"), key)

    def test_a_base_made_of_the_key(self):
        server = self.access(base=f"cn=%u,ou=people,{self.base.SUFFIX}", scope="base", filter="(mail=%s)", result_format="%s")
        self.assertEqual(self.rcpt(server, "bad@us.example").text, "5.7.1 Not there")
        for key in ("nosuch", "\"bad,ou=people\"", "bad+sn=bad"):
            self.assertEqual(self.rcpt(server, f"{key}@us.example").code, 550, key)

    def test_what_it_cannot_tell_is_451(self):
        cases = {"no such base": {"base": "ou=nowhere,dc=us,dc=example"}, "another suffix": {"base": "dc=other"},
                 "no login": {"bind_dn": None, "password_file": None},
                 "another name": {"bind_dn": "cn=nobody,dc=us,dc=example"},
                 "a filter that is none": {"filter": "(&(mail=%s)(a=b)c)"}}
        for name, settings in cases.items():
            with self.subTest(name):
                server = self.access(**settings)
                self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451)
        for address, attribute in (("picture", "jpegPhoto"), ("many", "description")):
            with self.subTest(address):
                self.assertEqual(self.rcpt(self.access(attribute=attribute), f"{address}@us.example").code, 451)

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

    def test_who_is_no_directory(self):
        half = bytes.fromhex("30840000ffff0201016184")
        for octets in (b"", half, b"\x30\x84\x7f\xff\xff\xff\x02" + b"x" * 100_000, b"220 hello\r\n" * 100):
            for scheme in ("ldap", "ldaps"):
                with self.subTest(octets[:20], scheme=scheme):
                    other = self.using(Anything(octets))
                    server = self.access(server=f"{scheme}://127.0.0.1:{other.port}", time_limit="1s")
                    self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451)
        second = self.access(server=[f"ldap://127.0.0.1:{other.port}", f"ldap://127.0.0.1:{self.base.port}"], time_limit="8s")
        self.is_answered(second, "nosuch@us.example", 550)

    def test_tls_is_verified(self):
        others = Authority(self.own_folder("others"))
        for url, more in ((f"ldaps://127.0.0.1:{self.base.tls_port}", {}),
                          (f"ldap://127.0.0.1:{self.base.port}", {"tls": "verify"})):
            with self.subTest(url):
                right = {"server": url, "tls_ca": str(self.base.authority.roots), **more}
                self.assertEqual(self.rcpt(self.access(**right), "bad@us.example").text, "5.7.1 Not there")
                for wrong in ({"tls_ca": str(others.roots)}, {"server": url.replace("127.0.0.1", "localhost")},
                              {"tls_ca": "/nonexistent"}):
                    server = self.access(**{**right, **wrong})
                    self.assertEqual(self.rcpt(server, f"{USER}@us.example").code, 451, wrong)

    def test_its_file_is_checked(self):
        table = self.table(filter="mail=%s")
        server = self.daemon(start=False, accept={"recipient_map": table})
        wrong, said = self.checked(server)
        self.assertTrue(wrong)
        self.assertIn(f'{table.removeprefix("ldap:")}:6: filter: "mail=%s" is not a filter', said)


if __name__ == "__main__":
    scenario.main()
