#include "smtpd/auth/challenges.h"

#include "base/base64.h"
#include "base/digest.h"
#include "base/text.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

namespace postrider::smtpd::auth {

namespace {

constexpr std::uint32_t kMostSalt = 256;   // octets
constexpr std::uint32_t kMostNonce = 256;  // of the server's part
constexpr std::size_t kMostDomains = 256;
constexpr auto kAskAgain = std::chrono::hours(24);
constexpr auto kAskAgainSoon = std::chrono::hours(1);  // where nothing was learned

template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, number);
  return read.ec == std::errc() && read.ptr == end;
}

// "r=" nonce ",s=" salt ",i=" iterations (RFC 5802 §7)
struct ServerFirst {
  std::size_t nonce_size = 0;  // of both parts
  std::string salt;
  std::uint32_t iterations = 0;
};
std::optional<ServerFirst> parse_server_first(std::string_view text) {
  const auto fields = split(text, ',');
  if (fields.size() != 3 || !fields[0].starts_with("r=") || !fields[1].starts_with("s=") ||
      !fields[2].starts_with("i="))
    return std::nullopt;
  ServerFirst out;
  out.nonce_size = fields[0].size() - 2;
  auto salt = decode_base64(fields[1].substr(2));
  if (!salt || salt->empty() || salt->size() > kMostSalt ||
      !read_number(fields[2].substr(2), out.iterations))
    return std::nullopt;
  out.salt = *std::move(salt);
  return out;
}

// gs2-header "n=" saslname ",r=" nonce ...; nothing: it has none where servers look for it.
std::optional<std::string_view> nonce_of(std::string_view first) {
  const auto fields = split(first, ',');
  if (fields.size() < 4 || !fields[3].starts_with("r="))
    return std::nullopt;
  return fields[3].substr(2);
}

// As Dovecot draws it: printable, and the last such character only in place of a comma.
std::string server_nonce(std::size_t size) {
  auto out = random_bytes(size);
  for (char& c : out) {
    c = static_cast<char>('!' + static_cast<unsigned char>(c) % ('~' - '!'));
    if (c == ',')
      c = '~';
  }
  return out;
}

// What Dovecot takes in names unless it is configured otherwise, and a sign that many have.
bool is_of_usual_name(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         std::string_view(".-_+@").find(c) != std::string_view::npos;
}

std::string in_other_case(std::string_view name) {
  std::string other(name);
  for (auto& c : other)
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
      c = static_cast<char>(c ^ ' ');
  return other;
}

std::uint64_t mixed(std::uint64_t a, std::uint64_t b) {
  auto x = a ^ (b * 0x9e3779b97f4a7c15U);
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31U);
}

}  // namespace

std::uint64_t Challenges::tag_of(std::string_view what, std::string_view name) const {
  const auto digest = hmac_sha256(secret_, std::string(what) + " " + std::string(name));
  std::uint64_t tag = 0;
  std::memcpy(&tag, digest.data(), sizeof tag);
  return tag | 1U;
}

std::string Challenges::account_of(std::string_view name) const {
  auto account = form_.write(name);
  if (is_case_ignored_)
    account = ascii_lower(account);
  const auto at = account.find('@');
  if (domains_ == Domains::ignored)
    account.resize(std::min(at, account.size()));
  else if (at == account.npos && !realm_.empty())
    account += "@" + realm_;
  return account;
}

std::vector<std::string> Challenges::questions(std::string_view name) const {
  return form_.questions(name, encode_hex(random_bytes(8)));
}

bool Challenges::check_form(std::string_view name, std::string_view made, SteadyTime now) {
  const bool is_usual = std::all_of(name.begin(), name.end(), is_of_usual_name);
  if (!is_usual || made.empty() || made == form_.write(name) ||
      (forgot_ && now - *forgot_ < kAskAgainSoon))
    return false;
  forgot_ = now;
  form_ = NameForm();
  return true;
}

std::string Challenges::other_spelling(std::string_view name, SteadyTime now) {
  const auto at = name.find('@');
  const auto local_part = std::string(name.substr(0, at));
  if (local_part.empty() || name.find_first_of(",=") != name.npos)
    return {};
  const auto pause = domains_ == Domains::unknown ? kAskAgainSoon : kAskAgain;
  if (!asked_ || now - *asked_ >= pause) {
    asked_ = now;
    return local_part + "@" + encode_hex(random_bytes(8)) + ".invalid";
  }
  const auto other_case = in_other_case(name);
  if (form_.keeps_case() && other_case != name && (!asked_case_ || now - *asked_case_ >= pause)) {
    asked_case_ = now;
    return other_case;
  }
  const bool may_tell_realm = domains_ == Domains::count && realm_.empty() && at != name.npos;
  if (may_tell_realm && tried_.size() < kMostDomains &&
      tried_.insert(ascii_lower(name.substr(at + 1))).second)
    return local_part;
  return {};
}

bool Challenges::learn_spelling(std::string_view name, std::string_view spelling,
                                std::string_view challenge) {
  const auto seen = parse_server_first(challenge);
  const auto known = accounts_.find(tag_of("challenge", account_of(name)));
  const bool is_same =
      seen && known != accounts_.end() && known->second.salt == tag_of("salt", seen->salt);
  if (equals_ignoring_case(spelling, name)) {
    const bool is_told = is_same || challenge.empty();
    return is_told && std::exchange(is_case_ignored_, is_same) != is_same;
  }
  if (spelling.find('@') != spelling.npos) {
    // Another salt may be another account's, or a fresh one.
    const auto found = is_same ? Domains::ignored : challenge.empty() ? Domains::count : domains_;
    return std::exchange(domains_, found) != found;
  }
  const auto domain = ascii_lower(name.substr(name.find('@') + 1));
  return is_same && std::exchange(realm_, domain) != domain;
}

