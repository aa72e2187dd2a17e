#include "cli/message_export.h"

#include "base/base64.h"
#include "cli/output.h"
#include "daemon/control/offline.h"
#include "daemon/tool_folder.h"

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::cli {

namespace {

namespace json = boost::json;

// Writes what the daemon gives, one message after the other.
class Exporter {
 public:
  Exporter(const Administration& how, const FileDescriptor& folder) : how_(how), folder_(folder) {}

  // False: it cannot go on.
  bool take(const json::object& line) {
    if (const auto* begun = object_of(line, "export"))
      return begin(raw_text_of(*begun, "id"));
    if (const auto* skipped = object_of(line, "skipped")) {
      file_.reset();
      return leave_out(raw_text_of(*skipped, "id"), text_of(*skipped, "reason"));
    }
    if (object_of(line, "exported") != nullptr)
      return file_ ? finish() : true;
    const auto piece = decode_base64(raw_text_of(line, "content"));
    if (!file_ || !piece || piece->empty())
      return true;
    const auto written = file_->append(*piece);
    return written ? true : stop(written.error());
  }
  int end(int code) const {
    if (!how_.json && code == EX_OK)
      print(counted(exported_, "message") + " exported\n");
    if (code != EX_OK)
      return code;
    return failed_ ? EX_CANTCREAT : left_out_ > 0 ? EX_TEMPFAIL : EX_OK;
  }

 private:
  bool begin(const std::string& id) {
    // The daemon may be of anybody's making: its words do not choose where we write.
    if (id.empty() || id.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != id.npos)
      return true;
    id_ = id;
    file_.emplace(folder_, id + ".eml");
    const auto created = file_->create();
    return created ? true : stop(created.error());
  }
  bool finish() {
    const auto done = file_->finish();
    const auto name = file_->name();
    file_.reset();
    if (!done && done.error().code() == Errc::refused)
      return leave_out(id_, name + " is there already, and is left as it is");
    if (!done)
      return stop(done.error());
    ++exported_;
    json::object object;
    object["id"] = id_;
    object["file"] = name;
    return how_.json ? print_raw(json_line(object)) : print(id_ + " -> " + name + "\n");
  }
  bool leave_out(const std::string& id, const std::string& reason) {
    ++left_out_;
    if (!how_.json) {
      complain(how_.program, EX_OK, id + ": not exported: " + reason);
      return true;
    }
    json::object object;
    object["id"] = id;
    object["reason"] = reason;
    return print_raw(json_line(object));
  }
  bool stop(const Error& error) {
    failed_ = true;
    file_.reset();
    complain(how_.program, EX_CANTCREAT, error.describe());
    return false;
  }

  const Administration& how_;
  const FileDescriptor& folder_;
  std::string id_;
  std::optional<ExportedFile> file_;
  std::uint64_t exported_ = 0, left_out_ = 0;
  bool failed_ = false;
};

const char* name_of(daemon::ImportedFile::End end) {
  using End = daemon::ImportedFile::End;
  switch (end) {
    case End::imported:
      return "imported";
    case End::known:
      return "known";
    case End::refused:
      return "refused";
    case End::failed:
      return "failed";
  }
  return "";
}

bool tell(const Administration& how, const daemon::ImportedFile& one) {
  using End = daemon::ImportedFile::End;
  if (how.json) {
    json::object object;
    object["file"] = one.file;
    object["id"] = one.id;
    object["end"] = name_of(one.end);
    if (!one.reason.empty())
      object["reason"] = one.reason;
    return print_raw(json_line(object));
  }
  if (one.end == End::imported)
    return print(one.id + ": imported\n");
  if (one.end == End::known)
    return print(one.id + ": in the queue already, left as it is\n");
  complain(how.program, EX_OK, one.file + ": not imported: " + one.reason);
  return true;
}

}  // namespace

ExportedFile::~ExportedFile() {
  if (!temporary_.empty())
    ::unlinkat(folder_.get(), temporary_.c_str(), 0);
}

Result<void> ExportedFile::create() {
  const auto name = "." + name_ + "." + std::to_string(::getpid());
  auto file = open_file_at(folder_, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file)
    return file.error();
  file_ = *std::move(file);
  temporary_ = name;
  return {};
}

Result<void> ExportedFile::append(std::string_view bytes) {
  return write_all(file_, bytes);
}

Result<void> ExportedFile::finish() {
  if (auto synced = sync_file(file_); !synced)
    return synced;
  if (::linkat(folder_.get(), temporary_.c_str(), folder_.get(), name_.c_str(), 0) == 0)
    return {};
  return errno == EEXIST ? Error(Errc::refused, name_ + " is there already")
                         : system_error("make " + name_);
}

int export_queue(const Administration& how, const daemon::FilterText& filter,
                 const std::string& folder) {
  auto opened = daemon::open_folder_to_write(folder);
  if (!opened)
    return complain(how.program, EX_CANTCREAT, opened.error().describe());
  daemon::ControlRequest request;
  request.act = "export";
  request.filter = filter;
  Exporter exporter(how, *opened);
  const int code =
      ask(how, request, [&exporter](const json::object& line) { return exporter.take(line); });
  if (auto synced = sync_file(*opened); !synced)
    return complain(how.program, EX_IOERR, synced.error().describe());
  return exporter.end(code);
}

int import_queue(const Administration& how, const std::vector<std::string>& files) {
  int no_places = EX_OK;
  const auto places = find_places_or_complain(how, no_places);
  if (!places)
    return no_places;
  const auto done = daemon::import_messages(*places, files);
  if (!done.error.empty())
    return complain(how.program, done.exit_code, done.error);
  for (const auto& one : done.files)
    if (!tell(how, one))
      return EX_IOERR;
  return done.exit_code;
}

}  // namespace postrider::cli
