#include "tables/table.h"

#include "base/named_file.h"
#include "base/text.h"
#include "tables/table_source.h"

namespace postrider::tables {

namespace {

struct Scheme {
  std::string_view name;
  Kind kind;
};
constexpr Scheme kSchemes[] = {{"aliases:", Kind::aliases}, {"text:", Kind::text},
                               {"pcre:", Kind::pcre},       {"cdb:", Kind::cdb},
                               {"sqlite:", Kind::sqlite},   {"socketmap:", Kind::socketmap},
                               {"tcp:", Kind::tcp},         {"pgsql:", Kind::pgsql},
                               {"ldap:", Kind::ldap},       {"inline:", Kind::inlined}};

class EmptyTable : public Table {
 public:
  Result<std::optional<Entry>> find(std::string_view) const override {
    return std::optional<Entry>();
  }
};

bool is_missing(const Error& error) {
  return error.code() == boost::system::errc::no_such_file_or_directory;
}

Opened open_existing(const Spec& spec, const Options& options) {
  switch (spec.kind) {
    case Kind::inlined:
      return read_inline(spec, options);
    case Kind::cdb:
      return open_cdb(spec);
    case Kind::sqlite:
      return open_sqlite(spec);
    case Kind::socketmap:
      return open_socketmap(spec);
    case Kind::tcp:
      return open_tcp(spec);
    case Kind::pgsql:
      return open_pgsql(spec);
    case Kind::ldap:
      return open_ldap(spec);
    case Kind::aliases:
    case Kind::text:
    case Kind::pcre:
      break;
  }
  auto source = read_source(spec.path);
  if (!source)
    return source.error();
  return spec.kind == Kind::pcre ? read_patterns(spec, *source, options)
                                 : read_lines(spec, *std::move(source), options);
}

// "unix:/path:name", "inet:127.0.0.1:10001:name"
Result<Spec> parse_socketmap(std::string_view text) {
  Spec spec;
  spec.kind = Kind::socketmap;
  const auto colon = text.rfind(':');
  if (colon == text.npos || colon + 1 == text.size() ||
      text.substr(colon + 1).find_first_of(" ,\t") != text.npos)
    return malformed("socketmap:unix:/path:NAME or socketmap:inet:ADDRESS:PORT:NAME");
  spec.path = text.substr(0, colon);
  spec.detail = text.substr(colon + 1);
  if (auto checked = check_socketmap(spec); !checked)
    return checked.error();
  return spec;
}

// "127.0.0.1:10001"
Result<Spec> parse_tcp(std::string_view text) {
  Spec spec;
  spec.kind = Kind::tcp;
  spec.path = text;
  if (auto checked = check_tcp(spec); !checked)
    return malformed("tcp:ADDRESS:PORT");
  return spec;
}

}  // namespace

bool has_file(Kind kind) {
  return kind != Kind::inlined && kind != Kind::socketmap && kind != Kind::tcp;
}

bool is_asked(Kind kind) {
  return kind == Kind::sqlite || kind == Kind::socketmap || kind == Kind::tcp ||
         kind == Kind::pgsql || kind == Kind::ldap;
}

std::string Spec::str() const {
  for (const auto& scheme : kSchemes)
    if (scheme.kind == kind)
      return std::string(scheme.name) + path +
             (kind == Kind::sqlite      ? "?" + detail
              : kind == Kind::socketmap ? ":" + detail
                                        : detail);
  return path;
}

Result<Spec> parse_spec(std::string_view text) {
  Spec spec;
  spec.kind = Kind::aliases;
  if (!text.starts_with('/')) {
    const Scheme* found = nullptr;
    for (const auto& scheme : kSchemes)
      if (text.starts_with(scheme.name))
        found = &scheme;
    if (found == nullptr)
      return malformed(
          "aliases:, text:, pcre:, cdb:, sqlite:, pgsql: or ldap: and a path, "
          "socketmap:unix:/path:NAME, socketmap:inet:ADDRESS:PORT:NAME, tcp:ADDRESS:PORT, "
          "or inline:{...}");
    spec.kind = found->kind;
    text.remove_prefix(found->name.size());
  }
  if (spec.kind == Kind::inlined) {
    spec.detail = text;
    return spec;
  }
  if (spec.kind == Kind::socketmap)
    return parse_socketmap(text);
  if (spec.kind == Kind::tcp)
    return parse_tcp(text);
  if (spec.kind == Kind::sqlite) {
    const auto mark = text.find('?');
    if (mark == text.npos || trim(text.substr(mark + 1)).empty())
      return malformed("sqlite:/path?SELECT ... WHERE key = :key");
    spec.detail = trim(text.substr(mark + 1));
    text = text.substr(0, mark);
  }
  // Two slashes begin what is behind the scheme of a URL, which no table has.
  if (!text.starts_with('/') || text.starts_with("//") || text.find('\0') != text.npos)
    return malformed("an absolute path");
  spec.path = text;
  return spec;
}

std::string told(const Error& error) {
  const auto code = error.code();
  for (const auto ours : {Errc::malformed, Errc::refused, Errc::storage})
    if (code == make_error_code(ours))
      return error.step();
  return error.describe();
}

Opened open_table(const Spec& spec, const Options& options) {
  auto opened = open_existing(spec, options);
  if (!opened && options.missing_is_empty && is_missing(opened.error()))
    return std::shared_ptr<const Table>(std::make_shared<EmptyTable>());
  return opened;
}

Result<FileDescriptor> open_source(const std::string& path, uid_t& owner) {
  auto named = open_named_file(path, 0);  // the administrator's configuration names it
  if (!named)
    return named.error();
  owner = named->owner;
  return std::move(named->file);
}

Result<Source> read_source(const std::string& path) {
  Source source;
  source.path = path;
  auto file = open_source(path, source.owner);
  if (!file)
    return file.error();
  auto text = read_file(*file, path, kMostFile);
  if (!text)
    return text.error();
  source.text = *std::move(text);
  return source;
}

Error problem_at(const std::string& path, std::size_t line, const std::string& problem) {
  return malformed(path + ":" + std::to_string(line) + ": " + problem);
}

std::string folder_of(const std::string& path) {
  return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

}  // namespace postrider::tables
