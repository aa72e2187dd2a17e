// Of each page of the old database: where each row stands; then what belongs together goes into the
// new one.
#include "queue/maintenance/salvage_rows.h"

#include "queue/checksum.h"
#include "queue/row_codec.h"
#include "queue/store/sqlite_store.h"

#include <algorithm>
#include <map>
#include <sys/stat.h>
#include <tuple>

namespace postrider::queue {

namespace {

using Place = PageFile::Place;
using Kind = Column::Kind;
using Row = std::vector<Column>;

constexpr std::uint32_t kMostRefused = 16;
constexpr std::size_t kMessagesAtOnce = 1000;  // in one transaction

bool has_kinds(const Row& row, std::initializer_list<Kind> kinds) {
  return row.size() >= kinds.size() &&
         std::equal(kinds.begin(), kinds.end(), row.begin(),
                    [](Kind kind, const Column& column) { return column.kind == kind; });
}

// Rows are told apart by their form: what says which page belongs to which table may be gone.
// Columns: queue/store/schema.cc.
bool is_incoming(const Row& row) {
  return row.size() == 4 && has_kinds(row, {Kind::null, Kind::integer, Kind::blob}) &&
         (row[3].kind == Kind::null || row[3].kind == Kind::blob);
}
bool is_message(const Row& row) {
  return (row.size() == 12 || row.size() == 13) &&
         has_kinds(row, {Kind::null, Kind::integer, Kind::integer, Kind::integer, Kind::integer,
                         Kind::integer, Kind::integer, Kind::integer, Kind::integer, Kind::integer,
                         Kind::text, Kind::blob});
}
bool is_body(const Row& row) {
  return row.size() == 2 && has_kinds(row, {Kind::null, Kind::blob});
}
bool is_recipient(const Row& row) {
  // The lane came later; what was written before is not rewritten.
  return (row.size() == 8 || (row.size() == 9 && row[8].kind == Kind::integer)) &&
         has_kinds(row, {Kind::integer, Kind::integer, Kind::integer, Kind::integer, Kind::integer,
                         Kind::integer, Kind::text}) &&
         (row[7].kind == Kind::null || row[7].kind == Kind::blob);
}
bool is_attempt(const Row& row) {
  return row.size() == 5 &&
         has_kinds(row, {Kind::integer, Kind::integer, Kind::integer, Kind::integer, Kind::blob});
}
bool is_named_number(const Row& row) {
  return row.size() == 2 && has_kinds(row, {Kind::text, Kind::integer});
}
bool is_pause(const Row& row) {
  return row.size() == 6 && has_kinds(row, {Kind::integer, Kind::text, Kind::integer, Kind::integer,
                                            Kind::integer, Kind::text});
}
bool is_meta(std::string_view key) {
  return key == "shift" || key == "seen" || key == "last_id" || key == "clean";
}
// Ids are microseconds; the numbers of domains and sites, which have the same form, are small.
constexpr std::int64_t kLeastId = std::int64_t{1} << 48U;

struct RecipientPlace {
  std::int64_t message = 0;
  std::uint32_t index = 0;
  Place place;
};

struct AttemptPlace {
  std::int64_t message = 0;
  std::int64_t number = 0;
  Place place;
};

// Where everything stands that is worth saving. The first of two rows with one key counts.
struct Catalogue {
  std::map<std::int64_t, Place> incoming, messages, bodies;
  std::vector<RecipientPlace> recipients;  // sorted
  std::vector<AttemptPlace> attempts;      // sorted
  std::map<std::string, std::int64_t, std::less<>> meta, dropped;
  std::vector<PauseRow> pauses;

