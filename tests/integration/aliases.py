#!/usr/bin/python3
"""Addresses of this machine: aliases in all their forms, included files, owners, .forward, virtual
users, tables and their reload, what is refused at RCPT, and what `postrider explain` says."""
import os
import sqlite3
import time

from support_py import daemon, scenario, wait
from support_py.local_users import CONTENT, USERS, LocalUsers

class Forms(LocalUsers):
    def test_lists_names_comments_and_continuations(self):
        server = self.machine('# a comment\n'
                              'Team: ann, BOB,\n'
                              '  # in between\n'
                              '\tx@far.example (elsewhere)\n'
                              '"John Q: Public": Carl <carl>\n'
                              'boss :dora\n').start()
        self.mail(server, "team@us.example")
        ann, = server.wait_for_mail(1, "ann")
        server.wait_for_mail(1, "bob")
        self.assertEqual(self.remote.wait_for(1)[0].addresses, ["x@far.example"])
        self.assertEqual(self.remote.messages[0].sender, "a@far.example")
        self.assertIn(b"Delivered-To: ann@us.example", ann)
        self.assertIn(b"Delivered-To: team@us.example", ann)
        self.mail(server, '"john q: public"@us.example')
        server.wait_for_mail(1, "carl")
        self.mail(server, "BOSS+urgent@us.example")
        server.wait_for_mail(1, "dora")
        server.wait_until_empty()

    def test_files_commands_and_included_lists(self):
        server = self.machine()
        folder = server.folder
        program = folder / "program"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\n'
                           f'cat > {folder}/content.new && mv {folder}/content.new {folder}/content\n')
        program.chmod(0o755)
        self.write(folder / "list", "# members\nbob\ncarl, x@far.example\n")
        self.write(self.aliases,
                   f'archive: {folder}/archive\nfolder: {folder}/box/\nnull: /dev/null\n'
                   f'robot: "|{program} \'a, b\' $HOME \\"c d\\""\n'.replace("$HOME ", "")
                   + f'members: :include:{folder}/list, ann\nfails: "|/bin/false"\n')
        server.start()
        self.mail(server, "archive@us.example")
        wait.until(lambda: (folder / "archive").exists(), "the file")
        server.wait_until_empty()
        self.assertTrue((folder / "archive").read_bytes().startswith(b"From a@far.example "))
        self.mail(server, "folder@us.example")
        wait.until(lambda: list((folder / "box" / "new").glob("*")), "the maildir")
        self.mail(server, "null@us.example")
        self.mail(server, "robot@us.example")
        wait.until(lambda: (folder / "content").exists(), "the command's work")
        self.assertEqual((folder / "arguments").read_text(), "a, b\nc d\n")
        self.assertIn(b"Delivered-To: robot@us.example", (folder / "content").read_bytes())
        self.mail(server, "members@us.example")
        for user in ("ann", "bob", "carl"):
            server.wait_for_mail(1, user)
        self.assertEqual(self.remote.wait_for(1)[0].addresses, ["x@far.example"])
        self.mail(server, "fails@us.example", sender="dora@us.example")
        notice, = server.wait_for_mail(1, "dora")
        self.assertIn(b"fails@us.example", notice)
        server.wait_until_empty()

    def test_unknown_recipients_are_refused_and_never_bounced(self):
        server = self.machine("real: ann\n").start()
        for address in ("nobody-here@us.example", "rea@us.example", "|id@us.example",
                        "../../x@us.example", ";id;@us.example", "-Cx@us.example"):
            self.assertTrue(self.rcpt(server, address).startswith("5"), address)
        self.assertTrue(self.rcpt(server, "nobody-here@us.example").startswith("550 5.1.1"))
        for address in ("real@us.example", "REAL+x@us.example", "ann@us.example",
                        "postmaster@us.example"):
            self.assertTrue(self.rcpt(server, address).startswith("250"), address)
        self.assertEqual(server.queued(), 0)

    def test_the_owner_of_a_list_is_its_sender(self):
        server = self.machine("list: x@far.example, y@far.example\nowner-list: ann\n"
                              "plain: x@far.example\n").start()
        self.mail(server, "list@us.example")
        message, = self.remote.wait_for(1)
        self.assertEqual(message.sender, "owner-list@us.example")
        self.mail(server, "plain@us.example")
        self.assertEqual(self.remote.wait_for(2)[1].sender, "a@far.example")
        self.mail(server, "list@us.example", sender="")
        self.assertEqual(self.remote.wait_for(3)[2].sender, "")
        self.mail(server, "owner-list@us.example")
        server.wait_for_mail(1, "ann")

    def test_a_list_of_1000_members_is_one_message(self):
        members = [f"member{number}@far.example" for number in range(1000)]
        server = self.machine()
        self.write(server.folder / "list", "\n".join(members) + "\n")
        self.write(self.aliases, f"big: :include:{server.folder}/list\nowner-big: ann\n")
        server.start()
        before = server.memory()
        self.mail(server, "big@us.example")
        wait.until(lambda: sum(len(one.addresses) for one in self.remote.messages) >= 1000,
                   "a thousand recipients")
        server.wait_until_empty()
        self.assertEqual(sorted(address for one in self.remote.messages
                                for address in one.addresses), sorted(members))
        self.assertLess(server.memory() - before, 16 << 20)
        expanded, = server.log("attempted", to="big@us.example")
        self.assertIn("expanded to 1000 recipients as ", expanded["reason"])

    def test_a_list_or_a_forward_that_is_being_rewritten(self):
        server = self.machine(delivery={"retry": ["1s"]})
        listed = server.folder / "list"
        self.write(self.aliases, f"list: :include:{listed}\n")
        forward = self.write(self.home / "ann" / ".forward", "bob\n")
        self.write(listed, "dora\nx@far.example\n")
        server.start()

        def rewrite(path, text):
            with open(path, "r+") as file:
                file.truncate(0)
                file.write(text)

        for turn, half in enumerate(("", "dora\nx@far.exa"), 1):
            with self.subTest(half=half):
                seen = len(server.log("attempted", verdict="deferred"))
                for path in (listed, forward):
                    rewrite(path, half)
                self.mail(server, "list@us.example")
                self.mail(server, "ann@us.example")

                def both_wait():
                    for path in (listed, forward):
                        os.utime(path)  # still being written, however slow we are
                    return len({entry["to"] for entry in
                                server.log("attempted", verdict="deferred")[seen:]}) == 2

                wait.until(both_wait, "neither is believed")
                rewrite(listed, "dora\nx@far.example\n")
                rewrite(forward, "bob\n")
                self.remote.wait_for(turn)
                server.wait_for_mail(turn, "bob")
                server.wait_for_mail(turn, "dora")
                server.wait_until_empty()
                self.assertEqual(server.mailbox("ann"), [])
                self.assertEqual(server.log("attempted", verdict="bounced"), [])

    def test_a_table_that_is_being_written_at_the_start(self):
        server = self.machine(delivery={"retry": ["1s"]})
        virtual = self.write(server.folder / "virtual", "")
        server.write_config(local={"virtual": [str(f"text:{virtual}")]})
        whole = {self.aliases: "other: bob\nstaff: ann\n",
                 virtual: "virtual.example yes\nbox@virtual.example ann@us.example\n"}
        tables = {"staff@us.example": self.aliases, "box@virtual.example": virtual}
        for path, text in whole.items():
            self.write(path, text)
        server.start()
        server.stop()
        wait.until(lambda: all(time.time() - path.stat().st_mtime > 0.5 for path in whole),
                   "tables that were not made at this moment")
        turn = 0
        for address, path in tables.items():
            for cut in (0, len(whole[path]) - 4):
                with self.subTest(path=path.name, cut=cut):
                    turn += 1
                    seen = len(server.log("attempted", verdict="deferred"))
                    server.sendmail(address, stdin=CONTENT)  # is left in the drop folder
                    path.write_text(whole[path][:cut])
                    server.start()

                    def waits():
                        os.utime(path)  # still being written, however slow we are
                        return [one for one in server.log("attempted", verdict="deferred")[seen:]
                                if one["to"] == address]

                    os.utime(path)
                    self.assertTrue(self.rcpt(server, address).startswith("4"))
                    wait.until(waits, "the table is not believed")
                    path.write_text(whole[path])
                    server.wait_for_mail(turn, "ann")
                    server.wait_until_empty()
                    self.assertTrue(self.rcpt(server, address).startswith("250"))
                    server.stop()
        self.assertEqual(server.log("attempted", verdict="bounced"), [])

    def test_a_table_that_has_been_at_rest_counts_at_the_start(self):
        server = self.machine("staff: ann\n")
        for text, code in (("", "550 5.1.1"), ("staff: ann", "250")):
            self.aliases.write_text(text)
            os.utime(self.aliases, (0, time.time() - 11))
            server.start()
            self.assertEqual(self.rcpt(server, "staff@us.example")[:len(code)], code)
            self.assertEqual(server.log("table_unusable"), [])
            server.stop()

    def test_circles_end(self):
        server = self.machine()
        include = server.folder / "list"
        self.write(include, f"bob\n:include:{include}\n")
        self.write(self.aliases, f"one: two\ntwo: three\nthree: one\nself: self\n"
                                 f"gone: nobody-here\nlost: gone, none-here\nhalf: dora, gone\n"
                                 f"ann: ann, bob\ninner: :include:{include}\n")
        server.start()
        for circle in ("one", "two+tag"):
            self.assertEqual(self.rcpt(server, f"{circle}@us.example"),
                             "550 5.4.6 The aliases of this address go in a circle here")
            server.wait_for_log("alias_circle", to=f"{circle}@us.example", level="warn")
        for nobody in ("gone", "lost"):
            self.assertTrue(self.rcpt(server, f"{nobody}@us.example").startswith("550 5.1.1"))
        self.assertEqual(len(server.log("alias_circle")), 2)
        self.mail(server, "half@us.example")
        server.wait_for_mail(1, "dora")
        self.mail(server, "ann@us.example")  # Ann herself, beside another
        server.wait_for_mail(1, "ann")
        server.wait_for_mail(1, "bob")
        self.mail(server, "inner@us.example")
        server.wait_for_mail(2, "bob")
        server.wait_until_empty()
        self.assertEqual(len(server.mailbox("ann")), 1)

    def test_a_command_that_hands_the_message_in_again_ends(self):
        """It takes away what Delivered-To says; the Received fields count all the same."""
        server = self.machine()
        again = server.folder / "again"
        again.write_text("#!/bin/sh\ngrep -v '^Delivered-To:' | "
                         f"POSTRIDER_CONFIG={server.config_file} exec {daemon.BIN}/sendmail -i "
                         "-f dora@us.example loop@us.example\n")
        again.chmod(0o755)
        self.write(self.aliases, f'loop: "|{again}"\n')
        server.write_config(sandbox={"read": [str(daemon.BIN)]})
        server.start()
        hop = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        self.assertEqual(server.send("a@far.example", "loop@us.example", hop * 96 + CONTENT).code, 250)
        notice, = server.wait_for_mail(1, "dora")
        self.assertIn(b"too many hops", notice)
        server.wait_until_empty()
        self.assertEqual(len(server.wait_for_log("submission_refused")), 1)

    def test_one_copy_for_one_mailbox_however_many_ways_lead_there(self):
        server = self.machine("a: b, B, bob\nb: bob\nlist: ann, bob\nother: bob+x, bob+y\n"
                              "far: x@far.example\nafar: x@far.example, x@FAR.example\n").start()
        ways = ("bob", "Bob+tag", "a", "b", "list", "other", "bob+x")
        reply = server.send("a@far.example", [f"{way}@us.example" for way in ways] +
                            ["bob@US.example"], CONTENT)
        self.assertEqual(reply.code, 250)
        server.wait_until_empty()
        self.assertEqual(len(server.mailbox("bob")), 1)
        self.assertEqual(len(server.mailbox("ann")), 1)
        self.mail(server, "bob@us.example")  # another message is another one
        server.wait_until_empty()
        self.assertEqual(len(server.mailbox("bob")), 2)
        self.assertEqual(server.send("a@far.example", ["far@us.example", "FAR+x@us.example",
                                                       "afar@us.example"], CONTENT).code, 250)
        server.wait_until_empty()
        self.assertEqual([address for one in self.remote.messages for address in one.addresses],
                         ["x@far.example"])

    def test_one_copy_by_lists_with_owners_and_by_a_forward(self):
        """Each way is a message of its own, with its own sender."""
        server = self.machine("one: ann\nowner-one: bob\ntwo: ann\nowner-two: bob\nall: one, two\n"
                              "owner-all: bob\n")
        self.write(self.home / "bob" / ".forward", "\\bob, ann\n")
        server.start()
        self.assertEqual(server.send("a@far.example", [f"{way}@us.example" for way in
                                                       ("one", "two", "all", "bob", "ann")],
                                     CONTENT).code, 250)
        server.wait_until_empty()
        self.assertEqual(len(server.mailbox("ann")), 1)
        self.assertEqual(len(server.mailbox("bob")), 1)
        self.mail(server, "all@us.example")  # nothing is left of it but two messages for one each
        server.wait_until_empty()
        self.assertEqual(len(server.mailbox("ann")), 2)
        self.assertEqual(len(server.mailbox("bob")), 1)

    def test_one_copy_where_no_way_is_the_message_itself(self):
        """Two messages that an expansion made, for one recipient each, and neither with one of its own."""
        server = self.machine("one: ann\nowner-one: bob\ntwo: ann\nowner-two: bob\n").start()
        for count in (1, 2):
            self.assertEqual(server.send("a@far.example", ["one@us.example", "two@us.example"],
                                         CONTENT).code, 250)
            server.wait_until_empty()
            self.assertEqual(len(server.mailbox("ann")), count)

    def test_a_sender_reads_nothing_of_the_command_that_delays_it(self):
        server = self.machine(delivery={"delay_notice": "1s", "retry": ["1s", "1h"]})
        program = server.folder / "secret-program"
        self.write(program, "#!/bin/sh\ncat >/dev/null\nkill -KILL $$\n", 0o755)
        self.write(self.aliases, f'slow: "|{program} secret-argument"\n')
        server.start()
        self.mail(server, "slow@us.example", sender="ann@us.example")
        notice, = server.wait_for_mail(1, "ann")
        self.assertIn(b"Action: delayed", notice)
        self.assertIn(b"it cannot be delivered on this machine now", notice)
        self.assertNotIn(b"secret", notice)
        self.assertIn("secret-program", str(server.log("attempted", verdict="deferred")))

    def test_two_forwards_make_no_flood(self):
        server = self.machine()
        for one, other in (("ann", "bob"), ("bob", "ann")):
            self.write(self.home / one / ".forward",
                       "".join(f"{other}+{i}@us.example\n" for i in range(40)))
        server.start()
        self.mail(server, "ann@us.example", sender="dora@us.example")
        server.wait_for_mail(1, "dora")
        server.wait_until_empty()
        self.assertLess(len(server.log("attempted")), 200)
        self.assertTrue(server.log("attempted", verdict="bounced", dsn="5.4.6"))

    def test_a_forward_that_is_too_long_is_not_used(self):
        server = self.machine()
        self.write(self.home / "ann" / ".forward", "x@far.example\n" * 5000)
        server.start()
        self.mail(server, "ann@us.example")
        server.wait_for_mail(1, "ann")
        self.assertIn("64 KiB", server.wait_for_log("address_problem")[0]["problem"])

    def test_a_file_that_everybody_may_write_is_refused_and_said(self):
        server = self.machine()
        include = self.write(server.folder / "list", "ann\n", 0o666)
        self.write(self.aliases, f"members: :include:{include}\n")
        server.start()
        self.mail(server, "members@us.example")
        problem = server.wait_for_log("address_problem")[0]
        self.assertEqual(problem["problem"], f"{include}: everybody may write this file")
        self.assertEqual(server.mailbox("ann"), [])
        self.assertEqual(server.queue()[0]["recipients"][0]["address"], "members@us.example")
        include.chmod(0o644)
        server.wait_for_mail(1, "ann")
        self.write(self.aliases, "evil: ann\n", 0o666)
        kept, = server.wait_for_log("table_kept")
        self.assertIn("everybody may write this file", kept["problem"])
        self.assertTrue(self.rcpt(server, "evil@us.example").startswith("550 5.1.1"))

    def test_a_large_message_is_copied_whole(self):
        server = self.machine("two: ann, x@far.example\n").start()
        content = CONTENT + b"0123456789abcdef\r\n" * 20000
        server.send("a@far.example", "two@us.example", content)
        got, = server.wait_for_mail(1, "ann")
        self.assertTrue(got.replace(b"\n", b"\r\n").endswith(content))
        self.assertTrue(self.remote.wait_for(1)[0].content.endswith(content))
        server.wait_until_empty()
        self.assertEqual(list((server.spool / "body").rglob("*.*")), [])

    def test_success_is_told_once(self):
        """RFC 3461 5.2.7"""
        server = self.machine("one: ann\nmany: ann, bob\nlist: ann, bob\nowner-list: carl\n").start()
        for name, action in (("one", b"Action: delivered"), ("many", b"Action: expanded"),
                             ("list", b"Action: delivered")):
            before = len(server.mailbox("dora"))
            with server.client() as client:
                client.hello()
                client.expect("MAIL FROM:<dora@us.example>", 250)
                client.expect(f"RCPT TO:<{name}@us.example> NOTIFY=SUCCESS,FAILURE", 250)
                client.expect("DATA", 354)
                client.send(CONTENT + b".\r\n")
                self.assertEqual(client.reply().code, 250)
            notice, = [mail for mail in server.wait_for_mail(before + 1, "dora")
                       if f"<{name}@us.example>: ".encode() in mail]
            server.wait_until_empty()
            self.assertIn(action, notice)
            self.assertEqual(len(server.mailbox("dora")), before + 1)


