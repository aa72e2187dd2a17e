#include "smtpd/auth/dovecot_protocol.h"

#include "base/base64.h"
#include "base/text.h"

namespace postrider::smtpd::auth {

namespace {

std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\x01' || i + 1 == text.size()) {
      out.push_back(text[i]);
      continue;
    }
    const char code = text[++i];
    out.push_back(code == '0'   ? '\0'
                  : code == '1' ? '\x01'
                  : code == 't' ? '\t'
                  : code == 'r' ? '\r'
                  : code == 'n' ? '\n'
                                : code);
  }
  return out;
}

}  // namespace

bool is_dovecot_done(std::string_view line) {
  return line == "DONE";
}

bool is_dovecot_version(std::string_view line) {
  return line.starts_with("VERSION\t1\t");
}

bool is_dovecot_reply(std::string_view line) {
  const auto verb = line.substr(0, line.find('\t'));
  return verb == "OK" || verb == "FAIL" || verb == "CONT";
}

std::optional<DovecotReply> parse_dovecot(std::string_view line, unsigned id) {
  const auto fields = split(line, '\t');
  if (fields.size() < 2 || fields[1] != std::to_string(id))
    return std::nullopt;
  DovecotReply reply;
  if (fields[0] == "CONT") {
    const auto data = decode_base64(fields.size() > 2 ? fields[2] : std::string_view());
    if (!data)
      return std::nullopt;
    reply.kind = DovecotReply::Kind::go_on;
    reply.data = *data;
    return reply;
  }
  if (fields[0] == "OK")
    reply.kind = DovecotReply::Kind::granted;
  else if (fields[0] == "FAIL")
    reply.kind = DovecotReply::Kind::refused;
  else
    return std::nullopt;
  for (const auto field : fields) {
    if (field.starts_with("user="))
      reply.user = unescape(field.substr(5));
    else if (field.starts_with("resp="))
      reply.data = decode_base64(field.substr(5)).value_or("");
    else if (field == "temp" || field == "code=temp_fail")
      reply.kind = DovecotReply::Kind::unavailable;
  }
  if (reply.kind == DovecotReply::Kind::granted && reply.user.empty())
    return std::nullopt;
  return reply;
}

std::string format_dovecot(const DovecotRequest& request) {
  auto line = "AUTH\t" + std::to_string(request.id) + "\t" + request.mechanism + "\tservice=smtp";
  if (request.is_private)
    line += "\tsecured";
  if (request.is_without_penalty)
    line += "\tno-penalty";
  if (!request.client.empty())
    line += "\trip=" + request.client;
  if (request.initial)  // the last field
    line += "\tresp=" + encode_base64(*request.initial);
  return line + "\n";
}

std::string escape_sasl_name(std::string_view name) {
  std::string out;
  for (const char c : name)
    c == ',' ? out += "=2C" : c == '=' ? out += "=3D" : out += c;
  return out;
}

std::string format_dovecot_continuation(std::string_view response) {
  return "CONT\t1\t" + encode_base64(response) + "\n";
}

}  // namespace postrider::smtpd::auth
