// read() of some files does not return until it is let, as on a mount whose server is gone; pread()
// of others fails, as of a disk that does.
#pragma once

#include <string>

namespace postrider::queue::test {

class HangingRead {
 public:
  HangingRead() = default;
  ~HangingRead();  // lets all go
  HangingRead(const HangingRead&) = delete;
  HangingRead& operator=(const HangingRead&) = delete;
  void hang(const std::string& path);
  void fail(const std::string& path);  // EIO
  void wait_for(unsigned hanging);     // fails the test after two minutes
  void let_go();
};

}  // namespace postrider::queue::test
