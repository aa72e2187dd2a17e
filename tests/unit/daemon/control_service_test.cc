#include "daemon/control/control_service.h"

#include "doors.h"

#include "base/base64.h"
#include "daemon/control/control_json.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <future>
#include <map>
#include <sysexits.h>
#include <utility>

namespace postrider::daemon {
namespace {

namespace json = boost::json;

struct Answer {
  std::vector<json::object> lines;
  ControlEnd end;
  std::size_t steps = 0;
};

Answer serve(ControlService& service, ControlRequest request, Asker asker = Asker::administrator) {
  Answer answer;
  const auto job = service.start(std::move(request), 1234, asker);
  for (bool more = true; more;) {
    std::string out;
    more = job->step(out);
    ++answer.steps;
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

ControlRequest request(const char* act, const char* verb = "") {
  ControlRequest request;
  request.act = act;
  request.verb = verb;
  return request;
}

class FixedInsight : public StatusSource {
 public:
  std::vector<ExplainedFact> reports(ReportKind, bool send, bool today_too) override {
    return {{send ? "report" : "collected", today_too ? "today too" : "up to yesterday"}};
  }
  std::vector<ExplainedFact> explain(const std::string& address, bool) override {
    return {{"step", address + " -> |/usr/bin/prog --key secret"},
            {"route", "mx of " + address},
            {"problem", "no secret is known in line 3"},
            {"ends at", "|/usr/bin/prog --key secret"},
            {"conclusion", "is delivered at once to mx"}};
  }
  std::vector<json::object> sites() override {
    return {{{"site", "mx.d.test"}, {"state", "blocked"}, {"limits", "1 connection"}},
            {{"site", "mx.well.test"}, {"state", "open"}, {"limits", "5 connections"}},
            {{"site", "relay"}, {"state", "open"}, {"alarm", "credentials"}}};
  }
  json::object status() override { return {{"listeners", json::array{"0.0.0.0:25"}}}; }
  void retried(const queue::Filter&) override { ++retries; }
  std::uint64_t ask_for_reload() override { return ++reloads; }
  std::optional<ReloadVerdict> reload_verdict(std::uint64_t number) override {
    return looks++ < 2 || number != reloads ? std::nullopt : std::optional(verdict);
  }
  int retries = 0, looks = 0;
  std::uint64_t reloads = 0;
  ReloadVerdict verdict;
};

struct Served : Doors {
  FixedInsight insight;
  ControlService service{*queue, clock, &insight};
  Served() { run(); }
};

TEST_CASE("a listing comes in pages, the first one short", "[daemon][unit]") {
  Served s;
  for (int i = 0; i < 60; ++i)
    s.add("a@b", {"c@d.test"}, "x\r\n");
  const auto answer = serve(s.service, request("list"));
  CHECK(answer.end.exit_code == EX_OK);
  CHECK(answer.lines.size() == 60);
  CHECK(answer.steps == 3);  // and the drop folder
}

TEST_CASE("a reload is answered when it has been judged", "[daemon][unit]") {
  Served s;
  s.insight.verdict.notes = {"spool counts after a restart"};
  auto answer = serve(s.service, request("reload"));
  CHECK(answer.end.exit_code == EX_OK);
  CHECK(answer.steps == 3);
  REQUIRE(answer.lines.size() == 1);
  CHECK(answer.lines[0] == json::object{{"note", {{"text", "spool counts after a restart"}}}});
  s.insight.verdict = {{"a.toml:5: acept: unknown key", "\x1b\xff"}, {}};
  answer = serve(s.service, request("reload"));
  CHECK(answer.end.exit_code == EX_CONFIG);
  CHECK(answer.end.error.find("was refused") != std::string::npos);
  REQUIRE(answer.lines.size() == 2);
  CHECK(answer.lines[0] == json::object{{"problem", {{"text", "a.toml:5: acept: unknown key"}}}});
  ControlService without(*s.queue, s.clock, nullptr);
  CHECK(serve(without, request("reload")).end.exit_code == EX_UNAVAILABLE);
}

// Who adds a request decides here, once more, whether it changes or shows something.
TEST_CASE("I14: what members of control.readers may ask is the table, row by row",
          "[daemon][unit]") {
  Served s;
  const auto id = mail::to_string(s.add("a@b", {"c@d.test"}, "Subject: secret\r\n\r\nx\r\n"));
  std::map<std::string, ControlRight> rights;
  for (const auto& act : control_acts()) {
    const auto name = std::string(act.act) + (act.verb.empty() ? "" : " ") + std::string(act.verb);
    rights[name] = act.right;
    auto asked = request(std::string(act.act).c_str(), std::string(act.verb).c_str());
    asked.target = act.act == "show" || act.act == "explain" ? id : "";
    asked.all = true;
    const auto answer = serve(s.service, asked, Asker::reader);
    INFO(name << ": " << answer.end.error);
    CHECK((answer.end.exit_code == EX_NOPERM) == (act.right != ControlRight::read));
  }
  constexpr auto read = ControlRight::read, change = ControlRight::change;
  CHECK(rights == std::map<std::string, ControlRight>{
                      {"list", read},
                      {"count", read},
                      {"summary", read},
                      {"change *", change},
                      {"export", ControlRight::content},
                      {"pause", change},
                      {"resume", change},
                      {"show", read},
                      {"explain", read},
                      {"reload", change},
                      {"sites", read},
                      {"status", read},
                      {"tls_reports", read},
                      {"tls_reports send", change},
                      {"dmarc_reports", read},
                      {"dmarc_reports send", change},
                      {"events", read},
                      {"events replay", change},
                      {"trace", read},
                  });
  CHECK(s.listed().size() == 1);
  CHECK(s.insight.reloads == 0);
}

TEST_CASE("I14: a verb that the table does not have is nobody's", "[daemon][unit]") {
  Served s;
  for (const auto asker : {Asker::administrator, Asker::reader})
    for (const auto& [act, verb] :
         {std::pair("events", "Replay"), std::pair("status", "x"), std::pair("list", "*"),
          std::pair("tls_reports", "send "), std::pair("", ""), std::pair("LIST", "")}) {
      const auto end = serve(s.service, request(act, verb), asker).end;
      INFO(act << " " << verb);
      CHECK(end.exit_code == EX_PROTOCOL);
      CHECK(end.error.find("does not know the request") != std::string::npos);
    }
  // Of changes the job judges the verb, and not for everybody.
  CHECK(serve(s.service, request("change", "retry"), Asker::reader).end.exit_code == EX_NOPERM);
  CHECK(serve(s.service, request("change", "no such"), Asker::reader).end.exit_code == EX_NOPERM);
  CHECK(s.insight.retries == 0);
}

TEST_CASE("I14: members of control.readers are shown no content", "[daemon][unit]") {
  Served s;
  auto show = request("show");
  show.target = mail::to_string(s.add("a@b", {"c@d.test"}, "Subject: secret\r\n\r\nx\r\n"));
  auto answer = serve(s.service, show);
  CHECK(answer.lines.size() > 2);
  CHECK(answer.lines.back().contains("content"));
  answer = serve(s.service, show, Asker::reader);
  CHECK(answer.end.exit_code == EX_OK);
  REQUIRE(answer.lines.size() == 2);
  CHECK(answer.lines[0].contains("message"));
  CHECK(answer.lines[1].contains("envelope"));
  auto explain = request("explain");
  explain.target = "ann@d.test";
  answer = serve(s.service, explain);
  CHECK(answer.lines.size() == 5);
  answer = serve(s.service, explain, Asker::reader);
  CHECK(answer.lines.size() == 2);
  for (const auto& line : answer.lines)
    CHECK(json::serialize(line).find("secret") == std::string::npos);
  show.body = true;
  answer = serve(s.service, show, Asker::reader);
  CHECK(answer.end.exit_code == EX_NOPERM);
  CHECK(answer.lines.empty());
}

// A program that asks for others, such as postrider-web, gives up rights that these do not have.
TEST_CASE("I14: a request as_reader is answered as to a reader, whoever makes it",
          "[daemon][unit]") {
  Served s;
  const auto id = mail::to_string(s.add("a@b", {"c@d.test"}, "Subject: secret\r\n\r\nx\r\n"));
  for (const auto& act : control_acts()) {
    auto asked = request(std::string(act.act).c_str(), std::string(act.verb).c_str());
    asked.target = act.act == "show" || act.act == "explain" ? id : "";
    asked.all = asked.as_reader = true;
    for (const auto asker : {Asker::administrator, Asker::reader}) {
      const auto answer = serve(s.service, asked, asker);
      INFO(act.act << " " << act.verb << ": " << answer.end.error);
      CHECK((answer.end.exit_code == EX_NOPERM) == (act.right != ControlRight::read));
    }
  }
  auto show = request("show");
  show.target = id;
  show.as_reader = true;
  for (const auto& line : serve(s.service, show).lines)
    CHECK_FALSE(line.contains("content"));
  show.body = true;
  CHECK(serve(s.service, show).end.exit_code == EX_NOPERM);
  auto explain = request("explain");
  explain.target = "ann@d.test";
  explain.as_reader = true;
  CHECK(serve(s.service, explain).lines.size() == 2);
  // What is repeated of the request goes through the reader's view, too.
  explain.target = "no /etc/postrider/x";
  CHECK(serve(s.service, explain).end.error.find("/etc") == std::string::npos);
  explain.as_reader = false;
  CHECK(serve(s.service, explain).end.error.find("/etc/postrider/x") != std::string::npos);
  CHECK(s.listed().size() == 1);
  CHECK(s.insight.reloads == 0);
}

TEST_CASE("messages that vanish during a listing do not break it", "[daemon][unit]") {
  Served s;
  for (int i = 0; i < 60; ++i)
    s.add("a@b", {"c@d.test"}, "x\r\n");
  const auto job = s.service.start(request("list"), 1234);
  std::string out;
  REQUIRE(job->step(out));
  auto all = request("change", "remove");
  all.all = true;
  REQUIRE(serve(s.service, all).end.exit_code == EX_OK);
  while (job->step(out)) {
  }
  CHECK(out.find("{\"end\":{\"status\":\"ok\"") != std::string::npos);
}

TEST_CASE("a change without a filter needs --all, except retry", "[daemon][unit]") {
  Served s;
  s.add("a@b", {"c@d.test"}, "x\r\n");
  for (const char* verb : {"hold", "release", "remove", "bounce"})
    CHECK(serve(s.service, request("change", verb)).end.exit_code == EX_USAGE);
  CHECK(serve(s.service, request("change", "retry")).end.exit_code == EX_OK);
  CHECK(s.insight.retries == 1);
  CHECK(serve(s.service, request("change", "destroy")).end.exit_code == EX_USAGE);
  CHECK(s.listed().size() == 1);
}

TEST_CASE("a dry run says what would change and changes nothing", "[daemon][unit]") {
  Served s;
  s.add("a@b", {"c@d.test", "e@f.test"}, "x\r\n");
  auto remove = request("change", "remove");
  remove.filter.from = "a@b";
  remove.dry_run = true;
  const auto answer = serve(s.service, remove);
  REQUIRE(answer.lines.size() == 1);
  CHECK(answer.lines[0].at("changed").at("messages").to_number<int>() == 1);
  CHECK(s.listed().size() == 1);
  remove.dry_run = false;
  CHECK(serve(s.service, remove).end.exit_code == EX_OK);
  CHECK(s.listed().empty());
}

TEST_CASE("hold and release work by filter", "[daemon][unit]") {
  Served s;
  s.add("a@b", {"c@d.test"}, "x\r\n");
  s.add("z@b", {"c@d.test"}, "x\r\n");
  auto hold = request("change", "hold");
  hold.filter.from = "a@b";
  REQUIRE(serve(s.service, hold).end.exit_code == EX_OK);
  auto held = request("list");
  held.filter.status = "held";
  const auto answer = serve(s.service, held);
  REQUIRE(answer.lines.size() == 1);
  CHECK(answer.lines[0].at("message").at("queue_name").as_string() == "hold");
  auto release = request("change", "release");
  release.all = true;
  REQUIRE(serve(s.service, release).end.exit_code == EX_OK);
  CHECK(serve(s.service, held).lines.empty());
}

TEST_CASE("I05: a filter full of SQL matches nothing and harms nothing", "[daemon][unit]") {
  Served s;
  s.add("x'/**/UNION/**/SELECT/**/1--@us", {"c@d.test"}, "x\r\n");
  for (const char* text : {"' OR '1'='1", "%", "_@us", "\"; DROP TABLE message;--", "x' --"}) {
    auto list = request("list");
    list.filter.from = std::string(text) + "@us";
    INFO(text);
    const auto served = serve(s.service, list);
    CHECK(served.end.exit_code == 0);
    CHECK(served.lines.empty());
  }
  auto exact = request("list");
  exact.filter.from = "x'/**/UNION/**/SELECT/**/1--@us";
  CHECK(serve(s.service, exact).lines.size() == 1);
}

TEST_CASE("show gives the header, or all of it", "[daemon][unit]") {
  Served s;
  const auto id = s.add("a@b", {"c@d.test"}, "Subject: s\r\n\r\nbody \xff\r\n");
  auto show = request("show");
  show.target = to_string(id);
  const auto content = [](const Answer& answer) {
    std::string all;
    for (const auto& line : answer.lines)
      if (line.contains("content"))
        all.append(decode_base64(line.at("content").as_string()).value_or("?"));
    return all;
  };
  CHECK(content(serve(s.service, show)) == "Received: by test\r\nSubject: s\r\n");
  show.body = true;
  CHECK(content(serve(s.service, show)) == "Received: by test\r\nSubject: s\r\n\r\nbody \xff\r\n");
  show.target = "00000000001";
  CHECK(serve(s.service, show).end.exit_code == EX_NOINPUT);
  show.target = "../../etc/passwd";
  CHECK(serve(s.service, show).end.exit_code == EX_USAGE);
}

TEST_CASE("explain takes an id or an address", "[daemon][unit]") {
  Served s;
  const auto id = s.add("a@b", {"c@d.test"}, "x\r\n");
  auto why = request("explain");
  why.target = "x@y.test";
  auto answer = serve(s.service, why);
  REQUIRE(answer.lines.size() == 5);
  CHECK(answer.lines[1].at("fact").at("text").as_string() == "mx of x@y.test");
  // RCPT takes the dot at the end of a domain, and drops it.
  for (const auto& [given, meant] : {std::pair("x@y.test.", "x@y.test"), {"y.test.", "y.test"}}) {
    why.target = given;
    answer = serve(s.service, why);
    REQUIRE(answer.lines.size() == 5);
    CHECK(answer.lines[1].at("fact").at("text").as_string() == std::string("mx of ") + meant);
    CHECK(answer.lines[1].at("fact").at("address").as_string() == meant);
  }
  why.target = to_string(id);
  answer = serve(s.service, why);
  CHECK(answer.end.exit_code == EX_OK);
  CHECK(answer.lines.size() == 6);
  for (const char* neither : {"neither", "neither.", "x@y.test.."}) {
    why.target = neither;
    CHECK(serve(s.service, why).end.exit_code == EX_USAGE);
  }
}

// Facts of the only address that an explanation is about, by what they are.
std::map<std::string, std::string> facts_of(Served& s, mail::MessageId id) {
  auto why = request("explain");
  why.target = to_string(id);
  std::map<std::string, std::string> facts;
  for (const auto& line : serve(s.service, why).lines)
    if (const auto* fact = line.if_contains("fact"))
      facts[std::string(fact->at("what").as_string())] = fact->at("text").as_string();
  return facts;
}

TEST_CASE("the conclusion of an explanation is about the message", "[daemon][unit]") {
  Served s;
  const auto id = s.add("a@b", {"c@d.test"}, "x\r\n");
  const auto change = [&](const char* verb) {
    auto wanted = request("change");
    wanted.verb = verb;
    wanted.all = true;
    wanted.next_hop = "relay.test:2525";
    REQUIRE(serve(s.service, wanted).end.exit_code == EX_OK);
  };
  CHECK(facts_of(s, id)["conclusion"] == "is delivered at once to mx");
  SECTION("held") {
    change("hold");
    CHECK(facts_of(s, id)["conclusion"].starts_with("is held, until"));
    change("release");
    CHECK(facts_of(s, id)["conclusion"] == "is delivered at once to mx");
  }
  SECTION("its site is in trouble") {
    queue::SiteState site;
    site.site = "mx.d.test";
    site.failures = 1;
    site.blocked_until = s.clock.now() + std::chrono::hours(1);
    site.last.text = "connection refused";
    s.queue->assign_site("d.test", "mx.d.test");
    s.queue->set_site(site);
    s.add("x@b", {"z@other.test"}, "x\r\n");  // behind which both are stored
    const auto conclusion = facts_of(s, id)["conclusion"];
    CHECK(conclusion.starts_with("is tried again at 20"));
    CHECK(conclusion.ends_with("connection refused"));
  }
  SECTION("rerouted") {
    change("reroute");
    auto facts = facts_of(s, id);
    CHECK(facts["route"] == "rerouted to smtp://relay.test:2525");
    CHECK(facts["conclusion"] == "is tried at once, at smtp://relay.test:2525");
  }
  SECTION("paused") {
    queue::Pause pause;
    pause.of = queue::Pause::Of::domain;
    pause.name = "d.test";
    std::promise<void> done;
    s.queue->pause(pause, [&](const auto&) { done.set_value(); });
    done.get_future().wait();
    auto facts = facts_of(s, id);
    CHECK(facts["conclusion"] == "waits until it is resumed: mail to d.test is paused");
    CHECK(facts["paused"].starts_with("mail to d.test is paused"));
  }
}

TEST_CASE("status tells the queue's totals and what composition knows", "[daemon][unit]") {
  Served s;
  s.add("a@b", {"c@d.test"}, "x\r\n");
  const auto answer = serve(s.service, request("status"));
  REQUIRE(answer.lines.size() == 1);
  const auto& status = answer.lines[0].at("status").as_object();
  CHECK(status.at("queue").at("messages").to_number<int>() == 1);
  CHECK(status.at("queue").at("queued").to_number<int>() == 1);
  CHECK(status.at("admission").as_string() == "open");
  CHECK(status.contains("listeners"));
}

TEST_CASE("totals are said each under its own name", "[daemon][unit]") {
  queue::Totals totals;
  std::uint64_t next = 10;
  for (auto* each : {&totals.messages, &totals.recipients, &totals.bytes, &totals.active,
                     &totals.queued, &totals.deferred, &totals.held, &totals.quarantined})
    *each = ++next;
  totals.oldest = TimePoint(std::chrono::seconds(77));
  totals.ages.back() = 99;
  const auto said = to_json(totals);
  next = 10;
  for (const char* name :
       {"messages", "recipients", "bytes", "active", "queued", "deferred", "held", "quarantined"}) {
    INFO(name);
    CHECK(said.at(name).to_number<std::uint64_t>() == ++next);
  }
  CHECK(said.at("oldest").to_number<int>() == 77);
  CHECK(said.at("ages").as_array().back().to_number<int>() == 99);
}

TEST_CASE("a recipient is never said to be further than its message", "[daemon][unit]") {
  Served s;
  s.add("a@b", {"c@d.test"}, "x\r\n");
  queue::SiteState site;
  site.site = "mx.d.test";
  site.failures = 1;
  site.since = s.clock.now();
  site.blocked_until = s.clock.now() + std::chrono::hours(1);
  site.last.text = "connection refused";
  site.last.verdict = mail::Verdict::retry;
  s.queue->assign_site("d.test", site.site);
  s.queue->set_site(site);
  s.add("a@b", {"c@d.test", "e@d.test"}, "x\r\n");
  const auto lines = serve(s.service, request("list")).lines;
  REQUIRE(lines.size() == 2);
  for (const auto& line : lines) {  // one that waited before, and one that came then
    const auto& message = line.at("message").as_object();
    CHECK(message.at("status").as_string() == "deferred");
    const auto& recipient = message.at("recipients").as_array()[0].as_object();
    CHECK(recipient.at("state").as_string() == "deferred");
    CHECK(recipient.at("delay_reason").as_string() == "connection refused");
  }
}

TEST_CASE("sites: those that delivery knows, and others in trouble", "[daemon][unit]") {
  Served s;
  s.add("a@b", {"c@d.test", "e@d.test"}, "x\r\n");
  s.add("a@b", {"c@gone.test"}, "x\r\n");
  for (const std::string domain : {"d.test", "gone.test"}) {
    queue::SiteState site;
    site.site = "mx." + domain;
    site.failures = 3;
    site.since = s.clock.now();
    site.last.text = "connection refused";
    s.queue->assign_site(domain, site.site);
    s.queue->set_site(site);
  }
  s.add("a@b", {"c@d.test"}, "x\r\n");  // behind the sites
  const auto names = [](const std::vector<json::object>& lines) {
    std::string all;
    for (const auto& line : lines)
      all += std::string(line.at("site").as_object().at("site").as_string()) + " ";
    return all;
  };
  auto wanted = request("sites");
  auto lines = serve(s.service, wanted).lines;
  CHECK(names(lines) == "mx.d.test relay mx.gone.test ");
  CHECK(lines[0].at("site").as_object().at("limits").as_string() == "1 connection");
  CHECK(lines[2].at("site").as_object().at("reason").as_string() == "connection refused");
  CHECK(lines[2].at("site").as_object().at("state").as_string() == "blocked");
  wanted.all = true;
  CHECK(names(serve(s.service, wanted).lines) == "mx.d.test mx.well.test relay mx.gone.test ");
  ControlService offline(*s.queue, s.clock, nullptr);
  const auto answer = serve(offline, request("sites"));
  CHECK(answer.lines.size() == 2);
  CHECK(answer.end.exit_code == EX_UNAVAILABLE);
}

TEST_CASE("status tells what waits behind a site in trouble", "[daemon][unit]") {
  Served s;
  s.add("a@b", {"c@d.test", "e@d.test"}, "x\r\n");
  s.add("a@b", {"c@d.test", "c@other.test"}, "x\r\n");
  queue::SiteState site;
  site.site = "mx.d.test";
  site.failures = 3;
  site.since = s.clock.now();
  s.queue->assign_site("d.test", site.site);
  s.queue->set_site(site);
  // A change is stored after what came before it.
  auto retry = request("change", "retry");
  retry.all = true;
  REQUIRE(serve(s.service, retry).lines.size() == 1);
  const auto answer = serve(s.service, request("status"));
  REQUIRE(answer.lines.size() == 1);
  const auto& sites = answer.lines[0].at("status").at("sites_in_trouble").as_array();
  REQUIRE(sites.size() == 1);
  CHECK(sites[0].at("recipients").to_number<int>() == 3);
}

TEST_CASE("I06: answers are valid JSON whatever a sender was called", "[daemon][unit]") {
  Served s;
  s.add("\"\x1b[2J\\\"\"@b", {"c@d.test"}, "x\r\n");
  CHECK(serve(s.service, request("list")).lines.size() == 1);
  CHECK(serve(s.service, request("nonsense")).end.exit_code == EX_PROTOCOL);
}

}  // namespace
}  // namespace postrider::daemon
