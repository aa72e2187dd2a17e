// `sendmail`: a message from standard input into custody, and the other doors that share its name.
#include "base/text.h"
#include "base/version.h"
#include "cli/administration.h"
#include "cli/hand_over.h"
#include "cli/header_recipients.h"
#include "cli/message_input.h"
#include "cli/output.h"
#include "cli/programs.h"
#include "cli/recipient_list.h"
#include "cli/sendmail_options.h"
#include "cli/smtp_dialog.h"

#include <cstdlib>
#include <pwd.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::cli {

namespace {

constexpr const char* kProgram = "sendmail";
// Where the header must end for -t, which holds it in memory.
constexpr std::size_t kMostHeader = 1U << 20U;

struct User {
  std::string name;
  std::string full_name;
};

// The first part of the gecos field, "&" standing for the name.
std::string full_name_of(std::string_view gecos, const std::string& login) {
  std::string name;
  for (const char c : gecos.substr(0, gecos.find(','))) {
    if (c != '&') {
      name.push_back(c);
      continue;
    }
    name.append(login);
    char& first = name[name.size() - login.size()];
    if (!login.empty() && first >= 'a' && first <= 'z')
      first = static_cast<char>(first - 'a' + 'A');
  }
  return name;
}

User current_user() {
  User user;
  if (const passwd* entry = ::getpwuid(::getuid())) {
    user.name = entry->pw_name;
    user.full_name = full_name_of(entry->pw_gecos != nullptr ? entry->pw_gecos : "", user.name);
  } else {
    user.name = "uid" + std::to_string(::getuid());
  }
  if (const char* name = std::getenv("NAME"); name != nullptr && *name != '\0')
    user.full_name = name;
  return user;
}

int fail(int exit_code, std::string_view sentence) {
  return complain(kProgram, exit_code, sentence);
}

// Mail is taken whatever the configuration is like. A configuration that the user may not read, or
// that is being changed, is not worth a warning while the daemon has published what it runs with.
Result<daemon::ToolPaths> places_for(const SendmailOptions& options) {
  auto places = daemon::find_places_for_mail({options.config});
  if (places && !places->is_live && !places->warning.empty())
    complain(kProgram, EX_OK, places->warning);
  return places;
}

// One address in any form that a header may have; "" and "<>" are the null sender.
Result<std::string> sender_address(const std::string& given) {
  const auto text = trim(given);
  if (text.empty() || text == "<>")
    return std::string();
  std::vector<std::string> addresses;
  if (auto parsed = parse_address_list(text, addresses); !parsed)
    return parsed.error();
  if (addresses.size() != 1)
    return malformed("more than one address");
  return std::move(addresses.front());
}

Result<daemon::SubmitHeader> header_for(const SendmailOptions& options,
                                        const daemon::ToolPaths& places) {
  const User user = current_user();
  daemon::SubmitHeader header;
  header.author = user.name + "@" + places.origin;
  header.sender = header.author;
  header.full_name = options.full_name.empty() ? user.full_name : options.full_name;
  if (options.sender) {
    auto sender = sender_address(*options.sender);
    if (!sender)
      return sender.error().during("-f");
    header.sender = std::move(*sender);
    if (!header.sender.empty() && header.sender.find('@') == std::string::npos)
      header.sender.append("@").append(places.origin);
    if (!header.sender.empty())
      header.author = header.sender;
    // The name of the user does not belong to somebody else's address.
    if (options.full_name.empty())
      header.full_name.clear();
  }
  if (!is_utf8(header.full_name))
    header.full_name = escaped(header.full_name);
  header.body = options.body;
  header.notify = options.notify;
  header.ret = options.ret;
  header.envelope_id = options.envelope_id;
  for (const auto& recipient : options.recipients)
    if (auto parsed = parse_address_list(recipient, header.recipients); !parsed)
      return parsed.error().during("recipient");
  return header;
}

// Reads the message; with -t its header is held back until it is whole, and goes on edited.
class Collector {
 public:
  Collector(const SendmailOptions& options, const daemon::ToolPaths& places,
            daemon::SubmitHeader& header, ContentStore& content)
      : input_(options.dots_are_content),
        in_header_(options.header_recipients),
        most_(places.message_size),
        origin_(places.origin),
        header_(header),
        content_(content) {}

  Result<void> run() {
    auto read = read_all(STDIN_FILENO, [this](std::string_view bytes) -> Result<bool> {
      std::string out;
      const bool more = input_.feed(bytes, out);
      if (auto taken = take(out); !taken)
        return taken.error();
      return more;
    });
    if (!read)
      return read;
    std::string out;
    input_.finish(out);
    if (auto taken = take(out); !taken)
      return taken;
    return in_header_ ? edit_header() : Result<void>{};
  }
  // What stands in the header for recipients and is no address: sentences.
  const std::vector<std::string>& wrong() const { return wrong_; }

 private:
  Result<void> take(std::string_view bytes) {
    if (!in_header_ && content_.size() + bytes.size() > most_)
      return Error(Errc::too_long, daemon::too_large(most_));
    if (!in_header_)
      return content_.append(bytes);
    held_.append(bytes);
    if (end_.is_past(held_))
      return edit_header();
    if (held_.size() > kMostHeader)
      return Error(Errc::too_long, "the header is larger than 1 MiB");
    return {};
  }

  Result<void> edit_header() {
    in_header_ = false;
    auto found = header_recipients(held_);
    if (!found)
      return found.error();
    wrong_ = std::move(found->wrong);
    for (auto& address : found->addresses)
      if (auto whole = daemon::complete_address(address, origin_))
        header_.recipients.push_back(std::move(address));
      else
        wrong_.push_back(whole.error().step());
    if (auto kept = content_.append(found->header); !kept)
      return kept;
    return content_.append(std::string_view(held_).substr(found->consumed));
  }

