#include "web/metrics.h"

#include <boost/json/parse.hpp>
#include <catch2/catch.hpp>

#include <set>
#include <sstream>
#include <string>

using namespace postrider::web;
namespace json = boost::json;

namespace {

json::object status() {
  return json::parse(
             R"({"version":"0.1.0","running":true,"admission":"open","now":1000,"started":400,
    "sessions":3,"messages_received":7,"dns":{"queries":21,"timeouts":2},"queue":{"messages":5,"recipients":9,"active":1,"queued":2,
    "deferred":2,"held":0,"quarantined":0,"ages":[1,0,0,0,0,0,0,2,0,4],"bytes":12345,"oldest":940},
    "since_start":{"accepted":7,"commits":4},"alarms":["one"],"users_at_their_limit":[],
    "rejected_with":{"450":3,"550":4},"tls_handshakes":{"TLSv1.3":9,"failed":1},
    "deferred_by_class":{"rate":5,"mailbox-full":0},"events_behind":{"shop":12},
    "histograms":{"commit_seconds":{"bounds":[0.001,1,60],"counts":[4,2,0,1],"sum":75.5}},
    "drop_folder":{"waiting":2,"refused":1,"oldest":0},
    "sites_in_trouble":[{"site":"a.test","recipients":1},{"site":"b.test","recipients":4}]})")
      .as_object();
}

// The value of a sample by its whole name with labels; "-": there is none.
std::string value_of(const std::string& page, const std::string& name) {
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(name + " ", 0) == 0)
      return line.substr(name.size() + 1);
  return "-";
}

}  // namespace

TEST_CASE("metrics: what status says, under its names", "[web]") {
  const auto object = status();
  const auto page = metrics_of(&object, ProcessUse{1.5, 4096}, MetricsFormat::prometheus);
  CHECK(value_of(page, "postrider_up") == "1");
  CHECK(value_of(page, "postrider_accepts_mail") == "1");
  CHECK(value_of(page, "postrider_build_info{version=\"0.1.0\"}") == "1");
  CHECK(value_of(page, "postrider_queue_messages") == "5");
  CHECK(value_of(page, "postrider_queue_messages_by_state{state=\"deferred\"}") == "2");
  CHECK(value_of(page, "postrider_queue_messages_by_age{age=\"0-5m\"}") == "1");
  CHECK(value_of(page, "postrider_queue_messages_by_age{age=\"320-640m\"}") == "2");
  CHECK(value_of(page, "postrider_queue_messages_by_age{age=\"1280m-\"}") == "4");
  CHECK(value_of(page, "postrider_queue_oldest_age_seconds") == "60");
  CHECK(value_of(page, "postrider_smtp_messages_received_total") == "7");
  CHECK(value_of(page, "postrider_queue_commits_total") == "4");
  CHECK(value_of(page, "postrider_dns_queries_total") == "21");
  CHECK(value_of(page, "postrider_dns_timeouts_total") == "2");
  CHECK(value_of(page, "postrider_drop_folder_messages{state=\"waiting\"}") == "2");
  CHECK(value_of(page, "postrider_alarms") == "1");
  CHECK(value_of(page, "postrider_sites_in_trouble") == "2");
  auto shortened = object;  // where the daemon was asked for a few of them
  shortened["sites_in_trouble_count"] = 2500;
  CHECK(value_of(metrics_of(&shortened, ProcessUse{}, MetricsFormat::prometheus),
                 "postrider_sites_in_trouble") == "2500");
  CHECK(value_of(page, "postrider_site_waiting_recipients{site=\"b.test\"}") == "4");
  CHECK(value_of(page, "postrider_process_cpu_seconds_total") == "1.5");
  CHECK(value_of(page, "postrider_process_resident_memory_bytes") == "4096");
  CHECK(page.find("# TYPE postrider_queue_commits_total counter\n") != page.npos);
  CHECK(page.find("# EOF") == page.npos);
}

