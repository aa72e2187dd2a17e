#include "daemon/predecessor/exim_file.h"

#include "base/text.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <set>

namespace postrider::daemon {

namespace {

constexpr std::size_t kPiece = 256U << 10U;
constexpr std::size_t kMostRecipients = 500'000;
constexpr std::size_t kMostBehind = 20;

// Of its macros.h.
constexpr NotifyBits kNotify = {2, 4, 8, 16};
constexpr std::uint64_t kHasErrorsTo = 1, kHasOriginal = 2;

Error damaged(std::string sentence) {
  return {Errc::malformed, std::move(sentence)};
}

Error cut_off() {
  return damaged("it is cut off");
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// In the tree domains are in lower case.
std::string with_low_domain(std::string_view address) {
  const auto at = std::min(address.rfind('@'), address.size());
  return std::string(address.substr(0, at)) + ascii_lower(address.substr(at));
}

std::uint64_t number_in(std::string_view text) {
  return parse_unsigned(text).value_or(0);
}

// What stands behind an address, read from the end of the line:
//   address ORCPT LENGTH,FLAGS ERRORS-TO LENGTH,PARENT#BITS
// Older ones: "address PARENT" and "address N,N,N".
class RecipientLine {
 public:
  explicit RecipientLine(std::string_view line) : rest_(line) {}

  bool read() {
    const auto end = rest_.find_last_not_of("0123456789");
    if (end == rest_.npos || end + 1 == rest_.size())
      return true;  // an address alone
    if (rest_[end] == '#')
      return read_marked(end);
    if (rest_[end] == ' ')
      rest_ = rest_.substr(0, end);
    else if (rest_[end] == ',')
      read_old();
    return true;
  }
  std::string_view address() const { return rest_; }
  std::string_view original, errors_to;
  std::uint64_t flags = 0;

 private:
  void read_old() {
    const auto space = rest_.find_last_not_of("0123456789,");
    if (space != rest_.npos && rest_[space] == ' ')
      rest_ = rest_.substr(0, space);
  }
  bool read_marked(std::size_t mark) {
    const auto bits = number_in(rest_.substr(mark + 1));
    rest_ = rest_.substr(0, mark);
    std::uint64_t parent = 0;
    return ((bits & kHasErrorsTo) == 0 || take(errors_to, parent)) &&
           ((bits & kHasOriginal) == 0 || take(original, flags));
  }
  // " TEXT LENGTH,NUMBER" from the end.
  bool take(std::string_view& text, std::uint64_t& number) {
    const auto space = rest_.find_last_not_of("0123456789,-");
    if (space == rest_.npos || rest_[space] != ' ')
      return false;
    const auto numbers = rest_.substr(space + 1);
    const auto comma = numbers.find(',');
    const auto length = parse_unsigned(numbers.substr(0, comma));
    if (comma == numbers.npos || !length || *length + 1 > space)
      return false;
    number = number_in(numbers.substr(comma + 1));
    text = rest_.substr(space - *length, *length);
    rest_ = rest_.substr(0, space - *length);
    if (!rest_.ends_with(' '))
      return false;
    rest_.remove_suffix(1);
    return true;
  }

  std::string_view rest_;
};

class EximReader {
 public:
  EximReader(std::string_view text, std::string_view id, std::string_view origin)
      : rest_(text), id_(id), recipients_(origin) {}

  Result<EximHeader> read(std::string_view journal) {
    if (line() != std::string(id_) + "-H")
      return damaged("it does not begin with its own name");
    for (auto step : {&EximReader::read_user, &EximReader::read_sender, &EximReader::read_time,
                      &EximReader::read_options, &EximReader::read_done})
      if (auto done = (this->*step)(); !done)
        return done.error();
    while (!journal.empty()) {
      const auto end = std::min(journal.find('\n'), journal.size());
      done_.insert(std::string(journal.substr(0, end)));
      journal.remove_prefix(std::min(end + 1, journal.size()));
    }
    if (auto done = read_recipients(); !done)
      return done.error();
    if (auto done = read_fields(); !done)
      return done.error();
    finish();
    return std::move(header_);
  }

 private:
  // The next one without its end; none is left: fails_ is set.
  std::string_view line() {
    const auto end = rest_.find('\n');
    if (end == rest_.npos) {
      fails_ = true;
      return {};
    }
    const auto found = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return found;
  }

  // "login uid gid"
  Result<void> read_user() {
    const auto words = split(trim(line()), ' ');
    if (fails_ || words.size() < 3)
      return damaged("its second line names no user");
    uid_ = parse_unsigned(words[words.size() - 2]);
    return {};
  }

  Result<void> read_sender() {
    const auto text = line();
    if (fails_ || text.size() < 2 || !text.starts_with('<') || !text.ends_with('>'))
      return damaged("it has no sender");
    sender_ = text.substr(1, text.size() - 2);
    return {};
  }

  Result<void> read_time() {
    const auto text = line();
    const auto seconds = parse_unsigned(text.substr(0, text.find(' ')));
    constexpr std::uint64_t kMostSeconds = std::uint64_t{1} << 34U;
    if (fails_ || !seconds || *seconds > kMostSeconds)
      return damaged("its time of arrival is none");
    header_.message.received = TimePoint(std::chrono::seconds(*seconds));
    return {};
  }

  // Lines that begin with "-"; "--" and what stands in brackets says that Exim does not trust the
  // value. Those that are not known are left out, as Exim itself does.
  Result<void> read_options() {
    while (rest_.starts_with('-')) {
      auto text = line();
      if (fails_)
        return cut_off();
      text.remove_prefix(text.starts_with("--") ? 2 : 1);
      if (text.starts_with('('))
        text.remove_prefix(std::min(text.find(')') + 1, text.size()));
      const auto space = std::min(text.find(' '), text.size());
      const auto name = text.substr(0, space);
      const auto value = text.substr(std::min(space + 1, text.size()));
      if (name == "acl" || name == "aclc" || name == "aclm") {
        if (!skip_value(value))
          return damaged("it has a variable that is cut off");
      } else {
        take_option(name, value);
      }
    }
    return {};
  }

  // "name length", then so many octets and a line end.
  bool skip_value(std::string_view text) {
    const auto length = parse_unsigned(text.substr(text.rfind(' ') + 1));
    if (!length || *length >= rest_.size())
      return false;
    rest_.remove_prefix(*length + 1);
    return true;
  }

  void take_option(std::string_view name, std::string_view value) {
    auto& message = header_.message;
    if (name == "frozen")
      message.hold = "it was frozen in Exim";
    else if (name == "N")
      message.hold = "it was not to be delivered (exim -N)";
    else if (name == "dsn_envid")
      form_.envelope_id =
          mail::decode_xtext(value) && value.size() <= 400 ? std::string(value) : std::string();
    else if (name == "dsn_ret")
      form_.ret = value == "1"   ? mail::Return::full
                  : value == "2" ? mail::Return::headers
                                 : mail::Return::unspecified;
    else if (name == "smtputf8")
      form_.smtputf8 = true;
    else if (name == "local")
      is_local_ = true;
    else
      take_client(name, value);
  }

  void take_client(std::string_view name, std::string_view value) {
    if (name == "helo_name")
      helo_ = value;
    else if (name == "host_address")
      client_ = address_in(value);
    else if (name == "received_protocol")
      protocol_ = value;
    else if (name == "host_auth")
      logged_in_ = !value.empty();
  }

  // "[192.0.2.1]:2525", or with a dot before the port as before 4.95.
  static std::string_view address_in(std::string_view text) {
    if (text.starts_with('['))
      return text.substr(1, text.find(']') - 1);
    const auto dot = text.rfind('.');
    const bool has_port =
        text.find(':') != text.npos || std::count(text.begin(), text.end(), '.') > 3;
    return has_port ? text.substr(0, dot) : text;
  }

  // The tree of addresses that have had it: each line says whether there is more on its left and on
  // its right.
  Result<void> read_done() {
    if (rest_.starts_with("XX\n")) {
      line();
      return {};
    }
    const auto is_flag = [](char c) { return c == 'Y' || c == 'N'; };
    for (std::size_t open = 1; open > 0;) {
      const auto text = line();
      if (fails_ || text.size() < 4 || !is_flag(text[0]) || !is_flag(text[1]) || text[2] != ' ')
        return damaged("its list of those who have had it is damaged");
      open += static_cast<std::size_t>(text[0] == 'Y') + static_cast<std::size_t>(text[1] == 'Y');
      --open;
      done_.insert(std::string(text.substr(3)));
    }
    return {};
  }

  Result<void> read_recipients() {
    const auto count = parse_unsigned(line());
    if (fails_ || !count || *count > kMostRecipients)
      return damaged("its number of recipients is none");
    std::set<std::string> own;
    for (std::uint64_t i = 0; i < *count; ++i) {
      RecipientLine text(line());
      if (fails_)
        return cut_off();
      if (!text.read())
        return damaged("it has a recipient with a damaged line");
      own.insert(std::string(text.address()));
      own.insert(with_low_domain(text.address()));
      if (done_.contains(std::string(text.address())) ||
          done_.contains(with_low_domain(text.address()))) {
        ++header_.message.done;
        continue;
      }
      if (auto added = recipients_.add(header_.message, form_, text.address(),
                                       text.errors_to.empty() ? sender_ : text.errors_to,
                                       notify_of(text.flags, kNotify), std::string(text.original));
          !added)
        return damaged(added.error().step());
    }
    for (const auto& address : done_)
      if (!own.contains(address) && header_.message.behind.size() < kMostBehind)
        header_.message.behind.push_back(address);
    return {};
  }

  // "181P Received: ...": its length, what it is ("*": it was taken out), and the field.
  Result<void> read_fields() {
    if (!line().empty() || fails_)
      return damaged("its header does not begin where it should");
    while (!rest_.empty()) {
      const auto digits = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
      const auto length = parse_unsigned(rest_.substr(0, digits));
      if (!length || rest_.size() < digits + 2 || rest_[digits + 1] != ' ')
        return damaged("its header is damaged");
      const char what = rest_[digits];
      rest_.remove_prefix(digits + 2);
      if (rest_.size() < *length)
        return cut_off();
      const auto field = rest_.substr(0, *length);
      rest_.remove_prefix(*length);
      if (is_digit(what) || field.find('\0') != field.npos || !field.ends_with('\n'))
        return damaged("its header is damaged");
      if (what != '*')
        header_.header.append(field);
    }
    return {};
  }

  void finish() {
    auto& message = header_.message;
    const bool is_local = client_.empty() || is_local_;
    message.origin.client =
        is_local && uid_ ? "local uid " + std::to_string(*uid_) : client_of(helo_, client_);
    message.origin.protocol = is_local ? "local" : protocol_name(protocol_, logged_in_);
  }

  std::string_view rest_;
  std::string_view id_;
  bool fails_ = false;
  EximHeader header_;
  OldRecipients recipients_;
  mail::Envelope form_;
  std::string_view sender_, helo_, client_, protocol_;
  std::optional<std::uint64_t> uid_;
  bool is_local_ = false, logged_in_ = false;
  std::set<std::string> done_;
};

bool is_part_of_id(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
  });
}

}  // namespace

