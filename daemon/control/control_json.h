// What the queue knows, as the tools get it. Text that is not UTF-8 (a remote's reply) is escaped,
// so that every line is valid JSON. Times are seconds since 1970, as in `postqueue -j`.
#pragma once

#include "base/histogram.h"
#include "daemon/pickup/drop_listing.h"
#include "queue/queue.h"

#include <boost/json/object.hpp>

#include <string>
#include <string_view>

namespace postrider::daemon {

// {"message":{...}} as a line. A listing is made of these: they are written without building
// objects first, which would cost more than reading the message.
void add_message_line(const queue::ListedMessage& message, std::string& out);

// The same of what lies in the drop folder.
void add_dropped_line(const DroppedMessage& message, std::string& out);

boost::json::object to_json(const DropTotals& totals);
boost::json::object to_json(const mail::Outcome& outcome);
boost::json::object to_json(const queue::SiteState& site);
boost::json::object to_json(const queue::Totals& totals);
boost::json::object to_json(const queue::Pause& pause);
boost::json::object to_json(const queue::Summary::Group& group);
boost::json::object to_json(const queue::Changed& changed);
boost::json::object to_json(const mail::Envelope& envelope);

// "mail to example.org is paused by ann: `postrider queue resume example.org`"
std::string pause_sentence(const queue::Pause& pause);
std::string resume_order(const queue::Pause& pause);  // "postrider queue resume example.org"

// Adds to object["histograms"]: {"bounds":[...],"counts":[...],"sum":n}, each count of one bucket
// alone, the last of what is above all bounds.
void add_histogram(boost::json::object& object, std::string_view name, const Histogram& histogram);

std::string json_text(std::string_view text);
std::int64_t json_time(TimePoint when);  // 0: never

// Adds {"name":value} as a line.
void add_line(const char* name, boost::json::value value, std::string& out);

}  // namespace postrider::daemon
