// Memory that bursts leave behind. Many sessions at one time, above all their handshakes, leave
// holes of whole pages between what lives on, which the C library keeps for itself for ever.
#pragma once

#include <cstddef>

namespace postrider::daemon {

class HeapKeeper {
 public:
  // Gives unused pages back to the system if much has come free, or was taken, since the last time.
  // Takes milliseconds, in which others may wait for memory: to be called now and then.
  void look();

 private:
  std::size_t unused_ = 0;  // octets in the holes when they were given back
};

}  // namespace postrider::daemon