  MessageInput input_;
  bool in_header_;
  const std::uint64_t most_;  // octets
  const std::string origin_;
  std::string held_;
  HeaderEnd end_;
  std::vector<std::string> wrong_;
  daemon::SubmitHeader& header_;
  ContentStore& content_;
};

int deliver(const SendmailOptions& options) {
  if (options.recipients.empty() && !options.header_recipients)
    return fail(EX_USAGE, "no recipients; name them, or use -t to take them from the header");
  const auto places = places_for(options);
  if (!places)
    return fail(daemon::exit_code_without_places(places.error()), places.error().step());
  auto header = header_for(options, *places);
  if (!header)
    return fail(EX_DATAERR, sentence(header.error()));
  ContentStore content;
  Collector collector(options, *places, *header, content);
  if (auto read = collector.run(); !read) {
    const auto& error = read.error();
    if (error.code() == Errc::too_long)
      return fail(EX_DATAERR, error.step());
    return fail(error.code() == Errc::malformed ? EX_DATAERR : EX_IOERR, sentence(error));
  }
  // The others get it all the same, as everywhere where mail is sent.
  for (const auto& one : collector.wrong())
    complain(kProgram, EX_OK, "not sent to one recipient: " + one);
  if (header->recipients.empty())
    return collector.wrong().empty() ? fail(EX_USAGE, "no recipients in the header")
                                     : fail(EX_DATAERR, "no usable recipients in the header");
  const auto answer = hand_over(*places, std::move(*header), content);
  if (answer.exit_code != EX_OK)
    return fail(answer.exit_code, answer.error);
  if (options.verbose)
    print_aside(kProgram, answer.id == "dropped" ? "left for the daemon, which is down or busy\n"
                                                 : "queued as " + escaped(answer.id) + "\n");
  return EX_OK;
}

int speak_smtp(const SendmailOptions& options) {
  const auto places = places_for(options);
  if (!places)
    return fail(daemon::exit_code_without_places(places.error()), places.error().step());
  SmtpDialog dialog(places->hostname, current_user().name + "@" + places->origin,
                    places->message_size,
                    [&](daemon::SubmitHeader header, const ContentStore& content) {
                      return hand_over(*places, std::move(header), content);
                    });
  if (!print_raw(dialog.greeting()))
    return EX_IOERR;
  const auto read = read_all(STDIN_FILENO, [&](std::string_view bytes) -> Result<bool> {
    std::string out;
    const bool more = dialog.feed(bytes, out);
    return print_raw(out) && more;
  });
  std::string out;
  const bool is_whole = dialog.finish(out);
  print_raw(out);
  if (!read)
    return fail(EX_IOERR, read.error().describe());
  return is_whole ? EX_OK : fail(EX_DATAERR, "the input ended inside a transaction: not sent");
}

int flush(const SendmailOptions& options) {
  Administration how;
  how.program = kProgram;
  how.options.config_file = options.config;
  daemon::ControlRequest request;
  request.act = "change";
  request.verb = "retry";
  if (!options.flush_id.empty())
    request.filter.ids.push_back(options.flush_id);
  if (!options.flush_sender.empty())
    request.filter.from = options.flush_sender;
  const auto& recipient = options.flush_recipient;
  if (recipient.find('@') != std::string::npos)
    request.filter.to = recipient;
  else if (!recipient.empty())
    request.filter.domain = recipient;
  return change_queue(how, request, options.verbose);
}

int verify(const SendmailOptions& options) {
  if (options.recipients.empty())
    return fail(EX_USAGE, "-bv: no addresses");
  const auto places = places_for(options);
  if (!places)
    return fail(daemon::exit_code_without_places(places.error()), places.error().step());
  const auto header = header_for(options, *places);
  if (!header)
    return fail(EX_DATAERR, sentence(header.error()));
  const auto envelope = daemon::to_envelope(*header, places->origin, daemon::kMostSubmitRecipients);
  if (!envelope)
    return fail(EX_NOUSER, sentence(envelope.error()));
  Administration how;
  how.program = kProgram;
  how.options.config_file = options.config;
  for (const auto& recipient : envelope->recipients)
    if (const int code = explain(how, recipient.address); code != EX_OK)
      return code;
  return EX_OK;
}

}  // namespace

int sendmail_main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  const auto options = parse_sendmail_options(arguments);
  if (!options)
    return fail(EX_USAGE, options.error().step());
  using Mode = SendmailOptions::Mode;
  switch (options->mode) {
    case Mode::deliver:
      break;
    case Mode::smtp:
      return speak_smtp(*options);
    case Mode::list: {
      Administration how;
      how.program = kProgram;
      how.options.config_file = options->config;
      return print_mailq(how);
    }
    case Mode::aliases: {
      daemon::Options places;
      places.config_file = options->config;
      return check_aliases(places);
    }
    case Mode::verify:
      return verify(*options);
    case Mode::flush:
      return flush(*options);
    case Mode::version:
      print("sendmail (Postrider " + std::string(version()) + ")\n");
      return EX_OK;
    case Mode::help:
      print(
          "usage: sendmail [-t] [-i] [-f sender] [-F name] [option ...] recipient ...\n"
          "       sendmail -bs | -bp | -bi | -bv address ... | -q\n"
          "Reads a message from standard input and hands it to Postrider; see sendmail(1).\n");
      return EX_OK;
  }
  return deliver(*options);
}

}  // namespace postrider::cli
