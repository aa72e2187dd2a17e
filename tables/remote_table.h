// Inside of tables/: a table that a server answers, over a few connections that stay open. An
// answer has a time limit; a server that is not there, or does not answer, is left alone for a
// moment, so that not everybody waits for it. Answers are remembered.
#pragma once

#include "tables/remote_socket.h"
#include "tables/table_source.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>

namespace postrider::tables {

inline constexpr uid_t kNobody = 65534;

// One question at a time. What it says and what it is are the peer's: anything may come.
class RemoteConnection {
 public:
  using Answer = Result<std::optional<std::string>>;

  virtual ~RemoteConnection() = default;
  // The value, or nothing where there is no such key. After an error the connection is either still
  // usable, for the server has said that it cannot tell, or lost.
  virtual Answer ask(const std::string& key, RemoteClock::time_point until) = 0;
  // For another question. Waits for nothing.
  virtual bool is_usable() const = 0;
};

struct RemoteRules {
  std::string name;  // of the table, for errors and Entry::where
  std::function<Result<std::unique_ptr<RemoteConnection>>(RemoteClock::time_point until)> connect;
  // Of other keys there is nothing, and nobody is asked.
  std::function<bool(std::string_view key)> may_have = [](std::string_view) { return true; };
  // As whom what an answer names is done. Not root: the server is not the administrator.
  std::function<uid_t()> owner = [] { return kNobody; };
  bool folds_case = true;                     // letters of a key become small ones
  std::chrono::milliseconds patience{5'000};  // for an answer, with the connection
  std::chrono::milliseconds remembered_for{10'000};
  std::size_t connections = 8;
};

std::shared_ptr<const Table> make_remote_table(RemoteRules rules);

}  // namespace postrider::tables
