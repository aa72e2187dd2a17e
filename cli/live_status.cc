#include "cli/live_status.h"

#include "base/escaped_text.h"
#include "base/file.h"
#include "base/text.h"
#include "cli/layout.h"
#include "cli/output.h"
#include "cli/views.h"
#include "daemon/control/offline.h"

#include <boost/json/object.hpp>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <poll.h>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <termios.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace postrider::cli {

namespace {

namespace json = boost::json;

// xterm's and ECMA-48's: all that a terminal of today understands.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l";  // another screen, no cursor
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";
constexpr std::string_view kToTop = "\x1b[H";
constexpr std::string_view kEndOfLine = "\x1b[K\r\n";
constexpr std::string_view kRestOfScreen = "\x1b[J";

constexpr Duration kPatience{4000};  // with a daemon that may hang
constexpr Duration kLook{20};        // for an answer that is under way

struct ScreenSize {
  std::size_t rows = 24, columns = kColumns;
};

ScreenSize screen_size() {
  constexpr std::size_t kNarrowest = 20, kLowest = 4;
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0)
    return {};
  return {std::max<std::size_t>(size.ws_row, kLowest),
          std::max<std::size_t>(size.ws_col, kNarrowest)};
}

// The terminal, while it is ours: keys come one by one and are not shown.
class Screen {
 public:
  Screen() {
    is_known_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
    enter();
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen() { leave(); }
  void enter() {
    if (is_known_) {
      auto wanted = before_;
      wanted.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      (void)::tcsetattr(STDIN_FILENO, TCSADRAIN, &wanted);
    }
    (void)print_raw(kEnter);
  }
  void leave() {
    (void)print_raw(kLeave);
    if (is_known_)
      (void)::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }

 private:
  termios before_{};
  bool is_known_ = false;
};

// What ends or changes the view arrives as octets to read, so that nothing is done in a handler.
class Signals {
 public:
  Signals() {
    sigset_t all;
    ::sigemptyset(&all);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP})
      ::sigaddset(&all, number);
    (void)::sigprocmask(SIG_BLOCK, &all, nullptr);
    arrived_ = FileDescriptor(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  int descriptor() const { return arrived_.get(); }
  // 0: there is none.
  int next() const {
    signalfd_siginfo one{};
    return ::read(arrived_.get(), &one, sizeof one) == sizeof one ? static_cast<int>(one.ssi_signo)
                                                                  : 0;
  }

 private:
  FileDescriptor arrived_;
};

struct Answer {
  std::optional<json::object> status;
  std::string trouble;  // why there is none
};

Answer ask_status(const daemon::ToolPaths& places) {
  Answer answer;
  daemon::ControlRequest request;
  request.act = "status";
  const auto end = daemon::administrate(places, request, [&](const json::object& line) {
    if (const auto* status = object_of(line, "status"))
      answer.status.emplace(*status, json::storage_ptr());  // the line's memory is gone behind this
    return true;
  });
  if (end.exit_code != EX_OK) {
    answer.status.reset();
    answer.trouble = end.error;
  }
  return answer;
}

// Asks on a thread of its own, so that keys are heard while a daemon hangs; it is left behind at the
// end.
class Asking {
 public:
  explicit Asking(daemon::ToolPaths places) {
    std::thread([state = state_, places = std::move(places)] {
      auto answer = ask_status(places);
      const std::lock_guard lock(state->mutex);
      state->answer = std::move(answer);
    }).detach();
  }
  std::optional<Answer> take() const {
    const std::lock_guard lock(state_->mutex);
    return std::exchange(state_->answer, std::nullopt);
  }

