// Names of topics of MQTT, and filters that take them (MQTT 5 §4.7, §4.8.2). Pure.
#pragma once

#include <string_view>

namespace postrider::events {

// Something can be published there: it is not empty and has no wildcard.
bool is_mqtt_topic(std::string_view text);
// One can subscribe to it: each wildcard is a level of its own, and "#" the last one. Also
// "$share/GROUP/FILTER".
bool is_mqtt_filter(std::string_view text);
// Requires: a filter and a topic. Whether a subscriber of the filter gets what is published there.
bool mqtt_filter_takes(std::string_view filter, std::string_view topic);

}  // namespace postrider::events
