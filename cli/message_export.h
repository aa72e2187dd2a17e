// `postrider queue export` and `import`: messages as files in a folder.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "cli/administration.h"

#include <string>
#include <vector>

namespace postrider::cli {

// A file that is there, whole, or not at all, and private: it is written without a name of its own
// and gets that once all of it is on the disk. What has the name already stays.
class ExportedFile {
 public:
  ExportedFile(const FileDescriptor& folder, std::string name)
      : folder_(folder), name_(std::move(name)) {}
  ~ExportedFile();
  ExportedFile(const ExportedFile&) = delete;
  ExportedFile& operator=(const ExportedFile&) = delete;

  Result<void> create();
  Result<void> append(std::string_view bytes);
  // Errc::refused: there is a file of that name.
  Result<void> finish();
  const std::string& name() const { return name_; }

 private:
  const FileDescriptor& folder_;
  const std::string name_;
  std::string temporary_;  // its name meanwhile; empty: it has none
  FileDescriptor file_;
};

// folder: must exist; files in it are called ID.eml.
int export_queue(const Administration& how, const daemon::FilterText& filter,
                 const std::string& folder);
int import_queue(const Administration& how, const std::vector<std::string>& files);

}  // namespace postrider::cli
