#include "daemon/control/offline.h"

#include "base/text.h"
#include "daemon/control/control_service.h"
#include "daemon/control/kept_log.h"
#include "daemon/control/queue_exit.h"
#include "daemon/privsep/privileges.h"
#include "daemon/protocol/control_client.h"
#include "queue/maintenance/salvage.h"
#include "queue/queue.h"

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

// The daemon may think about a change or a page for long, but not for ever.
constexpr Duration kPatience{std::chrono::minutes(10)};

ControlEnd failure(int exit_code, std::string sentence) {
  ControlEnd end;
  end.exit_code = exit_code;
  end.error = std::move(sentence);
  return end;
}

bool is_down(const Error& error) {
  return error.code() == boost::system::errc::no_such_file_or_directory ||
         error.code() == boost::system::errc::connection_refused;
}

ControlEnd serve_here(const ToolPaths& places, queue::Queue& queue, const Clock& clock,
                      unsigned uid, const ControlRequest& request, const OnLine& on_line) {
  ControlService service(queue, clock, nullptr,
                         {places.spool, places.origin, places.message_size, {}});
  const auto job = service.start(request, uid);
  for (bool more = true; more;) {
    std::string lines;
    more = job->step(lines);
    for (std::size_t at = 0; at < lines.size();) {
      const auto line_end = lines.find('\n', at);
      const auto object = parse_json_line(std::string_view(lines).substr(at, line_end - at));
      at = line_end + 1;
      if (!object)
        return failure(EX_PROTOCOL, object.error().describe());
      if (auto end = find_end(*object))
        return *std::move(end);
      if (!on_line(*object))
        return {};
    }
  }
  return failure(EX_PROTOCOL, "the answer has no end");
}

ControlEnd open_and_serve(const ToolPaths& places, const ControlRequest& request,
                          const OnLine& on_line) {
  const auto uid = ::getuid();  // who asks, not who enters the spool
  if (auto refused = enter_spool(places))
    return *std::move(refused);
  const SystemClock clock;
  KeptLog log(places.spool, clock, KeptLog::Errors::said);
  queue::QueueSettings settings;
  settings.spool = places.spool;
  auto queue = queue::Queue::open(settings, clock, log);
  if (!queue)
    return failure(exit_code_of_queue(queue.error(), EX_TEMPFAIL),
                   "the daemon does not answer at " + places.control_socket +
                       ", and the queue cannot be opened: " + queue.error().describe());
  (*queue)->start(nullptr);
  auto end = serve_here(places, **queue, clock, uid, request, on_line);
  (*queue)->stop();
  return end;
}

std::string plural(std::size_t number, const char* what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

// An address as a shell takes it as one word; it may hold anything.
std::string shown(const std::string& address) {
  return escaped(address, 320);
}

void describe_ids(const std::vector<mail::MessageId>& ids, const char* why, std::string& text) {
  for (const auto id : ids)
    text += "held " + to_string(id) + ": " + why + "\n";
}

void describe_lost(const queue::LostMessage& lost, std::string& text) {
  text += "lost " + (lost.id.value > 0 ? to_string(lost.id) : std::string("?"));
  text += lost.knows_sender ? ": from <" + shown(lost.sender) + ">" : ": from an unknown sender";
  for (std::size_t i = 0; i < lost.recipients.size(); ++i)
    text += (i == 0 ? " to <" : ", <") + shown(lost.recipients[i]) + ">";
  if (lost.recipients.empty())
    text += " to unknown recipients";
  text += lost.content.empty()
              ? "; nothing is left of its content\n"
              : "; " + plural(lost.size, "octet") + " of its content are in " + lost.content + "\n";
}

std::string describe(const queue::Salvaged& done) {
  std::string text = "saved: " + plural(done.messages, "message") + ", " +
                     plural(done.recipients, "recipient") + "\n";
  text += "held:  " + plural(done.held, "message") + " of these\n";
  text += "lost:  " + plural(done.lost.size(), "message") + "\n";
  text += "old database (" + plural(done.pages, "page") + ", " + std::to_string(done.unreadable) +
          " of them unreadable): " + done.old_files + "\n";
  describe_ids(done.damaged, "its content is not what was stored", text);
  describe_ids(done.doubtful, "which recipients had it already is not known", text);
  for (const auto& lost : done.lost)
    describe_lost(lost, text);
  return text;
}

// The account that the paths name; root if they name none.
Result<Account> account_of(const ToolPaths& places) {
  return places.user.empty() ? Account{"root", 0, 0} : find_account(places.user);
}

constexpr const char* kAsRoot = "; try it as root, with sudo";

ControlEnd no_entry(const ToolPaths& places, const Error& error) {
  const auto code = error.code();
  if (code == boost::system::errc::no_such_file_or_directory)
    return failure(EX_UNAVAILABLE,
                   "the mail system is down, and there is no queue in " + places.spool +
                       " yet; start it, by `systemctl start postrider` or `postrider run`");
  if (code == boost::system::errc::permission_denied)
    return failure(EX_NOPERM,
                   "the mail system is down, and you may not open " + places.spool + kAsRoot);
  return failure(EX_NOPERM, "the mail system is down, and " + places.spool +
                                " cannot be opened: " + error.describe());
}

// One that stays root goes only where nobody else could exchange a folder under its feet: no other
// rights would keep it from what it is led to.
Result<FileDescriptor> open_spool(const ToolPaths& places, const Account& account) {
  if (::geteuid() != 0)
    return open_file(places.spool, O_PATH | O_DIRECTORY);
  if (account.uid != 0)
    return open_folder_as_root(places.spool);
  return open_folder_of(places.spool, {0});
}

// It has the name no longer, but another folder has.
bool is_exchanged(const std::string& path, const struct stat& opened) {
  struct stat now {};
  return ::stat(path.c_str(), &now) != 0 || now.st_dev != opened.st_dev ||
         now.st_ino != opened.st_ino;
}

std::string whose(const Account& account) {
  return account.uid == 0 ? "root, which the daemon runs as by its configuration"
                          : account.name + ", the daemon's user by its configuration";
}

}  // namespace

