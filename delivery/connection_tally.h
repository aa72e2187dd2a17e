// How many connections there are of each kind; each is counted once there, by what its flags say.
#pragma once

#include "delivery/site.h"

#include <utility>

namespace postrider::delivery {

struct ConnectionTally {
  std::size_t links = 0, strangers = 0, patient = 0, giving_way = 0, closing = 0, aside = 0,
              doubts = 0;

  void add(const SiteConnection& link) {
    ++links;
    strangers += link.is_stranger ? 1 : 0;
    patient += link.is_patient ? 1 : 0;
  }
  void remove(SiteConnection& link) {
    forget_aside(link);
    forget_doubt(link);
    forget_stranger(link);
    forget_giving_way(link);
    closing -= std::exchange(link.is_closing, false) ? 1 : 0;
    --links;
  }

  void note_aside(SiteConnection& link) { aside += std::exchange(link.is_aside, true) ? 0 : 1; }
  void note_doubt(SiteConnection& link) { doubts += std::exchange(link.has_doubt, true) ? 0 : 1; }
  void note_giving_way(SiteConnection& link) {
    giving_way += std::exchange(link.gave_way, true) ? 0 : 1;
  }
  void note_closing(SiteConnection& link) {
    closing += std::exchange(link.is_closing, true) ? 0 : 1;
  }
  void forget_aside(SiteConnection& link) { aside -= std::exchange(link.is_aside, false) ? 1 : 0; }
  void forget_doubt(SiteConnection& link) {
    doubts -= std::exchange(link.has_doubt, false) ? 1 : 0;
  }
  void forget_giving_way(SiteConnection& link) {
    giving_way -= std::exchange(link.gave_way, false) ? 1 : 0;
  }
  void forget_stranger(SiteConnection& link) {
    strangers -= std::exchange(link.is_stranger, false) ? 1 : 0;
    patient -= std::exchange(link.is_patient, false) ? 1 : 0;
  }
};

}  // namespace postrider::delivery
