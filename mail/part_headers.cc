#include "mail/part_headers.h"

#include "mail/header.h"
#include "mail/mime.h"

#include <algorithm>
#include <utility>

namespace postrider::mail {

namespace {

// RFC 2046 §5.1.1 allows 70 octets of a boundary; those who break that are read, too.
constexpr std::size_t kMostOfLine = 2048;

std::string_view without_end(std::string_view line) {
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r'))
    line.remove_suffix(1);
  return line;
}

std::string_view without_padding(std::string_view line) {
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t'))
    line.remove_suffix(1);
  return line;
}

bool is_whole_message(std::string_view type) {
  return type == "message/rfc822" || type == "message/global" || type == "message/news";
}

}  // namespace

PartHeaders::PartHeaders(std::string_view header) {
  enter(header);
}

// What stands behind this section: parts, another section, or text.
void PartHeaders::enter(std::string_view section) {
  const auto entity = mime::read_entity_header(section);
  in_section_ = false;
  if (entity.type.starts_with("multipart/") && !entity.boundary.empty() &&
      boundaries_.size() < kMostDepth)
    boundaries_.push_back(entity.boundary);
  else if (is_whole_message(entity.type) && messages_ < kMostDepth) {
    ++messages_;
    in_section_ = true;
  }
}

void PartHeaders::feed(std::string_view piece, const Sink& sink) {
  while (!piece.empty()) {
    const auto end = piece.find('\n');
    const auto part = piece.substr(0, end == piece.npos ? piece.size() : end + 1);
    piece.remove_prefix(part.size());
    const auto room = (in_section_ ? kMostSection : kMostOfLine) - line_.size();
    line_.append(part.substr(0, room));
    is_cut_ = is_cut_ || part.size() > room;
    if (end == piece.npos && part.back() != '\n')
      return;
    if (is_cut_)
      line_ += "\r\n";
    take_line(line_, sink);
    line_.clear();
    is_cut_ = false;
  }
}

void PartHeaders::finish(const Sink& sink) {
  if (!line_.empty())
    take_line(line_, sink);
  line_.clear();
  if (in_section_)
    end_section(sink);
}

void PartHeaders::take_line(std::string_view line, const Sink& sink) {
  if (line.starts_with("--") && take_boundary(line, sink))
    return;
  if (!in_section_)
    return;
  const auto judged = judge_header_line(line, section_.empty());
  if (!is_in_header(judged) || section_.size() + line.size() > kMostSection)
    return end_section(sink);
  section_.append(line);
}

bool PartHeaders::take_boundary(std::string_view line, const Sink& sink) {
  const auto word = without_padding(without_end(line)).substr(2);
  for (auto depth = boundaries_.size(); depth > 0; --depth) {
    const auto& boundary = boundaries_[depth - 1];
    const bool ends =
        word.size() == boundary.size() + 2 && word.ends_with("--") && word.starts_with(boundary);
    if (!ends && word != boundary)
      continue;
    if (in_section_)
      end_section(sink);
    boundaries_.resize(ends ? depth - 1 : depth);
    messages_ = 0;
    in_section_ = !ends;
    return true;
  }
  return false;
}

void PartHeaders::end_section(const Sink& sink) {
  const auto section = std::exchange(section_, {});
  if (!section.empty())
    sink(section);
  enter(section);
}

}  // namespace postrider::mail
