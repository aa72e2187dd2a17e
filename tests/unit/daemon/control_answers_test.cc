// What the control service answers of the queue: summaries, pauses, and messages as files.
#include "doors.h"

#include "base/base64.h"
#include "daemon/control/control_filter.h"
#include "daemon/control/control_service.h"
#include "daemon/control/import_messages.h"
#include "daemon/control/message_file.h"
#include "queue/checksum.h"

#include <boost/json/array.hpp>

#include <fcntl.h>
#include <map>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {
namespace {

namespace json = boost::json;

struct Lines {
  std::vector<json::object> lines;
  ControlEnd end;
};

Lines served(ControlService& service, const ControlRequest& request) {
  Lines answer;
  const auto job = service.start(request, 0);
  for (bool more = true; more;) {
    std::string out;
    more = job->step(out);
    for (std::size_t at = 0; at < out.size(); at = out.find('\n', at) + 1) {
      auto line = parse_json_line(std::string_view(out).substr(at, out.find('\n', at) - at));
      REQUIRE(line);
      if (auto end = find_end(*line))
        answer.end = *end;
      else
        answer.lines.push_back(std::move(*line));
    }
  }
  return answer;
}

ControlRequest asking(const char* act) {
  ControlRequest request;
  request.act = act;
  return request;
}

struct Answering : Doors {
  ControlService service{*queue, clock, nullptr};
  Answering() { run(); }
  Lines ask(const ControlRequest& request) { return served(service, request); }
};

TEST_CASE("a summary gives the largest groups, and the sum of all", "[daemon][unit]") {
  Answering s;
  for (int i = 0; i < 7; ++i)
    s.add("a@b", {"c@d" + std::to_string(i % 3) + ".test", "c@e.test"}, "x\r\n");
  auto request = asking("summary");
  request.limit = "2";
  const auto answer = s.ask(request);
  REQUIRE(answer.end.exit_code == EX_OK);
  REQUIRE(answer.lines.size() == 3);
  CHECK(answer.lines[0].at("group").at("key").as_string() == "e.test");
  CHECK(answer.lines[0].at("group").at("recipients").to_number<int>() == 7);
  CHECK(answer.lines[1].at("group").at("key").as_string() == "d0.test");
  const auto& total = answer.lines[2].at("summary").as_object();
  CHECK(total.at("messages").to_number<int>() == 7);
  CHECK(total.at("recipients").to_number<int>() == 14);
  CHECK(total.at("groups").to_number<int>() == 4);
  CHECK(total.at("shown").to_number<int>() == 2);
  CHECK(total.at("by").as_string() == "domain");
}

TEST_CASE("a summary that cannot be is refused with a sentence", "[daemon][unit]") {
  Answering s;
  for (const char* by : {"nonsense", "DOMAIN", "' OR 1=1"}) {
    auto request = asking("summary");
    request.by = by;
    const auto answer = s.ask(request);
    CHECK(answer.end.exit_code == EX_USAGE);
    CHECK(answer.end.error.find("--by") != std::string::npos);
  }
  for (const char* limit : {"x", "-1", "1.5", "100001", "99999999999999999999"}) {
    auto request = asking("summary");
    request.limit = limit;
    CHECK(s.ask(request).end.exit_code == EX_USAGE);
  }
}

TEST_CASE("a pause counts what it concerns, is in the status, and ends", "[daemon][unit]") {
  Answering s;
  s.add("a@b.test", {"c@d.test"}, "x\r\n");
  s.add("a@b.test", {"c@e.test"}, "x\r\n");
  auto request = asking("pause");
  request.filter.domain = "D.test.";
  request.dry_run = true;
  auto answer = s.ask(request);
  REQUIRE(answer.lines.size() == 1);
  CHECK(answer.lines[0].at("paused").at("messages").to_number<int>() == 1);
  CHECK(s.queue->pauses()->empty());

  request.dry_run = false;
  request.span = "2h";
  answer = s.ask(request);
  REQUIRE(answer.lines.size() == 1);
  CHECK(answer.lines[0].at("paused").at("name").as_string() == "d.test");
  CHECK(answer.lines[0].at("paused").at("until").to_number<std::int64_t>() > 0);
  const auto status = s.ask(asking("status"));
  REQUIRE(status.lines.size() == 1);
  const auto& shown = status.lines[0].at("status").as_object();
  REQUIRE(shown.at("paused").as_array().size() == 1);
  CHECK(shown.at("alarms").as_array()[0].as_string().find("mail to d.test is paused") !=
        json::string::npos);

  request = asking("resume");
  request.all = true;
  answer = s.ask(request);
  REQUIRE(answer.lines.size() == 1);
  CHECK(answer.lines[0].at("resumed").at("ended").to_number<int>() == 1);
  CHECK(s.queue->pauses()->empty());
}

TEST_CASE("what cannot be paused is refused with a sentence", "[daemon][unit]") {
  Answering s;
  using Set = void (*)(ControlRequest&);
  const Set cases[] = {
      [](ControlRequest&) {},
      [](ControlRequest& r) { r.filter.to = "c@d.test"; },
      [](ControlRequest& r) { r.filter.ids = {"1K1BX3F7Q2A"}; },
      [](ControlRequest& r) { r.filter.domain = "not a domain"; },
      [](ControlRequest& r) {
        r.filter.domain = "d.test";
        r.all = true;
      },
      [](ControlRequest& r) {
        r.filter.domain = "d.test";
        r.filter.from = "a@b.test";
      },
      [](ControlRequest& r) {
        r.all = true;
        r.span = "soon";
      },
      [](ControlRequest& r) {
        r.all = true;
        r.span = "0s";
      },
      [](ControlRequest& r) {
        r.all = true;
        r.filter.older = "1h";
      },
  };
  for (const auto set : cases)
    for (const char* act : {"pause", "resume"}) {
      auto request = asking(act);
      set(request);
      const auto answer = s.ask(request);
      INFO(answer.end.error);
      CHECK(answer.end.exit_code == EX_USAGE);
    }
  CHECK(s.queue->pauses()->empty());
}

TEST_CASE("a host to which mail is rerouted has one name", "[daemon][unit]") {
  const struct {
    const char* given;
    const char* want;  // empty: refused
  } cases[] = {{"relay.example.net", "smtp://relay.example.net:25"},
               {"Relay.Example.NET:587", "smtp://relay.example.net:587"},
               {"smtps://relay.example.net", "smtps://relay.example.net:465"},
               {"LMTP://relay", "lmtp://relay:24"},
               {"192.0.2.1", "smtp://192.0.2.1:25"},
               {"[192.0.2.1]:2525", "smtp://192.0.2.1:2525"},
               {"[2001:DB8::1]", "smtp://[2001:db8::1]:25"},
               {"[IPv6:2001:db8::1]:26", "smtp://[2001:db8::1]:26"},
               {"", ""},
               {"not a host", ""},
               {"http://relay.example.net", ""},
               {"relay.example.net:0", ""},
               {"relay.example.net:65536", ""},
               {"relay.example.net:x", ""},
               {"[relay.example.net]", ""},
               {"discard:", ""},
               {"error:5.1.1 no", ""},
               {"lmtp:///path", ""},
               {"mx@example.net", ""}};
  for (const auto& c : cases) {
    INFO(c.given);
    const auto made = to_next_hop(c.given);
    CHECK((made ? *made : "") == c.want);
  }
}

// What an export gives, by id.
std::map<std::string, std::string> exported(Answering& s, const ControlRequest& request) {
  std::map<std::string, std::string> files;
  std::string id, text;
  const auto answer = s.ask(request);
  CHECK(answer.end.exit_code == EX_OK);
  for (const auto& line : answer.lines) {
    if (const auto* begun = line.if_contains("export")) {
      id = std::string(begun->at("id").as_string());
      text.clear();
    } else if (const auto* piece = line.if_contains("content")) {
      text += *decode_base64(std::string(piece->as_string()));
    } else if (line.contains("exported")) {
      files[id] = text;
    }
  }
  return files;
}

FileDescriptor file_of(const std::string& folder, const std::string& text) {
  const auto name = folder + "/message-" + std::to_string(text.size());
  auto file = open_file(name, O_RDWR | O_CREAT | O_TRUNC);
  REQUIRE(file);
  REQUIRE(write_all(*file, text));
  REQUIRE(::lseek(file->get(), 0, SEEK_SET) == 0);
  return std::move(*file);
}

ImportedFile imported(queue::Queue& queue, const std::string& folder, const std::string& text) {
  std::vector<std::pair<std::string, FileDescriptor>> files;
  files.emplace_back("x.eml", file_of(folder, text));
  NullLog log;
  auto done = import_files(queue, log, {1000, "ann"}, std::move(files));
  REQUIRE(done.size() == 1);
  return done[0];
}

TEST_CASE("a message that was exported and removed comes back as it was", "[daemon][unit]") {
  Answering s;
  const std::string large = "Subject: large\r\n\r\n" + std::string(300'000, 'l') + "\r\n";
  for (const std::string& content :
       {std::string("Subject: x\r\n\r\nbody\r\n.\r\n\xff\0", 25), large}) {
    const auto id = s.add("a@b.test", {"c@d.test", "e@f.test"}, content);
    const auto before = s.queue->load(id);
    REQUIRE(before);
    const auto files = exported(s, asking("export"));
    REQUIRE(files.size() == 1);
    const auto& text = files.at(to_string(id));
    CHECK(text.ends_with("Received: by test\r\n" + content));
    CHECK(text.find("X-Postrider-To: <e@f.test>\r\n") != std::string::npos);
    CHECK(imported(*s.queue, s.folder.path(), text).end == ImportedFile::End::known);

    auto remove = asking("change");
    remove.verb = "remove";
    remove.all = true;
    REQUIRE(s.ask(remove).end.exit_code == EX_OK);
    const auto done = imported(*s.queue, s.folder.path(), text);
    INFO(done.reason);
    CHECK(done.end == ImportedFile::End::imported);
    CHECK(done.id == to_string(id));
    const auto after = s.queue->load(id);
    REQUIRE(after);
    CHECK((*after)->content.size == content.size());
    CHECK((*after)->content.file.empty() == (content.size() < 65'536));
    CHECK((*after)->content.trace == (*before)->content.trace);
    CHECK((*after)->envelope.sender == "a@b.test");
    CHECK((*after)->envelope.recipients.size() == 2);
    CHECK((*after)->received == (*before)->received);
    CHECK(exported(s, asking("export")).at(to_string(id)) == text);
    REQUIRE(s.ask(remove).end.exit_code == EX_OK);
  }
}

TEST_CASE("a message that was exported keeps the trace that it belongs to", "[daemon][unit]") {
  Answering s;
  const auto id = s.add("a@b.test", {"c@d.test"}, "x\r\n");
  auto message = **s.queue->load(id);
  const auto without = message_file_head(message, 1);
  CHECK(without.find("Traceparent") == std::string::npos);
  message.origin.trace_parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const auto text = message_file_head(message, 1);
  const auto field = "X-Postrider-Traceparent: " + message.origin.trace_parent + "\r\n";
  REQUIRE(text.find(field) != std::string::npos);
  const auto trace_in = [](const std::string& file) {
    const auto head = parse_message_file(file);
    return head && *head ? (*head)->message.origin.trace_parent : "refused";
  };
  CHECK(trace_in(without).empty());
  CHECK(trace_in(text) == message.origin.trace_parent);
  auto earlier = text;  // a version that did not write the field
  earlier.erase(earlier.find(field), field.size());
  CHECK(trace_in(earlier) == message.origin.trace_parent);
  auto changed = text;
  changed[changed.find(field) + field.size() - 3] = '3';
  CHECK(trace_in(changed) == "refused");
  auto twice = text;
  twice.insert(twice.find(field), field);
  CHECK(trace_in(twice) == "refused");
  auto added = without;
  added.insert(added.find("X-Postrider-Head"), field);
  CHECK(trace_in(added) == "refused");
}

TEST_CASE("only recipients that match are exported", "[daemon][unit]") {
  Answering s;
  const auto id = s.add("a@b.test", {"c@d.test", "e@f.test"}, "x\r\n");
  auto request = asking("export");
  request.filter.domain = "f.test";
  const auto text = exported(s, request).at(to_string(id));
  const auto head = parse_message_file(text);
  REQUIRE(head);
  REQUIRE(head->has_value());
  REQUIRE((*head)->message.envelope.recipients.size() == 1);
  CHECK((*head)->message.envelope.recipients[0].address == "e@f.test");
}

// To are held or not, by the file; what the queue says of them then.
TEST_CASE("who was held when a message was exported is held when it is imported",
          "[daemon][unit]") {
  Answering s;
  const std::vector<std::string> all = {"c@d.test", "e@f.test", "g@h.test"};
  for (const auto& held :
       {std::vector<std::string>{}, {"e@f.test"}, {"c@d.test", "g@h.test"}, all}) {
    CAPTURE(held);
    const auto id = s.add("a@b.test", all, "x\r\n");
    for (const auto& address : held) {
      auto hold = asking("change");
      hold.verb = "hold";
      hold.filter.to = address;
      REQUIRE(s.ask(hold).end.exit_code == EX_OK);
    }
    const auto text = exported(s, asking("export")).at(to_string(id));
    auto remove = asking("change");
    remove.verb = "remove";
    remove.all = true;
    REQUIRE(s.ask(remove).end.exit_code == EX_OK);
    REQUIRE(imported(*s.queue, s.folder.path(), text).end == ImportedFile::End::imported);
    const auto listed = s.queue->list({}, {}, 10);
    REQUIRE(listed);
    REQUIRE(listed->size() == 1);
    REQUIRE(listed->front().recipients.size() == 3);
    for (const auto& recipient : listed->front().recipients) {
      INFO(recipient.address);
      const bool is_held = std::find(held.begin(), held.end(), recipient.address) != held.end();
      CHECK((recipient.state == queue::RecipientState::held) == is_held);
    }
    REQUIRE(s.ask(remove).end.exit_code == EX_OK);
  }
}

TEST_CASE("who is about to bounce is not exported", "[daemon][unit]") {
  Answering s;
  const auto id = s.add("a@b.test", {"c@d.test", "e@f.test"}, "x\r\n");
  auto bounce = asking("change");
  bounce.verb = "bounce";
  bounce.filter.to = "c@d.test";
  REQUIRE(s.ask(bounce).end.exit_code == EX_OK);
  const auto head = parse_message_file(exported(s, asking("export")).at(to_string(id)));
  REQUIRE(head);
  REQUIRE(head->has_value());
  REQUIRE((*head)->message.envelope.recipients.size() == 1);
  CHECK((*head)->message.envelope.recipients[0].address == "e@f.test");
  bounce.filter.to = "e@f.test";
  REQUIRE(s.ask(bounce).end.exit_code == EX_OK);
  CHECK(exported(s, asking("export")).empty());
}

TEST_CASE("a file that is not an exported message is refused", "[daemon][unit]") {
  Answering s;
  const auto id = s.add("a@b.test", {"c@d.test"}, "Subject: x\r\n\r\nbody\r\n");
  const auto text = exported(s, asking("export")).at(to_string(id));
  auto remove = asking("change");
  remove.verb = "remove";
  remove.all = true;
  REQUIRE(s.ask(remove).end.exit_code == EX_OK);
  auto changed = text;
  changed[changed.size() - 4] = 'X';
  auto other_id = text;
  other_id.replace(other_id.find(to_string(id)), 3, "!!!");
  const auto with = [&text](std::string_view old, std::string_view fresh) {
    auto edited = text;
    return edited.replace(edited.find(old), old.size(), fresh);
  };
  const std::pair<const char*, std::string> cases[] = {
      {"empty", ""},
      {"another recipient for people", with("To: <c@d.test>", "To: <x@d.test>")},
      {"one more recipient for people",
       with("X-Postrider-To:", "X-Postrider-To: <x@d.test>\r\nX-Postrider-To:")},
      {"no recipient for people", with("X-Postrider-To: <c@d.test>\r\n", "")},
      {"held in other words", with("To: <c@d.test>", "To: <c@d.test>; HELD")},
      {"a sender who is held", with("From: <a@b.test>", "From: <a@b.test>; held")},
      {"another sender for people", with("From: <a@b.test>", "From: <x@b.test>")},
      {"an ordinary message", "Subject: x\r\n\r\nbody\r\n"},
      {"cut off in its head", text.substr(0, 60)},
      {"cut off in its content", text.substr(0, text.size() - 1)},
      {"content behind it", text + "x"},
      {"another content", changed},
      {"no id", other_id},
      {"only our mark", "X-Postrider-Export: " + to_string(id) + "\r\n\r\n"},
      {"a head that is none",
       "X-Postrider-Export: " + to_string(id) + "\r\nX-Postrider-Head: AAAA\r\n\r\n"}};
  for (const auto& [name, bytes] : cases) {
    INFO(name);
    const auto done = imported(*s.queue, s.folder.path(), bytes);
    CHECK(done.end == ImportedFile::End::refused);
    CHECK_FALSE(done.reason.empty());
  }
  CHECK(s.listed().empty());
}

}  // namespace
}  // namespace postrider::daemon
