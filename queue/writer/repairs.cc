#include "queue/writer/repairs.h"

#include "queue/maintenance/salvage.h"

#include <dirent.h>
#include <memory>

namespace postrider::queue {

namespace {

constexpr std::int64_t kCheckedAtOnce = 32768;  // pages; a larger database is not read at start
// These are also compared with their indexes, which takes several times as long.
constexpr std::int64_t kComparedAtOnce = 8192;
constexpr Duration kRepairEvery = std::chrono::minutes(10);
constexpr std::int64_t kSalvagedAtOnce = 131072;  // pages: some ten seconds
constexpr std::size_t kMostDamagedFolders = 3;
constexpr std::size_t kMostPassedOver = 64;  // more than have rows on one page

struct CloseSpoolFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

// Folders of databases that were damaged and have been salvaged.
std::size_t damaged_folders(const std::string& spool) {
  std::size_t found = 0;
  const std::unique_ptr<DIR, CloseSpoolFolder> folder(::opendir(spool.c_str()));
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr)
    found += std::string_view(entry->d_name).starts_with("damaged-") ? 1 : 0;
  return found;
}

}  // namespace

Result<void> Repairs::check_store() {
  using Check = SqliteStore::Check;
  const auto pages = store_->pages();
  if (!pages)
    return pages.error();
  auto words = store_->check(*pages <= kComparedAtOnce  ? Check::tables_and_indexes
                             : *pages <= kCheckedAtOnce ? Check::tables
                                                        : Check::small_tables);
  if (!words && !is_damage(words.error()))  // a page that cannot be read ends the check
    return words.error().during("check the queue");
  if (words && *words == "ok")
    return {};
  // What else is damaged shows again when it is read, and holds up that message alone.
  log_.write(LogEvent(Level::error, "database_damaged")
                 .add("reason", words ? *words : words.error().describe()));
  auto repaired =
      rebuild_indexes(*pages <= kComparedAtOnce ? Repair::always : Repair::if_unreadable);
  return repaired ? Result<void>() : repaired.error();
}

Result<void> Repairs::check_figures() {
  auto done = store_->read_figures();
  if (!done && is_damage(done.error())) {
    if (auto repaired = rebuild_indexes(Repair::always); !repaired)
      return repaired.error();
    done = store_->read_figures();
  }
  return done;
}

Result<bool> Repairs::rebuild_indexes(Repair when) {
  if (wanted_ == Remedy::rebuild_indexes)
    wanted_ = Remedy::none;
  if (clock_.steady() < repair_again_)
    return false;
  repair_again_ = clock_.steady() + kRepairEvery;
  store_.close();
  const auto done = queue::rebuild_indexes(spool_.database(), store_.vfs(), when);
  if (done && *done)
    log_.write(LogEvent(Level::warn, "indexes_rebuilt"));
  else if (!done)
    log_.write(LogEvent(Level::error, "indexes_not_rebuilt")
                   .add("reason", done.error().describe())
                   .add("advice", "where mail is held up, `postrider queue salvage`"));
  if (auto opened = store_.open(); !opened)
    return opened.error();
  const bool is_rebuilt = done && *done;
  if (is_rebuilt)
    ledger_.damaged().forget();
  return is_rebuilt;
}

Result<void> Repairs::check_indexes() {
  auto unfinished = store_->meta().get(kReindexMark);
  if (!unfinished)
    return unfinished.error();
  return *unfinished == 0 ? Result<void>()
                          : Error(Errc::corrupt,
                                  "open the queue: its indexes could not be rebuilt (`postrider "
                                  "queue salvage`)");
}

bool Repairs::has_passed_over_too_much() const {
  const auto passed_over = ledger_.damaged().passed_over();
  if (passed_over == 0 || salvaged_in_vain_)
    return false;
  return passed_over > kMostPassedOver || pages_in_file(spool_.database()) <= kComparedAtOnce;
}

Result<bool> Repairs::salvage() {
  wanted_ = Remedy::none;
  salvaged_in_vain_ = true;
  if (pages_in_file(spool_.database()) > kSalvagedAtOnce ||
      damaged_folders(spool_.folder()) >= kMostDamagedFolders)
    return false;
  store_.close();
  const auto done = salvage_database(spool_, clock_.now());
  if (done) {
    log_.write(LogEvent(Level::error, "salvaged")
                   .add("messages", done->messages)
                   .add("held", done->held)
                   .add("lost", done->lost.size())
                   .add("old_files", done->old_files));
    for (const auto& lost : done->lost)
      log_.write(LogEvent(Level::error, "lost", to_string(lost.id)).add("content", lost.content));
  } else {
    log_.write(LogEvent(Level::error, "not_salvaged").add("reason", done.error().describe()));
    if (is_salvage_unfinished(spool_.folder()))
      return done.error();
  }
  if (auto opened = store_.open(); !opened)
    return opened.error();
  if (!done)
    return false;
  salvaged_in_vain_ = false;
  ledger_.damaged().forget();
  ledger_.landing().start_over();
  if (auto moved = ledger_.intake().follow_landed(); !moved)
    return moved.error();
  return true;
}

Result<void> Repairs::apply_wanted() {
  if (wanted_ == Remedy::rebuild_indexes) {  // costs nothing
    auto rebuilt = rebuild_indexes(Repair::always);
    if (!rebuilt)
      return rebuilt.error();
    if (!*rebuilt)  // it was in vain before, or there is nothing to rebuild from
      wanted_ = Remedy::salvage;
  }
  if (wanted_ != Remedy::salvage)
    return {};
  auto salvaged = salvage();
  return salvaged ? Result<void>() : salvaged.error();
}

}  // namespace postrider::queue
