#include "web/metrics.h"

#include "base/file.h"

#include <boost/json/array.hpp>

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>
#include <string_view>
#include <unistd.h>
#include <utility>
#include <vector>

namespace postrider::web {

namespace json = boost::json;

namespace {

constexpr std::size_t kMostSites = 10;      // that are named
constexpr std::size_t kMostSiteName = 128;  // octets of a label

enum class Kind { gauge, counter, histogram };

constexpr const char* kTypes[] = {"gauge", "counter", "histogram"};

std::string number_text(double value) {
  char room[32];
  const auto end = std::to_chars(room, room + sizeof room, value);
  return {room, end.ptr};
}

// OpenMetrics wants a point in each: "1.0".
std::string bound_text(double bound) {
  auto text = number_text(bound);
  if (text.find_first_of(".e") == text.npos)
    text += ".0";
  return text;
}

// RFC-less, as both formats have it: backslash, quote and line feed are escaped. What is not UTF-8
// or a control character does not get here: the daemon has escaped it.
std::string label_text(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\\' || c == '"')
      out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}

std::string shortened(std::string_view text) {
  auto most = std::min(text.size(), kMostSiteName);
  while (most > 0 && most < text.size() &&
         (static_cast<unsigned char>(text[most]) & 0xC0U) == 0x80U)
    --most;  // no part of a character
  return std::string(text.substr(0, most));
}

using Labels = std::vector<std::pair<std::string_view, std::string>>;

class Page {
 public:
  explicit Page(MetricsFormat format) : format_(format) {}

  // A family; its samples follow. name: without "_total".
  void family(std::string name, Kind kind, std::string_view help) {
    name_ = std::move(name);
    kind_ = kind;
    seen_.clear();
    const bool has_suffix = kind == Kind::counter && format_ == MetricsFormat::prometheus;
    const auto title = has_suffix ? name_ + "_total" : name_;
    text_ += "# HELP " + title + " " + std::string(help) + "\n";
    text_ += "# TYPE " + title + " " + kTypes[static_cast<int>(kind)] + "\n";
  }
  // One that has these labels in this family already is left out: a series twice would spoil the
  // whole page, and names may be alike once they are shortened.
  void sample(double value, const Labels& labels = {}) {
    const auto shown = label_list(labels);
    if (!seen_.insert(shown).second)
      return;
    text_ += name_;
    if (kind_ == Kind::counter)
      text_ += "_total";
    text_ += in_braces(shown) + " " + number_text(value) + "\n";
  }
  // counts: of each bucket alone, one more than bounds.
  void histogram(const std::vector<double>& bounds, const std::vector<double>& counts, double sum,
                 const Labels& labels = {}) {
    const auto shown = label_list(labels);
    if (!seen_.insert(shown).second)
      return;
    double so_far = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      so_far += counts[i];
      const auto bound = i < bounds.size() ? bound_text(bounds[i]) : "+Inf";
      text_.append(name_).append("_bucket{").append(shown).append(shown.empty() ? "" : ",");
      text_.append("le=\"").append(bound).append("\"} ").append(number_text(so_far) + "\n");
    }
    text_ += name_ + "_sum" + in_braces(shown) + " " + number_text(sum) + "\n";
    text_ += name_ + "_count" + in_braces(shown) + " " + number_text(so_far) + "\n";
  }
  std::string take() {
    if (format_ == MetricsFormat::open_metrics)
      text_ += "# EOF\n";
    return std::move(text_);
  }

 private:
  static std::string label_list(const Labels& labels) {
    std::string out;
    for (const auto& [name, value] : labels)
      out.append(out.empty() ? "" : ",").append(name).append("=\"").append(label_text(value)) +=
          '"';
    return out;
  }
  static std::string in_braces(const std::string& labels) {
    return labels.empty() ? "" : "{" + labels + "}";
  }

  const MetricsFormat format_;
  std::string text_;
  std::string name_;
  std::set<std::string> seen_;  // labels of this family
  Kind kind_ = Kind::gauge;
};

std::optional<double> number_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  if (value == nullptr || !value->is_number())
    return std::nullopt;
  return value->to_number<double>();
}

const json::object* object_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value == nullptr ? nullptr : value->if_object();
}

