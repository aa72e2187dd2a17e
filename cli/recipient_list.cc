#include "cli/recipient_list.h"

#include "base/text.h"

#include <algorithm>
#include <utility>

namespace postrider::cli {

namespace {

constexpr unsigned kMostNesting = 50;
constexpr std::size_t kMostAddress = 1024;

Error unusable(std::string_view near, const char* what) {
  return Error(Errc::malformed, std::string(what) + " near \"" + escaped(near, 40) + "\"");
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

class Parser {
 public:
  Parser(std::string_view list, std::vector<std::string>& addresses)
      : list_(list), addresses_(addresses) {}

  Result<void> run() {
    while (at_ < list_.size()) {
      auto taken = take();
      if (!taken)
        return taken;
    }
    if (in_angle_)
      return unusable(list_.substr(0, 40), "\"<\" without \">\"");
    return flush();
  }

  // After run() failed: past the entry that was wrong. What it quotes does not part entries, and an
  // error that was seen only at the entry's end leaves nothing of it to pass.
  void skip_entry() {
    for (bool past = is_past_entry_; !past && at_ < list_.size();) {
      const char c = list_[at_];
      if (c == '"' || c == '[')
        (void)take_delimited(c == '"' ? '"' : ']');
      else if (c == '(')
        (void)skip_comment();
      else
        ++at_;
      past = c == ',' || c == ';';
    }
    at_ = std::min(at_, list_.size());
    clear();
  }

 private:
  void clear() {
    angle_.clear();
    bare_.clear();
    in_angle_ = has_angle_ = angle_has_words_ = bare_has_words_ = gap_ = false;
  }

  Result<void> take() {
    const char c = list_[at_];
    is_past_entry_ = false;
    if (is_space(c)) {
      gap_ = true;
      ++at_;
      return {};
    }
    if (c == '\0' || static_cast<unsigned char>(c) < 32 || c == 127)
      return unusable(list_.substr(at_), "a control character");
    switch (c) {
      case '(':
        return skip_comment();
      case '"':
        return take_delimited('"');
      case '[':
        return take_delimited(']');
      case '<':
        return open_angle();
      case '>':
        return close_angle();
      case ':':
        return take_colon();
      case ',':
        if (in_angle_ && (angle_.empty() || angle_.front() == '@'))
          return take_comma_of_route();
        [[fallthrough]];
      case ';':
        ++at_;
        is_past_entry_ = true;
        return in_angle_ ? unusable(list_.substr(at_ - 1), "\"<\" without \">\"") : flush();
      default:
        append(list_.substr(at_, 1));
        ++at_;
        return check_size();
    }
  }

  std::string& target() { return in_angle_ ? angle_ : bare_; }

  // White space around "." and "@" was legal once (RFC 5322 §4.4); elsewhere it parts two words.
  void append(std::string_view token) {
    auto& text = target();
    if (gap_ && !text.empty()) {
      const char before = text.back();
      const char next = token.front();
      const bool joined = before == '.' || before == '@' || next == '.' || next == '@';
      (in_angle_ ? angle_has_words_ : bare_has_words_) |= !joined;
      if (!joined)
        text.push_back(' ');  // for who reads what is wrong
    }
    gap_ = false;
    text.append(token);
  }

  Result<void> check_size() {
    // A long display name is cut: it is not used.
    if (angle_.size() > kMostAddress || (bare_.size() > kMostAddress && !bare_has_words_))
      return unusable(target(), "an address that is too long");
    if (bare_.size() > kMostAddress)
      bare_.resize(kMostAddress / 2);
    return {};
  }

  Result<void> skip_comment() {
    unsigned depth = 0;
    for (; at_ < list_.size(); ++at_) {
      const char c = list_[at_];
      if (c == '\\') {
        ++at_;
      } else if (c == '(') {
        if (++depth > kMostNesting)
          return unusable(list_.substr(at_), "comments nested too deeply");
      } else if (c == ')' && --depth == 0) {
        ++at_;
        gap_ = true;
        return {};
      }
    }
    return unusable(list_.substr(0, 40), "\"(\" without \")\"");
  }

  // A quoted string or a domain literal, with its delimiters.
  Result<void> take_delimited(char end) {
    const auto start = at_++;
    while (at_ < list_.size() && list_[at_] != end)
      at_ += list_[at_] == '\\' ? 2 : 1;
    if (at_ >= list_.size())
      return unusable(list_.substr(start),
                      end == '"' ? "a quote without its end" : "\"[\" without \"]\"");
    ++at_;
    append(list_.substr(start, at_ - start));
    return check_size();
  }

  Result<void> open_angle() {
    if (in_angle_ || has_angle_)
      return unusable(list_.substr(at_), "\"<\" twice");
    in_angle_ = has_angle_ = true;
    gap_ = false;
    ++at_;
    return {};
  }

  Result<void> close_angle() {
    if (!in_angle_)
      return unusable(list_.substr(at_), "\">\" without \"<\"");
    if (angle_.starts_with('@') && angle_.find(',') != std::string::npos)
      return unusable(angle_, "a source route without its \":\"");
    in_angle_ = false;
    gap_ = true;
    ++at_;
    return {};
  }

  // "<@a.example,@b.example:c@d.example>" (RFC 5322 §4.4).
  Result<void> take_comma_of_route() {
    ++at_;
    gap_ = false;
    if (!angle_.empty())
      angle_.push_back(',');
    return check_size();
  }

  // The end of a source route, or of a group's name.
  Result<void> take_colon() {
    ++at_;
    if (in_angle_ && !angle_.empty() && angle_.front() == '@') {
      angle_.clear();
      angle_has_words_ = false;
      return {};
    }
    if (in_angle_ || has_angle_)
      return unusable(list_.substr(at_ - 1), "\":\"");
    bare_.clear();
    bare_has_words_ = false;
    return {};
  }

  Result<void> flush() {
    const bool has_angle = std::exchange(has_angle_, false);
    const bool words = has_angle ? angle_has_words_ : bare_has_words_;
    std::string address = std::move(has_angle ? angle_ : bare_);
    angle_.clear();
    bare_.clear();
    angle_has_words_ = bare_has_words_ = gap_ = false;
    if (address.empty() && !has_angle)
      return {};  // "a@b,, c@d", or a group without members
    if (words || address.empty())
      return unusable(address,
                      has_angle && address.empty() ? "an empty address" : "an address with spaces");
    if (addresses_.size() >= kMostListed)
      return Error(Errc::too_long, "more than 50000 addresses");
    addresses_.push_back(std::move(address));
    return {};
  }

  std::string_view list_;
  std::vector<std::string>& addresses_;
  std::size_t at_ = 0;
  std::string bare_;
  std::string angle_;
  bool is_past_entry_ = false;  // what was read last ended an entry
  bool in_angle_ = false;
  bool has_angle_ = false;
  bool bare_has_words_ = false;
  bool angle_has_words_ = false;
  bool gap_ = false;
};

}  // namespace

Result<void> parse_address_list(std::string_view list, std::vector<std::string>& addresses) {
  return Parser(list, addresses).run();
}

Result<void> gather_addresses(std::string_view list, std::vector<std::string>& addresses,
                              std::vector<std::string>& wrong) {
  Parser parser(list, addresses);
  for (;;) {
    auto done = parser.run();
    if (done || done.error().code() == Errc::too_long)
      return done;
    if (wrong.size() < kMostListed)
      wrong.push_back(done.error().step());
    parser.skip_entry();
  }
}

}  // namespace postrider::cli
