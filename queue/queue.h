// Custody of mail. Receiving hands messages in, delivery takes them out and says what came of them;
// neither knows the other, both may stop and come back.
//
//   accept() --commit--> fresh --Lease--> delivery --record()--> gone
//                          |                  |
//                          +------ queued <---+ (retry, parked)      queued --due--> Lease
//
// One thread owns the only writing SQLite connection. It takes everything that waits (submissions,
// records, changes), runs it as one transaction, commits with full sync, then answers each waiter
// on its own loop: one posted message per loop and batch. No timer delays a commit.
//
// Promises:
//  - Once accept() has returned without error, the message survives a crash; after an error nothing
//    of it is left.
//  - A recipient is attempted at least once; once an end has been recorded, never again.
//  - A message delivered at once costs one insertion and one deletion and is never read back.
//  - A full disk is Admission::disk_low; any other failure of storage is Admission::failed, until
//    the database has been reopened and checked.
//  - Records that could not be stored are kept in memory and stored again when the database can
//    take them.
#pragma once

#include "base/file.h"
#include "base/log.h"
#include "base/net/loop.h"
#include "base/result.h"
#include "mail/message.h"
#include "mail/outcome.h"
#include "queue/fact.h"
#include "queue/summary.h"

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postrider::queue {

struct QueueTimings;

struct QueueSettings {
  std::string spool;                             // the folder: queue.db, body/, drop/, lock
  Duration lifetime{std::chrono::hours(120)};    // then what is left bounces
  Duration delay_notice{std::chrono::hours(4)};  // 0: none
  std::uint64_t room_needed = 75U << 20U;        // free bytes below which new mail is refused
  // Handed to delivery straight from accept(); of one sender (mail::sender_lane()) at most half.
  std::size_t fresh_messages = 8192;
  std::size_t fresh_bytes = 64U << 20U;
  std::size_t leased_messages = 2048;  // due work in memory at one time
  std::size_t leased_bytes = 64U << 20U;
  std::size_t leased_per_domain = 400;  // of one sender at most half
  bool keeps_facts = false;             // there is a witness who wants them
};

enum class Admission : std::uint8_t { open, disk_low, failed, stopping };

// The body of a large message while it arrives: written as it comes, removed unless accepted.
// Used on one loop; writes go to the page cache, finish() syncs on the pool for blocking work.
struct Submission;
class BodyFile {
 public:
  BodyFile() noexcept;
  BodyFile(BodyFile&& other) noexcept;
  BodyFile& operator=(BodyFile&& other) noexcept;
  ~BodyFile();
  Result<void> append(std::string_view bytes);
  // On stable storage; accept() does it by itself. Blocks: for the pool.
  Result<void> sync();
  const std::string& name() const { return name_; }  // for Content::file
  bool is_open() const;
  // What was written, from `offset` on; the number of octets that are there, at most `size`.
  Result<std::size_t> read(std::uint64_t offset, char* room, std::size_t size) const;
  // Its name is free for another file; what was written can still be read, and is gone with this.
  void give_name_away();

 private:
  friend class Queue;
  friend class Writer;
  friend std::optional<std::uint32_t> content_checksum(const Submission& submission);
  struct State;
  std::unique_ptr<State> state_;
  std::string name_;
};

struct Submission {
  std::shared_ptr<const mail::Message> message;
  BodyFile body;        // not open when the content is in memory
  std::string drop_id;  // of a file, a hand-over or a key that may come again; or empty
  std::string hold;     // why it waits for an administrator's word; empty: it does not
  // encode_line() of its `accepted`, for its fact; empty: one is made of the message.
  std::string line = {};
};

// How a recipient has been put off so far. The dispatcher counts; the queue keeps it with the outcome.
struct RetryTally {
  std::uint8_t reason = 0;     // of the last deferral, the dispatcher's number for it; 0: not known
  std::uint32_t in_a_row = 0;  // deferrals for that reason, one behind the other
  std::uint32_t hints_obeyed = 0;  // times that it was tried when a reply had asked for it
  friend bool operator==(const RetryTally&, const RetryTally&) = default;
};

// What delivery is asked to do for some recipients of a message, and must answer with Records that
// together name each of them once.
struct Lease {
  enum class Reason : std::uint8_t {
    fresh,         // just accepted, never tried
    due,           // its time has come
    delay_notice,  // tell the sender that these still wait; they stay queued
    expired,       // the lifetime has ended: bounce these
    bounce,        // an administrator said so: bounce these
  };
  struct Recipient {
    std::uint32_t index = 0;            // in message->envelope.recipients
    std::uint32_t attempts = 0;         // so far
    std::optional<mail::Outcome> last;  // of the latest attempt; set for notices
    std::string next_hop{};  // to which it was rerouted: "smtp://host:25"; empty: it was not
    RetryTally tally{};      // of those that are due
  };
  Reason reason = Reason::due;
  std::shared_ptr<const mail::Message> message;
  std::vector<Recipient> recipients;
  std::uint64_t number = 0;  // never given twice; its Records name it
};

struct Record {
  struct Result {
    std::uint32_t index = 0;
    // Verdict::retry needs next_attempt; the others are ends.
    mail::Outcome outcome;
    TimePoint next_attempt;
    std::string line = {};  // encode_line() of the attempt; empty: one is made of the outcome
    RetryTally tally = {};  // of one that is deferred, this time included
  };
  mail::MessageId id;
  std::uint64_t lease = 0;  // its number; 0: the one that holds the first whom this names
  std::vector<Result> results;
  std::vector<std::uint32_t> untried;      // back to the queue unchanged (blocked site, stop)
  std::vector<std::string> untried_lines;  // encode_line() of why some of these wait
  std::uint32_t unreached = 0;  // of these, for which a connection was tried: counted as deferrals
  bool delay_notice_sent = false;
  // Those whom it does not name are still being tried: the lease goes on for them. Otherwise this
  // record ends it.
  bool partial = false;
  std::vector<Submission> notices;  // stored in the same transaction, then fresh themselves
};

// A site is a set of hosts that several domains may share. While it is blocked, none of its
// domains' mail is leased, and not one row of that mail is touched.
struct SiteState {
  std::string site;              // delivery's name for it
  TimePoint blocked_until;       // 0: open
  std::uint32_t failures = 0;    // probes in a row
  TimePoint since;               // of the first failure in the row
  mail::Outcome last;            // why
  std::uint64_t recipients = 0;  // that wait for it; filled by sites()
};

// Recipients of a message that are leased.
struct Revocation {
  mail::MessageId id;
  std::vector<std::uint32_t> recipients;
};

// The time of a message is over, and these of its recipients are leased to be tried. last: as for a
// notice; kBeingTried (queue/listed_reasons.h) where nothing has been heard of them.
struct Overdue {
  mail::MessageId id;
  std::vector<Lease::Recipient> recipients;
};

// Implemented by delivery. Called on the queue thread with whole batches: only post and return.
class Consumer {
 public:
  virtual ~Consumer() = default;
  virtual void take(std::vector<Lease> leases) = 0;
  // An administrator changed these: nothing more is begun for them. Answers, on any thread, which
  // of them are under way or have just ended; the others come back by Records, untried.
  using UnderWay = std::function<void(std::vector<Revocation>)>;
  virtual void revoke(std::vector<Revocation> wanted, UnderWay answer) {
    answer(std::move(wanted));
  }
  // The same answer, and nothing is taken back.
  virtual void ask(std::vector<Revocation> wanted, UnderWay answer) { answer(std::move(wanted)); }
  // Those who wait for their turn end now, as a lease that has expired; who is under way ends as
  // that ends. Asked again while some are left.
  virtual void expire(std::vector<Overdue>) {}
};

struct Filter {
  std::vector<mail::MessageId> ids;
  std::optional<std::string> from;    // address, "@domain", or "<>"
  std::optional<std::string> to;      // address or "@domain"
  std::optional<std::string> domain;  // of a recipient
  std::optional<std::string> site;
  std::optional<std::string> status;  // active, queued, deferred, held
  std::optional<std::string> reply;   // text within the last reply or reason, ignoring case
  std::optional<Duration> older;
  std::optional<std::uint64_t> larger;
  bool matches_all() const;
};

// Stored. Do not renumber.
enum class RecipientState : std::uint8_t {
  queued = 0,
  held = 1,
  bouncing = 2,
  delivered = 3,
  bounced = 4,
  removed = 5
};

struct ListedRecipient {
  std::uint32_t index = 0;
  std::string address;
  std::string domain;
  std::string site;
  RecipientState state = RecipientState::queued;
  bool active = false;   // in delivery's hands
  std::string next_hop;  // to which it was rerouted; empty: it was not
  bool paused = false;   // which is the reason, and next_attempt its end (0: it has none)
  std::uint32_t attempts = 0;
  TimePoint next_attempt;
  std::optional<mail::Outcome> last;  // its own, or its blocked site's
};

struct ListedMessage {
  mail::MessageId id;
  TimePoint received;
  TimePoint expires;
  std::uint64_t size = 0;
  std::string sender;
  mail::Origin origin;
  std::string status;                       // active, queued, deferred, held
  std::vector<ListedRecipient> recipients;  // those that match the filter and are not at an end
};

struct Attempt {
  TimePoint when;
  std::uint32_t recipient = 0;
  mail::Outcome outcome;
};

struct Totals {
  std::uint64_t messages = 0, recipients = 0, bytes = 0;
  std::uint64_t active = 0, queued = 0, deferred = 0, held = 0;  // of messages, each once
  std::uint64_t quarantined = 0;  // of those held: because their content was damaged
  TimePoint oldest;
  std::array<std::uint64_t, Summary::kAges> ages = {};  // of messages, to a minute
};

// expire: as bounce, but the notice says that the lifetime is over. reroute: to another host
// than the one of its domain, now and with every further attempt.
enum class Verb : std::uint8_t { hold, release, retry, remove, bounce, expire, reroute };
// Who asked for a change: for the log.
struct Actor {
  unsigned uid = 0;
  std::string name;  // of the user; empty: not known
};

// Mail that an administrator keeps from being tried, until it is resumed. What is under way ends as
// it ends.
struct Pause {
  enum class Of : std::uint8_t { all = 0, domain = 1, sender = 2 };  // Stored. Do not renumber.
  Of of = Of::all;
  std::string name;  // a recipient's domain; a sender: address, "@domain" or "<>"; of all: empty
  TimePoint since;
  TimePoint until;  // 0: no end of its own
  Actor by;
};
struct Changed {
  std::uint64_t messages = 0;
  std::uint64_t recipients = 0;
  // Not among those: their transactions had begun, and end as they end; then what is left of them
  // is changed too.
  std::uint64_t under_way_messages = 0;
  std::uint64_t under_way_recipients = 0;
  // Of a retry, not among those either: nothing is tried of what is held, of what is paused before
  // that ends, and of what its sender wants to go out later. Of a release and a reroute, of what
  // matches, changed or not, what goes on waiting: all that is paused; of a reroute what is held,
  // too.
  struct Kept {
    std::uint64_t messages = 0, recipients = 0;
  };
  Kept held, paused, unreleased;
  // Which pauses keep what is paused, each once; beyond kMostPauses no more are named.
  static constexpr std::size_t kMostPauses = 4;
  std::vector<Pause> pauses;
  void add_pause(const Pause& pause);
};

// Its name in the form in which it is stored and compared; nullopt: it can be neither a domain nor
// a sender.
std::optional<std::string> canonical_name(Pause::Of of, std::string_view name);
// Whether it keeps such a recipient from being tried. pause.name: canonical.
bool concerns(const Pause& pause, std::string_view sender, std::string_view domain);

// What came of it.
struct PauseDone {
  std::size_t ended = 0;  // pauses, by a resume
  std::uint64_t under_way_messages = 0;
  std::uint64_t under_way_recipients = 0;
};

// A count under way: see Queue::count_on().
struct Counting {
  Filter filter;
  Changed counted;
  bool is_done = false;
  std::int64_t after = -1;            // how far it came; -1: not begun
  std::vector<mail::MessageId> seen;  // fresh ones, counted before all others
};

// A summary under way: see Queue::summarize_on().
struct Summarizing {
  Summarizing(Filter filter_, SummaryKey by, TimePoint now)
      : filter(std::move(filter_)), summary(by, now) {}
  Filter filter;
  Summary summary;
  bool is_done = false;
  std::int64_t after = -1;                                 // how far it came; -1: not begun
  std::vector<mail::MessageId> seen;                       // fresh ones, counted before all others
  std::optional<std::vector<mail::MessageId>> candidates;  // instead of all
  std::size_t next_candidate = 0;
  std::unordered_map<std::string, std::string> patterns;  // of encoded reasons
  // Where nothing was heard yet: what the mail of a domain, or for a host to which it was rerouted,
  // waits for, as a pattern, if that is known from elsewhere; and of which that is not known, with
  // an address of each.
  std::unordered_map<std::string, std::string> waits;
  std::unordered_map<std::string, std::string> unheard;
};

// A part of a listing: see Queue::list_on().
struct ListedPage {
  std::vector<ListedMessage> messages;
  mail::MessageId after;  // the next page begins behind it
  bool is_last = false;
};

class Queue {
 public:
  // Takes the lock (refuses a second daemon), opens or creates the database (refuses a foreign or a
  // newer one), migrates, recovers: sweeps stray bodies, verifies after an unclean stop. Start-up
  // problems come back as one sentence each.
  static Result<std::unique_ptr<Queue>> open(QueueSettings settings, const Clock& clock, Log& log);
  // vfs: the name of an SQLite VFS for the tests of failures; nullptr: the system's.
  static Result<std::unique_ptr<Queue>> open_with(QueueSettings settings, const Clock& clock,
                                                  Log& log, const char* vfs);
  ~Queue();  // stops if stop() was not called

  // Starts the queue thread. consumer may be null (the tools, when the daemon is down). Without a
  // witness facts stay where they are, for the next one.
  void start(Consumer* consumer, Witness* witness = nullptr);
  // Commits what waits, checkpoints, marks the stop as clean. Blocks; call from no loop.
  void stop();

  Admission admission() const;  // any thread, no system call; as of the queue's latest work
  // Any thread but the loops. As it is now, also of a queue that has nothing to do: the disk is
  // asked, at most once a second, and what has changed is logged.
  Admission ask_admission();
  mail::MessageId next_id();  // any thread
  bool keeps_facts() const;   // any thread
  // Any thread: the witness has all facts up to this one on stable storage, or gave them up.
  void settle_facts(std::int64_t number);
  std::uint64_t waiting_facts() const;

  // Receiving. On the loop's thread.
  Result<BodyFile> create_body(mail::MessageId id);
  Task<Result<void>> accept(Loop& loop, Submission submission);
  // The same for what may come again, whose drop_id is stored in the same transaction.
  // Returns the id under which it was accepted: if the file was taken before, that of the earlier
  // message, and nothing is stored now. Once this has returned an id, a second copy of the file is
  // never delivered, whatever happens to the file, until its drop_id is forgotten.
  Task<Result<mail::MessageId>> accept_dropped(Loop& loop, Submission submission);
  // Drop ids that are remembered. Blocks: for the pool.
  Result<std::vector<std::string>> dropped();
  // For ids whose file is gone for good: unlinked, and the folder synced.
  void forget_dropped(std::vector<std::string> drop_ids);

  // Delivery. Any thread; answered by nothing: kept until stored.
  void record(std::vector<Record> records);
  void set_site(SiteState state);
  void assign_site(std::string domain, std::string site);
  std::vector<SiteState> sites();  // blocking; at start and for status
  // Path of a body file. Delivery opens it with open_body(), which never follows a link, never
  // blocks, and refuses with Errc::corrupt what is not the file that we wrote (attacks.md I12);
  // quarantine() then holds the message for the administrator instead of sending damaged content.
  std::string body_path(const std::string& name) const;
  Result<FileDescriptor> open_body(const mail::Message& message) const;
  void quarantine(mail::MessageId id, std::string why);

  // Administration. A change concerns all that match at the moment at which it begins, and nothing
  // that comes later; it is done in short transactions between those of mail. on_done runs on the
  // queue thread, or on delivery's when that had to be asked what is under way.
  // next_hop: of reroute, as delivery describes it ("smtp://host:25").
  void change(Verb verb, Filter filter, bool dry_run, std::function<void(Result<Changed>)> on_done,
              Actor actor = {}, std::string next_hop = {});
  // Keeps mail from being handed out, across restarts, or ends that. pause.name is taken in any
  // form; Errc::malformed: it can be no such name. Resuming Of::all ends all pauses. on_done as for
  // change().
  using OnPaused = std::function<void(Result<PauseDone>)>;
  void pause(Pause pause, OnPaused on_done);
  void resume(Pause pause, OnPaused on_done);
  // Any thread but the loops: blocking reads on the read-only connection, in short transactions.
  Result<std::vector<Pause>> pauses();
  // Messages in the order of arrival, `after` exclusive, at most `most` of them.
  Result<std::vector<ListedMessage>> list(const Filter& filter, mail::MessageId after,
                                          std::size_t most);
  // The same in pieces for a reader who may leave: looks at a part of the queue, gives what it
  // found there, at most `most` messages, of thousands of recipients no more than one.
  Result<ListedPage> list_on(const Filter& filter, mail::MessageId after, std::size_t most);
  Result<Changed> count(const Filter& filter);
  // Goes on with a count, for some milliseconds. Exact for what is neither new nor gone meanwhile.
  Result<void> count_on(Counting& counting);
  // Goes on with a summary, through some thousand messages. Exact as a count is.
  Result<void> summarize_on(Summarizing& summarizing);
  Result<std::shared_ptr<const mail::Message>> load(mail::MessageId id);
  Result<std::vector<Attempt>> attempts(mail::MessageId id);  // the latest 100, oldest first
  Result<Totals> totals();

  // Since start, for status and metrics. By recipient, but for accepted and commits. deferrals:
  // attempts that are to be repeated; untried: came to wait for a site in trouble without an
  // attempt of their own. The log has a line for each of these, attempted or deferred.
  struct Counters {
    std::uint64_t accepted = 0, delivered = 0, bounced = 0, removed = 0, deferrals = 0, untried = 0,
                  commits = 0;
  };
  Counters counters() const;
  struct Recent {
    Counters minute, hour;  // up to now, or since the start
  };
  Recent recent() const;                // any thread
  const QueueTimings& timings() const;  // any thread; queue/queue_timings.h
  // Storage has failed for so long that only a fresh process can help.
  bool is_lost() const;
  // After stop(): ends that delivery reported and that could not be stored; these may be delivered
  // again.
  std::size_t unrecorded() const;
  // New limits after a reload. Any thread.
  void reconfigure(QueueSettings settings);
  // Looks at the clock and at what is due now: after the clock was moved (tests, resume). Any
  // thread.
  void wake();

 private:
  struct Impl;
  void order(Pause pause, bool is_resume, OnPaused on_done);
  explicit Queue(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace postrider::queue
