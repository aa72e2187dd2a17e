// Lookups by key in files that administrators keep: one interface over several forms. No mail
// knowledge: what a value means is its user's business.
//
//   aliases:/path            "name: value" lines as in /etc/aliases; "aliases:" may be left out
//   text:/path               "key value" lines
//   pcre:/path               "/pattern/flags value" lines, first match wins (tables/pcre_table.cc)
//   cdb:/path                a constant database (cdb(5)), replaced by rename
//   sqlite:/path?QUERY       a read-only statement with one parameter, the key; several rows are
//                            joined by ", "
//   socketmap:unix:/path:NAME, socketmap:inet:ADDRESS:PORT:NAME
//                            a program that speaks Postfix's socketmap protocol
//   tcp:ADDRESS:PORT         one that speaks Postfix's protocol tcp_table(5)
//   pgsql:/path              a PostgreSQL server, as the file says (tables/pgsql_settings.h)
//   ldap:/path               an LDAP server, as the file says (tables/ldap_settings.h)
//   inline:{key=value, ...}  a few entries in the configuration itself
//
// Files of lines: "#" begins a comment line, a line that begins with space or tab continues the one
// before. Keys ignore the case of ASCII letters, but in patterns that say otherwise.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace postrider::tables {

struct Entry {
  std::string value;
  std::string where;   // "/etc/aliases:12", "sqlite:/path", "inline"
  uid_t owner = 0;     // of the file
  std::string folder;  // of the file; empty for inline
};

// Thread-safe.
class Table {
 public:
  virtual ~Table() = default;
  // Absent is not an error; an error means that it cannot be told now. Databases and patterns take
  // their time: on a network loop, ask under MemoryOnly (base/memory_only.h).
  virtual Result<std::optional<Entry>> find(std::string_view key) const = 0;
  // Patterns are asked for whole addresses only, never for parts of them.
  virtual bool has_patterns() const { return false; }
  // How many entries there are; 0 where that is not known.
  virtual std::size_t size() const { return 0; }
  // Of a table that a Watcher follows: whether what it would say is passed over now, as if it said
  // nothing, for its file has been bad from the start (tables/watcher.h). That a key is in no table
  // is not known then.
  virtual bool is_left_out() const { return false; }
  // Of lines that do not count, "file:line: what is wrong": see Options::lenient.
  virtual std::vector<std::string> problems() const { return {}; }
};

enum class Kind : std::uint8_t {
  aliases,
  text,
  pcre,
  cdb,
  sqlite,
  socketmap,
  tcp,
  pgsql,
  ldap,
  inlined
};
bool has_file(Kind kind);  // that Spec::path names
bool is_asked(Kind kind);  // at each question: how many entries there are is not known

struct Spec {
  Kind kind = Kind::text;
  // Empty for inlined; of socketmap "unix:/path" or "inet:127.0.0.1:10001", of tcp the same without
  // "inet:".
  std::string path;
  std::string detail;  // the query, the name or the entries
  std::string str() const;
};
// Errc::malformed with what is allowed.
Result<Spec> parse_spec(std::string_view text);

struct Options {
  // Empty if the value may stand, else what is wrong with it. Asked for each entry when a file of
  // lines is read; databases are not read through.
  std::function<std::string(std::string_view value)> check;
  // Whether "$1" in the value of a pattern stands for what a group matched. Never where a value
  // can name a command or a file.
  bool substitutes = true;
  bool missing_is_empty = false;
  // Of a key: empty if it may stand, else why it can never match.
  std::function<std::string(std::string_view key)> check_key;
  // A wrong line costs that line alone. Lookups of a name whose value is wrong fail for now; of a
  // name that stands twice the first counts. A file with a NUL octet, without any right line among
  // wrong ones, or with more wrong lines than others is no table: Errc::malformed.
  bool lenient = false;
};

// An error of a table for people: "file:line: what is wrong", or with the system's words.
std::string told(const Error& error);

// Reads the whole file, or opens the database. The error begins with "file:line:" where there is
// one. A file that everybody may write is refused.
Result<std::shared_ptr<const Table>> open_table(const Spec& spec, const Options& options);

}  // namespace postrider::tables
