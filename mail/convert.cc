#include "mail/convert.h"

#include "base/text.h"
#include "mail/header.h"
#include "mail/mime.h"

#include <algorithm>
#include <vector>

namespace postrider::mail {

namespace {

constexpr std::size_t kMostDepth = 100;
constexpr std::size_t kMostLine = 998;
// Beyond four times the content: the fields that parts gain.
constexpr std::size_t kMostGrowth = 64U << 10U;

Error cannot(const char* why) {
  return Error(Errc::unsupported, why);
}

// Neither encoded nor contradictory: its bytes mean themselves.
bool is_plain(const mime::EntityHeader& entity) {
  const auto& encoding = entity.encoding;
  return !entity.ambiguous && (encoding == "7bit" || encoding == "8bit" || encoding == "binary");
}

// Walks the lines once. What need not change is copied in long runs: everything before `copied_`
// is in `out_` already.
//
//   header --empty line--> body of a leaf ----delimiter----> header of the next part
//      ^                       |                                 or epilogue
//      +-- message/rfc822 --- opened --- multipart: preamble --delimiter--> header
class Converter {
 public:
  Converter(std::string_view content, bool binary) : content_(content), binary_(binary) {}
  Result<std::string> run();

 private:
  enum class At { header, leaf, between };  // between: preamble or epilogue
  struct Frame {
    std::string boundary;
    bool is_signed;
    bool is_digest;
    std::size_t nested;  // messages within messages around it
  };
  struct Line {
    std::size_t begin;
    std::size_t end;  // behind its CRLF
  };

  Line line_at(std::size_t begin) const;
  std::string_view text(const Line& line) const;
  bool take_delimiter(const Line& line);
  void take_line(const Line& line);
  void end_header(std::size_t end, std::size_t body);
  void open_multipart();
  void end_part(std::size_t end);
  void convert_leaf(std::string_view body, bool is_cut);
  void relabel();
  void start_header(std::size_t at, bool is_message);
  bool is_clean(std::string_view part) const;
  bool has_broken_lines(std::string_view part) const;
  bool in_signed() const;
  void fail(const char* why);
  void copy_up_to(std::size_t end);