class Forward(LocalUsers):
    def forward(self, user, text, mode=0o644, name=".forward"):
        return self.write(self.home / user / name, text, mode)

    def test_where_it_leads(self):
        server = self.machine("desk: carl\n")
        self.forward("ann", "# gone\n\\ann, x@far.example\n")
        self.forward("bob", "bob\n")
        self.forward("dora", "desk\n")
        self.forward("carl", f'"|/bin/sh -c \'cat > {server.folder}/piped\'"\n', name=".forward+pipe")
        server.start()
        self.mail(server, "ann@us.example")
        server.wait_for_mail(1, "ann")
        self.assertEqual(self.remote.wait_for(1)[0].sender, "a@far.example")
        self.mail(server, "bob@us.example")
        server.wait_for_mail(1, "bob")
        self.mail(server, "dora@us.example")
        server.wait_for_mail(1, "carl")
        self.mail(server, "carl+pipe@us.example")
        wait.until(lambda: (server.folder / "piped").exists(), "the command")
        server.wait_until_empty()
        self.assertEqual([len(server.mailbox(user)) for user in USERS], [1, 1, 1, 0])

    def test_a_circle_over_two_users_ends_in_a_bounce(self):
        server = self.machine()
        self.forward("ann", "bob\n")
        self.forward("bob", "ann\n")
        server.start()
        self.mail(server, "ann@us.example", sender="dora@us.example")
        notice, = server.wait_for_mail(1, "dora")
        self.assertIn(b"Status: 5.4.6", notice)
        server.wait_until_empty()

    def test_a_file_that_others_may_write_is_not_used_and_said(self):
        server = self.machine()
        self.forward("ann", "x@far.example\n", 0o664)
        self.forward("bob", "this is: wrong\n")
        server.start()
        for user in ("ann", "bob"):
            self.mail(server, f"{user}@us.example")
            server.wait_for_mail(1, user)
        said = [entry["problem"] for entry in server.wait_for_log("address_problem", 2)]
        self.assertIn("others may write to it", said[0])
        self.assertIn("~bob/.forward:1: ", said[1])
        self.assertEqual(self.remote.messages, [])


