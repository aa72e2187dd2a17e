#include "brokers/program.h"

namespace postrider::brokers {

std::string topic_of(const std::string& pattern, const Message& message) {
  constexpr std::string_view kType = "{type}";
  std::string topic = pattern;
  for (auto at = topic.find(kType); at != std::string::npos;
       at = topic.find(kType, at + message.type.size()))
    topic.replace(at, kType.size(), message.type);
  return topic;
}

}  // namespace postrider::brokers
