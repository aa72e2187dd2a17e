// PostgreSQL, by libpq: one statement, whose parameters are made of the key and never a part of its
// text. Nothing of libpq's that waits is called: each wait is ours, within the time of the question.
// Names of servers are looked up by the C library, whose limits are those of resolv.conf(5).
#include "tables/table_source.h"

#ifndef POSTRIDER_WITH_POSTGRESQL

namespace postrider::tables {

Opened open_pgsql(const Spec& spec) {
  return Error(Errc::refused, spec.str() +
                                  ": this program was built without PostgreSQL, "
                                  "-DWITH_POSTGRESQL=ON and libpq-dev bring it");
}

}  // namespace postrider::tables

#else

#include "base/text.h"
#include "tables/client_library.h"
#include "tables/key_template.h"
#include "tables/pgsql_settings.h"
#include "tables/remote_table.h"
#include "tables/served_table.h"

#include <cerrno>
#include <libpq-fe.h>
#include <mutex>
#include <optional>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

namespace postrider::tables {

namespace {

// Of one answer, as they come: libpq keeps a row of any size.
constexpr std::size_t kMostReceived = 8U << 20U;

struct Library {
  decltype(&::PQconnectStartParams) connect_start = nullptr;
  decltype(&::PQconnectPoll) connect_poll = nullptr;
  decltype(&::PQsocket) socket = nullptr;
  decltype(&::PQfinish) finish = nullptr;
  decltype(&::PQstatus) status = nullptr;
  decltype(&::PQtransactionStatus) transaction_status = nullptr;
  decltype(&::PQerrorMessage) error_message = nullptr;
  decltype(&::PQsetnonblocking) set_nonblocking = nullptr;
  decltype(&::PQsetNoticeReceiver) set_notice_receiver = nullptr;
  decltype(&::PQsendQueryParams) send_query = nullptr;
  decltype(&::PQsetSingleRowMode) set_single_row_mode = nullptr;
  decltype(&::PQflush) flush = nullptr;
  decltype(&::PQisBusy) is_busy = nullptr;
  decltype(&::PQconsumeInput) consume_input = nullptr;
  decltype(&::PQgetResult) get_result = nullptr;
  decltype(&::PQclear) clear = nullptr;
  decltype(&::PQresultStatus) result_status = nullptr;
  decltype(&::PQresultErrorMessage) result_error = nullptr;
  decltype(&::PQnfields) fields = nullptr;
  decltype(&::PQntuples) rows = nullptr;
  decltype(&::PQgetisnull) is_null = nullptr;
  decltype(&::PQgetlength) length = nullptr;
  decltype(&::PQgetvalue) value = nullptr;

  Result<void> load() {
    const auto library = load_library({"libpq.so.5"}, "libpq5");
    if (!library)
      return library.error();
    Result<void> all;
    const auto find = [&](const char* name, auto& function) {
      if (auto found = find_function(*library, name, function); !found && all)
        all = found;
    };
    find("PQconnectStartParams", connect_start);
    find("PQconnectPoll", connect_poll);
    find("PQsocket", socket);
    find("PQfinish", finish);
    find("PQstatus", status);
    find("PQtransactionStatus", transaction_status);
    find("PQerrorMessage", error_message);
    find("PQsetnonblocking", set_nonblocking);
    find("PQsetNoticeReceiver", set_notice_receiver);
    find("PQsendQueryParams", send_query);
    find("PQsetSingleRowMode", set_single_row_mode);
    find("PQflush", flush);
    find("PQisBusy", is_busy);
    find("PQconsumeInput", consume_input);
    find("PQgetResult", get_result);
    find("PQclear", clear);
    find("PQresultStatus", result_status);
    find("PQresultErrorMessage", result_error);
    find("PQnfields", fields);
    find("PQntuples", rows);
    find("PQgetisnull", is_null);
    find("PQgetlength", length);
    find("PQgetvalue", value);
    return all;
  }
};

// Loaded for good; what did not work is tried again by who opens the next table.
Result<const Library*> library() {
  static std::mutex mutex;
  static std::optional<Library> loaded;
  const std::lock_guard lock(mutex);
  if (!loaded) {
    Library fresh;
    if (auto done = fresh.load(); !done)
      return done.error();
    loaded = fresh;
  }
  return &*loaded;
}

// In one line, as people read it.
Error said(const char* message) {
  std::string text(message == nullptr ? "" : message);
  text.erase(text.find_last_not_of("\n ") + 1);
  for (std::size_t at = text.find('\n'); at != text.npos; at = text.find('\n', at))
    text.replace(at, 1, "; ");
  return Error(Errc::storage, escaped(text, 300));
}

class PgsqlConnection : public RemoteConnection {
 public:
  PgsqlConnection(const Library& library, std::shared_ptr<const PgsqlSettings> settings)
      : pq_(library), settings_(std::move(settings)) {}
  ~PgsqlConnection() override { pq_.finish(connection_); }

