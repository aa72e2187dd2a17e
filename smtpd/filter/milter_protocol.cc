#include "smtpd/filter/milter_protocol.h"

#include "base/text.h"

#include <algorithm>

namespace postrider::smtpd::filter::milter {

namespace {

constexpr std::size_t kMostMacroNames = 256;  // of one stage
constexpr std::size_t kMostReplyLines = 32;
constexpr std::size_t kMostOfReplyLine = 450;

void append_number(std::string& out, std::uint32_t number) {
  for (int shift = 24; shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(number >> shift & 0xff));
}

void append_string(std::string& out, std::string_view text) {
  for (const char c : text)
    out.push_back(c == '\0' ? ' ' : c);
  out.push_back('\0');
}

// Reads the data of a frame from its start.
class Reader {
 public:
  explicit Reader(std::string_view data) : rest_(data) {}
  bool is_at_end() const { return rest_.empty(); }

  std::optional<std::uint32_t> number() {
    if (rest_.size() < 4)
      return std::nullopt;
    std::uint32_t value = 0;
    for (const char c : rest_.substr(0, 4))
      value = value << 8 | static_cast<unsigned char>(c);
    rest_.remove_prefix(4);
    return value;
  }
  std::optional<std::string_view> string() {
    const auto end = rest_.find('\0');
    if (end == std::string_view::npos)
      return std::nullopt;
    const auto text = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return text;
  }

