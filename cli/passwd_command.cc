#include "cli/passwd_command.h"

#include "cli/output.h"

#include <cstdio>
#include <iostream>
#include <string>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

namespace postrider::cli {

namespace {

constexpr std::size_t kMostLine = 4096;

// Echo is off while it lives; a signal that ends the program puts it on again in the shell.
class Silence {
 public:
  Silence() {
    if (tcgetattr(STDIN_FILENO, &before_) != 0)
      return;
    auto silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    silent.c_lflag |= ECHONL;
    is_silent_ = tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) == 0;
  }
  ~Silence() {
    if (is_silent_)
      tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  bool is_silent() const { return is_silent_; }

 private:
  termios before_{};
  bool is_silent_ = false;
};

bool read_line(std::string& line) {
  if (!std::getline(std::cin, line) || line.size() > kMostLine)
    return false;
  if (line.ends_with('\r'))
    line.pop_back();
  return true;
}

int fail(int code, const std::string& text) {
  return complain("postrider passwd", code, text);
}

bool ask(const char* prompt, std::string& password) {
  const Silence silence;
  if (!silence.is_silent())
    return false;
  std::fputs(prompt, stderr);
  return read_line(password);
}

int ask_for(std::string& password) {
  if (isatty(STDIN_FILENO) == 0)
    return read_line(password) ? EX_OK : fail(EX_NOINPUT, "no password on standard input");
  std::string again;
  if (!ask("New password: ", password) || !ask("Again: ", again))
    return fail(EX_NOINPUT, "no password was given");
  return password == again ? EX_OK : fail(EX_DATAERR, "the two are not the same");
}

int code_of(const Error& error) {
  if (error.code() == make_error_code(Errc::not_found))
    return EX_NOUSER;
  return error.code() == make_error_code(Errc::malformed) ? EX_DATAERR : EX_CANTCREAT;
}

}  // namespace

int change_password(const daemon::Options& options, daemon::PasswordChange change, bool remove) {
  const auto path = daemon::password_file(options, change);
  if (!path) {
    // The configuration names no file, or cannot be used.
    const bool is_unset = path.error().code() == make_error_code(Errc::not_found) ||
                          path.error().code() == make_error_code(Errc::unsupported);
    if (path.error().code() == boost::system::errc::permission_denied)
      return fail(EX_NOPERM, path.error().step());
    return is_unset ? fail(EX_CONFIG, path.error().step())
                    : fail(EX_DATAERR, sentence(path.error()));
  }
  if (!remove) {
    change.password.emplace();
    if (const int code = ask_for(*change.password); code != EX_OK)
      return code;
  }
  if (const auto changed = daemon::change_password(options, change); !changed)
    return fail(code_of(changed.error()), sentence(changed.error()));
  print(*path + (remove ? ": removed\n" : ": password set\n"));
  return EX_OK;
}

}  // namespace postrider::cli
