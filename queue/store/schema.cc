#include "queue/store/schema.h"

#include <iterator>

namespace postrider::queue {

namespace {

constexpr std::int64_t kApplicationId = 0x50537452;  // "PStR"

// Times are milliseconds of the queue's own time (queue/ledger/queue_time.h), but `received` and
// `at`, which are wall clock. A recipient that is not due by itself (held, bouncing) has
// next_attempt = the largest integer, so that no query needs to look at its state. A migration
// stays as it was when databases were made by it, so its numbers are numbers: states below 3 are
// those of living recipients (RecipientState), 9223372036854775807 is kNever.
constexpr const char* kMigrations[] = {
    R"sql(
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where accepted mail lands. Delivered at the first attempt, it is deleted from here and was
-- never anywhere else. The content stands last, so reading a head reads no content.
CREATE TABLE incoming (
  id INTEGER PRIMARY KEY,
  size INTEGER NOT NULL,
  head BLOB NOT NULL,
  body BLOB
) STRICT;

-- Mail that has to wait.
CREATE TABLE message (
  id INTEGER PRIMARY KEY,
  deadline INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  received INTEGER NOT NULL,
  size INTEGER NOT NULL,
  waiting INTEGER NOT NULL,
  held INTEGER NOT NULL,
  tried INTEGER NOT NULL,
  delayed INTEGER NOT NULL,
  logged INTEGER NOT NULL,
  sender TEXT NOT NULL,
  head BLOB NOT NULL
) STRICT;
CREATE INDEX message_deadline ON message(deadline);
CREATE INDEX message_totals ON message(waiting, held, tried, size);

CREATE TABLE body (
  id INTEGER PRIMARY KEY,
  data BLOB NOT NULL
) STRICT;

CREATE TABLE recipient (
  message INTEGER NOT NULL,
  idx INTEGER NOT NULL,
  domain INTEGER NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  next_attempt INTEGER NOT NULL,
  address TEXT NOT NULL,
  last BLOB,
  PRIMARY KEY (message, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient(domain, next_attempt) WHERE state < 3;

-- next_due is never later than the first due recipient; it may be earlier.
CREATE TABLE domain (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  site INTEGER NOT NULL,
  next_due INTEGER NOT NULL
) STRICT;
CREATE INDEX domain_due ON domain(site, next_due);

-- wake is never later than the first due domain, or the end of the block if that is later.
CREATE TABLE site (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  wake INTEGER NOT NULL,
  blocked_until INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  since INTEGER NOT NULL,
  last BLOB
) STRICT;
CREATE INDEX site_wake ON site(wake);
-- Domains whose site is not known yet.
INSERT INTO site VALUES (0, '', 9223372036854775807, 0, 0, 0, NULL);

CREATE TABLE attempt (
  message INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  at INTEGER NOT NULL,
  recipient INTEGER NOT NULL,
  outcome BLOB NOT NULL,
  PRIMARY KEY (message, seq)
) STRICT, WITHOUT ROWID;
)sql",
    R"sql(
-- Files of the drop folder that became messages, until the file is gone.
CREATE TABLE dropped (
  name TEXT PRIMARY KEY,
  message INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How much waits, by status (0 queued, 1 deferred, 2 held), kept by triggers: exact in every
-- transaction, whatever statement changed the rows. CAST: a damaged size must not stop the rest.
CREATE TABLE tally (
  status INTEGER PRIMARY KEY,
  messages INTEGER NOT NULL,
  recipients INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
INSERT INTO tally
  SELECT s.status, count(m.waiting), CAST(total(m.waiting + m.held) AS INTEGER),
         CAST(total(m.size) AS INTEGER)
  FROM (SELECT 0 AS status UNION ALL SELECT 1 UNION ALL SELECT 2) s
  LEFT JOIN message m INDEXED BY message_totals
    ON s.status = CASE WHEN m.waiting = 0 THEN 2 WHEN m.tried THEN 1 ELSE 0 END
  GROUP BY s.status;
DROP INDEX message_totals;
CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
  UPDATE tally SET messages = messages + 1, recipients = recipients + new.waiting + new.held,
    bytes = CAST(bytes + new.size AS INTEGER)
    WHERE status = CASE WHEN new.waiting = 0 THEN 2 WHEN new.tried THEN 1 ELSE 0 END;
END;
CREATE TRIGGER message_removed AFTER DELETE ON message BEGIN
  UPDATE tally SET messages = messages - 1, recipients = recipients - old.waiting - old.held,
    bytes = CAST(bytes - old.size AS INTEGER)
    WHERE status = CASE WHEN old.waiting = 0 THEN 2 WHEN old.tried THEN 1 ELSE 0 END;
END;
CREATE TRIGGER message_changed AFTER UPDATE OF waiting, held, tried ON message
  WHEN old.waiting <> new.waiting OR old.held <> new.held OR old.tried <> new.tried BEGIN
  UPDATE tally SET messages = messages - 1, recipients = recipients - old.waiting - old.held,
    bytes = CAST(bytes - old.size AS INTEGER)
    WHERE status = CASE WHEN old.waiting = 0 THEN 2 WHEN old.tried THEN 1 ELSE 0 END;
  UPDATE tally SET messages = messages + 1, recipients = recipients + new.waiting + new.held,
    bytes = CAST(bytes + new.size AS INTEGER)
    WHERE status = CASE WHEN new.waiting = 0 THEN 2 WHEN new.tried THEN 1 ELSE 0 END;
END;

-- Living recipients of each domain.
ALTER TABLE domain ADD COLUMN recipients INTEGER NOT NULL DEFAULT 0;
UPDATE domain SET recipients = (SELECT count(*) FROM recipient r INDEXED BY recipient_due
  WHERE r.domain = domain.id AND r.state < 3);
CREATE TRIGGER recipient_added AFTER INSERT ON recipient WHEN new.state < 3 BEGIN
  UPDATE domain SET recipients = recipients + 1 WHERE id = new.domain;
END;
CREATE TRIGGER recipient_removed AFTER DELETE ON recipient WHEN old.state < 3 BEGIN
  UPDATE domain SET recipients = recipients - 1 WHERE id = old.domain;
END;
CREATE TRIGGER recipient_ended AFTER UPDATE OF state ON recipient
  WHEN old.state < 3 AND new.state >= 3 BEGIN
  UPDATE domain SET recipients = recipients - 1 WHERE id = old.domain;
END;

-- Held because the content is not what was stored.
ALTER TABLE message ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0;
CREATE INDEX message_damaged ON message(id) WHERE damaged = 1;
)sql",
    R"sql(
-- To another host than that of its domain, for which a row of `domain` stands.
CREATE TRIGGER recipient_moved AFTER UPDATE OF domain ON recipient
  WHEN old.state < 3 AND old.domain <> new.domain BEGIN
  UPDATE domain SET recipients = recipients - 1 WHERE id = old.domain;
  UPDATE domain SET recipients = recipients + 1 WHERE id = new.domain;
END;

-- What administrators keep from being tried: 0 all mail, 1 a domain, 2 a sender.
CREATE TABLE pause (
  kind INTEGER NOT NULL,
  name TEXT NOT NULL,
  since INTEGER NOT NULL,
  until INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  user TEXT NOT NULL,
  PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
)sql",
    R"sql(
-- What transactions made true and the outbox of events does not have yet (queue/fact.h).
CREATE TABLE fact (
  number INTEGER PRIMARY KEY,
  line BLOB NOT NULL
) STRICT;
)sql",
    R"sql(
-- How many messages wait, by the minute in which they came: their ids are microseconds. Kept by
-- triggers, as tally is.
CREATE TABLE arrived (
  minute INTEGER PRIMARY KEY,
  messages INTEGER NOT NULL
) STRICT;
INSERT INTO arrived SELECT id / 60000000, count(*) FROM message GROUP BY 1;
CREATE TRIGGER message_came AFTER INSERT ON message BEGIN
  INSERT INTO arrived VALUES (new.id / 60000000, 1)
    ON CONFLICT (minute) DO UPDATE SET messages = messages + 1;
END;
CREATE TRIGGER message_went AFTER DELETE ON message BEGIN
  UPDATE arrived SET messages = messages - 1 WHERE minute = old.id / 60000000;
  DELETE FROM arrived WHERE minute = old.id / 60000000 AND messages <= 0;
END;

-- Who sends shares what is due (queue/waiting_lane.h); 0: not known, of rows from before.
ALTER TABLE recipient ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;
CREATE INDEX recipient_lane ON recipient(domain, lane, next_attempt) WHERE state < 3;
)sql",
};
static_assert(std::size(kMigrations) == kSchemaVersion);

Result<void> migrate(Database& database, std::int64_t from) {
  for (auto version = from; version < kSchemaVersion; ++version) {
    auto transaction = Transaction::begin(database);
    if (!transaction)
      return transaction.error();
    if (auto done = database.execute(kMigrations[version]); !done)
      return done.error().during("migrate the queue to version " + std::to_string(version + 1));
    const std::string number = "PRAGMA user_version=" + std::to_string(version + 1);
    if (auto done = database.execute(number.c_str()); !done)
      return done.error();
    if (auto done = transaction->commit(); !done)
      return done.error();
  }
  return {};
}

}  // namespace

Result<void> check_identity(Database& database) {
  const auto tables = database.value("SELECT count(*) FROM sqlite_schema");
  if (!tables)
    return tables.error();
  const auto identity = database.value("PRAGMA application_id");
  const auto version = database.value("PRAGMA user_version");
  if (!identity || !version)
    return (identity ? version : identity).error();
  if (*identity != kApplicationId && (*identity != 0 || *tables != 0 || *version != 0))
    return Error(
        Errc::unsupported,
        "queue.db belongs to another program: stop the mail system, move it away and put the "
        "queue's own back");
  if (*version > kSchemaVersion)
    return Error(Errc::unsupported, "queue.db was written by a newer version (" +
                                        std::to_string(*version) + ", this one knows " +
                                        std::to_string(kSchemaVersion) + ")");
  return {};
}

Result<void> prepare_database(Database& database) {
  const auto version = database.value("PRAGMA user_version");
  if (!version)
    return version.error();
  if (*version == 0) {
    const std::string sql = "PRAGMA application_id=" + std::to_string(kApplicationId);
    if (auto done = database.execute(sql.c_str()); !done)
      return done.error();
  }
  return migrate(database, *version);
}

Result<void> configure_page_size(Database& database) {
  // Without effect on a database that exists. Measured with 1 to 4 KiB messages: 4 KiB pages write
  // the fewest bytes, whether one client sends or fifty (5.3 KB for a message of 4 KiB and its end,
  // against 9.5 with 8 KiB pages): content stands on pages that its end only sets free.
  constexpr std::int64_t kIncremental = 2;
  if (auto done = database.execute("PRAGMA page_size=4096"); !done)
    return done.error().during("set the page size");
  const auto known = database.value("PRAGMA auto_vacuum");
  if (!known)
    return known.error().during("read how room is given back");
  // To say so again is written again, for which a full disk has no room.
  if (*known == kIncremental)
    return {};
  if (auto done = database.execute("PRAGMA auto_vacuum=INCREMENTAL"); !done)
    return done.error().during("say how room is given back");
  return {};
}

Result<void> configure_writer(Database& database) {
  for (const char* sql :
       {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=0",
        "PRAGMA secure_delete=OFF", "PRAGMA mmap_size=0", "PRAGMA cache_size=-32768",
        "PRAGMA temp_store=MEMORY", "PRAGMA cell_size_check=ON"})
    if (auto done = database.execute(sql); !done)
      return done.error().during(sql);
  return {};
}

Result<void> configure_reader(Database& database) {
  for (const char* sql :
       {"PRAGMA wal_autocheckpoint=0", "PRAGMA mmap_size=0", "PRAGMA cache_size=-8192",
        "PRAGMA temp_store=MEMORY", "PRAGMA query_only=ON", "PRAGMA busy_timeout=5000"})
    if (auto done = database.execute(sql); !done)
      return done.error().during(sql);
  return {};
}

}  // namespace postrider::queue
