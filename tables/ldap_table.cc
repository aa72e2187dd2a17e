// LDAP, by libldap: one search for each key, which is escaped in the filter and in the base. What
// libldap does in one go (the connection, TLS, parts of an answer) has the limits that it offers,
// set before the first octet.
#include "tables/table_source.h"

#ifndef POSTRIDER_WITH_LDAP

namespace postrider::tables {

Opened open_ldap(const Spec& spec) {
  return Error(Errc::refused, spec.str() +
                                  ": this program was built without LDAP, "
                                  "-DWITH_LDAP=ON and libldap-dev bring it");
}

}  // namespace postrider::tables

#else

#include "base/text.h"
#include "tables/client_library.h"
#include "tables/key_template.h"
#include "tables/ldap_settings.h"
#include "tables/remote_table.h"
#include "tables/served_table.h"

#include <cerrno>
#include <ldap.h>
#include <mutex>
#include <optional>
#include <sys/socket.h>

namespace postrider::tables {

namespace {

constexpr ber_len_t kMostMessage = 4U << 20U;  // octets of one entry
constexpr int kMostEntries = 10'000;

struct Library {
  decltype(&::ldap_initialize) initialize = nullptr;
  decltype(&::ldap_set_option) set_option = nullptr;
  decltype(&::ldap_get_option) get_option = nullptr;
  decltype(&::ldap_start_tls_s) start_tls = nullptr;
  decltype(&::ldap_sasl_bind) bind = nullptr;
  decltype(&::ldap_unbind_ext_s) unbind = nullptr;
  decltype(&::ldap_search_ext) search = nullptr;
  decltype(&::ldap_result) result = nullptr;
  decltype(&::ldap_parse_result) parse_result = nullptr;
  decltype(&::ldap_msgfree) free_message = nullptr;
  decltype(&::ldap_memfree) free_memory = nullptr;
  decltype(&::ldap_get_values_len) values = nullptr;
  decltype(&::ldap_value_free_len) free_values = nullptr;
  decltype(&::ldap_err2string) describe = nullptr;
  decltype(&::ber_sockbuf_ctrl) control_socket = nullptr;