TEST_CASE("metrics: counts by code, version, class and sink", "[web]") {
  const auto object = status();
  const auto page = metrics_of(&object, std::nullopt, MetricsFormat::prometheus);
  CHECK(value_of(page, "postrider_smtp_rejections_by_code_total{code=\"450\"}") == "3");
  CHECK(value_of(page, "postrider_smtp_rejections_by_code_total{code=\"550\"}") == "4");
  CHECK(value_of(page, "postrider_smtp_tls_handshakes_total{version=\"TLSv1.3\"}") == "9");
  CHECK(value_of(page, "postrider_smtp_tls_handshakes_total{version=\"failed\"}") == "1");
  CHECK(value_of(page, "postrider_delivery_deferrals_by_class_total{class=\"rate\"}") == "5");
  CHECK(value_of(page, "postrider_delivery_deferrals_by_class_total{class=\"mailbox-full\"}") ==
        "0");
  CHECK(value_of(page, "postrider_events_behind{sink=\"shop\"}") == "12");
}

TEST_CASE("metrics: the log of the database, sites and milters", "[web]") {
  auto object = status();
  const auto more = json::parse(R"({
    "database_log":{"bytes":8192,"pages":2,"pages_written":70,"checkpoints_unfinished":1},
    "sites_by_state":{"open":7,"probing":0,"blocked":1},
    "rejected_about":{"policy":4,"address":2},"delivered_by_tls":{"TLSv1.3":5,"none":1},
    "busiest_sites":[{"site":"a.test","connections":3,"limit":20,"rate":1.5},
                     {"site":"b.test","connections":1,"limit":5},{"connections":9},7],
    "milter_figures":{"sc\"an":{"well":true,"connections":1,"conversations":8,"messages":6,"edited":2,
      "held":0,"failures":3,"replies":{"continue":40,"reject":1},
      "histograms":{"answer_seconds":{"bounds":[0.1],"counts":[40,1],"sum":3.5}}},
      "other":{"well":false},"none":7}})")
                        .as_object();
  for (const auto& [name, value] : more)
    object[name] = value;
  for (const auto format : {MetricsFormat::prometheus, MetricsFormat::open_metrics}) {
    const auto page = metrics_of(&object, ProcessUse{1, 2, 9}, format);
    CHECK(value_of(page, "postrider_queue_log_bytes") == "8192");
    CHECK(value_of(page, "postrider_queue_log_pages") == "2");
    CHECK(value_of(page, "postrider_queue_log_pages_written_total") == "70");
    CHECK(value_of(page, "postrider_queue_log_checkpoints_unfinished_total") == "1");
    CHECK(value_of(page, "postrider_sites_by_state{state=\"blocked\"}") == "1");
    CHECK(value_of(page, "postrider_smtp_rejections_by_reason_total{reason=\"policy\"}") == "4");
    CHECK(value_of(page, "postrider_delivery_recipients_by_tls_total{version=\"TLSv1.3\"}") == "5");
    CHECK(value_of(page, "postrider_site_connection_limit{site=\"a.test\"}") == "20");
    CHECK(value_of(page, "postrider_site_connection_limit{site=\"b.test\"}") == "5");
    CHECK(value_of(page, "postrider_site_rate_limit{site=\"a.test\"}") == "1.5");
    CHECK(value_of(page, "postrider_site_rate_limit{site=\"b.test\"}") == "-");
    CHECK(value_of(page, "postrider_milter_up{milter=\"sc\\\"an\"}") == "1");
    CHECK(value_of(page, "postrider_milter_up{milter=\"other\"}") == "0");
    CHECK(value_of(page, "postrider_milter_failures_total{milter=\"sc\\\"an\"}") == "3");
    CHECK(value_of(page, "postrider_milter_replies_total{milter=\"sc\\\"an\",reply=\"reject\"}") ==
          "1");
    CHECK(
        value_of(page, "postrider_milter_answer_seconds_bucket{milter=\"sc\\\"an\",le=\"0.1\"}") ==
        "40");
    CHECK(
        value_of(page, "postrider_milter_answer_seconds_bucket{milter=\"sc\\\"an\",le=\"+Inf\"}") ==
        "41");
    CHECK(value_of(page, "postrider_milter_answer_seconds_sum{milter=\"sc\\\"an\"}") == "3.5");
    CHECK(value_of(page, "postrider_process_threads") == "9");
  }
}

