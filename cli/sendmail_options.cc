#include "cli/sendmail_options.h"

#include "base/text.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <iterator>

namespace postrider::cli {

namespace {

using Mode = SendmailOptions::Mode;
using Apply = Result<void> (*)(SendmailOptions& options, const std::string& value);

Error usage(std::string sentence) {
  return Error(Errc::malformed, std::move(sentence));
}

Result<void> ignore(SendmailOptions&, const std::string&) {
  return {};
}

Result<void> set_body(SendmailOptions& options, const std::string& value) {
  if (equals_ignoring_case(value, "8BITMIME"))
    options.body = mail::BodyType::eight_bit_mime;
  else if (!equals_ignoring_case(value, "7BIT"))
    return usage("-B: \"" + escaped(value, 40) + "\" is not 7BIT or 8BITMIME");
  return {};
}

Result<void> set_notify(SendmailOptions& options, const std::string& value) {
  constexpr struct {
    std::string_view name;
    std::uint8_t bit;
  } kNames[] = {{"never", mail::Notify::kNever},
                {"success", mail::Notify::kSuccess},
                {"failure", mail::Notify::kFailure},
                {"delay", mail::Notify::kDelay}};
  std::uint8_t bits = 0;
  for (const auto word : split(value, ',')) {
    std::uint8_t bit = 0;
    for (const auto& row : kNames)
      if (equals_ignoring_case(trim(word), row.name))
        bit = row.bit;
    if (bit == 0)
      return usage("-N: \"" + escaped(word, 40) + "\" is not never, success, failure or delay");
    bits = static_cast<std::uint8_t>(bits | bit);
  }
  if ((bits & mail::Notify::kNever) != 0 && bits != mail::Notify::kNever)
    return usage("-N: never goes with nothing else");
  options.notify.bits = bits;
  return {};
}

Result<void> set_return(SendmailOptions& options, const std::string& value) {
  if (equals_ignoring_case(value, "full"))
    options.ret = mail::Return::full;
  else if (equals_ignoring_case(value, "hdrs"))
    options.ret = mail::Return::headers;
  else
    return usage("-R: \"" + escaped(value, 40) + "\" is not full or hdrs");
  return {};
}

Result<void> set_envelope_id(SendmailOptions& options, const std::string& value) {
  options.envelope_id = mail::encode_xtext(value);
  if (options.envelope_id.size() > 100)
    return usage("-V: the envelope id is longer than 100 octets");
  return {};
}

Result<void> set_sender(SendmailOptions& options, const std::string& value) {
  options.sender = value;
  return {};
}

Result<void> set_full_name(SendmailOptions& options, const std::string& value) {
  options.full_name = value;
  return {};
}

Result<void> set_config(SendmailOptions& options, const std::string& value) {
  options.config = value;
  return {};
}

// -o: only -oi means something; -oem and its like say what is done anyway.
Result<void> set_old_option(SendmailOptions& options, const std::string& value) {
  if (value == "i")
    options.dots_are_content = true;
  return {};
}

Result<void> set_mode(SendmailOptions& options, const std::string& value) {
  constexpr struct {
    std::string_view letter;
    Mode mode;
  } kModes[] = {{"m", Mode::deliver},
                {"s", Mode::smtp},
                {"p", Mode::list},
                {"i", Mode::aliases},
                {"v", Mode::verify}};
  for (const auto& row : kModes)
    if (value == row.letter) {
      options.mode = row.mode;
      return {};
    }
  if (value == "d" || value == "D")
    return usage("-bd: the daemon is started by \"postrider run\"");
  return usage("-b" + escaped(value, 10) + ": this mode is not supported" +
               (value == "t" ? "; `postrider explain ADDRESS` says where mail goes" : ""));
}

// Letters with a value, glued or in the next argument.
struct ValueOption {
  char letter;
  Apply apply;
};
constexpr ValueOption kValueOptions[] = {
    {'A', ignore},          {'B', set_body},   {'C', set_config},     {'F', set_full_name},
    {'L', ignore},          {'N', set_notify}, {'O', ignore},         {'R', set_return},
    {'V', set_envelope_id}, {'X', ignore},     {'b', set_mode},       {'e', ignore},
    {'f', set_sender},      {'h', ignore},     {'o', set_old_option}, {'p', ignore},
    {'r', set_sender},
};

Result<void> set_flag(SendmailOptions& options, char letter) {
  switch (letter) {
    case 't':
      options.header_recipients = true;
      return {};
    case 'i':
      options.dots_are_content = true;
      return {};
    case 'v':
      options.verbose = true;
      return {};
    case 'I':
      options.mode = Mode::aliases;
      return {};
    case 'G':
    case 'U':
    case 'c':
    case 'm':
    case 'n':
    case 's':
    case 'x':
      return {};
    default:
      return usage(std::string("-") + escaped(std::string_view(&letter, 1)) +
                   ": unknown option; see sendmail --help");
  }
}

// -q, -qIid, -qRrecipient, -qSsender; an interval belongs to a daemon, which has its own schedule.
Result<void> set_flush(SendmailOptions& options, std::string_view value) {
  options.mode = Mode::flush;
  if (value.starts_with('I'))
    options.flush_id = value.substr(1);
  else if (value.starts_with('R'))
    options.flush_recipient = value.substr(1);
  else if (value.starts_with('S'))
    options.flush_sender = value.substr(1);
  return {};
}

class Reader {
 public:
  explicit Reader(const std::vector<std::string>& arguments) : arguments_(arguments) {}

