// Inside of tables/: the client library of a server, loaded when a table of that kind is opened.
// Who has no such table neither needs the library nor waits for it: each program of ours, sendmail
// too, would load it and all that it needs at each start.
#pragma once

#include "base/result.h"

#include <initializer_list>

namespace postrider::tables {

// For good; the name that is there first counts. The name of the Debian package is for the error,
// which is Errc::refused.
Result<void*> load_library(std::initializer_list<const char*> names, const char* package);

// A function of it. Errc::refused: it has none of that name.
Result<void*> find_symbol(void* library, const char* name);

template <class Function>
Result<void> find_function(void* library, const char* name, Function*& function) {
  const auto symbol = find_symbol(library, name);
  if (!symbol)
    return symbol.error();
  function = reinterpret_cast<Function*>(*symbol);
  return {};
}

}  // namespace postrider::tables