  std::string_view content_;
  bool binary_;
  At at_ = At::header;
  std::vector<Frame> frames_;
  std::size_t nested_ = 0;        // messages within messages
  bool is_message_ = true;        // the current entity is a message, not a part of one
  std::size_t header_begin_ = 0;  // of the current entity
  std::size_t header_end_ = 0;
  std::size_t body_begin_ = 0;  // or of the preamble or epilogue
  mime::EntityHeader entity_;
  std::string out_;
  std::size_t copied_ = 0;
  const char* failure_ = nullptr;
};

Converter::Line Converter::line_at(std::size_t begin) const {
  // Only CRLF ends a line; in binary content an LF may stand alone.
  std::size_t lf = content_.find('\n', begin);
  while (lf != std::string_view::npos && (lf == begin || content_[lf - 1] != '\r'))
    lf = content_.find('\n', lf + 1);
  return {begin, lf == std::string_view::npos ? content_.size() : lf + 1};
}

std::string_view Converter::text(const Line& line) const {
  auto whole = content_.substr(line.begin, line.end - line.begin);
  if (whole.ends_with("\r\n"))
    whole.remove_suffix(2);
  return whole;
}

bool Converter::is_clean(std::string_view part) const {
  return is_ascii(part) && !has_broken_lines(part);
}

// What lines cannot hold; only binary content has any.
bool Converter::has_broken_lines(std::string_view part) const {
  if (!binary_)
    return false;
  std::size_t line = 0;
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (part[i] == '\r' && i + 1 < part.size() && part[i + 1] == '\n') {
      line = 0;
      ++i;
    } else if (part[i] == '\r' || part[i] == '\n' || part[i] == '\0' || ++line > kMostLine) {
      return true;
    }
  }
  return false;
}

bool Converter::in_signed() const {
  for (const auto& frame : frames_)
    if (frame.is_signed)
      return true;
  return false;
}

void Converter::fail(const char* why) {
  if (failure_ == nullptr)
    failure_ = why;
}

void Converter::copy_up_to(std::size_t end) {
  out_.append(content_.substr(copied_, end - copied_));
  copied_ = end;
}

void Converter::start_header(std::size_t at, bool is_message) {
  at_ = At::header;
  is_message_ = is_message;
  header_begin_ = at;
}

// "--boundary" or "--boundary--" of any multipart that is open ends the part before it, and the
// multiparts within.
bool Converter::take_delimiter(const Line& line) {
  auto rest = trim(text(line));
  if (!content_.substr(line.begin).starts_with("--"))
    return false;
  rest.remove_prefix(2);
  for (std::size_t i = frames_.size(); i-- > 0;) {
    const std::string_view boundary = frames_[i].boundary;
    if (!rest.starts_with(boundary))
      continue;
    const auto behind = rest.substr(boundary.size());
    if (!behind.empty() && behind != "--")
      continue;
    end_part(line.begin);
    nested_ = frames_[i].nested;
    frames_.erase(frames_.begin() + static_cast<std::ptrdiff_t>(behind.empty() ? i + 1 : i),
                  frames_.end());
    if (behind.empty()) {
      start_header(line.end, false);
    } else {
      at_ = At::between;
      body_begin_ = line.end;
    }
    return true;
  }
  return false;
}

// The header section of an entity lies before `end`, its body starts at `body`.
void Converter::end_header(std::size_t end, std::size_t body) {
  const auto header = content_.substr(header_begin_, end - header_begin_);
  if (has_broken_lines(header))
    return fail("broken lines in a header");
  header_end_ = end;
  body_begin_ = body;
  entity_ = mime::read_entity_header(header);
  if (!entity_.has_type && !is_message_ && !frames_.empty() && frames_.back().is_digest)
    entity_.type = "message/rfc822";  // RFC 2046 §5.1.5
  at_ = At::leaf;
  if (!is_plain(entity_))
    return;  // opaque: if it needs a conversion, there is none
  if (entity_.type.starts_with("multipart/") && !entity_.boundary.empty())
    return open_multipart();
  if (entity_.type == "message/rfc822" && end < body) {
    if (++nested_ + frames_.size() > kMostDepth)
      return fail("nested too deeply");
    relabel();
    start_header(body, true);
  }
}

void Converter::open_multipart() {
  if (nested_ + frames_.size() >= kMostDepth)
    return fail("nested too deeply");
  const bool is_signed = entity_.type == "multipart/signed";
  if (!is_signed)
    relabel();
  frames_.push_back({entity_.boundary, is_signed, entity_.type == "multipart/digest", nested_});
  at_ = At::between;
}

// RFC 2045 §6.4: a composite entity is labelled with the widest encoding within, and nothing in 7
// bits is binary.
void Converter::relabel() {
  if (entity_.encoding_field.empty() || entity_.encoding == "7bit" || in_signed())
    return;
  const auto begin = static_cast<std::size_t>(entity_.encoding_field.data() - content_.data());
  copy_up_to(begin);
  out_.append("Content-Transfer-Encoding: 7bit\r\n");
  copied_ = begin + entity_.encoding_field.size();
}

// A line that is not a delimiter.
void Converter::take_line(const Line& line) {
  if (at_ != At::header)
    return;
  const auto kind = judge_header_line(text(line), line.begin == header_begin_);
  if (!is_in_header(kind))
    end_header(line.begin, kind == HeaderLine::empty ? line.end : line.begin);
}

// What began at body_begin_ ends with the line end before `end`.
void Converter::end_part(std::size_t end) {
  if (at_ == At::header) {
    end_header(end, end);
    at_ = At::between;
    return;
  }
  const auto body = content_.substr(body_begin_, end - std::min(end, body_begin_));
  // In lines the end would be another one than in the octets.
  const bool is_cut = binary_ && at_ == At::leaf && end == content_.size() && !body.empty() &&
                      !body.ends_with("\r\n") && is_plain(entity_) && !in_signed();
  if (is_clean(body) && !is_cut) {
    if (at_ == At::leaf && binary_ && is_plain(entity_))
      relabel();
    return;
  }
  if (at_ == At::between) {
    if (has_broken_lines(body))
      fail("broken lines between parts");
    return;
  }
  if (in_signed())
    return fail("signed part");
  if (!is_plain(entity_))
    return fail("8-bit text in a part that is encoded already");
  // Of the composite types only those of RFC 6532 §3.7 and 6533 may be encoded.
  const bool is_composite =
      entity_.type.starts_with("message/") || entity_.type.starts_with("multipart/");
  if (is_composite && !entity_.type.starts_with("message/global"))
    return fail("8-bit text in a composite part");
  // The CRLF before a delimiter belongs to it (RFC 2046 §5.1.1).
  const bool delimited = end < content_.size() || !frames_.empty();
  convert_leaf(delimited && body.ends_with("\r\n") ? body.substr(0, body.size() - 2) : body,
               is_cut);
}

void Converter::convert_leaf(std::string_view body, bool is_cut) {
  const auto field = entity_.encoding_field;
  if (!field.empty()) {
    const auto begin = static_cast<std::size_t>(field.data() - content_.data());
    copy_up_to(begin);
    copied_ = begin + field.size();
  }
  copy_up_to(header_end_);
  if (is_message_ && !entity_.has_version)
    out_.append("MIME-Version: 1.0\r\n");
  if (is_message_ && !entity_.has_type)
    out_.append("Content-Type: text/plain; charset=unknown-8bit\r\n");  // RFC 1428
  const bool base64 = is_cut || mime::base64_size(body.size()) < mime::quoted_printable_size(body);
  out_.append("Content-Transfer-Encoding: ")
      .append(base64 ? "base64" : "quoted-printable")
      .append("\r\n\r\n");
  if (base64)
    mime::append_base64(body, out_);
  else
    mime::append_quoted_printable(body, out_);
  copied_ = body_begin_ + body.size();
  // Each part gains its fields, and there may be millions of a few octets.
  if (out_.size() > 4 * content_.size() + kMostGrowth)
    fail("more parts than content");
}

Result<std::string> Converter::run() {
  out_.reserve(content_.size() + content_.size() / 8);
  Line line{0, 0};
  while (line.end < content_.size() && failure_ == nullptr) {
    line = line_at(line.end);
    if (!take_delimiter(line))
      take_line(line);
  }
  if (failure_ == nullptr && at_ == At::header)
    end_header(content_.size(), content_.size());
  if (failure_ == nullptr && at_ != At::header)
    end_part(content_.size());
  if (failure_ != nullptr)
    return cannot(failure_);
  copy_up_to(content_.size());
  if (!out_.empty() && !out_.ends_with("\r\n"))
    out_.append("\r\n");
  return std::move(out_);
}

}  // namespace

Result<std::string> to_seven_bit(std::string_view content, bool binary) {
  return Converter(content, binary).run();
}

}  // namespace postrider::mail