  void add(const PageFile::Cell& cell);
  void sort();
};

void Catalogue::add(const PageFile::Cell& cell) {
  const auto row = parse_row(cell.local);
  if (!row)
    return;
  if (cell.is_table) {
    if (cell.rowid <= 0)
      return;
    if (is_message(*row))
      messages.emplace(cell.rowid, cell.place);
    else if (is_incoming(*row))
      incoming.emplace(cell.rowid, cell.place);
    else if (is_body(*row))
      bodies.emplace(cell.rowid, cell.place);
  } else if (is_recipient(*row)) {
    const auto index = (*row)[1].integer;
    if ((*row)[0].integer > 0 && index >= 0 && index <= UINT32_MAX)
      recipients.push_back({(*row)[0].integer, static_cast<std::uint32_t>(index), cell.place});
  } else if (is_attempt(*row)) {
    attempts.push_back({(*row)[0].integer, (*row)[1].integer, cell.place});
  } else if (is_pause(*row)) {
    const auto of = (*row)[0].integer;
    if (of >= 0 && of <= static_cast<std::int64_t>(Pause::Of::sender))
      pauses.push_back({static_cast<Pause::Of>(of), std::string((*row)[1].bytes), (*row)[2].integer,
                        (*row)[3].integer, static_cast<unsigned>((*row)[4].integer),
                        std::string((*row)[5].bytes)});
  } else if (is_named_number(*row)) {
    const auto value = (*row)[1].integer;
    if (is_meta((*row)[0].bytes))
      meta.emplace((*row)[0].bytes, value);
    else if (value >= kLeastId)
      dropped.emplace((*row)[0].bytes, value);
  }
}

void Catalogue::sort() {
  const auto tidy = [](auto& rows, auto key) {
    std::sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) {
      return std::make_tuple(key(a), a.place.page, a.place.cell) <
             std::make_tuple(key(b), b.place.page, b.place.cell);
    });
    rows.erase(std::unique(rows.begin(), rows.end(),
                           [&](const auto& a, const auto& b) { return key(a) == key(b); }),
               rows.end());
  };
  tidy(recipients, [](const auto& row) { return std::pair(row.message, row.index); });
  tidy(attempts, [](const auto& row) { return std::pair(row.message, row.number); });
}

template <class Rows>
auto rows_of(const Rows& rows, std::int64_t message) {
  struct Less {
    bool operator()(const typename Rows::value_type& row, std::int64_t id) const {
      return row.message < id;
    }
    bool operator()(std::int64_t id, const typename Rows::value_type& row) const {
      return id < row.message;
    }
  };
  const auto [first, last] = std::equal_range(rows.begin(), rows.end(), message, Less());
  return std::span(first, last);
}

mail::Outcome held_because(std::string why) {
  mail::Outcome outcome;
  outcome.stage = mail::Stage::admin;
  outcome.status = {4, 3, 0};
  outcome.text = std::move(why);
  return outcome;
}

// One message as it is put together again.
struct Rescued {
  std::shared_ptr<mail::Message> message;
  std::string head;
  MessageRow row;
  std::vector<RecipientRow> recipients;
  bool is_landed = false;  // never tried
  bool is_damaged = false;
  bool is_doubtful = false;
  std::size_t alive() const {
    return static_cast<std::size_t>(std::count_if(
        recipients.begin(), recipients.end(), [](const auto& each) { return each.is_alive(); }));
  }
  void hold(const std::string& why);
};

void Rescued::hold(const std::string& why) {
  const auto last = encode_outcome(held_because(why));
  for (auto& recipient : recipients) {
    if (!recipient.is_alive())
      continue;
    recipient.state = RecipientState::held;
    recipient.next_attempt = kNever;
    recipient.last = last;
  }
}

class Salvage {
 public:
  Salvage(const Spool& spool, PageFile& pages, SqliteStore& store, TimePoint now, Bodies bodies,
          Salvaged& done)
      : spool_(spool), pages_(pages), store_(store), now_(now), bodies_(bodies), done_(done) {}

  Result<void> run();

 private:
  Result<void> save_all();
  Result<void> save(std::int64_t id);
  Result<void> save_namesake(std::int64_t id, std::string_view head);
  Result<void> save(std::int64_t id, const Rescued& found);
  std::optional<Rescued> find_waiting(std::int64_t id);
  std::optional<Rescued> find_landed(std::int64_t id);
  void add_recipients(Rescued& found, std::int64_t alive_once);
  void check_content(Rescued& found, std::optional<std::string> stored);
  Result<void> store_rescued(const Rescued& found);
  Result<void> store_attempts(const Rescued& found);
  Result<void> save_marks();
  Result<void> note_lost(std::int64_t id);
  Result<void> keep_content(std::int64_t id, LostMessage& lost);
  Result<void> note_strangers();

  const Spool& spool_;
  PageFile& pages_;
  SqliteStore& store_;
  TimePoint now_;
  Bodies bodies_;
  Salvaged& done_;
  Catalogue catalogue_;
  std::int64_t last_id_ = 0;  // beyond every id that was given
};

Result<void> Salvage::run() {
  pages_.for_each_cell([this](const PageFile::Cell& cell) { catalogue_.add(cell); });
  catalogue_.sort();
  done_.pages = pages_.pages();
  done_.unreadable = pages_.unreadable();
  // The daemon does by itself what a few bad sectors ask for. Where much cannot be read, the disk
  // has failed, perhaps for a moment, and a new database would lack what is still there.
  const auto refused = pages_.refused();
  if (bodies_ == Bodies::stay && (refused > kMostRefused || refused > pages_.pages() / 4))
    return Error(Errc::storage,
                 "read the old queue: " + std::to_string(refused) + " pages cannot be read");
  if (auto done = save_all(); !done)
    return done.error();
  return bodies_ == Bodies::stay ? store_.meta().set(kStrangersMark, 1) : note_strangers();
}