 private:
  struct State {
    std::mutex mutex;
    std::optional<Answer> answer;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// A word that is longer than a line, such as a path, would run into the next one.
std::string_view cut_to(std::string_view line, std::size_t columns) {
  std::size_t at = 0;
  for (; at < line.size(); ++at)
    if ((static_cast<unsigned char>(line[at]) & 0xc0U) != 0x80U && columns-- == 0)
      break;
  return line.substr(0, at);
}

std::string frame(const std::string& text, const ScreenSize& size, bool has_colours) {
  auto shown = wrapped_lines(escaped_text(text), size.columns);
  std::string out(kToTop);
  std::size_t rows = 0;
  for (std::string_view rest = shown; !rest.empty() && rows < size.rows; ++rows) {
    const auto end = std::min(rest.find('\n'), rest.size());
    const auto line = cut_to(rest.substr(0, end), size.columns);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    auto coloured =
        has_colours ? coloured_lines(std::string(line) + "\n") : std::string(line) + "\n";
    coloured.pop_back();
    // Behind the last line there is no other, or the screen would move up.
    out.append(coloured).append(rows + 1 == size.rows ? "\x1b[K" : kEndOfLine);
  }
  return out.append(kRestOfScreen);
}

enum class Next : std::uint8_t { go_on, ask, draw, end };

// Until it is time, or somebody wants something.
Next wait(const Signals& signals, Screen& screen, SteadyTime until) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    if (left.count() <= 0)
      return Next::go_on;
    pollfd all[] = {{signals.descriptor(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    if (::poll(all, 2, static_cast<int>(left.count())) <= 0)
      continue;
    for (int number = signals.next(); number != 0; number = signals.next()) {
      if (number == SIGTSTP) {
        screen.leave();
        (void)::raise(SIGSTOP);
        screen.enter();
      } else if (number != SIGWINCH) {
        return Next::end;
      }
      return Next::draw;
    }
    if ((all[1].revents & (POLLIN | POLLHUP | POLLERR)) == 0)
      continue;
    char key = 0;
    if (::read(STDIN_FILENO, &key, 1) != 1)
      return Next::end;  // the terminal is gone
    if (key == 'q' || key == 'Q')
      return Next::end;
    if (key == ' ')
      return Next::ask;
  }
}

}  // namespace

int show_live_status(const Administration& how, Duration every) {
  if (::isatty(STDIN_FILENO) != 1 || ::isatty(STDOUT_FILENO) != 1)
    return complain(how.program, EX_USAGE,
                    "needs a terminal; `postrider status` prints the same once");
  int no_places = EX_OK;
  const auto places = find_places_or_complain(how, no_places);
  if (!places)
    return no_places;
  const bool has_colours = are_colours_wanted(true, std::getenv("NO_COLOR"), std::getenv("TERM"));
  const Signals signals;
  Screen screen;
  std::optional<Asking> asking;
  json::object before;
  SteadyTime asked{}, answered{}, next_time{};
  const auto head =
      "postrider top: every " + format_duration(every) + "; q ends it, space asks at once\n";
  std::string text = head, shown;
  for (auto next = Next::draw; next != Next::end;) {
    const auto now = std::chrono::steady_clock::now();
    if (!asking && (next == Next::ask || now >= next_time)) {
      asking.emplace(*places);
      asked = now;
    }
    if (auto answer = asking ? asking->take() : std::nullopt) {
      text = head;
      if (answer->status) {
        const std::chrono::duration<double> since = asked - std::exchange(answered, asked);
        text += rate_row(before, *answer->status, since.count()) + status_view(*answer->status);
        before = *std::move(answer->status);
      } else {
        text += "ALARM " + answer->trouble + "\n";
        before.clear();
      }
      asking.reset();
      next_time = asked + every;
    } else if (asking && now - asked >= kPatience) {
      text = head + "ALARM the mail system has not answered for " +
             std::to_string((now - asked) / std::chrono::seconds(1)) + " seconds\n";
    }
    if (next == Next::draw || text != shown) {
      if (!print_raw(frame(text, screen_size(), has_colours)))
        break;
      shown = text;
    }
    next = wait(signals, screen, asking ? now + kLook : next_time);
  }
  return EX_OK;
}

}  // namespace postrider::cli
