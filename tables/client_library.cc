#include "tables/client_library.h"

#include <dlfcn.h>

namespace postrider::tables {

Result<void*> load_library(std::initializer_list<const char*> names, const char* package) {
  std::string why;
  for (const char* name : names) {
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL))
      return library;
    if (const char* said = ::dlerror(); said != nullptr && why.empty())
      why = said;
  }
  return Error(Errc::refused, "its client library cannot be loaded: " + why +
                                  "; Debian's package " + package + " has it");
}

Result<void*> find_symbol(void* library, const char* name) {
  if (void* symbol = ::dlsym(library, name))
    return symbol;
  return Error(Errc::refused, std::string("its client library has no ") + name);
}

}  // namespace postrider::tables