Result<EximHeader> read_exim_header(std::string_view text, std::string_view id,
                                    std::string_view journal, std::string_view origin) {
  return EximReader(text, id, origin).read(journal);
}

Result<void> read_exim_content(std::string_view header, const OldFile& body, std::string_view id,
                               const OnOldContent& on_content) {
  const auto first = std::string(id) + "-D\n";
  std::string piece(std::max<std::size_t>(first.size(), std::min<std::uint64_t>(kPiece, body.size)),
                    '\0');
  std::uint64_t at = 0;
  for (bool is_begun = false;;) {
    auto got = body.read(at, piece.data(), is_begun ? piece.size() : first.size());
    if (!got)
      return got.error();
    const auto octets = std::string_view(piece).substr(0, *got);
    if (!is_begun && octets != first)
      return damaged("the file with its body does not begin with its own name");
    if (octets.empty())
      return {};
    at += octets.size();
    if (auto taken = on_content(is_begun ? octets : std::string(header) + "\n"); !taken)
      return taken;
    is_begun = true;
  }
}

bool is_exim_id(std::string_view name) {
  const auto parts = split(name, '-');
  return parts.size() == 3 && parts[0].size() == 6 &&
         ((parts[1].size() == 6 && parts[2].size() == 2) ||
          (parts[1].size() == 11 && parts[2].size() == 4)) &&
         std::all_of(parts.begin(), parts.end(), is_part_of_id);
}

}  // namespace postrider::daemon
