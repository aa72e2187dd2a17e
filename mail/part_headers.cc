#include "mail/part_headers.h"

#include "mail/header.h"
#include "mail/mime.h"

#include <algorithm>
#include <utility>

namespace postrider::mail {

namespace {

// Of text that is searched for boundaries.
constexpr std::size_t kMostOfLine = mime::kMostBoundary + 48;
constexpr std::string_view kTooDeep = "parts are nested too deeply";
constexpr std::string_view kLongSection = "the header of a part is too long";
constexpr std::string_view kLongBoundary = "a boundary of parts is too long";

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
  bool is_message = !entity.has_type && in_digest_;
  const auto level = boundaries_.empty() ? 0 : boundaries_.back().level + 1;
  for (const auto& [type, boundaries, has_long_boundary] : entity.types) {
    is_message |= is_whole_message(type);
    if (!type.starts_with("multipart/"))
      continue;
    if (has_long_boundary)
      unseen_ = kLongBoundary;
    for (const auto& boundary : boundaries) {
      if (boundaries_.size() < kMostDepth)
        boundaries_.push_back({boundary, level, type == "multipart/digest"});
      else
        unseen_ = kTooDeep;
    }
  }
  if (is_message)
    enter_message();
}

void PartHeaders::enter_message() {
  in_digest_ = false;
  in_section_ = messages_ < kMostDepth;
  if (in_section_)
    ++messages_;
  else
    unseen_ = kTooDeep;
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
  if (judged == HeaderLine::empty)
    return end_section(sink);
  if (!is_in_header(judged))
    return;
  // The sections that are kept together are read as one.
  const auto joint =
      judged == HeaderLine::mailbox_line ? header_joint(judged, false) : std::string_view();
  if (is_cut_ || section_.size() + joint.size() + line.size() > kMostSection)
    unseen_ = kLongSection;
  else
    section_.append(joint).append(line);
}

bool PartHeaders::take_boundary(std::string_view line, const Sink& sink) {
  const auto word = without_padding(without_end(line)).substr(2);
  for (auto place = boundaries_.size(); place-- > 0;) {
    const std::string_view boundary = boundaries_[place].text;
    const bool ends =
        word.size() == boundary.size() + 2 && word.ends_with("--") && word.starts_with(boundary);
    if (!ends && word != boundary)
      continue;
    if (in_section_)
      end_section(sink);
    close(place, ends);
    messages_ = 0;
    in_section_ = !ends;
    return true;
  }
  return false;
}

// The parts within what this boundary divides are over.
void PartHeaders::close(std::size_t place, bool ends) {
  const auto level = boundaries_[place].level;
  in_digest_ = !ends && boundaries_[place].is_digest;
  while (boundaries_.back().level > level)
    boundaries_.pop_back();
  if (ends)
    boundaries_.erase(boundaries_.begin() + static_cast<std::ptrdiff_t>(place));
}

void PartHeaders::end_section(const Sink& sink) {
  const auto section = std::exchange(section_, {});
  if (!section.empty())
    sink(section);
  enter(section);
}

}  // namespace postrider::mail