std::string text_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value == nullptr || !value->is_string() ? std::string() : std::string(value->get_string());
}

std::size_t length_of(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value == nullptr || !value->is_array() ? 0 : value->get_array().size();
}

struct Row {
  const char* key;  // in the object
  const char* name;
  Kind kind;
  const char* help;
};

constexpr Row kOfStatus[] = {
    {"sessions", "postrider_smtp_sessions", Kind::gauge, "SMTP sessions that are open."},
    {"sessions_so_far", "postrider_smtp_connections", Kind::counter,
     "Connections of SMTP clients that were accepted."},
    {"messages_received", "postrider_smtp_messages_received", Kind::counter,
     "Messages that were taken over SMTP."},
    {"rejected", "postrider_smtp_rejections", Kind::counter,
     "Commands and messages that were refused."},
    {"turned_away", "postrider_smtp_connections_turned_away", Kind::counter,
     "Connections that were closed because too many were open."},
    {"connections", "postrider_delivery_connections", Kind::gauge,
     "Connections to next hops that are open."},
    {"connections_idle", "postrider_delivery_connections_idle", Kind::gauge,
     "Connections to next hops that wait for another message."},
    {"delivered", "postrider_delivery_recipients_delivered", Kind::counter,
     "Attempts that ended in delivery, by recipient."},
    {"deferred", "postrider_delivery_recipients_deferred", Kind::counter,
     "Attempts that are to be repeated, by recipient."},
    {"bounced", "postrider_delivery_recipients_bounced", Kind::counter,
     "Attempts that failed for good, by recipient."},
    {"sites", "postrider_sites", Kind::gauge, "Next hops with mail or a memory of trouble."},
    {"authentication_checked", "postrider_authentication_messages", Kind::counter,
     "Messages whose authentication was checked."},
    {"authentication_spf_passed", "postrider_authentication_spf_passed", Kind::counter,
     "Messages that passed SPF."},
    {"authentication_dkim_passed", "postrider_authentication_dkim_passed", Kind::counter,
     "Messages with a DKIM signature that is right."},
    {"authentication_dmarc_passed", "postrider_authentication_dmarc_passed", Kind::counter,
     "Messages that passed DMARC."},
    {"authentication_dmarc_failed", "postrider_authentication_dmarc_failed", Kind::counter,
     "Messages that failed DMARC."},
    {"authentication_dns_trouble", "postrider_authentication_dns_trouble", Kind::counter,
     "Messages that could not be judged because of DNS."},
};

constexpr Row kOfDns[] = {
    {"lookups", "postrider_dns_lookups", Kind::counter,
     "Questions to the DNS, also those answered from memory."},
    {"from_memory", "postrider_dns_lookups_from_memory", Kind::counter,
     "Questions to the DNS that were answered from memory."},
    {"queries", "postrider_dns_queries", Kind::counter,
     "Queries that were sent to name servers, over UDP or TCP."},
    {"timeouts", "postrider_dns_timeouts", Kind::counter,
     "Queries that a name server did not answer in time."},
    {"over_tcp", "postrider_dns_queries_over_tcp", Kind::counter,
     "Queries to name servers over TCP."},
    {"failures", "postrider_dns_lookups_failed", Kind::counter,
     "Questions to the DNS that could not be answered for now."},
};

constexpr Row kOfLog[] = {
    {"bytes", "postrider_queue_log_bytes", Kind::gauge,
     "Size of the file of the write-ahead log of the queue's database."},
    {"pages", "postrider_queue_log_pages", Kind::gauge,
     "Pages that the latest transaction left in the write-ahead log."},
    {"pages_written", "postrider_queue_log_pages_written", Kind::counter,
     "Pages that were written to the write-ahead log."},
    {"checkpoints_unfinished", "postrider_queue_log_checkpoints_unfinished", Kind::counter,
     "Checkpoints that could not bring all of the write-ahead log to the database."},
};

constexpr Row kOfTotals[] = {
    {"messages", "postrider_queue_messages", Kind::gauge, "Messages in the queue."},
    {"recipients", "postrider_queue_recipients", Kind::gauge,
     "Recipients of messages in the queue that are not done."},
    {"bytes", "postrider_queue_bytes", Kind::gauge, "Octets of the messages in the queue."},
};

