#include "smtpd/filter/milter_session.h"

#include "base/assert.h"
#include "base/text.h"

#include <algorithm>
#include <array>

namespace postrider::smtpd::filter::milter {

namespace {

// Who does not say what it wants is sent these.
const std::array<std::vector<std::string>, kMacroStages>& usual_macros() {
  static const std::array<std::vector<std::string>, kMacroStages> names = {{
      {"j", "{daemon_name}", "{daemon_addr}", "{daemon_port}", "v", "_"},
      {"{tls_version}", "{cipher}", "{cipher_bits}", "{cert_subject}", "{cert_issuer}"},
      {"i", "{auth_type}", "{auth_authen}", "{auth_author}", "{mail_addr}", "{mail_host}",
       "{mail_mailer}"},
      {"i", "{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"},
      {"i"},
      {"i", "{msg_id}"},
      {"i"},
  }};
  return names;
}

// "{i}" and "i" are one name, and so are "auth_type" and "{auth_type}".
std::string_view bare(std::string_view name) {
  return name.size() > 2 && name.starts_with('{') && name.ends_with('}')
             ? name.substr(1, name.size() - 2)
             : name;
}

// As filters are shown it: folds are LF and white space.
std::string shown_value(std::string_view value, bool leading_space) {
  if (!leading_space && value.starts_with(' '))
    value.remove_prefix(1);
  std::string shown;
  shown.reserve(value.size());
  for (std::size_t i = 0; i < value.size(); ++i)
    if (value[i] != '\r' || i + 1 == value.size() || value[i + 1] != '\n')
      shown.push_back(value[i]);
  return shown;
}

}  // namespace

Session::Session(EditLimits limits, std::uint32_t version) : limits_(limits) {
  POSTRIDER_ASSERT(version >= kLowestVersion && version <= kVersion);
  offer_.version = version;
  offer_.actions = actions_of(version);
  // Recipients that were refused are nobody's concern here.
  offer_.steps = steps_of(version) & ~step::kRefusedRecipients;
}

Session::Step Session::open() {
  waits_for_ = 'O';
  return {encode_negotiation(offer_), true};
}

bool Session::is_wanted(std::uint32_t unwanted, bool of_message) const {
  return is_open_ && !has_left_ && !(of_message && is_done_) && (agreed_.steps & unwanted) == 0;
}

Session::Step Session::send(char command, std::string bytes, std::uint32_t silent) {
  POSTRIDER_ASSERT(waits_for_ == 0);
  const bool waits = (agreed_.steps & silent) == 0;
  if (waits)
    waits_for_ = command;
  return {std::move(bytes), waits};
}

std::string Session::macro_frame(MacroStage stage, char command, const Macros& macros) const {
  const auto number = static_cast<std::size_t>(stage);
  const auto& asked = agreed_.macros[number];
  Macros sent;
  for (const auto& name : asked ? *asked : usual_macros()[number]) {
    const auto found = std::find_if(macros.begin(), macros.end(), [&](const auto& macro) {
      return bare(macro.first) == bare(name);
    });
    if (found != macros.end())
      sent.push_back(*found);
  }
  return sent.empty() ? std::string() : encode_macros(command, sent);
}

Session::Step Session::connect(std::string_view name, const IpAddress& address, std::uint16_t port,
                               const Macros& macros) {
  if (!is_wanted(step::kNoConnect, false))
    return {};
  return send('C',
              macro_frame(MacroStage::connect, 'C', macros) + encode_connect(name, address, port),
              step::kSilentConnect);
}

Session::Step Session::helo(std::string_view name, const Macros& macros) {
  if (!is_wanted(step::kNoHelo, false))
    return {};
  return send('H', macro_frame(MacroStage::helo, 'H', macros) + encode_string('H', name),
              step::kSilentHelo);
}

Session::Step Session::mail(std::string_view path, std::vector<std::string> args,
                            const Macros& macros) {
  if (!is_wanted(0, false))
    return {};
  in_message_ = true;
  is_done_ = skips_header_ = skips_body_ = false;
  if (!is_wanted(step::kNoMail, true))
    return {};
  args.insert(args.begin(), std::string(path));
  return send('M', macro_frame(MacroStage::mail, 'M', macros) + encode_path('M', args),
              step::kSilentMail);
}

Session::Step Session::recipient(std::string_view path, std::vector<std::string> args,
                                 const Macros& macros) {
  if (!is_wanted(step::kNoRecipient, true))
    return {};
  args.insert(args.begin(), std::string(path));
  return send('R', macro_frame(MacroStage::recipient, 'R', macros) + encode_path('R', args),
              step::kSilentRecipient);
}

Session::Step Session::data(const Macros& macros) {
  if (agreed_.version < 4 || !is_wanted(step::kNoData, true))
    return {};
  return send('T', macro_frame(MacroStage::data, 'T', macros) + encode_frame('T', {}),
              step::kSilentData);
}

bool Session::wants_header() const {
  return is_wanted(step::kNoHeader, true) && !skips_header_;
}

bool Session::wants_body() const {
  return is_wanted(step::kNoBody, true) && !skips_body_;
}

Session::Step Session::header(std::string_view name, std::string_view value) {
  if (!wants_header())
    return {};
  return send('L', encode_header(trim(name), shown_value(value, has_leading_space())),
              step::kSilentHeader);
}

Session::Step Session::end_of_header(const Macros& macros) {
  if (!is_wanted(step::kNoEndOfHeader, true))
    return {};
  return send('N', macro_frame(MacroStage::end_of_header, 'N', macros) + encode_frame('N', {}),
              step::kSilentEndOfHeader);
}

Session::Step Session::body(std::string_view piece) {
  POSTRIDER_ASSERT(piece.size() <= kMostBodyInFrame);
  if (!wants_body() || piece.empty())
    return {};
  return send('B', encode_frame('B', piece), step::kSilentBody);
}

Session::Step Session::end(const Macros& macros) {
  if (!is_wanted(0, true))
    return {};
  return send('E', macro_frame(MacroStage::end, 'E', macros) + encode_frame('E', {}), 0);
}

Session::Step Session::abort() {
  edits_ = {};
  edit_count_ = edit_bytes_ = body_bytes_ = 0;
  is_done_ = skips_header_ = skips_body_ = false;
  // After a filter has left the session, too: some count on it.
  if (!std::exchange(in_message_, false))
    return {};
  waits_for_ = 0;
  return {encode_frame('A', {}), false};
}

Session::Step Session::quit() {
  auto step = abort();
  waits_for_ = 0;
  if (std::exchange(is_open_, false))
    step.bytes += encode_frame('Q', {});
  return step;
}

Edits Session::take_edits() {
  return std::exchange(edits_, {});
}

std::string Session::take_body() {
  return edits_.body ? std::exchange(*edits_.body, {}) : std::string();
}

std::size_t Session::held() const {
  return edit_bytes_ + edit_count_ * sizeof(Edit) + (edits_.body ? edits_.body->size() : 0);
}

Result<std::optional<Verdict>> Session::on_frame(Frame frame) {
  const char stage = waits_for_;
  if (stage == 0)
    return malformed("milter: an answer to nothing");
  if (stage == 'O')
    return negotiated(frame);
  auto answer = parse_answer(std::move(frame));
  if (!answer)
    return answer.error();
  return judged(stage, *std::move(answer));
}

Result<std::optional<Verdict>> Session::negotiated(const Frame& frame) {
  auto answer = parse_negotiation(frame);
  if (!answer)
    return answer.error();
  if (answer->version < kLowestVersion || answer->version > offer_.version)
    return malformed("milter negotiation: version " + std::to_string(answer->version));
  if ((answer->actions & ~offer_.actions) != 0)
    return malformed("milter negotiation: actions that were not offered");
  // Filters of old versions answer with bits that their library has always had.
  if ((answer->steps & ~offer_.steps) != 0)
    return malformed("milter negotiation: steps that were not offered");
  waits_for_ = 0;
  is_open_ = true;
  agreed_ = *std::move(answer);
  return std::optional(Verdict{});
}

Result<std::optional<Verdict>> Session::judged(char stage, Answer answer) {
  using Kind = Answer::Kind;
  const bool of_message = stage != 'C' && stage != 'H';
  if (answer.kind == Kind::progress)
    return std::optional<Verdict>();
  if (answer.kind == Kind::edit)
    return collect(stage, std::move(answer.edit));
  Verdict verdict;
  switch (answer.kind) {
    case Kind::go_on:
      break;
    case Kind::accept:
      (of_message ? is_done_ : has_left_) = true;
      verdict.kind = stage == 'E' ? Verdict::Kind::go_on : Verdict::Kind::done;
      break;
    case Kind::discard:
      if (!of_message)
        return malformed("milter: a message is discarded before there is one");
      verdict.kind = Verdict::Kind::discard;
      break;
    case Kind::skip:
      if ((agreed_.steps & step::kSkip) == 0 || (stage != 'L' && stage != 'B'))
        return malformed("milter: skips what it may not");
      (stage == 'L' ? skips_header_ : skips_body_) = true;
      break;
    default:
      verdict = Verdict::refuse(std::move(answer.reply), std::move(answer.problem));
      break;
  }
  waits_for_ = 0;
  // One recipient that is refused leaves the others.
  if (verdict.kind == Verdict::Kind::discard || (verdict.refuses() && of_message && stage != 'R'))
    is_done_ = true;
  if (stage == 'E') {
    is_done_ = true;
    if (verdict.kind != Verdict::Kind::go_on)
      edits_ = {};
  }
  return std::optional(std::move(verdict));
}

Result<std::optional<Verdict>> Session::collect(char stage, Edit edit) {
  if (stage != 'E')
    return malformed("milter: an edit before the end of the message");
  if ((agreed_.actions & action_of(edit.kind)) == 0)
    return malformed("milter: an edit that was not negotiated");
  if (edit.kind == Edit::Kind::replace_body) {
    auto& body = edits_.body;
    if (!body)
      body.emplace();
    // Frames of nothing have their price, too.
    body_bytes_ += edit.value.size() + 5;
    if (body_bytes_ > limits_.body)
      return Error(Errc::too_long, "milter: the new body is too large");
    *body += edit.value;
    return std::optional<Verdict>();
  }
  edit_bytes_ += edit.name.size() + edit.value.size() + edit.parameters.size();
  if (++edit_count_ > limits_.count || edit_bytes_ > limits_.bytes)
    return Error(Errc::too_long, "milter: too many edits");
  switch (edit.kind) {
    case Edit::Kind::add_header:
    case Edit::Kind::insert_header:
    case Edit::Kind::change_header:
      edits_.header.push_back(std::move(edit));
      break;
    case Edit::Kind::quarantine:
      edits_.quarantine = std::move(edit.value);
      break;
    default:
      edits_.envelope.push_back(std::move(edit));
      break;
  }
  return std::optional<Verdict>();
}

}  // namespace postrider::smtpd::filter::milter
