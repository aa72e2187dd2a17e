// What `postrider status` knows, as metrics: the Prometheus text format 0.0.4, or OpenMetrics 1.0.
// Pure. No label has more values than this file names: a stranger cannot make new series, and of
// sites only the ten with most trouble are named.
#pragma once

#include <boost/json/object.hpp>

#include <optional>
#include <string>

namespace postrider::web {

enum class MetricsFormat { prometheus, open_metrics };

// What the kernel knows of the daemon.
struct ProcessUse {
  double cpu_seconds = 0;
  double resident_bytes = 0;
  double threads = 0;
};

// Of /proc/PID/stat; nothing where it cannot be read or is not understood.
std::optional<ProcessUse> process_use(std::int64_t pid);
// Of the daemon that gave this status answer.
std::optional<ProcessUse> process_use(const boost::json::object& status);
std::optional<ProcessUse> parse_process_stat(const std::string& text, double ticks_a_second,
                                             double page_size);

// status: the object of a status answer; null: the daemon gave none, which is a metric too.
std::string metrics_of(const boost::json::object* status, const std::optional<ProcessUse>& use,
                       MetricsFormat format);

// "text/plain; version=0.0.4; ...", as the format wants it.
const char* content_type_of(MetricsFormat format);

}  // namespace postrider::web