  Result<void> open(const PgsqlServer& server, RemoteClock::time_point until) {
    const auto password = read_password(settings_->common.password_file);
    if (!password)
      return password.error();
    // What is not given here could come from the environment or a home folder.
    const std::pair<const char*, std::string> given[] = {
        {"host", server.host},
        {"port", server.port},
        {"dbname", settings_->dbname},
        {"user", settings_->user},
        {"password", *password},
        {"sslmode", settings_->verifies ? "verify-full" : "disable"},
        {"sslrootcert", settings_->common.tls_ca},
        {"gssencmode", "disable"},
        {"target_session_attrs", "any"},
        {"client_encoding", "UTF8"},
        {"application_name", "postrider"}};
    std::vector<const char*> names, values;
    for (const auto& [name, value] : given) {
      if (std::string_view(name) == "password" && value.empty())
        continue;
      names.push_back(name);
      values.push_back(value.c_str());
    }
    names.push_back(nullptr);
    values.push_back(nullptr);
    connection_ = pq_.connect_start(names.data(), values.data(), 0);
    if (connection_ == nullptr)
      return Error(make_error_code(boost::system::errc::not_enough_memory), "connect");
    if (pq_.status(connection_) == CONNECTION_BAD)
      return said(pq_.error_message(connection_));
    pq_.set_notice_receiver(
        connection_, [](void*, const PGresult*) {}, nullptr);
    auto next = PGRES_POLLING_WRITING;
    while (next != PGRES_POLLING_OK) {
      if (next == PGRES_POLLING_FAILED)
        return said(pq_.error_message(connection_));
      const short events = next == PGRES_POLLING_READING ? POLLIN : POLLOUT;
      if (auto ready = wait_for(pq_.socket(connection_), events, until); !ready)
        return ready.error().during("connect to " + server.host);
      next = pq_.connect_poll(connection_);
    }
    if (pq_.set_nonblocking(connection_, 1) != 0)
      return said(pq_.error_message(connection_));
    return {};
  }

  Answer ask(const std::string& key, RemoteClock::time_point until) override {
    std::vector<std::string> texts;
    for (const auto& parameter : settings_->parameters) {
      auto text = expand_key(parameter, key);
      if (!text)
        return std::optional<std::string>();
      texts.push_back(*std::move(text));
    }
    is_lost_ = true;  // until the answer has ended
    std::vector<const char*> values;
    for (const auto& text : texts)
      values.push_back(text.c_str());
    if (pq_.send_query(connection_, settings_->query.c_str(), static_cast<int>(values.size()),
                       nullptr, values.data(), nullptr, nullptr, 0) != 1)
      return said(pq_.error_message(connection_));
    (void)pq_.set_single_row_mode(connection_);
    if (auto sent = flush(until); !sent)
      return sent.error();
    received_ = 0;
    JoinedValues joined(settings_->common.result_format);
    std::optional<Error> refused;
    for (;;) {
      if (auto ready = receive(until); !ready)
        return ready.error();
      const ResultPtr result(pq_.get_result(connection_), pq_.clear);
      if (!result)
        break;
      if (auto taken = take(*result, joined); !taken) {
        if (taken.error().code() != make_error_code(Errc::storage))
          return taken.error();
        refused = taken.error();
      }
    }
    is_lost_ = false;
    if (refused)
      return *refused;
    return joined.text().empty() ? std::optional<std::string>() : std::optional(joined.text());
  }

  bool is_usable() const override {
    if (is_lost_ || pq_.status(connection_) != CONNECTION_OK ||
        pq_.transaction_status(connection_) != PQTRANS_IDLE)
      return false;
    char octet = 0;
    return ::recv(pq_.socket(connection_), &octet, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           errno == EAGAIN;
  }

 private:
  using ResultPtr = std::unique_ptr<PGresult, decltype(&::PQclear)>;

  Result<void> flush(RemoteClock::time_point until) {
    for (;;) {
      const int left = pq_.flush(connection_);
      if (left == 0)
        return {};
      if (left < 0)
        return said(pq_.error_message(connection_));
      if (auto ready = wait_for(pq_.socket(connection_), POLLIN | POLLOUT, until); !ready)
        return ready;
      if (pq_.consume_input(connection_) != 1)
        return said(pq_.error_message(connection_));
    }
  }

  // Until the next result is whole.
  Result<void> receive(RemoteClock::time_point until) {
    while (pq_.is_busy(connection_) == 1) {
      if (auto ready = wait_for(pq_.socket(connection_), POLLIN, until); !ready)
        return ready;
      int waiting = 0;
      (void)::ioctl(pq_.socket(connection_), FIONREAD, &waiting);
      received_ += static_cast<std::size_t>(waiting > 0 ? waiting : 0);
      if (received_ > kMostReceived)
        return malformed("it says too much");
      if (pq_.consume_input(connection_) != 1)
        return said(pq_.error_message(connection_));
    }
    return {};
  }

  // Errc::storage: the server has refused, and goes on.
  Result<void> take(const PGresult& result, JoinedValues& joined) const {
    const auto status = pq_.result_status(&result);
    if (status == PGRES_FATAL_ERROR || status == PGRES_BAD_RESPONSE)
      return said(pq_.result_error(&result));
    if (status != PGRES_SINGLE_TUPLE && status != PGRES_TUPLES_OK)
      return malformed("the query is none that answers; expected a SELECT of one column");
    if (pq_.fields(&result) != 1)
      return malformed("the query answers " + std::to_string(pq_.fields(&result)) +
                       " columns; expected a SELECT of one column");
    for (int row = 0; row < pq_.rows(&result); ++row) {
      if (pq_.is_null(&result, row, 0) == 1)
        continue;
      const std::string_view value(pq_.value(&result, row, 0),
                                   static_cast<std::size_t>(pq_.length(&result, row, 0)));
      if (!trim(value).empty() && !joined.add(value))
        return malformed("the answer has too many rows");
    }
    return {};
  }

  const Library& pq_;
  const std::shared_ptr<const PgsqlSettings> settings_;
  PGconn* connection_ = nullptr;
  bool is_lost_ = false;
  std::size_t received_ = 0;
};

}  // namespace

Opened open_pgsql(const Spec& spec) {
  return open_served<PgsqlConnection>(spec, read_pgsql_settings, library);
}

}  // namespace postrider::tables

#endif