TEST_CASE("metrics: of any list of names, each series is there once, and sites are ten", "[web]") {
  auto object = status();
  json::array sites;
  for (int i = 0; i < 500; ++i)
    sites.push_back({{"site", std::to_string(i % 300) + ".test"}, {"limit", i}});
  object["busiest_sites"] = sites;
  const std::string long_name(5000, 'x');
  object["milter_figures"] = {{long_name + "1", {{"well", true}}},
                              {long_name + "2", {{"well", true}}}};
  const auto cut_before = long_name.substr(0, 127);
  object["events_behind"] = {
      {long_name + "1", 1}, {long_name + "2", 2}, {cut_before + "\u00e9", 3}};
  CHECK(value_of(metrics_of(&object, std::nullopt, MetricsFormat::prometheus),
                 "postrider_events_behind{sink=\"" + cut_before + "\"}") == "3");
  std::istringstream lines(metrics_of(&object, std::nullopt, MetricsFormat::prometheus));
  std::set<std::string> series;
  int of_sites = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("#", 0) == 0)
      continue;
    INFO(line.substr(0, 300));
    CHECK(series.insert(line.substr(0, line.rfind(' '))).second);
    of_sites += line.rfind("postrider_site_connection_limit{", 0) == 0 ? 1 : 0;
  }
  CHECK(of_sites == 10);
}

TEST_CASE("metrics: a histogram adds up its buckets", "[web]") {
  for (const auto format : {MetricsFormat::prometheus, MetricsFormat::open_metrics}) {
    const auto object = status();
    const auto page = metrics_of(&object, std::nullopt, format);
    const auto bucket = [&](const std::string& bound) {
      return value_of(page, "postrider_queue_commit_seconds_bucket{le=\"" + bound + "\"}");
    };
    CHECK(page.find("# TYPE postrider_queue_commit_seconds histogram\n") != page.npos);
    CHECK(bucket("0.001") == "4");
    CHECK(bucket("1.0") == "6");
    CHECK(bucket("60.0") == "6");
    CHECK(bucket("+Inf") == "7");
    CHECK(value_of(page, "postrider_queue_commit_seconds_count") == "7");
    CHECK(value_of(page, "postrider_queue_commit_seconds_sum") == "75.5");
  }
}

TEST_CASE("metrics: a histogram that is none makes no wrong page", "[web]") {
  for (const char* wrong :
       {"7", "{}", R"({"bounds":[1,2],"counts":[1,2]})", R"({"bounds":[2,1],"counts":[1,2,3]})",
        R"({"bounds":[1,2],"counts":[1,"x",3]})", R"({"bounds":1,"counts":2})"}) {
    CAPTURE(wrong);
    auto object = status();
    object["histograms"] = {{"commit_seconds", json::parse(wrong)}};
    const auto page = metrics_of(&object, std::nullopt, MetricsFormat::prometheus);
    CHECK(page.find("postrider_queue_commit_seconds") == page.npos);
    CHECK(value_of(page, "postrider_up") == "1");
  }
}

TEST_CASE("metrics: OpenMetrics names a counter without its suffix, and ends", "[web]") {
  const auto object = status();
  const auto page = metrics_of(&object, std::nullopt, MetricsFormat::open_metrics);
  CHECK(page.find("# TYPE postrider_queue_commits counter\n") != page.npos);
  CHECK(value_of(page, "postrider_queue_commits_total") == "4");
  CHECK(page.ends_with("# EOF\n"));
  CHECK(value_of(page, "postrider_process_cpu_seconds_total") == "-");
}

