#include "base/secret_file.h"

#include "base/regular_file.h"
#include "base/user_mounts.h"

namespace postrider {

Result<std::string> read_secret_file(const std::string& path, std::size_t most) {
  const auto file = open_to_read(path);
  if (!file)
    return file.error();
  if (auto fit = require_regular(*file, path); !fit)
    return fit.error().during("read");
  struct stat about {};
  if (::fstat(file->get(), &about) != 0)
    return system_error("look at " + path);
  if ((about.st_mode & 0007U) != 0)
    return Error(Errc::refused, "read " + path + ": everybody may read or write it");
  return read_file(*file, path, most);
}

}  // namespace postrider