Result<void> Salvage::save_all() {
  std::vector<std::int64_t> ids;
  for (const auto* rows : {&catalogue_.messages, &catalogue_.incoming, &catalogue_.bodies})
    for (const auto& [id, place] : *rows)
      ids.push_back(id);
  for (const auto& row : catalogue_.recipients)
    ids.push_back(row.message);
  std::sort(ids.begin(), ids.end());
  last_id_ = now_.time_since_epoch().count() * 1000;
  if (const auto at = catalogue_.meta.find("last_id"); at != catalogue_.meta.end())
    last_id_ = std::max(last_id_, at->second);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  for (std::size_t at = 0; at <= ids.size(); at += kMessagesAtOnce) {
    auto transaction = store_.begin();
    if (!transaction)
      return transaction.error();
    for (auto i = at; i < std::min(at + kMessagesAtOnce, ids.size()); ++i)
      if (auto done = save(ids[i]); !done)
        return done.error();
    if (at + kMessagesAtOnce > ids.size())
      if (auto done = save_marks(); !done)
        return done.error();
    if (auto done = transaction->commit(); !done)
      return done.error();
    (void)store_.database().checkpoint(Checkpoint::passive);
  }
  return {};
}

Result<void> Salvage::save(std::int64_t id) {
  if (const auto waiting = find_waiting(id)) {
    if (auto done = save(id, *waiting); !done)
      return done.error();
    return save_namesake(id, waiting->head);
  }
  const auto landed = find_landed(id);
  return landed ? save(id, *landed) : note_lost(id);
}

// Another message of that id, as faults of earlier versions could make one: under an id of its own.
// head: of the first; one that is the same is no other message.
Result<void> Salvage::save_namesake(std::int64_t id, std::string_view head) {
  auto other = find_landed(id);
  if (!other || other->head == head)
    return {};
  do
    ++last_id_;
  while (catalogue_.messages.contains(last_id_) || catalogue_.incoming.contains(last_id_));
  other->message->id = {last_id_};
  return save(last_id_, *other);
}

Result<void> Salvage::save(std::int64_t id, const Rescued& found) {
  if (found.alive() == 0)
    return {};  // it had ended
  auto stored = store_rescued(found);
  if (!stored && is_constraint(stored.error())) {
    if (auto done = store_.messages().remove({id}); !done)
      return done.error();
    return note_lost(id);
  }
  if (!stored)
    return stored.error();
  ++done_.messages;
  done_.recipients += found.alive();
  if (found.is_damaged)
    done_.damaged.push_back({id});
  if (found.is_doubtful)
    done_.doubtful.push_back({id});
  done_.held += found.is_damaged || found.is_doubtful ? 1 : 0;
  return {};
}

// From `message`, `body` and `recipient`.
std::optional<Rescued> Salvage::find_waiting(std::int64_t id) {
  const auto at = catalogue_.messages.find(id);
  if (at == catalogue_.messages.end())
    return std::nullopt;
  const auto payload = pages_.payload(at->second);
  const auto row = parse_row(payload);
  if (!row || !is_message(*row))
    return std::nullopt;
  auto message = decode_head({id}, (*row)[11].bytes);
  if (!message || message->envelope.sender != (*row)[10].bytes)
    return std::nullopt;
  Rescued found;
  found.message = std::make_shared<mail::Message>(*std::move(message));
  found.head = (*row)[11].bytes;
  found.row.deadline = (*row)[1].integer;
  found.row.expires = (*row)[2].integer;
  found.row.tried = (*row)[7].integer != 0;
  found.row.delayed = ((*row)[8].integer & kDelayed) != 0;
  found.row.late_told = ((*row)[8].integer & kLateTold) != 0;
  found.row.logged = std::max<std::int64_t>((*row)[9].integer, 0);
  add_recipients(found, (*row)[5].integer + (*row)[6].integer);
  std::optional<std::string> stored;
  if (const auto body = catalogue_.bodies.find(id); body != catalogue_.bodies.end())
    stored = pages_.payload(body->second);
  if (stored) {
    const auto body = parse_row(*stored);
    stored = body && is_body(*body) ? std::optional(std::string((*body)[1].bytes)) : std::nullopt;
  }
  const bool was_damaged = row->size() == 13 && (*row)[12].integer == 1;
  check_content(found, std::move(stored));
  found.is_damaged = found.is_damaged || was_damaged;
  return found;
}