 private:
  std::string_view rest_;
};

Error wrong(char kind, std::string_view what) {
  return malformed("milter frame \"" + escaped(std::string_view(&kind, 1)) +
                   "\": " + std::string(what));
}

Result<std::vector<std::string>> parse_names(std::string_view text) {
  std::vector<std::string> names;
  for (auto name : split(text, ' ')) {
    name = trim(name);
    if (name.empty())
      continue;
    if (names.size() == kMostMacroNames)
      return malformed("milter negotiation: too many macros");
    names.emplace_back(name);
  }
  return names;
}

// What other people may read: no controls, no octets that a reply cannot hold.
std::string clean_line(std::string_view text) {
  std::string clean;
  for (const char c : text.substr(0, kMostOfReplyLine))
    clean.push_back(c >= ' ' && c <= '~' ? c : '?');
  return clean;
}

std::string without_doubled_percent(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    out.push_back(text[i]);
    if (text[i] == '%' && i + 1 < text.size() && text[i + 1] == '%')
      ++i;
  }
  return out;
}

std::optional<int> reply_code(std::string_view line) {
  if (line.size() < 3 || (line[0] != '4' && line[0] != '5') || line[1] < '0' || line[1] > '5' ||
      line[2] < '0' || line[2] > '9')
    return std::nullopt;
  if (line.size() > 3 && line[3] != ' ' && line[3] != '-')
    return std::nullopt;
  return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

// "550-5.7.1 one CRLF 550 5.7.1 two". Nothing: it is not a reply.
std::optional<mail::Reply> parse_reply(std::string_view text) {
  mail::Reply reply;
  std::size_t lines = 0;
  for (auto line : split(text, '\n')) {
    if (line.ends_with('\r'))
      line.remove_suffix(1);
    if (line.empty() && lines > 0)
      continue;
    const auto code = reply_code(line);
    if (!code || (lines > 0 && *code != reply.code))
      return std::nullopt;
    if (++lines > kMostReplyLines)
      break;
    reply.code = *code;
    line.remove_prefix(std::min<std::size_t>(line.size(), 4));
    if (const auto enhanced = mail::parse_enhanced_code(line)) {
      if (lines == 1)
        reply.enhanced = *enhanced;
      line = trim(line.substr(std::min(line.find(' '), line.size())));
    }
    if (lines > 1)
      reply.text += '\n';
    reply.text += clean_line(without_doubled_percent(line));
  }
  const auto klass = static_cast<std::uint8_t>(reply.code / 100);
  if (reply.enhanced.klass != klass)
    reply.enhanced = {klass, 7, 1};
  if (reply.text.empty())
    reply.text = "Refused";
  return reply;
}

Answer refusal(mail::Reply reply, std::string problem = {}) {
  return {Answer::Kind::refuse, std::move(reply), std::move(problem), {}};
}

Result<Answer> parse_reply_frame(const Frame& frame) {
  Reader reader(frame.data);
  const auto text = reader.string();
  if (!text || !reader.is_at_end())
    return wrong(frame.kind, "no string");
  if (auto reply = parse_reply(*text))
    return refusal(*std::move(reply));
  return refusal({451, {4, 3, 5}, "Server configuration problem - try again later"},
                 "the milter's reply is none: " + escaped(*text, 120));
}

Result<Answer> parse_header_edit(const Frame& frame, bool has_index) {
  Answer answer{Answer::Kind::edit, {}, {}, {}};
  answer.edit.kind = static_cast<Edit::Kind>(frame.kind);
  Reader reader(frame.data);
  if (has_index) {
    const auto index = reader.number();
    if (!index)
      return wrong(frame.kind, "no index");
    answer.edit.index = *index;
  }
  const auto name = reader.string();
  const auto value = name ? reader.string() : std::nullopt;
  if (!value || !reader.is_at_end())
    return wrong(frame.kind, "not a name and a value");
  answer.edit.name = *name;
  answer.edit.value = *value;
  return answer;
}

Result<Answer> parse_string_edit(const Frame& frame, bool has_parameters) {
  Answer answer{Answer::Kind::edit, {}, {}, {}};
  answer.edit.kind = static_cast<Edit::Kind>(frame.kind);
  Reader reader(frame.data);
  const auto value = reader.string();
  if (!value)
    return wrong(frame.kind, "no string");
  answer.edit.value = *value;
  while (has_parameters && !reader.is_at_end()) {
    const auto parameter = reader.string();
    if (!parameter)
      return wrong(frame.kind, "a parameter without an end");
    if (!parameter->empty())
      answer.edit.parameters.append(answer.edit.parameters.empty() ? "" : " ").append(*parameter);
  }
  if (!reader.is_at_end())
    return wrong(frame.kind, "more than a string");
  return answer;
}

}  // namespace

std::uint32_t actions_of(std::uint32_t version) {
  return version >= 6 ? action::kAll : 0x3f;
}

std::uint32_t steps_of(std::uint32_t version) {
  return version >= 6 ? step::kAll : version >= 4 ? 0x3ff : version == 3 ? 0x1ff : 0x7f;
}

Result<std::optional<Frame>> FrameReader::feed(std::string_view bytes, std::size_t& used) {
  used = 0;
  if (is_lost_)
    return malformed("milter frame: its length is wrong");
  while (head_.size() < 4 && used < bytes.size()) {
    head_.push_back(bytes[used++]);
    if (head_.size() < 4)
      continue;
    size_ = *Reader(head_).number();
    if (size_ == 0 || size_ > kMostInFrame) {
      is_lost_ = true;
      return malformed("milter frame: a length of " + std::to_string(size_));
    }
  }
  if (head_.size() < 4)
    return std::optional<Frame>();
  const auto part = bytes.substr(used, size_ - body_.size());
  body_.append(part);
  used += part.size();
  if (body_.size() < size_)
    return std::optional<Frame>();
  Frame frame{body_.front(), body_.substr(1)};
  head_.clear();
  body_.clear();
  return std::optional(std::move(frame));
}

std::string encode_frame(char kind, std::string_view data) {
  std::string out;
  out.reserve(5 + data.size());
  append_number(out, static_cast<std::uint32_t>(data.size() + 1));
  out.push_back(kind);
  out.append(data);
  return out;
}

std::string encode_negotiation(const Negotiation& offer) {
  std::string data;
  append_number(data, offer.version);
  append_number(data, offer.actions);
  append_number(data, offer.steps);
  for (std::size_t stage = 0; stage < kMacroStages; ++stage) {
    if (!offer.macros[stage])
      continue;
    append_number(data, static_cast<std::uint32_t>(stage));
    std::string names;
    for (const auto& name : *offer.macros[stage])
      names.append(names.empty() ? "" : " ").append(name);
    append_string(data, names);
  }
  return encode_frame('O', data);
}

std::string encode_connect(std::string_view name, const IpAddress& address, std::uint16_t port) {
  std::string data;
  append_string(data, name);
  if (address.is_none()) {
    data.push_back('U');
    return encode_frame('C', data);
  }
  data.push_back(address.is_v4() ? '4' : '6');
  data.push_back(static_cast<char>(port >> 8));
  data.push_back(static_cast<char>(port & 0xff));
  append_string(data, address.str());
  return encode_frame('C', data);
}

std::string encode_string(char kind, std::string_view text) {
  std::string data;
  append_string(data, text);
  return encode_frame(kind, data);
}

std::string encode_path(char kind, const std::vector<std::string>& path_and_args) {
  std::string data;
  for (const auto& part : path_and_args)
    append_string(data, part);
  return encode_frame(kind, data);
}

std::string encode_header(std::string_view name, std::string_view value) {
  std::string data;
  append_string(data, name);
  append_string(data, value);
  return encode_frame('L', data);
}

std::string encode_macros(char command, const Macros& macros) {
  std::string data(1, command);
  for (const auto& [name, value] : macros) {
    append_string(data, name);
    append_string(data, value);
  }
  return encode_frame('D', data);
}

Result<Negotiation> parse_negotiation(const Frame& frame) {
  if (frame.kind != 'O')
    return wrong(frame.kind, "negotiation was expected");
  Reader reader(frame.data);
  const auto version = reader.number();
  const auto actions = reader.number();
  const auto steps = reader.number();
  if (!version || !actions || !steps)
    return wrong(frame.kind, "too short");
  Negotiation answer{*version, *actions, *steps, {}};
  while (!reader.is_at_end()) {
    const auto stage = reader.number();
    const auto text = stage ? reader.string() : std::nullopt;
    if (!text || *stage >= kMacroStages)
      return wrong(frame.kind, "not a list of macros");
    auto names = parse_names(*text);
    if (!names)
      return names.error();
    answer.macros[*stage] = *std::move(names);
  }
  return answer;
}

std::uint32_t action_of(Edit::Kind kind) {
  switch (kind) {
    case Edit::Kind::add_header:
    case Edit::Kind::insert_header:
      return action::kAddHeader;
    case Edit::Kind::change_header:
      return action::kChangeHeader;
    case Edit::Kind::replace_body:
      return action::kChangeBody;
    case Edit::Kind::add_recipient:
      return action::kAddRecipient;
    case Edit::Kind::add_recipient_with_parameters:
      return action::kAddRecipientWithParameters;
    case Edit::Kind::delete_recipient:
      return action::kDeleteRecipient;
    case Edit::Kind::change_sender:
      return action::kChangeSender;
    case Edit::Kind::quarantine:
      return action::kQuarantine;
  }
  return 0;
}

Result<Answer> parse_answer(Frame frame) {
  using Kind = Answer::Kind;
  switch (frame.kind) {
    case 'y':
      return parse_reply_frame(frame);
    case 'h':
      return parse_header_edit(frame, false);
    case 'i':
    case 'm':
      return parse_header_edit(frame, true);
    case 'b': {
      Answer answer{Kind::edit, {}, {}, {}};
      answer.edit.kind = Edit::Kind::replace_body;
      answer.edit.value = std::move(frame.data);
      return answer;
    }
    case '+':
    case '-':
    case 'q':
      return parse_string_edit(frame, false);
    case '2':
    case 'e':
      return parse_string_edit(frame, true);
    default:
      break;
  }
  if (!frame.data.empty())
    return wrong(frame.kind, "an answer without data was expected");
  switch (frame.kind) {
    case 'c':
      return Answer{Kind::go_on, {}, {}, {}};
    case 'a':
      return Answer{Kind::accept, {}, {}, {}};
    case 'd':
      return Answer{Kind::discard, {}, {}, {}};
    case 's':
      return Answer{Kind::skip, {}, {}, {}};
    case 'p':
      return Answer{Kind::progress, {}, {}, {}};
    case 'r':
      return refusal({550, {5, 7, 1}, "Command rejected"});
    case 't':
      return refusal({451, {4, 7, 1}, "Service unavailable - try again later"});
    case '4':
      return refusal({421, {4, 7, 0}, "Server closing connection"});
    default:
      return wrong(frame.kind, "not an answer");
  }
}

}  // namespace postrider::smtpd::filter::milter