  Result<void> load() {
    const auto library = load_library({"libldap.so.2", "libldap-2.5.so.0"}, "libldap-2.5-0");
    if (!library)
      return library.error();
    Result<void> all;
    const auto find = [&](const char* name, auto& function) {
      if (auto found = find_function(*library, name, function); !found && all)
        all = found;
    };
    find("ldap_initialize", initialize);
    find("ldap_set_option", set_option);
    find("ldap_get_option", get_option);
    find("ldap_start_tls_s", start_tls);
    find("ldap_sasl_bind", bind);
    find("ldap_unbind_ext_s", unbind);
    find("ldap_search_ext", search);
    find("ldap_result", result);
    find("ldap_parse_result", parse_result);
    find("ldap_msgfree", free_message);
    find("ldap_memfree", free_memory);
    find("ldap_get_values_len", values);
    find("ldap_value_free_len", free_values);
    find("ldap_err2string", describe);
    find("ber_sockbuf_ctrl", control_socket);
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

timeval time_to(RemoteClock::time_point until) {
  const auto left =
      std::max(std::chrono::microseconds(1'000),
               std::chrono::duration_cast<std::chrono::microseconds>(until - RemoteClock::now()));
  timeval time{};
  time.tv_sec = static_cast<time_t>(left.count() / 1'000'000);
  time.tv_usec = static_cast<suseconds_t>(left.count() % 1'000'000);
  return time;
}

class LdapConnection : public RemoteConnection {
 public:
  LdapConnection(const Library& library, std::shared_ptr<const LdapSettings> settings)
      : lib_(library), settings_(std::move(settings)) {
    callback_.lc_add = on_connected;
    callback_.lc_del = on_closed;
    callback_.lc_arg = this;
  }
  ~LdapConnection() override {
    if (handle_ != nullptr)
      lib_.unbind(handle_, nullptr, nullptr);
  }

  Result<void> open(const LdapServer& server, RemoteClock::time_point until) {
    const auto password = read_password(settings_->common.password_file);
    if (!password)
      return password.error();
    if (const int failed = lib_.initialize(&handle_, server.url.c_str()); failed != LDAP_SUCCESS)
      return refusal("connect", failed);
    if (auto done = set_options(until); !done)
      return done;
    if (server.starts_tls)
      if (const int failed = lib_.start_tls(handle_, nullptr, nullptr); failed != LDAP_SUCCESS)
        return refusal("start TLS", failed);
    berval credentials{};
    credentials.bv_val = const_cast<char*>(password->c_str());
    credentials.bv_len = password->size();
    int message = 0;
    set_times(until);
    if (const int failed = lib_.bind(handle_, settings_->bind_dn.c_str(), LDAP_SASL_SIMPLE,
                                     &credentials, nullptr, nullptr, &message);
        failed != LDAP_SUCCESS)
      return refusal("connect", failed);
    auto next = receive(message, until);
    if (!next)
      return next.error();
    if (const int failed = code_of(**next); failed != LDAP_SUCCESS)
      return refusal("log in", failed);
    is_lost_ = false;
    return {};
  }

  Answer ask(const std::string& key, RemoteClock::time_point until) override {
    const auto filter = expand_key(settings_->filter, key, escape_for_filter);
    const auto base = expand_key(settings_->base, key, escape_for_dn);
    if (!filter || !base)
      return std::optional<std::string>();
    std::vector<char*> attributes;
    for (const auto& name : settings_->attributes)
      attributes.push_back(const_cast<char*>(name.c_str()));
    attributes.push_back(nullptr);
    is_lost_ = true;  // until the answer has ended
    set_times(until);
    auto limit = time_to(until + std::chrono::seconds(1));  // for the server, in whole seconds
    int message = 0;
    if (const int failed =
            lib_.search(handle_, base->c_str(), scope(), filter->c_str(), attributes.data(), 0,
                        nullptr, nullptr, &limit, kMostEntries, &message);
        failed != LDAP_SUCCESS) {
      is_lost_ = failed != LDAP_FILTER_ERROR;
      return refusal("search", failed);
    }
    JoinedValues joined(settings_->common.result_format);
    for (;;) {
      auto next = receive(message, until);
      if (!next)
        return next.error();
      if (kind_ == LDAP_RES_SEARCH_RESULT)
        return finish(**next, joined);
      if (kind_ == LDAP_RES_SEARCH_ENTRY)
        if (auto taken = take(**next, joined); !taken)
          return taken.error();
    }
  }

  bool is_usable() const override {
    char octet = 0;
    return !is_lost_ && ::recv(socket_, &octet, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
  }

 private:
  using Message = std::unique_ptr<LDAPMessage, decltype(&::ldap_msgfree)>;

  // The socket is there, and nothing has been read from it.
  static int on_connected(LDAP*, Sockbuf* buffer, LDAPURLDesc*, sockaddr*, ldap_conncb* context) {
    auto& self = *static_cast<LdapConnection*>(context->lc_arg);
    auto most = kMostMessage;
    self.lib_.control_socket(buffer, LBER_SB_OPT_SET_MAX_INCOMING, &most);
    self.lib_.control_socket(buffer, LBER_SB_OPT_GET_FD, &self.socket_);
    // Of half an answer libldap waits for the other half in read(2).
    timeval time{};
    time.tv_usec = 250'000;
    ::setsockopt(self.socket_, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
    ::setsockopt(self.socket_, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
    return LDAP_SUCCESS;
  }
  static void on_closed(LDAP*, Sockbuf*, ldap_conncb* context) {
    static_cast<LdapConnection*>(context->lc_arg)->socket_ = -1;
  }

  void set_times(RemoteClock::time_point until) {
    const auto left = time_to(until);
    lib_.set_option(handle_, LDAP_OPT_NETWORK_TIMEOUT, &left);
    lib_.set_option(handle_, LDAP_OPT_TIMEOUT, &left);
  }

  // What is not set here could come from ldap.conf(5), the environment or a home folder.
  Result<void> set_options(RemoteClock::time_point until) {
    const int version = LDAP_VERSION3, aliases = LDAP_DEREF_NEVER, demand = LDAP_OPT_X_TLS_DEMAND;
    const int least_tls = LDAP_OPT_X_TLS_PROTOCOL_TLS1_2, client = 0;
    set_times(until);
    lib_.set_option(handle_, LDAP_OPT_CONNECT_CB, &callback_);
    const std::pair<int, const void*> options[] = {
        {LDAP_OPT_PROTOCOL_VERSION, &version},
        {LDAP_OPT_REFERRALS, LDAP_OPT_OFF},  // they would lead to other servers
        {LDAP_OPT_DEREF, &aliases},
        {LDAP_OPT_X_TLS_CACERTFILE, settings_->common.tls_ca.c_str()},
        {LDAP_OPT_X_TLS_REQUIRE_CERT, &demand},
        {LDAP_OPT_X_TLS_PROTOCOL_MIN, &least_tls},
        {LDAP_OPT_X_TLS_NEWCTX, &client}};
    for (const auto& [option, value] : options) {
      const bool is_tls = option >= LDAP_OPT_X_TLS && option <= LDAP_OPT_X_TLS_NEWCTX;
      if (is_tls && !needs_tls())
        continue;
      if (lib_.set_option(handle_, option, value) != LDAP_OPT_SUCCESS)
        return Error(Errc::storage,
                     option == LDAP_OPT_X_TLS_NEWCTX
                         ? "prepare TLS: " + settings_->common.tls_ca + " cannot be used"
                         : "set option " + std::to_string(option));
    }
    return {};
  }
  bool needs_tls() const {
    return std::any_of(settings_->servers.begin(), settings_->servers.end(), [](const auto& one) {
      return one.starts_tls || one.url.starts_with("ldaps://");
    });
  }

  int scope() const {
    switch (settings_->scope) {
      case LdapScope::one:
        return LDAP_SCOPE_ONELEVEL;
      case LdapScope::base:
        return LDAP_SCOPE_BASE;
      case LdapScope::sub:
        break;
    }
    return LDAP_SCOPE_SUBTREE;
  }

  // The next part of the answer, whose kind is in kind_ then.
  Result<Message> receive(int id, RemoteClock::time_point until) {
    for (;;) {
      if (RemoteClock::now() >= until)
        return Error(make_error_code(boost::system::errc::timed_out), "wait for it");
      auto left = time_to(until);
      LDAPMessage* message = nullptr;
      const int kind = lib_.result(handle_, id, LDAP_MSG_ONE, &left, &message);
      if (kind > 0) {
        Message got(message, lib_.free_message);
        kind_ = kind;
        return got;
      }
      int failed = LDAP_SUCCESS;
      lib_.get_option(handle_, LDAP_OPT_RESULT_CODE, &failed);
      if (kind < 0)
        return refusal("wait for an answer", failed);
    }
  }

  int code_of(LDAPMessage& message) {
    int code = LDAP_OTHER;
    const int failed =
        lib_.parse_result(handle_, &message, &code, nullptr, nullptr, nullptr, nullptr, 0);
    return failed == LDAP_SUCCESS ? code : failed;
  }

  Result<void> take(LDAPMessage& entry, JoinedValues& joined) {
    for (const auto& name : settings_->attributes) {
      const std::unique_ptr<berval*, decltype(&::ldap_value_free_len)> values(
          lib_.values(handle_, &entry, name.c_str()), lib_.free_values);
      for (auto** one = values.get(); one != nullptr && *one != nullptr; ++one) {
        const std::string_view value((*one)->bv_val, (*one)->bv_len);
        if (!is_utf8(value) || value.find('\0') != value.npos)
          return malformed("a value of " + name + " is not text");
        if (!trim(value).empty() && !joined.add(value))
          return malformed("the answer has too many values");
      }
    }
    return {};
  }

  Answer finish(LDAPMessage& message, const JoinedValues& joined) {
    const int code = code_of(message);
    is_lost_ = code == LDAP_BUSY || code == LDAP_UNAVAILABLE || code < 0;
    // A base that is made of the key may not be there; any other is a mistake, or a server that is
    // not ready.
    const bool is_none =
        code == LDAP_NO_SUCH_OBJECT && settings_->base.find('%') != std::string::npos;
    if (code != LDAP_SUCCESS && !is_none)
      return refusal("search", code);
    return joined.text().empty() ? std::optional<std::string>() : std::optional(joined.text());
  }

  Error refusal(const char* step, int code) {
    std::string why = lib_.describe(code);
    char* more = nullptr;
    if (handle_ != nullptr &&
        lib_.get_option(handle_, LDAP_OPT_DIAGNOSTIC_MESSAGE, &more) == LDAP_OPT_SUCCESS &&
        more != nullptr) {
      if (*more != '\0')
        why.append(" (").append(more).append(")");
      lib_.free_memory(more);
    }
    const auto text = std::string(step) + ": " + escaped(why, 300);
    if (code == LDAP_TIMEOUT)
      return Error(make_error_code(boost::system::errc::timed_out), text);
    return Error(Errc::storage, text);
  }

  const Library& lib_;
  const std::shared_ptr<const LdapSettings> settings_;
  ldap_conncb callback_{};
  LDAP* handle_ = nullptr;
  int socket_ = -1;
  int kind_ = 0;
  bool is_lost_ = true;
};

}  // namespace

Opened open_ldap(const Spec& spec) {
  return open_served<LdapConnection>(spec, read_ldap_settings, library);
}

}  // namespace postrider::tables

#endif