std::optional<ControlEnd> enter_spool(const ToolPaths& places,
                                      const std::function<void()>& opened) {
  const bool is_root = ::geteuid() == 0;
  const auto account = account_of(places);
  if (is_root && !account)
    return failure(EX_NOUSER, "the mail system is down, and its user " + places.user +
                                  " does not exist; `systemd-sysusers` makes it, or " +
                                  "the key user names another");
  auto spool = open_spool(places, account ? *account : Account{});
  if (!spool)
    return no_entry(places, spool.error());
  struct stat about {};
  if (::fstat(spool->get(), &about) != 0)
    return no_entry(places, system_error("look at " + places.spool));
  if (!is_root && ::geteuid() != about.st_uid)
    return failure(EX_NOPERM, "the mail system is down; only root and the owner of " +
                                  places.spool + " may open the queue" + kAsRoot);
  if (is_root && about.st_uid != account->uid)
    return failure(EX_NOPERM, "the mail system is down, and " + places.spool + " belongs to user " +
                                  std::to_string(about.st_uid) + " instead of " + whose(*account));
  if (opened)
    opened();
  if (is_root && account->uid != 0)
    if (auto became = become_for_good(*account); !became)
      return failure(EX_OSERR, became.error().describe());
  if (is_exchanged(places.spool, about))
    return failure(EX_NOPERM, "the mail system is down, and " + places.spool +
                                  " was exchanged while it was opened");
  if (::faccessat(spool->get(), "queue.db", F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT &&
      ::faccessat(spool->get(), "reserve", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
    return failure(EX_UNAVAILABLE, "the mail system is down, and queue.db is gone from " +
                                       places.spool +
                                       ", with the mail that was in it: put it back, and "
                                       "queue.db-wal beside it, before the mail system is started");
  if (::faccessat(spool->get(), "queue.db", F_OK, AT_SYMLINK_NOFOLLOW) != 0)
    return no_entry(places, system_error(ENOENT, "look for the queue"));
  ::umask(077);
  return std::nullopt;
}

Report salvage_queue(const ToolPaths& places) {
  if (LocalConnection::connect(places.control_socket))
    return {EX_UNAVAILABLE,
            "the mail system is running; stop it before the queue is salvaged: "
            "systemctl stop postrider\n"};
  if (const auto refused = enter_spool(places))
    return {refused->exit_code, refused->error + "\n"};
  const auto done = queue::salvage(places.spool, SystemClock().now());
  if (!done)
    return {done.error().code() == Errc::refused ? EX_UNAVAILABLE
                                                 : exit_code_of_queue(done.error(), EX_OSERR),
            "nothing was salvaged: " + done.error().describe() + "\n"};
  const SystemClock clock;
  KeptLog log(places.spool, clock);
  log.write(LogEvent(Level::error, "salvaged")
                .add("messages", done->messages)
                .add("held", done->held)
                .add("lost", done->lost.size())
                .add("old_files", done->old_files));
  for (const auto& lost : done->lost)
    log.write(LogEvent(Level::error, "lost", to_string(lost.id)).add("content", lost.content));
  return {done->lost.empty() && done->held == 0 ? EX_OK : EX_TEMPFAIL, describe(*done)};
}

ControlEnd administrate(const ToolPaths& places, const ControlRequest& request,
                        const OnLine& on_line) {
  if (encode(request).size() > kMostRequest)
    return failure(EX_USAGE,
                   "the request is longer than 64 KiB; `xargs -n 1000` gives ids in parts");
  auto connection = LocalConnection::connect(places.control_socket);
  if (!connection) {
    if (is_down(connection.error()) && request.act == "reload")
      return failure(EX_UNAVAILABLE,
                     "the mail system is down; start it, by `systemctl start postrider` or "
                     "`postrider run`");
    if (is_down(connection.error()))
      return open_and_serve(places, request, on_line);
    const bool forbidden = connection.error().code() == boost::system::errc::permission_denied;
    return forbidden
               ? failure(EX_NOPERM, std::string("only root, the daemon's user and its group may ") +
                                        "administrate" + kAsRoot)
               : failure(EX_UNAVAILABLE, connection.error().describe());
  }
  connection->set_timeout(kPatience);
  auto end = ask(*connection, request, on_line);
  if (!end)
    return failure(EX_IOERR, "the daemon's answer broke off: " + end.error().describe());
  return *std::move(end);
}

}  // namespace postrider::daemon
