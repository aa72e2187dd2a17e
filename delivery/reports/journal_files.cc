#include "delivery/reports/journal_files.h"

#include "base/file.h"

#include <cerrno>
#include <fcntl.h>
#include <new>
#include <unistd.h>

namespace postrider::delivery {

void JournalFiles::put(Order order) {
  const std::lock_guard lock(mutex_);
  orders_.push_back(std::move(order));
}

bool JournalFiles::is_idle() const {
  const std::lock_guard lock(mutex_);
  return orders_.empty() && !is_busy_;
}

std::optional<Error> JournalFiles::take_trouble() {
  const std::lock_guard lock(mutex_);
  return std::exchange(trouble_, std::nullopt);
}

bool JournalFiles::next(Order& order) {
  const std::lock_guard lock(mutex_);
  is_busy_ = !orders_.empty();
  if (!is_busy_)
    return false;
  order = std::move(orders_.front());
  orders_.pop_front();
  return true;
}

void JournalFiles::work() {
  const std::lock_guard one_at_a_time(working_);
  for (Order order; next(order);)
    if (auto done = carry_out(order); !done) {
      const std::lock_guard lock(mutex_);
      trouble_ = done.error();
    }
}

Result<void> JournalFiles::carry_out(const Order& order) const {
  const auto path = folder_ + "/" + order.name;
  if (order.kind == Order::Kind::remove) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
      return system_error("remove " + path);
    return {};
  }
  if (auto made = make_folder(folder_, 0700); !made)
    return made;
  std::string text;
  try {
    text = order.text();
  } catch (const std::bad_alloc&) {
    return Error(make_error_code(boost::system::errc::not_enough_memory), "write " + path);
  }
  return order.kind == Order::Kind::replace ? replace_file(path, text, 0600)
                                            : append_to(path, text);
}

Result<void> JournalFiles::append_to(const std::string& path, const std::string& text) const {
  const bool is_new = ::access(path.c_str(), F_OK) != 0;
  auto file = open_file(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (!file)
    return file.error();
  if (auto written = write_all(*file, text); !written)
    return written.error().during("write " + path);
  if (auto synced = sync_file(*file); !synced)
    return synced;
  return is_new ? sync_folder(folder_) : Result<void>{};
}

}  // namespace postrider::delivery