TEST_CASE("metrics: a daemon that gives no answer is down", "[web]") {
  const auto page = metrics_of(nullptr, std::nullopt, MetricsFormat::prometheus);
  CHECK(value_of(page, "postrider_up") == "0");
  auto object = status();
  object["running"] = false;
  CHECK(value_of(metrics_of(&object, std::nullopt, MetricsFormat::prometheus), "postrider_up") ==
        "0");
  object["admission"] = "no room on the disk";
  CHECK(value_of(metrics_of(&object, std::nullopt, MetricsFormat::prometheus),
                 "postrider_accepts_mail") == "0");
}

TEST_CASE("metrics: an answer of other types makes no wrong page", "[web]") {
  const auto object = json::parse(R"({"running":1,"queue":[],"sites_in_trouble":{"a":1},"now":"x",
    "since_start":7,"sessions":"many","alarms":3,"version":9})")
                          .as_object();
  const auto page = metrics_of(&object, std::nullopt, MetricsFormat::prometheus);
  CHECK(value_of(page, "postrider_up") == "0");
  CHECK(value_of(page, "postrider_smtp_sessions") == "-");
  CHECK(value_of(page, "postrider_alarms") == "0");
}

TEST_CASE("metrics: labels are escaped, and of sites only ten are named, each once", "[web]") {
  auto object = status();
  json::array sites;
  for (int i = 0; i < 500; ++i)
    sites.push_back({{"site", "s" + std::to_string(i) + ".test"}, {"recipients", i}});
  sites.push_back({{"site", "quote\"back\\line\nend"}, {"recipients", 10000}});
  const std::string long_name(5000, 'x');
  sites.push_back({{"site", long_name + "1"}, {"recipients", 9001}});
  sites.push_back({{"site", long_name + "2"}, {"recipients", 9002}});
  object["sites_in_trouble"] = sites;
  const auto page = metrics_of(&object, std::nullopt, MetricsFormat::prometheus);
  CHECK(value_of(page, "postrider_sites_in_trouble") == "503");
  CHECK(value_of(page, "postrider_site_waiting_recipients{site=\"quote\\\"back\\\\line\\nend\"}") ==
        "10000");
  std::set<std::string> names;
  std::size_t named = 0;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind("postrider_site_waiting_recipients{", 0) == 0) {
      ++named;
      names.insert(line.substr(0, line.rfind(' ')));
      CHECK(line.size() < 300);
    }
  CHECK(named == 9);  // two of the ten are alike once shortened
  CHECK(names.size() == named);
}

TEST_CASE("metrics: every family has help, a type and samples behind them", "[web]") {
  const auto object = status();
  std::istringstream lines(metrics_of(&object, ProcessUse{1, 2}, MetricsFormat::prometheus));
  std::string family;
  bool is_histogram = false;
  std::set<std::string> seen;
  int samples = 1;
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    if (line.rfind("# HELP ", 0) == 0) {
      CHECK(samples > 0);
      samples = 0;
      family = line.substr(7, line.find(' ', 7) - 7);
      CHECK(seen.insert(family).second);
    } else if (line.rfind("# TYPE ", 0) == 0) {
      CHECK(line.substr(7, line.find(' ', 7) - 7) == family);
      is_histogram = line.ends_with(" histogram");
    } else {
      ++samples;
      const auto name = line.substr(0, line.find_first_of(" {"));
      if (is_histogram)
        CHECK((name == family + "_bucket" || name == family + "_sum" || name == family + "_count"));
      else
        CHECK(name == family);
    }
  }
  CHECK(samples > 0);
}

TEST_CASE("metrics: what /proc says of a process, whatever its name", "[web]") {
  const std::string text =
      "77 (a) b) ( c) S 1 77 77 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 3 0 1234 9999 50 18446744";
  const auto use = parse_process_stat(text, 100, 4096);
  REQUIRE(use);
  CHECK(use->cpu_seconds == 4.0);
  CHECK(use->resident_bytes == 50 * 4096.0);
  CHECK(use->threads == 3);
  for (const std::string wrong :
       {"", "77 (a", "77 (a) S 1 2", "77 (a) S 1 77 77 0 -1 4 100 0 0 0 x y 0 0 20 0 3 0 1 2 z"}) {
    INFO(wrong);
    CHECK_FALSE(parse_process_stat(wrong, 100, 4096));
  }
  CHECK_FALSE(parse_process_stat(text, 0, 4096));
  CHECK_FALSE(process_use(-5));
}