  Result<SendmailOptions> run() {
    for (; at_ < arguments_.size(); ++at_) {
      const std::string& argument = arguments_[at_];
      // An option may stand behind a recipient, as with other programs of the system.
      if (only_recipients_ || argument.size() < 2 || argument[0] != '-')
        options_.recipients.push_back(argument);
      else if (argument == "--")
        only_recipients_ = true;
      else if (auto read = argument[1] == '-' ? read_long(argument) : read_group(argument); !read)
        return read.error();
    }
    return std::move(options_);
  }

 private:
  Result<void> read_long(const std::string& argument) {
    if (argument == "--version")
      options_.mode = Mode::version;
    else if (argument == "--help")
      options_.mode = Mode::help;
    else
      return usage(escaped(argument, 40) + ": unknown option; see sendmail --help");
    return {};
  }

  Result<void> read_group(const std::string& argument) {
    for (std::size_t i = 1; i < argument.size(); ++i) {
      const char letter = argument[i];
      if (letter == 'q')
        return set_flush(options_, std::string_view(argument).substr(i + 1));
      if (letter == 'd')
        return {};  // -d0.1: the rest is its own
      for (const auto& option : kValueOptions)
        if (option.letter == letter)
          return read_value(option, argument.substr(i + 1));
      if (auto set = set_flag(options_, letter); !set)
        return set;
    }
    return {};
  }

  // "-oMr local": some of the old options have a further value, which is its own argument.
  static bool has_further_value(const ValueOption& option, std::string_view glued) {
    constexpr std::string_view kNames[] = {"Ma", "Maa", "Mai", "Mas", "Mc", "Mi", "Mm", "Mr",
                                           "Ms", "Mt",  "A",   "P",   "X",  "Q",  "e"};
    return option.letter == 'o' &&
           std::find(std::begin(kNames), std::end(kNames), glued) != std::end(kNames);
  }

  Result<void> read_value(const ValueOption& option, const std::string& glued) {
    if (has_further_value(option, glued) && at_ + 1 < arguments_.size()) {
      ++at_;
      return {};
    }
    if (!glued.empty())
      return option.apply(options_, glued);
    if (at_ + 1 >= arguments_.size())
      return usage(std::string("-") + option.letter + ": its value is missing");
    return option.apply(options_, arguments_[++at_]);
  }

  const std::vector<std::string>& arguments_;
  std::size_t at_ = 0;
  bool only_recipients_ = false;
  SendmailOptions options_;
};

}  // namespace

Result<SendmailOptions> parse_sendmail_options(const std::vector<std::string>& arguments) {
  return Reader(arguments).run();
}

}  // namespace postrider::cli
