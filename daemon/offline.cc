#include "daemon/offline.h"

#include "daemon/control_client.h"
#include "daemon/control_service.h"
#include "queue/queue.h"

#include <cerrno>
#include <grp.h>
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

// Files made by root in the spool would lock the daemon out: become who owns it.
Result<void> become_owner(const struct stat& spool) {
  if (::geteuid() != 0 || spool.st_uid == 0)
    return {};
  if (::setgroups(0, nullptr) != 0 || ::setresgid(spool.st_gid, spool.st_gid, spool.st_gid) != 0 ||
      ::setresuid(spool.st_uid, spool.st_uid, spool.st_uid) != 0)
    return system_error("become the owner of the spool");
  return {};
}

ControlEnd serve_here(queue::Queue& queue, const Clock& clock, const ControlRequest& request,
                      const OnLine& on_line) {
  ControlService service(queue, clock, nullptr);
  const auto job = service.start(request, ::getuid());
  for (bool more = true; more;) {
    std::string lines;
    more = job->step(lines);
    for (std::size_t at = 0; at < lines.size();) {
      const auto line_end = lines.find('\n', at);
      const auto object = parse_json_line(std::string_view(lines).substr(at, line_end - at));
      at = line_end + 1;
      if (!object)
        return failure(EX_SOFTWARE, object.error().describe());
      if (auto end = find_end(*object))
        return *std::move(end);
      if (!on_line(*object))
        return {};
    }
  }
  return failure(EX_SOFTWARE, "the answer has no end");
}

ControlEnd open_and_serve(const Places& places, const ControlRequest& request,
                          const OnLine& on_line) {
  struct stat about {};
  if (::stat(places.spool.c_str(), &about) != 0) {
    if (errno == EACCES)
      return failure(EX_NOPERM, "the mail system is down, and you may not open " + places.spool);
    return failure(EX_UNAVAILABLE,
                   "the mail system is down, and there is no queue in " + places.spool + " yet");
  }
  if (::geteuid() != 0 && ::geteuid() != about.st_uid)
    return failure(EX_NOPERM, "the mail system is down; only root and the owner of " +
                                  places.spool + " may open the queue");
  if (auto became = become_owner(about); !became)
    return failure(EX_OSERR, became.error().describe());
  if (::access((places.spool + "/queue.db").c_str(), F_OK) != 0)
    return failure(EX_UNAVAILABLE,
                   "the mail system is down, and there is no queue in " + places.spool + " yet");
  ::umask(077);
  const SystemClock clock;
  NullLog log;
  queue::Settings settings;
  settings.spool = places.spool;
  auto queue = queue::Queue::open(settings, clock, log);
  if (!queue)
    return failure(EX_TEMPFAIL,
                   "the daemon does not answer at " + places.control_socket +
                       ", and the queue cannot be opened: " + queue.error().describe());
  (*queue)->start(nullptr);
  auto end = serve_here(**queue, clock, request, on_line);
  (*queue)->stop();
  return end;
}

}  // namespace

ControlEnd administrate(const Places& places, const ControlRequest& request,
                        const OnLine& on_line) {
  if (encode(request).size() > kMostRequest)
    return failure(EX_USAGE, "the request is longer than 64 KiB");
  auto connection = LocalConnection::connect(places.control_socket);
  if (!connection) {
    if (is_down(connection.error()))
      return open_and_serve(places, request, on_line);
    const bool forbidden = connection.error().code() == boost::system::errc::permission_denied;
    return forbidden
               ? failure(EX_NOPERM, "only root, the daemon's user and its group may administrate")
               : failure(EX_UNAVAILABLE, connection.error().describe());
  }
  connection->set_timeout(kPatience);
  auto end = ask(*connection, request, on_line);
  if (!end)
    return failure(EX_IOERR, "the daemon's answer broke off: " + end.error().describe());
  return *std::move(end);
}

}  // namespace postrider::daemon