TEST_CASE("metrics: each figure has the name that is its own", "[web]") {
  // Of an object: its member, and the metric with its labels.
  struct Named {
    const char *object, *member, *metric;
  };
  const Named all[] = {
      {"", "sessions", "postrider_smtp_sessions"},
      {"", "sessions_so_far", "postrider_smtp_connections_total"},
      {"", "messages_received", "postrider_smtp_messages_received_total"},
      {"", "rejected", "postrider_smtp_rejections_total"},
      {"", "turned_away", "postrider_smtp_connections_turned_away_total"},
      {"", "connections", "postrider_delivery_connections"},
      {"", "connections_idle", "postrider_delivery_connections_idle"},
      {"", "delivered", "postrider_delivery_recipients_delivered_total"},
      {"", "deferred", "postrider_delivery_recipients_deferred_total"},
      {"", "bounced", "postrider_delivery_recipients_bounced_total"},
      {"", "sites", "postrider_sites"},
      {"", "started", "postrider_start_time_seconds"},
      {"", "sites_in_trouble_count", "postrider_sites_in_trouble"},
      {"", "authentication_checked", "postrider_authentication_messages_total"},
      {"", "authentication_spf_passed", "postrider_authentication_spf_passed_total"},
      {"", "authentication_dkim_passed", "postrider_authentication_dkim_passed_total"},
      {"", "authentication_dmarc_passed", "postrider_authentication_dmarc_passed_total"},
      {"", "authentication_dmarc_failed", "postrider_authentication_dmarc_failed_total"},
      {"", "authentication_dns_trouble", "postrider_authentication_dns_trouble_total"},
      {"dns", "lookups", "postrider_dns_lookups_total"},
      {"dns", "from_memory", "postrider_dns_lookups_from_memory_total"},
      {"dns", "queries", "postrider_dns_queries_total"},
      {"dns", "timeouts", "postrider_dns_timeouts_total"},
      {"dns", "over_tcp", "postrider_dns_queries_over_tcp_total"},
      {"dns", "failures", "postrider_dns_lookups_failed_total"},
      {"database_log", "bytes", "postrider_queue_log_bytes"},
      {"database_log", "pages", "postrider_queue_log_pages"},
      {"database_log", "pages_written", "postrider_queue_log_pages_written_total"},
      {"database_log", "checkpoints_unfinished",
       "postrider_queue_log_checkpoints_unfinished_total"},
      {"queue", "messages", "postrider_queue_messages"},
      {"queue", "recipients", "postrider_queue_recipients"},
      {"queue", "bytes", "postrider_queue_bytes"},
      {"queue", "active", "postrider_queue_messages_by_state{state=\"active\"}"},
      {"queue", "queued", "postrider_queue_messages_by_state{state=\"queued\"}"},
      {"queue", "deferred", "postrider_queue_messages_by_state{state=\"deferred\"}"},
      {"queue", "held", "postrider_queue_messages_by_state{state=\"held\"}"},
      {"queue", "quarantined", "postrider_queue_messages_by_state{state=\"quarantined\"}"},
      {"since_start", "accepted", "postrider_queue_messages_accepted_total"},
      {"since_start", "delivered", "postrider_queue_recipients_delivered_total"},
      {"since_start", "bounced", "postrider_queue_recipients_bounced_total"},
      {"since_start", "removed", "postrider_queue_recipients_removed_total"},
      {"since_start", "deferrals", "postrider_queue_deferrals_total"},
      {"since_start", "untried", "postrider_queue_recipients_untried_total"},
      {"since_start", "commits", "postrider_queue_commits_total"},
      {"drop_folder", "waiting", "postrider_drop_folder_messages{state=\"waiting\"}"},
      {"drop_folder", "refused", "postrider_drop_folder_messages{state=\"refused\"}"},
      {"rejected_with", "550", "postrider_smtp_rejections_by_code_total{code=\"550\"}"},
      {"rejected_about", "policy", "postrider_smtp_rejections_by_reason_total{reason=\"policy\"}"},
      {"delivered_by_tls", "none", "postrider_delivery_recipients_by_tls_total{version=\"none\"}"},
      {"sites_by_state", "open", "postrider_sites_by_state{state=\"open\"}"},
      {"tls_handshakes", "failed", "postrider_smtp_tls_handshakes_total{version=\"failed\"}"},
      {"deferred_by_class", "rate", "postrider_delivery_deferrals_by_class_total{class=\"rate\"}"},
      {"events_behind", "shop", "postrider_events_behind{sink=\"shop\"}"},
  };
  json::object object{{"running", true}};
  int value = 1000;
  for (const auto& one : all) {
    auto& place = *one.object == '\0'              ? object
                  : object[one.object].is_object() ? object[one.object].as_object()
                                                   : object[one.object].emplace_object();
    place[one.member] = ++value;
  }
  // Of the histograms the sum is the figure, and of the ages each.
  const std::pair<const char*, const char*> histograms[] = {
      {"accept_seconds", "postrider_accept_seconds"},
      {"commit_seconds", "postrider_queue_commit_seconds"},
      {"checkpoint_seconds", "postrider_queue_log_checkpoint_seconds"},
      {"commit_changes", "postrider_queue_commit_changes"},
      {"first_attempt_seconds", "postrider_delivery_first_attempt_seconds"},
      {"delivery_seconds", "postrider_delivery_seconds"}};
  auto& of_status = object["histograms"].emplace_object();
  int sum = 0;
  for (const auto& [member, metric] : histograms)
    of_status[member] = {{"bounds", {1}}, {"counts", {2, 3}}, {"sum", ++sum}};
  const char* const ages[] = {"0-5m",    "5-10m",    "10-20m",   "20-40m",    "40-80m",
                              "80-160m", "160-320m", "320-640m", "640-1280m", "1280m-"};
  auto& of_queue = object["queue"].as_object();
  auto& counts = of_queue["ages"].emplace_array();
  for (std::size_t i = 0; i < std::size(ages); ++i)
    counts.emplace_back(i + 1);
  const auto page = metrics_of(&object, std::nullopt, MetricsFormat::prometheus);
  value = 1000;
  for (const auto& one : all) {
    INFO(one.metric);
    CHECK(value_of(page, one.metric) == std::to_string(++value));
  }
  sum = 0;
  for (const auto& [member, metric] : histograms) {
    INFO(metric);
    CHECK(value_of(page, std::string(metric) + "_sum") == std::to_string(++sum));
  }
  for (std::size_t i = 0; i < std::size(ages); ++i)
    CHECK(value_of(page, std::string("postrider_queue_messages_by_age{age=\"") + ages[i] + "\"}") ==
          std::to_string(i + 1));
}

TEST_CASE("metrics: what somebody is to look at", "[web]") {
  const auto of = [](const char* text, const std::string& name) {
    const auto object = json::parse(text).as_object();
    return value_of(metrics_of(&object, std::nullopt, MetricsFormat::prometheus), name);
  };
  CHECK(of("{}", "postrider_configuration_refused") == "0");
  CHECK(of(R"({"config_refused":"line 3"})", "postrider_configuration_refused") == "1");
  CHECK(of(R"({"alarms":["a","b"]})", "postrider_alarms") == "2");
  CHECK(of(R"({"users_at_their_limit":["a","b","c"]})", "postrider_users_at_their_limit") == "3");
  CHECK(of(R"({"now":1000,"queue":{"oldest":990}})", "postrider_queue_oldest_age_seconds") == "10");
  CHECK(of(R"({"now":1000,"queue":{"oldest":1010}})", "postrider_queue_oldest_age_seconds") == "0");
  CHECK(of(R"({"now":1000,"queue":{"oldest":0}})", "postrider_queue_oldest_age_seconds") == "0");
}
