// An SQLite VFS that fails when told, or loses what was not synced, as a power cut does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace postrider::queue::test {

class FailingVfs {
 public:
  enum class Mode : std::uint8_t {
    once,     // that operation fails, the next ones work
    forever,  // all from there on, until heal()
    unheard,  // all from there on are done, and say that they failed, until heal()
    cut,      // what was not synced is lost, and nothing works any more
  };

  FailingVfs();  // registers itself; one at a time
  ~FailingVfs();
  const char* name() const;
  // Counts writes, truncations and syncs from now; the one with this number (from 1) fails.
  void fail_at(std::uint64_t number, int code, Mode mode);
  void heal();  // but for pages that cannot be read
  // Reads of the database that touch this offset fail from now on, while it is in the file that it
  // is in now: a new file has other sectors. 0: no more.
  void fail_reads_at(const std::string& database, std::int64_t offset, int code);
  std::uint64_t failed_reads() const;
  // Called on the thread that syncs the database itself, not its log, before it does.
  void on_database_sync(std::function<void()> hook);
  std::uint64_t operations() const;  // since the last fail_at() or heal()
  std::uint64_t syncs() const;       // in all
  std::uint64_t writes() const;      // in all
  // The most octets for the log between two syncs of it, since the last call: what one commit was.
  std::uint64_t take_largest_commit();
  bool has_failed() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace postrider::queue::test
