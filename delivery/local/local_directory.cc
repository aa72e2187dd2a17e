#include "delivery/local/local_directory.h"

#include "base/memory_only.h"
#include "base/text.h"
#include "base/user_mounts.h"
#include "delivery/local/addresses/left_out_entries.h"
#include "delivery/local/agents/mailbox_pattern.h"
#include "mail/address.h"

#include <algorithm>
#include <array>
#include <mutex>
#include <optional>
#include <pwd.h>
#include <sys/stat.h>
#include <unordered_map>

namespace postrider::delivery {

namespace {

constexpr auto kRemember = std::chrono::seconds(10);
// A user who was there so recently is there, if nobody answers.
constexpr auto kStale = std::chrono::hours(1);
constexpr std::size_t kMostRemembered = 10000;

using Answer = mail::Directory::Answer;

Answer look_up_account(const std::string& user) {
  std::array<char, 16384> room{};
  passwd entry{};
  passwd* found = nullptr;
  const int failed = ::getpwnam_r(user.c_str(), &entry, room.data(), room.size(), &found);
  if (found != nullptr)
    return Answer::known;
  // POSIX leaves open how "no such user" is reported; these are the ways that exist.
  const bool absent =
      failed == 0 || failed == ENOENT || failed == ESRCH || failed == EBADF || failed == EPERM;
  return absent ? Answer::unknown : Answer::cannot_tell;
}

// An existing maildir or mbox, whose owner need not have an account.
Answer look_up_mailbox(const std::string& pattern, const MailboxNames& names) {
  const auto place = mailbox_place(pattern, names);
  if (!place)
    return Answer::unknown;
  const auto found = find_place(place->root + "/" + place->folder, LastLink::keep);
  struct stat about {};
  if (found && ::fstat(found->get(), &about) != 0)
    return Answer::cannot_tell;
  if (found)
    return (pattern.starts_with("mbox:") ? S_ISREG(about.st_mode) : S_ISDIR(about.st_mode))
               ? Answer::known
               : Answer::unknown;
  namespace errc = boost::system::errc;
  for (const auto absent : {errc::no_such_file_or_directory, errc::not_a_directory,
                            errc::filename_too_long, errc::permission_denied})
    if (found.error().code() == absent)
      return Answer::unknown;
  return Answer::cannot_tell;  // Errc::refused: on a file system of the user's, which may be silent
}

// cannot_tell: it is an address like others.
Answer made_of_sender(const LocalAddresses& book, const std::string& address) {
  if (!book.rules().rewriter)
    return Answer::cannot_tell;
  const auto original = book.rules().rewriter->original(address, SenderRewriter::Seen::now);
  if (!original)
    return Answer::unknown;
  return *original ? Answer::known : Answer::cannot_tell;
}

Answer look_up(const LocalAddresses& book, const Users& users, std::string_view local_part,
               std::string_view domain) {
  const auto address = mail::quoted_local_part(local_part) + "@" + std::string(domain);
  if (const auto made = made_of_sender(book, address); made != Answer::cannot_tell)
    return made;
  const auto answer = book.knows(local_part, domain);
  if (answer == Answer::known)
    return look_ahead(book, users, address);
  if (answer != Answer::unknown || !book.is_local(domain))
    return answer;
  const auto user = local_user(book.split(local_part).name, "");
  if (user == "postmaster")
    return Answer::known;
  const auto found = user.empty() ? Answer::unknown : users.find_user(user, domain);
  const bool is_caught = found == Answer::unknown && !book.rules().catch_all.empty();
  return is_caught ? look_ahead(book, users, address) : found;
}

}  // namespace

struct LocalDirectory::State {
  using Since = std::unordered_map<std::string, SteadyTime>;

  std::optional<Answer> recall(const std::string& key, SteadyTime now) const {
    const auto user = users.find(key);
    const auto age = MemoryOnly::takes_stale() ? Duration(kStale) : Duration(kRemember);
    if (user != users.end() && now - user->second < age)
      return Answer::known;
    const auto stranger = strangers.find(key);
    if (stranger != strangers.end() && now - stranger->second < kRemember)
      return Answer::unknown;
    return std::nullopt;
  }
  void remember(const std::string& key, Answer answer, SteadyTime now) {
    (answer == Answer::known ? strangers : users).erase(key);
    auto& known = answer == Answer::known ? users : strangers;
    if (known.size() >= kMostRemembered)
      known.clear();
    known[key] = now;
  }

  explicit State(const Clock& clock_) : clock(clock_) {}
  const Clock& clock;
  std::mutex mutex;
  std::shared_ptr<const LocalAddresses> book;
  std::string mailbox;
  // Apart: names that somebody makes up push out no user.
  Since users, strangers;
};

LocalDirectory::LocalDirectory(std::shared_ptr<const LocalAddresses> book, std::string mailbox,
                               const Clock& clock)
    : state_(std::make_unique<State>(clock)) {
  reconfigure(std::move(book), std::move(mailbox));
}

LocalDirectory::~LocalDirectory() = default;

void LocalDirectory::reconfigure(std::shared_ptr<const LocalAddresses> book, std::string mailbox) {
  const std::lock_guard lock(state_->mutex);
  state_->book = std::move(book);
  state_->mailbox = std::move(mailbox);
  state_->users.clear();
  state_->strangers.clear();
}

std::shared_ptr<const LocalAddresses> LocalDirectory::book() const {
  const std::lock_guard lock(state_->mutex);
  return state_->book;
}

bool LocalDirectory::is_local_domain(std::string_view domain) const {
  return book()->is_ours(domain);
}

Answer LocalDirectory::lookup(std::string_view local_part, std::string_view given) const {
  const auto known = book();
  const auto domain = known->meant(given);
  if (equals_ignoring_case(local_part, "postmaster") &&
      (!lacks_domains(*known) || known->is_ours(domain)))
    return Answer::known;
  const auto answer = look_up(*known, *this, local_part, domain);
  const bool is_refused = answer == Answer::unknown || answer == Answer::circle;
  return is_refused && lacks_addresses(*known) ? Answer::cannot_tell : answer;
}

Answer LocalDirectory::find_user(const std::string& user, std::string_view domain) const {
  const auto key = user + "@" + std::string(domain);
  const auto now = state_->clock.steady();
  std::string mailbox;
  {
    const std::lock_guard lock(state_->mutex);
    if (const auto known = state_->recall(key, now))
      return *known;
    mailbox = state_->mailbox;
  }
  if (MemoryOnly::forbids_waiting())
    return Answer::cannot_tell;
  auto answer = look_up_mailbox(mailbox, mailbox_names(user, domain, ""));
  if (answer != Answer::known) {
    const auto account = look_up_account(user);
    answer = account == Answer::unknown ? answer : account;
  }
  if (answer == Answer::cannot_tell)
    return answer;
  const std::lock_guard lock(state_->mutex);
  if (state_->mailbox == mailbox)  // or a reload came between
    state_->remember(key, answer, state_->clock.steady());
  return answer;
}

}  // namespace postrider::delivery
