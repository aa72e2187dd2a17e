// What a connection keeps for its filters; null in a connection that has none.
#pragma once

#include "smtpd/connection.h"
#include "smtpd/filter/chain.h"

#include <cstddef>
#include <cstdint>
#include <string>

namespace postrider::smtpd {

struct Connection::Filtering {
  Filtering(const std::vector<std::shared_ptr<const filter::Source>>& sources, filter::Facts known,
            const filter::Surroundings& around)
      : facts(std::move(known)), surroundings(around), chain(sources, facts, surroundings) {}

  filter::Facts facts;
  filter::Surroundings surroundings;
  filter::Chain chain;
  std::uint64_t message = 0;  // whose content is shown, as SessionFramer counts them
  bool asked_data = false;    // for the message that comes
  bool shown_header = false;
  std::size_t shown = 0;      // octets of IncomingContent::bytes()
  std::uint64_t body_at = 0;  // where the body begins in what is stored
  std::string section;        // the header section as it will be stored
};

}  // namespace postrider::smtpd