bool Challenges::learn(std::string_view name, std::string_view first, std::string_view challenge,
                       Duration took) {
  const auto seen = parse_server_first(challenge);
  const auto nonce = nonce_of(first);
  const auto tag = tag_of("challenge", account_of(name));
  const auto at = accounts_.find(tag);
  if (!seen || !nonce || nonce->size() > seen->nonce_size ||
      seen->nonce_size - nonce->size() > kMostNonce ||
      (at == accounts_.end() && accounts_.size() >= kMostAccounts))
    return false;
  Form form;
  form.salt_size = static_cast<std::uint32_t>(seen->salt.size());
  form.nonce_size = static_cast<std::uint32_t>(seen->nonce_size - nonce->size());
  form.iterations = seen->iterations;
  form.salt = tag_of("salt", seen->salt);
  form.took = took;
  if (at != accounts_.end() && at->second.salt != 0)
    form.salts = at->second.salt == form.salt ? Salts::same : Salts::fresh;
  else if (at != accounts_.end())
    form.salts = at->second.salts;
  const bool is_news = at == accounts_.end() || !at->second.looks_like(form);
  accounts_[tag] = form;
  return is_news;
}

// The nearest of the accounts seen, by a measure of this name's own: one account more changes the
// form of few names. Whether salts are fresh is known of some only.
Challenges::Form Challenges::form_for(std::string_view account) const {
  const auto own = tag_of("form", account);
  Form form;
  auto salts = Salts::unknown;
  std::uint64_t nearest = 0, nearest_known = 0;
  for (const auto& [tag, seen] : accounts_) {
    const auto near = mixed(own, tag);
    if (near >= nearest) {
      nearest = near;
      form = seen;
    }
    if (seen.salts != Salts::unknown && near >= nearest_known) {
      nearest_known = near;
      salts = seen.salts;
    }
  }
  form.salts = salts;
  return form;
}

std::string Challenges::make_up(std::string_view name, std::string_view first) const {
  const auto nonce = nonce_of(first);
  if (!nonce)
    return {};
  const auto account = account_of(name);
  const auto form = form_for(account);
  std::string salt;
  if (form.salts == Salts::fresh)
    salt = random_bytes(form.salt_size);
  for (int part = 0; salt.size() < form.salt_size; ++part)
    salt += hmac_sha256(secret_, "salt " + std::to_string(part) + " " + account);
  salt.resize(form.salt_size);
  return "r=" + std::string(*nonce) + server_nonce(form.nonce_size) + ",s=" + encode_base64(salt) +
         ",i=" + std::to_string(form.iterations);
}

Duration Challenges::hold() const {
  if (accounts_.size() < kFewestAccounts)
    return kShortest;
  std::vector<Duration> took;
  for (const auto& [tag, form] : accounts_)
    took.push_back(form.took);
  const auto middle = took.begin() + static_cast<std::ptrdiff_t>(took.size() / 2);
  std::nth_element(took.begin(), middle, took.end());
  auto hold = kShortest;
  while (hold < kLongest && hold < 4 * *middle)
    hold *= 2;
  return hold;
}

std::string Challenges::save() const {
  std::string out = form_.save();
  if (is_case_ignored_)
    out += "case ignored\n";
  if (domains_ != Domains::unknown)
    out += domains_ == Domains::ignored ? "domains ignored\n" : "domains count\n";
  if (!realm_.empty())
    out += "realm " + realm_ + "\n";
  for (const auto& [tag, form] : accounts_) {
    out += std::to_string(tag);
    for (const auto number : {form.salt_size, form.nonce_size, form.iterations})
      out += " " + std::to_string(number);
    out += form.salts == Salts::fresh ? " fresh" : form.salts == Salts::same ? " same" : " -";
    out += " " + std::to_string(form.took.count()) + "\n";
  }
  return out;
}

void Challenges::restore(std::string_view text) {
  form_.restore(text);
  for (const auto line : split(text, '\n')) {
    const auto words = split(line, ' ');
    if (words.size() == 2 && words[0] == "domains")
      domains_ = words[1] == "ignored" ? Domains::ignored
                 : words[1] == "count" ? Domains::count
                                       : Domains::unknown;
    if (words.size() == 2 && words[0] == "case")
      is_case_ignored_ = words[1] == "ignored";
    if (words.size() == 2 && words[0] == "realm")
      realm_ = words[1];
    std::uint32_t took = 0;
    std::uint64_t tag = 0;
    Form form;
    if ((words.size() == 5 || (words.size() == 6 && read_number(words[5], took))) &&
        accounts_.size() < kMostAccounts && read_number(words[0], tag) &&
        read_number(words[1], form.salt_size) && form.salt_size <= kMostSalt &&
        read_number(words[2], form.nonce_size) && form.nonce_size <= kMostNonce &&
        read_number(words[3], form.iterations)) {
      form.salts = words[4] == "fresh"  ? Salts::fresh
                   : words[4] == "same" ? Salts::same
                                        : Salts::unknown;
      form.took = Duration(std::min<std::uint32_t>(took, 60000));
      accounts_[tag] = form;
    }
  }
}

}  // namespace postrider::smtpd::auth