constexpr Row kSinceStart[] = {
    {"accepted", "postrider_queue_messages_accepted", Kind::counter,
     "Messages that were taken into the queue."},
    {"delivered", "postrider_queue_recipients_delivered", Kind::counter,
     "Recipients that were recorded as delivered."},
    {"bounced", "postrider_queue_recipients_bounced", Kind::counter,
     "Recipients that were recorded as failed."},
    {"removed", "postrider_queue_recipients_removed", Kind::counter,
     "Recipients that an administrator removed."},
    {"deferrals", "postrider_queue_deferrals", Kind::counter,
     "Attempts that are to be repeated, by recipient, as recorded."},
    {"untried", "postrider_queue_recipients_untried", Kind::counter,
     "Recipients that came to wait for a site in trouble without an attempt."},
    {"commits", "postrider_queue_commits", Kind::counter, "Transactions of the queue's database."},
};

constexpr Row kHistograms[] = {
    {"accept_seconds", "postrider_accept_seconds", Kind::histogram,
     "Of each message that was taken: the time until it was on stable storage."},
    {"commit_seconds", "postrider_queue_commit_seconds", Kind::histogram,
     "Of each transaction of the queue: the time of its commit, with the sync."},
    {"checkpoint_seconds", "postrider_queue_log_checkpoint_seconds", Kind::histogram,
     "Of each checkpoint of the queue's database: its time, with the syncs."},
    {"commit_changes", "postrider_queue_commit_changes", Kind::histogram,
     "Messages that were taken and results that were recorded by one transaction."},
    {"first_attempt_seconds", "postrider_delivery_first_attempt_seconds", Kind::histogram,
     "Of each message that is tried at once: the time from its arrival to its first attempt."},
    {"delivery_seconds", "postrider_delivery_seconds", Kind::histogram,
     "Of each recipient that was delivered: the time from the arrival of the message."},
};

// Whose labels are few: codes, classes, versions, and what the configuration names.
struct LabelledRow {
  Row row;
  const char* label;
};
constexpr LabelledRow kLabelled[] = {
    {{"rejected_with", "postrider_smtp_rejections_by_code", Kind::counter,
      "Commands and messages that were refused, by the code of the reply."},
     "code"},
    {{"rejected_about", "postrider_smtp_rejections_by_reason", Kind::counter,
      "Commands and messages that were refused, by the subject of the enhanced status code."},
     "reason"},
    {{"delivered_by_tls", "postrider_delivery_recipients_by_tls", Kind::counter,
      "Recipients that were delivered to other hosts, by the version of TLS."},
     "version"},
    {{"sites_by_state", "postrider_sites_by_state", Kind::gauge, "Next hops, by state."}, "state"},
    {{"tls_handshakes", "postrider_smtp_tls_handshakes", Kind::counter,
      "TLS handshakes of SMTP clients, by version, and those that failed."},
     "version"},
    {{"deferred_by_class", "postrider_delivery_deferrals_by_class", Kind::counter,
      "Attempts that are to be repeated, by why."},
     "class"},
    {{"events_behind", "postrider_events_behind", Kind::gauge,
      "Events that wait for a sink, by its name."},
     "sink"},
};

constexpr Row kOfSite[] = {
    {"connections", "postrider_site_connections", Kind::gauge,
     "Connections to a next hop, of the ten with most to do."},
    {"limit", "postrider_site_connection_limit", Kind::gauge,
     "Connections that a next hop may have at once, as found, of the ten with most to do."},
    {"rate", "postrider_site_rate_limit", Kind::gauge,
     "Messages a second that a next hop takes, as found, of the ten with most to do."},
};

constexpr Row kOfMilter[] = {
    {"connections", "postrider_milter_connections", Kind::gauge,
     "Connections to a milter that are open."},
    {"conversations", "postrider_milter_conversations", Kind::counter,
     "Connections to a milter that were made."},
    {"messages", "postrider_milter_messages", Kind::counter,
     "Messages that a milter saw up to their end, and let pass."},
    {"edited", "postrider_milter_messages_edited", Kind::counter,
     "Messages that a milter changed."},
    {"held", "postrider_milter_messages_held", Kind::counter,
     "Messages that a milter wanted held."},
    {"failures", "postrider_milter_failures", Kind::counter,
     "How often a milter could not be asked."},
};