class Virtual(LocalUsers):
    def test_domains_users_and_the_rest(self):
        server = self.machine("team: ann, bob\n", local={"virtual": []})
        table = self.write(server.folder / "virtual",
                           "virtual.example   anything\n"
                           "info@virtual.example  ann, x@far.example\n"
                           "team@virtual.example  team\n"
                           f"box@virtual.example  maildir:{server.folder}/v/{{domain}}/{{user}}/\n"
                           "rest.example  anything\n@rest.example bob\n"
                           "moved.example  anything\n@moved.example @far.example\n"
                           "carl@us.example dora\n")
        server.write_config(local={"virtual": [f"text:{table}"]})
        server.start()
        self.mail(server, "Info@Virtual.Example")
        server.wait_for_mail(1, "ann")
        self.assertEqual(self.remote.wait_for(1)[0].addresses, ["x@far.example"])
        self.mail(server, "team@virtual.example")
        server.wait_for_mail(1, "bob")
        self.mail(server, "box+tag@virtual.example")
        box = server.folder / "v" / "virtual.example" / "box" / "new"
        wait.until(lambda: box.is_dir() and list(box.iterdir()), "the virtual mailbox")
        self.mail(server, "anybody@rest.example")
        server.wait_for_mail(2, "bob")
        self.mail(server, "sue+x@moved.example")
        self.assertEqual(self.remote.wait_for(2)[1].addresses, ["sue+x@far.example"])
        self.mail(server, "carl@us.example")
        server.wait_for_mail(1, "dora")
        self.assertTrue(self.rcpt(server, "ann@virtual.example").startswith("550 5.1.1"))
        self.assertTrue(self.rcpt(server, "postmaster@virtual.example").startswith("250"))
        server.wait_until_empty()

    def test_names_written_in_U_labels(self):
        server = self.machine(local={"virtual": []})
        folder = server.folder
        table = self.write(folder / "virtual",
                           "b\u00fccher.example   anything\n"
                           "info@b\u00fccher.example  ann\n"
                           "xn--strae-oqa.example  anything\n"
                           "@xn--strae-oqa.example  bob\n")
        senders = self.write(folder / "senders", "b\u00fccher.example  reject no books\n"
                                                 ".b\u00fccher.example  reject no parts of books\n")
        server.write_config(local={"virtual": [f"text:{table}"]},
                            accept={"senders": [f"text:{senders}"]})
        server.start()
        self.mail(server, "info@xn--bcher-kva.example")
        server.wait_for_mail(1, "ann")
        self.mail(server, "any@xn--strae-oqa.example")
        server.wait_for_mail(1, "bob")
        self.assertTrue(self.rcpt(server, "nobody@xn--bcher-kva.example").startswith("550 5.1.1"))
        with server.client() as client:
            client.hello()
            for sender, answer in (("a@xn--bcher-kva.example", "no books"),
                                   ("a@mx.xn--bcher-kva.example", "no parts of books"),
                                   ("a@b\u00fccher.example", "no books")):
                said = str(client.command(f"MAIL FROM:<{sender}> SMTPUTF8"))
                said = said if said.startswith("5") else str(
                    client.command("RCPT TO:<ann@us.example>"))
                self.assertTrue(said.endswith(answer), said)
                client.command("RSET")
            client.command("MAIL FROM:<a@us.example> SMTPUTF8")
            self.assertTrue(str(client.command(
                "RCPT TO:<info@b\u00fccher.example>")).startswith("250"))
        server.wait_until_empty()

    def test_a_catch_all_takes_what_is_unknown(self):
        server = self.machine(local={"catch_all": "ann"}).start()
        self.mail(server, "whoever@us.example")
        server.wait_for_mail(1, "ann")
        server.wait_until_empty()

    def test_a_catch_all_that_leads_to_nobody_catches_nothing(self):
        server = self.machine(local={"catch_all": "nosuchuser"})
        said = server.tool("postrider", "check", check=False)
        self.assertIn("local.catch_all", said.stdout + said.stderr)
        self.assertIn("leads to nobody", said.stdout + said.stderr)
        server.start()
        for name in ("whoever", "nosuchuser"):
            self.assertTrue(self.rcpt(server, f"{name}@us.example").startswith("550 5.1.1"))
        self.assertTrue(self.rcpt(server, "ann@us.example").startswith("250"))