// alive_once: how many recipients were waiting, by the message's own row.
void Salvage::add_recipients(Rescued& found, std::int64_t alive_once) {
  const auto& wanted = found.message->envelope.recipients;
  std::vector<bool> is_known(wanted.size());
  bool differs = false;
  for (const auto& each : rows_of(catalogue_.recipients, found.message->id.value)) {
    if (each.index >= wanted.size())
      continue;
    const auto payload = pages_.payload(each.place);
    const auto row = parse_row(payload);
    if (!row || !is_recipient(*row))
      continue;
    const auto state = (*row)[3].integer;
    if (state < 0 || state > static_cast<std::int64_t>(RecipientState::removed) ||
        (*row)[6].bytes != wanted[each.index].address) {
      differs = true;
      continue;
    }
    RecipientRow recipient;
    recipient.index = each.index;
    recipient.state = static_cast<RecipientState>(state);
    recipient.attempts = static_cast<std::uint32_t>((*row)[4].integer);
    recipient.next_attempt = (*row)[5].integer;
    recipient.address = wanted[each.index].address;
    if (decode_outcome((*row)[7].bytes))
      recipient.last = (*row)[7].bytes;
    is_known[each.index] = true;
    found.recipients.push_back(std::move(recipient));
  }
  // Those whose row is missing had the message already, if all that waited are there.
  if (!differs && static_cast<std::int64_t>(found.alive()) == alive_once)
    return;
  const auto why = encode_outcome(held_because(
      "held: whether this recipient had the message already was lost with a page of the queue"));
  for (std::uint32_t i = 0; i < wanted.size(); ++i) {
    if (is_known[i])
      continue;
    RecipientRow recipient;
    recipient.index = i;
    recipient.state = RecipientState::held;
    recipient.next_attempt = kNever;
    recipient.last = why;
    recipient.address = wanted[i].address;
    found.recipients.push_back(std::move(recipient));
    found.is_doubtful = true;
  }
}

// From `incoming`: accepted, and nothing recorded yet.
std::optional<Rescued> Salvage::find_landed(std::int64_t id) {
  const auto at = catalogue_.incoming.find(id);
  if (at == catalogue_.incoming.end())
    return std::nullopt;
  const auto payload = pages_.payload(at->second);
  const auto row = parse_row(payload);
  if (!row || !is_incoming(*row))
    return std::nullopt;
  auto message = decode_head({id}, (*row)[2].bytes);
  if (!message)
    return std::nullopt;
  Rescued found;
  found.is_landed = true;
  found.message = std::make_shared<mail::Message>(*std::move(message));
  found.head = (*row)[2].bytes;
  found.row.deadline = found.row.expires = kNever;
  for (const auto& wanted : found.message->envelope.recipients) {
    RecipientRow recipient;
    recipient.index = static_cast<std::uint32_t>(found.recipients.size());
    recipient.address = wanted.address;
    found.recipients.push_back(std::move(recipient));
  }
  check_content(found, (*row)[3].kind == Kind::blob ? std::optional(std::string((*row)[3].bytes))
                                                    : std::nullopt);
  return found;
}

// What is there goes into the new queue even if it is not what was stored: held, so that an
// administrator decides.
void Salvage::check_content(Rescued& found, std::optional<std::string> stored) {
  auto& content = found.message->content;
  std::optional<std::uint32_t> checksum;
  if (!decode_head(found.message->id, found.head, &checksum))
    return;
  if (content.file.empty()) {
    found.is_damaged = !stored || stored->size() != content.size ||
                       (checksum && checksum_of(*stored) != *checksum);
    content.bytes = std::make_shared<const std::string>(stored ? *std::move(stored) : "");
  } else {
    const std::atomic<bool> ending{false};
    const auto read = spool_.checksum_of_body(*found.message, ending);
    found.is_damaged = !read || (checksum && *read != *checksum);
  }
  if (found.is_damaged)
    found.hold("held: the content is not what was stored");
}

Result<void> Salvage::store_rescued(const Rescued& found) {
  if (found.is_landed && !found.is_damaged)
    return store_.incoming().insert(*found.message, found.head);
  if (auto done = store_.messages().insert(*found.message, found.head, found.row, found.recipients);
      !done)
    return done.error();
  if (found.is_damaged)
    if (auto done = store_.messages().mark_damaged(found.message->id); !done)
      return done.error();
  return store_attempts(found);
}