constexpr std::pair<const char*, const char*> kStates[] = {
    {"active", "active"}, {"queued", "queued"},           {"deferred", "deferred"},
    {"held", "held"},     {"quarantined", "quarantined"},
};

template <std::size_t Count>
void add_rows(const json::object* object, const Row (&rows)[Count], Page& page) {
  if (object == nullptr)
    return;
  for (const auto& row : rows)
    if (const auto value = number_of(*object, row.key)) {
      page.family(row.name, row.kind, row.help);
      page.sample(*value);
    }
}

void add_labelled(const json::object& status, Page& page) {
  for (const auto& [row, label] : kLabelled) {
    const auto* values = object_of(status, row.key);
    if (values == nullptr || values->empty())
      continue;
    page.family(row.name, row.kind, row.help);
    for (const auto& member : *values)
      page.sample(number_of(*values, member.key()).value_or(0),
                  {{label, shortened(std::string_view(member.key()))}});
  }
}

std::vector<double> numbers_of(const json::object& object, std::string_view key) {
  std::vector<double> numbers;
  const auto* value = object.if_contains(key);
  if (value != nullptr && value->is_array())
    for (const auto& one : value->get_array())
      if (one.is_number())
        numbers.push_back(one.to_number<double>());
  return numbers;
}

struct HistogramFigures {
  std::vector<double> bounds, counts;
  double sum = 0;
};

// Nothing for what is no histogram.
std::optional<HistogramFigures> figures_of(const json::object& all, std::string_view key) {
  const auto* one = object_of(all, key);
  if (one == nullptr)
    return std::nullopt;
  HistogramFigures figures{numbers_of(*one, "bounds"), numbers_of(*one, "counts"),
                           number_of(*one, "sum").value_or(0)};
  if (figures.counts.size() != figures.bounds.size() + 1 ||
      !std::is_sorted(figures.bounds.begin(), figures.bounds.end()))
    return std::nullopt;
  return figures;
}

void add_histograms(const json::object& status, Page& page) {
  const auto* all = object_of(status, "histograms");
  if (all == nullptr)
    return;
  for (const auto& row : kHistograms) {
    const auto figures = figures_of(*all, row.key);
    if (!figures)
      continue;
    page.family(row.name, row.kind, row.help);
    page.histogram(figures->bounds, figures->counts, figures->sum);
  }
}

void add_states(const json::object& totals, Page& page) {
  page.family("postrider_queue_messages_by_state", Kind::gauge,
              "Messages in the queue by state; quarantined ones are held, too.");
  for (const auto& [key, label] : kStates)
    page.sample(number_of(totals, key).value_or(0), {{"state", label}});
}

// The buckets of `postrider queue summary --by age`.
constexpr const char* kAgeNames[] = {"0-5m",    "5-10m",    "10-20m",   "20-40m",    "40-80m",
                                     "80-160m", "160-320m", "320-640m", "640-1280m", "1280m-"};

void add_messages_by_age(const json::object& totals, Page& page) {
  const auto ages = numbers_of(totals, "ages");
  if (ages.size() != std::size(kAgeNames))
    return;
  page.family("postrider_queue_messages_by_age", Kind::gauge,
              "Messages in the queue by age, in minutes.");
  for (std::size_t i = 0; i < ages.size(); ++i)
    page.sample(ages[i], {{"age", kAgeNames[i]}});
}

void add_ages(const json::object& status, Page& page) {
  const auto now = number_of(status, "now").value_or(0);
  const auto* totals = object_of(status, "queue");
  const auto oldest = totals == nullptr ? 0 : number_of(*totals, "oldest").value_or(0);
  page.family("postrider_queue_oldest_age_seconds", Kind::gauge,
              "Age of the oldest message in the queue; 0: it is empty.");
  page.sample(oldest > 0 ? std::max(0.0, now - oldest) : 0);
  if (const auto started = number_of(status, "started")) {
    page.family("postrider_start_time_seconds", Kind::gauge,
                "When the daemon started, in seconds since 1970.");
    page.sample(*started);
  }
}

