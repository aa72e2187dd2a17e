// The header sections of the parts of a message, as its body passes by: of multiparts and of whole
// messages inside (RFC 2046 §5.1, §5.2.1), however deep they are nested, up to a limit. Pure.
// Whatever a reader may take for a header is given: a line that is no field is left out and does
// not end a section, and each boundary counts where several are given.
//
//   PartHeaders parts(header_section);
//   parts.feed(piece, [](std::string_view section) { ... }); ...; parts.finish(sink);
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace postrider::mail {

class PartHeaders {
 public:
  static constexpr std::size_t kMostDepth = 100;       // boundaries that are looked for
  static constexpr std::size_t kMostSection = 131072;  // octets of one
  // Gets each section with its line ends, without the empty line. Good until it returns.
  using Sink = std::function<void(std::string_view section)>;

  // header: of the message itself, which is not given to the sink.
  explicit PartHeaders(std::string_view header);
  // False: the body holds no parts.
  bool has_parts() const { return in_section_ || !boundaries_.empty(); }
  // Any pieces; a line end is CRLF or LF.
  void feed(std::string_view piece, const Sink& sink);
  void finish(const Sink& sink);
  // What of the parts so far was not seen, for the sake of a limit; empty if all was.
  std::string_view unseen() const { return unseen_; }

 private:
  struct Boundary {
    std::string text;
    std::size_t level = 0;
    bool is_digest = false;  // its parts are messages unless they say otherwise (RFC 2046 §5.1.5)
  };
  void take_line(std::string_view line, const Sink& sink);
  bool take_boundary(std::string_view line, const Sink& sink);
  void end_section(const Sink& sink);
  void close(std::size_t place, bool ends);
  void enter(std::string_view section);
  void enter_message();

  std::vector<Boundary> boundaries_;  // the outermost first; those of one field have one level
  bool in_section_ = false;
  bool in_digest_ = false;
  std::string section_;
  std::string line_;          // that has not ended
  std::size_t messages_ = 0;  // whole messages that were entered since the last boundary
  bool is_cut_ = false;       // the line at hand is longer than can matter
  std::string_view unseen_;
};

}  // namespace postrider::mail