Result<void> Salvage::store_attempts(const Rescued& found) {
  const auto id = found.message->id;
  for (const auto& each : rows_of(catalogue_.attempts, id.value)) {
    const auto payload = pages_.payload(each.place);
    const auto row = parse_row(payload);
    if (!row || !is_attempt(*row) || each.number > found.row.logged ||
        !decode_outcome((*row)[4].bytes) || (*row)[3].integer < 0 || (*row)[3].integer > UINT32_MAX)
      continue;
    if (auto done =
            store_.attempts().add(id, each.number, TimePoint(Duration((*row)[2].integer)),
                                  static_cast<std::uint32_t>((*row)[3].integer), (*row)[4].bytes);
        !done)
      return done.error();
  }
  return store_.attempts().set_logged(id, found.row.logged);
}

Result<void> Salvage::save_marks() {
  for (const auto& pause : catalogue_.pauses)
    if (auto done = store_.pauses().set(pause); !done)
      return done.error();
  for (const auto& [name, id] : catalogue_.dropped)
    if (auto done = store_.dropped().add(name, {id}); !done)
      return done.error();
  const auto value = [&](const char* key, std::int64_t otherwise) {
    const auto at = catalogue_.meta.find(key);
    return at == catalogue_.meta.end() ? otherwise : at->second;
  };
  const std::pair<const char*, std::int64_t> all[] = {
      {"last_id", last_id_},  // however far the clock is set back later
      {"shift", value("shift", 0)},
      {"seen", value("seen", now_.time_since_epoch().count())},
      {"clean", 1}};
  for (const auto& [key, number] : all)
    if (auto done = store_.meta().set(key, number); !done)
      return done.error();
  return {};
}

// Its head cannot be read: who sent it to whom in which form.
Result<void> Salvage::note_lost(std::int64_t id) {
  LostMessage lost;
  lost.id = {id};
  if (const auto at = catalogue_.messages.find(id); at != catalogue_.messages.end()) {
    const auto payload = pages_.payload(at->second);
    const auto row = parse_row(payload);
    if (row && is_message(*row)) {
      lost.sender = (*row)[10].bytes;
      lost.knows_sender = true;
    }
  }
  for (const auto& each : rows_of(catalogue_.recipients, id)) {
    const auto payload = pages_.payload(each.place);
    const auto row = parse_row(payload);
    if (row && is_recipient(*row) &&
        (*row)[3].integer < static_cast<std::int64_t>(RecipientState::delivered))
      lost.recipients.emplace_back((*row)[6].bytes);
  }
  if (auto done = keep_content(id, lost); !done)
    return done.error();
  done_.lost.push_back(std::move(lost));
  return {};
}

Result<void> Salvage::keep_content(std::int64_t id, LostMessage& lost) {
  std::optional<std::string> content;
  const auto take = [&](const std::map<std::int64_t, Place>& rows, std::size_t column) {
    const auto at = rows.find(id);
    if (content || at == rows.end())
      return;
    const auto payload = pages_.payload(at->second);
    const auto row = parse_row(payload);
    if (row && row->size() > column && (*row)[column].kind == Kind::blob)
      content = std::string((*row)[column].bytes);
  };
  take(catalogue_.bodies, 1);
  take(catalogue_.incoming, 3);
  if (!content)
    return {};
  const auto folder = spool_.folder() + "/lost";
  if (auto made = make_folder(folder, 0700); !made)
    return made.error();
  lost.content = folder + "/" + mail::to_string(mail::MessageId{id});
  lost.size = content->size();
  return replace_file(lost.content, *content, 0600);
}

// Body files that no message names. They go to lost/ when the new database takes its place.
Result<void> Salvage::note_strangers() {
  for (const auto& name : spool_.body_names()) {
    const auto id = mail::parse_message_id(name);
    if (id) {
      auto known = store_.messages().exists(*id);
      if (!known)
        return known.error();
      if (*known)
        continue;
    }
    struct stat about {};
    const bool is_there = ::stat(spool_.body(name).c_str(), &about) == 0;
    const auto size = is_there ? static_cast<std::uint64_t>(about.st_size) : 0;
    auto at = std::find_if(done_.lost.begin(), done_.lost.end(),
                           [&](const auto& lost) { return id && lost.id == *id; });
    if (at == done_.lost.end())
      at = done_.lost.insert(at, LostMessage{id.value_or(mail::MessageId{}), {}, false, {}, {}, 0});
    at->content = spool_.folder() + "/lost/" + name;
    at->size = size;
  }
  return {};
}

}  // namespace

Result<void> save_rows(const Spool& spool, PageFile& pages, SqliteStore& store, TimePoint now,
                       Bodies bodies, Salvaged& done) {
  return Salvage(spool, pages, store, now, bodies, done).run();
}

}  // namespace postrider::queue