void add_drop_folder(const json::object& status, Page& page) {
  const auto* folder = object_of(status, "drop_folder");
  if (folder == nullptr)
    return;
  page.family("postrider_drop_folder_messages", Kind::gauge,
              "Messages that sendmail left in the drop folder.");
  for (const char* state : {"waiting", "refused"})
    page.sample(number_of(*folder, state).value_or(0), {{"state", state}});
}

// Those with most recipients first.
void add_sites(const json::object& status, Page& page) {
  page.family("postrider_sites_in_trouble", Kind::gauge, "Next hops whose last attempts failed.");
  page.sample(number_of(status, "sites_in_trouble_count")
                  .value_or(static_cast<double>(length_of(status, "sites_in_trouble"))));
  std::vector<std::pair<double, std::string>> sites;
  if (const auto* listed = status.if_contains("sites_in_trouble"); listed && listed->is_array())
    for (const auto& one : listed->get_array())
      if (const auto* site = one.if_object())
        if (const auto name = text_of(*site, "site"); !name.empty())
          sites.emplace_back(number_of(*site, "recipients").value_or(0), shortened(name));
  std::sort(sites.begin(), sites.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  if (sites.size() > kMostSites)
    sites.resize(kMostSites);
  if (sites.empty())
    return;
  page.family("postrider_site_waiting_recipients", Kind::gauge,
              "Recipients that wait for a next hop in trouble, of the ten with most.");
  for (const auto& [recipients, name] : sites)
    page.sample(recipients, {{"site", name}});
}

// Of those that have most to do; the daemon names a few.
void add_busiest(const json::object& status, Page& page) {
  const auto* listed = status.if_contains("busiest_sites");
  if (listed == nullptr || !listed->is_array())
    return;
  for (const auto& row : kOfSite) {
    bool is_begun = false;
    std::size_t named = 0;
    for (const auto& one : listed->get_array()) {
      const auto* site = one.if_object();
      const auto value = site == nullptr ? std::nullopt : number_of(*site, row.key);
      const auto name = site == nullptr ? std::string() : text_of(*site, "site");
      if (!value || name.empty() || ++named > kMostSites)
        continue;
      if (!std::exchange(is_begun, true))
        page.family(row.name, row.kind, row.help);
      page.sample(*value, {{"site", shortened(name)}});
    }
  }
}

void add_milters(const json::object& status, Page& page) {
  const auto* milters = object_of(status, "milter_figures");
  if (milters == nullptr || milters->empty())
    return;
  const auto each = [&](auto add) {
    for (const auto& [name, value] : *milters)
      if (const auto* one = value.if_object())
        add(shortened(std::string_view(name)), *one);
  };
  page.family("postrider_milter_up", Kind::gauge, "1: the milter could be reached the last time.");
  each([&](const std::string& name, const json::object& one) {
    const auto* well = one.if_contains("well");
    page.sample(well != nullptr && well->is_bool() && well->get_bool() ? 1 : 0, {{"milter", name}});
  });
  for (const auto& row : kOfMilter) {
    page.family(row.name, row.kind, row.help);
    each([&](const std::string& name, const json::object& one) {
      page.sample(number_of(one, row.key).value_or(0), {{"milter", name}});
    });
  }
  page.family("postrider_milter_replies", Kind::counter,
              "Answers of a milter that were waited for, by kind.");
  each([&](const std::string& name, const json::object& one) {
    if (const auto* replies = object_of(one, "replies"))
      for (const auto& reply : *replies)
        page.sample(number_of(*replies, reply.key()).value_or(0),
                    {{"milter", name}, {"reply", shortened(std::string_view(reply.key()))}});
  });
  page.family("postrider_milter_answer_seconds", Kind::histogram,
              "Of each answer of a milter that was waited for: its time.");
  each([&](const std::string& name, const json::object& one) {
    if (const auto* all = object_of(one, "histograms"))
      if (const auto figures = figures_of(*all, "answer_seconds"))
        page.histogram(figures->bounds, figures->counts, figures->sum, {{"milter", name}});
  });
}

void add_state(const json::object& status, Page& page) {
  page.family("postrider_build_info", Kind::gauge, "Always 1; the version is in the label.");
  page.sample(1, {{"version", text_of(status, "version")}});
  page.family("postrider_accepts_mail", Kind::gauge, "1: mail is accepted; 0: it is not, for now.");
  page.sample(text_of(status, "admission") == "open" ? 1 : 0);
  page.family("postrider_alarms", Kind::gauge, "Alarms that postrider status shows.");
  page.sample(static_cast<double>(length_of(status, "alarms")));
  page.family("postrider_configuration_refused", Kind::gauge,
              "1: the configuration was refused at a reload, and the one before is in use.");
  page.sample(status.contains("config_refused") ? 1 : 0);
  page.family("postrider_users_at_their_limit", Kind::gauge,
              "Users who may not send now because of their limits.");
  page.sample(static_cast<double>(length_of(status, "users_at_their_limit")));
}

}  // namespace