class Tables(LocalUsers):
    def test_every_form_of_table(self):
        server = self.machine()
        folder = server.folder
        database = folder / "users.db"
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE alias (name TEXT, target TEXT)")
            connection.executemany("INSERT INTO alias VALUES (?, ?)",
                                   [("indb", "ann"), ("indb", "bob")])
        database.chmod(0o644)
        self.write(folder / "patterns", "/^r-[0-9]+$/ carl\n")
        self.write(folder / "compiled", "incdb: dora\n")
        server.write_config(local={"aliases": [
            str(self.aliases), "inline:{inline=ann}", f"pcre:{folder}/patterns",
            f"cdb:{folder}/compiled.cdb",
            f"sqlite:{database}?SELECT target FROM alias WHERE name = :key"]})
        said = server.tool("newaliases").stdout
        self.assertIn(f"{folder}/compiled: 1 aliases, written to {folder}/compiled.cdb", said)
        server.start()
        for address, users in (("indb", ("ann", "bob")), ("inline", ("ann",)), ("r-17", ("carl",)),
                               ("incdb", ("dora",))):
            before = {user: len(server.mailbox(user)) for user in users}
            self.mail(server, f"{address}@us.example")
            for user in users:
                server.wait_for_mail(before[user] + 1, user)
        for payload in ("x'/**/UNION/**/SELECT/**/1--", "r-1/etc"):
            self.assertTrue(self.rcpt(server, f"{payload}@us.example").startswith("550 5.1.1"))

    def test_a_changed_file_is_read_and_a_wrong_one_is_not(self):
        server = self.machine("first: ann\n").start()
        self.assertTrue(self.rcpt(server, "second@us.example").startswith("550"))
        self.write(self.aliases, "second: ann\n")
        wait.until(lambda: self.rcpt(server, "second@us.example").startswith("250"), "the new alias")
        self.write(self.aliases, "not one\nof these\nis right\n")
        kept, = server.wait_for_log("table_kept")
        self.assertEqual(kept["problem"],
                         f"{self.aliases}:1: a colon must follow the name, and no line is right")
        self.assertTrue(self.rcpt(server, "second@us.example").startswith("250"))
        server.reload()
        server.wait_for_log("reloaded")
        self.assertTrue(self.rcpt(server, "second@us.example").startswith("250"))

    def test_a_table_that_was_overwritten_stays_and_bounces_nobodys_mail(self):
        right = {"aliases": b"al: ann\nlist: bob\n",
                 "virtual": b"v.example x\na@v.example ann@us.example\n"}
        server = self.machine()
        files = {"aliases": self.aliases, "virtual": server.folder / "virtual"}
        for name, file in files.items():
            file.write_bytes(right[name])
            file.chmod(0o644)
        server.write_config(local={"virtual": [f"text:{files['virtual']}"]})
        server.start()
        names = ("al@us.example", "list@us.example", "a@v.example")
        garbage = {"a page": b"<html><body>404 Not Found</body></html>\n", "one word": b"garbage\n",
                   "NULs": b"\0" * 4096 + b"\n", "octets": b"\xff\xfe\x01\n\x80\n"}
        for told, (what, text) in enumerate(garbage.items(), 1):
            with self.subTest(what):
                for file in files.values():
                    file.write_bytes(text)
                server.wait_for_log("table_kept", count=2 * told)
                for name in names:
                    self.assertTrue(self.rcpt(server, name).startswith("250"), name)
                self.assertEqual(server.postrider("status").count("the one before is in use"), 2)
                for name, file in files.items():
                    file.write_bytes(right[name])
                wait.until(lambda: "the one before" not in server.postrider("status"), "the alarms' end")
        for file in files.values():
            file.write_bytes(garbage["a page"])
        server.restart()
        self.assertTrue(self.rcpt(server, "al@us.example").startswith("451"))
        self.assertEqual(server.postrider("status").count("lookups fail until then"), 2)

    def test_a_wrong_line_costs_that_line(self):
        server = self.machine("one: ann\n").start()
        wrong = ("\ufefffirst: ann\nwrong line\nempty:\nfirst: bob\n*: ann\n"
                 "x@us.example: ann\nthird: |\nlast: bob\n")
        told = [f"{self.aliases}:2: a colon must follow the name",
                f'{self.aliases}:3: "empty" has no value',
                f'{self.aliases}:4: "first" is given twice, first in line 1',
                f'{self.aliases}:5: "*" matches nothing',
                f'{self.aliases}:6: "x@us.example" matches nothing',
                f"{self.aliases}:7: the command"]
        self.write(self.aliases, wrong)

        def look():
            for address, code in (("first", "250"), ("last", "250"), ("ann", "250"),
                                  ("empty", "550"), ("x", "550"), ("third", "451")):
                self.assertTrue(self.rcpt(server, f"{address}@us.example").startswith(code), address)
            said = [entry["problem"] for entry in server.log("table_line")]
            for line, entry in zip(told, said[-len(told):], strict=True):
                self.assertTrue(entry.replace(r"\x22", '"').startswith(line), entry)

        server.wait_for_log("table_line", count=len(told))
        wait.until(lambda: self.rcpt(server, "last@us.example").startswith("250"), "the new table")
        look()
        server.restart()
        look()
        done = server.tool("newaliases")
        for line in told:
            self.assertIn(f"warning: {line}", done.stdout)
        self.assertIn(f"{self.aliases}: 2 aliases\n", done.stdout)
        done = server.tool("postrider", "check")
        for line in told:
            self.assertIn(f"warning: local.aliases: {line}", done.stdout)

    def test_trouble_with_a_table_is_temporary(self):
        server = self.machine("wrong line\n" * 3).start()
        self.assertTrue(self.rcpt(server, "any@us.example").startswith("451 4.3"))
        self.write(self.aliases, "any: ann\n")
        wait.until(lambda: self.rcpt(server, "any@us.example").startswith("250"), "the mended table")

    def test_newaliases_and_check_tell_what_is_wrong(self):
        server = self.machine("one: root\ntwo: nobody\n")
        done = server.tool("newaliases")
        self.assertEqual(done.stdout, f"{self.aliases}: 2 aliases\n")
        self.write(self.aliases, "one ann\ntwo bob\nthree carl\n")
        done = server.tool("newaliases", check=False)
        self.assertEqual((done.returncode, done.stderr),
                         (65, f"newaliases: {self.aliases}:1: a colon must follow the name, "
                              "and no line is right\n"))
        self.assertEqual(server.tool("sendmail", "-bi", check=False).returncode, 65)
        done = server.tool("postrider", "check", check=False)
        self.assertEqual(done.returncode, 78)
        self.assertIn(f"local.aliases: {self.aliases}:1: a colon must follow the name", done.stderr)
        self.aliases.unlink()
        self.assertEqual(server.tool("newaliases").stdout,
                         f"{self.aliases}: does not exist, so there are no aliases\n")

    def test_newaliases_and_check_warn_of_what_leads_nowhere(self):
        server = self.machine()
        empty = server.folder / "empty"
        self.write(empty, "# nobody\n")
        chain = "".join(f"c{i}: c{i + 1}\n" for i in range(30))
        lines = ["good: root, x@far.example", "self: self, root", "one: two", "two: three", "three: one", "to-one: one",
                 "typo: rooot", "to-typo: root, typo", f"none: :include:{empty}", "twice: good, good"]
        self.write(self.aliases, "\n".join(lines) + "\n" + chain + "c30: root\n")
        at = lambda line: f"warning: {self.aliases}:{line}: "
        wanted = [
            f"{at(2)}self stands for itself, and there is no such user, so what is sent there comes back: correct the "
            "name, or remove it",
            f"{at(5)}these aliases go in a circle, and their mail is refused: one -> two -> three -> one; lead one of "
            "them to a user or to an address elsewhere",
            f"{at(7)}rooot is neither a user nor an alias here, and what is sent there comes back: typo -> rooot; correct "
            "the name, or remove it",
            f"{at(9)}none has no members, and its mail does not arrive; add one, or remove it"]
        for words, prefix in (("newaliases", ""), ("postrider check", "local.aliases: ")):
            said = (lambda done: done.stdout + done.stderr)(server.tool(*words.split()))
            lines = [line for line in said.splitlines() if line.startswith("warning: ") and str(self.aliases) in line]
            for line in wanted:
                self.assertIn(line.replace("warning: ", "warning: " + prefix, 1), lines, words)
            long, = [line for line in lines if "steps away" in line]
            self.assertRegex(long, r":11: c0 is more than 20 steps away from where it ends, .*: c0 -> c1 -> .* -> c21; "
                                   "shorten that, or raise local.expansion_steps$")
            self.assertEqual(len(lines), len(wanted) + 1, lines)
        self.assertEqual(server.tool("postrider", "check", "--strict", check=False).returncode, 78)
        # Lists: their members, their wrong lines, and those that are not there; names however they are written.
        listed, missing = server.folder / "list", server.folder / "missing"
        self.write(listed, "root\ntypoo\n|/bin/true\n")
        self.write(self.aliases, f'l: :include:{listed}\nm: :include:{missing}\ne: "t.w"@us.example\nb: nosuch@[127.0.0.1]\n')
        said = server.tool("newaliases", check=False)
        said = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("warning: ")]
        comes_back = " is neither a user nor an alias here, and what is sent there comes back: "
        for begin in (f"{listed}:2: typoo{comes_back}l -> typoo; ", f"{self.aliases}:1: {listed}:3: ",
                      f"{self.aliases}:2: the file that m includes cannot be used, and its mail waits: ",
                      f"{self.aliases}:3: t.w{comes_back}e -> t.w; ", f"{self.aliases}:4: nosuch{comes_back}b -> nosuch; "):
            self.assertEqual(len([line for line in said if line.startswith("warning: " + begin)]), 1, (begin, said))
        self.assertEqual(len(said), 5, said)
        # A circle that is longer than an expansion goes.
        self.write(self.aliases, "".join(f"c{i}: c{(i + 1) % 26}\n" for i in range(26)))
        said = server.tool("newaliases", check=False)
        self.assertEqual((said.stdout + said.stderr).count("is more than 20 steps away"), 1, said)
        self.write(self.aliases, "one: root\ntwo: one, x@far.example\n")
        self.assertEqual(server.tool("newaliases").stdout, f"{self.aliases}: 2 aliases\n")
        self.assertNotIn(str(self.aliases), server.tool("postrider", "check").stdout)

    def test_explain_shows_each_step(self):
        server = self.machine()
        self.write(server.folder / "list", "bob\nx@far.example\n")
        self.write(self.aliases, f"root: team\nteam: ann,\n :include:{server.folder}/list\n")
        self.write(self.home / "ann" / ".forward", "\\ann, carl\n")
        server.start()
        said = server.postrider("explain", "root@us.example")
        for line in (f"root@us.example -> team ({self.aliases}:1)",
                     f"team@us.example -> ann ({self.aliases}:2)",
                     f"team@us.example -> :include:{server.folder}/list ({self.aliases}:2)",
                     f"team@us.example -> bob ({server.folder}/list:1)",
                     f"team@us.example -> x@far.example ({server.folder}/list:2)",
                     "ann@us.example -> \\ann (~ann/.forward:1)",
                     f"maildir {server.folder}/mail/carl", "is delivered to 4 places"):
            self.assertIn(line, said)
        self.assertIn("there is no user", server.postrider("explain", "none@us.example"))

    def test_explain_says_that_an_alias_leads_nowhere(self):
        server = self.machine()
        self.write(server.folder / "empty", "# nobody\n")
        self.write(server.folder / "strangers", "no-such-one\n")
        self.write(self.aliases, f"""gone: nobody-here
lost: gone, none-here
half: ann, nobody-here
one: two
two: one
empty: :include:{server.folder}/empty
strangers: :include:{server.folder}/strangers
null: /dev/null
missing: :include:{server.folder}/missing
out: x@far.example
""")
        self.write(self.home / "bob" / ".forward", "nobody-here\n")
        server.start()
        for name, conclusion, reply in (
                ("gone", "is refused: it leads to a user that there is not", "550 5.1.1"),
                ("lost", "is refused: it leads to 2 users that there are not", "550 5.1.1"),
                ("half", "is delivered to 1 place, and is bounced for 1 user unknown here", "250"),
                ("one", "is refused: the aliases of one@us.example go in a circle", "550 5.4.6"),
                ("empty", "is bounced: the list empty@us.example has no members", "250"),
                ("strangers", "is bounced: it leads to a user that there is not", "250"),
                ("null", "is thrown away: it leads to /dev/null", "250"),
                ("missing", "waits: a list of missing@us.example cannot be used", "250"),
                ("bob", "is bounced: it leads to a user that there is not", "250")):
            with self.subTest(name):
                said = server.postrider("explain", f"{name}@us.example")
                self.assertRegex(said, rf"(?m)^  conclusion +{conclusion}", said)
                self.assertEqual(self.rcpt(server, f"{name}@us.example")[:len(reply)], reply)
        self.assertIn(f"127.0.0.1:{self.remote.port}", server.postrider("explain", "out@us.example"))
        self.mail(server, "empty@us.example")  # it is bounced, and the administrator hears of it
        problem = server.wait_for_log("address_problem", to="empty@us.example")[0]
        self.assertEqual(problem["problem"], "the list empty@us.example has no members")

    def test_explain_says_that_the_user_of_commands_is_unknown(self):
        if not scenario.is_root():
            self.skipTest("needs root: else commands run as the daemon's own user")
        server = self.machine('robot: "|/bin/cat"\n', local={"alias_user": "no-such-user"}, user="nobody")
        self.open_all(server)
        server.start()
        said = server.postrider("explain", "robot@us.example")
        self.assertIn("there is no user no-such-user (local.alias_user)", said)
        self.assertRegex(said, r"(?m)^  conclusion +waits: 1 place that cannot be used now")

    def open_all(self, server):
        """For a daemon that is not root."""
        at = server.folder
        os.chmod(at, 0o777)
        while at != at.parent:
            os.chmod(at, os.stat(at).st_mode | 0o011)
            at = at.parent


if __name__ == "__main__":
    scenario.main()