std::optional<ProcessUse> parse_process_stat(const std::string& text, double ticks_a_second,
                                             double page_size) {
  // The name is in parentheses and may have any in it; behind the last one are numbers.
  const auto end = text.rfind(')');
  if (end == text.npos || ticks_a_second <= 0)
    return std::nullopt;
  std::istringstream words(text.substr(end + 1));
  std::vector<std::string> fields;
  for (std::string word; words >> word;)
    fields.push_back(std::move(word));
  constexpr std::size_t kUser = 11, kSystem = 12, kThreads = 17,
                        kResident = 21;  // proc(5), less the first two
  if (fields.size() <= kResident)
    return std::nullopt;
  const auto value = [&](std::size_t index) {
    double found = -1;
    const auto& field = fields[index];
    std::from_chars(field.data(), field.data() + field.size(), found);
    return found;
  };
  const auto user = value(kUser), system = value(kSystem), resident = value(kResident);
  const auto threads = value(kThreads);
  if (user < 0 || system < 0 || resident < 0 || threads < 0)
    return std::nullopt;
  return ProcessUse{(user + system) / ticks_a_second, resident * page_size, threads};
}

std::optional<ProcessUse> process_use(std::int64_t pid) {
  constexpr std::size_t kMostStat = 4096;
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat", kMostStat);
  if (!text)
    return std::nullopt;
  return parse_process_stat(*text, static_cast<double>(::sysconf(_SC_CLK_TCK)),
                            static_cast<double>(::sysconf(_SC_PAGESIZE)));
}

std::optional<ProcessUse> process_use(const json::object& status) {
  const auto* pid = status.if_contains("pid");
  return pid != nullptr && pid->is_int64() ? process_use(pid->get_int64()) : std::nullopt;
}

std::string metrics_of(const json::object* status, const std::optional<ProcessUse>& use,
                       MetricsFormat format) {
  Page page(format);
  page.family("postrider_up", Kind::gauge, "1: the daemon runs and answers.");
  const auto* running = status == nullptr ? nullptr : status->if_contains("running");
  const bool is_up = running != nullptr && running->is_bool() && running->get_bool();
  page.sample(is_up ? 1 : 0);
  if (status == nullptr)
    return page.take();
  add_state(*status, page);
  add_rows(status, kOfStatus, page);
  add_rows(object_of(*status, "dns"), kOfDns, page);
  if (const auto* totals = object_of(*status, "queue")) {
    add_rows(totals, kOfTotals, page);
    add_states(*totals, page);
    add_messages_by_age(*totals, page);
  }
  add_rows(object_of(*status, "database_log"), kOfLog, page);
  add_ages(*status, page);
  add_rows(object_of(*status, "since_start"), kSinceStart, page);
  add_labelled(*status, page);
  add_histograms(*status, page);
  add_drop_folder(*status, page);
  add_sites(*status, page);
  add_busiest(*status, page);
  add_milters(*status, page);
  if (use) {
    page.family("postrider_process_cpu_seconds", Kind::counter,
                "Processor time of the daemon, without its children.");
    page.sample(use->cpu_seconds);
    page.family("postrider_process_resident_memory_bytes", Kind::gauge,
                "Memory of the daemon that is not swapped out.");
    page.sample(use->resident_bytes);
    page.family("postrider_process_threads", Kind::gauge, "Threads of the daemon.");
    page.sample(use->threads);
  }
  return page.take();
}

const char* content_type_of(MetricsFormat format) {
  return format == MetricsFormat::open_metrics
             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
             : "text/plain; version=0.0.4; charset=utf-8";
}

}  // namespace postrider::web
