// Where the filters are asked about a command that the session accepts, the gate holds its reply
// back until they have answered (pure).
#pragma once

#include "smtpd/session/filter_verdict.h"
#include "smtpd/session/session_step.h"

#include <memory>
#include <string>
#include <string_view>

namespace postrider::smtpd {

class FilterGate {
 public:
  // A command that is accepted, while the filters are asked.
  struct Held {
    filter::Stage stage;
    std::string_view verb;
    std::string argument;
    std::string reply;
    Next next = Next::read_command;
    bool has_added_recipient = false;
  };

  // The stages at which the filters of this session want to be asked.
  void set_stages(filter::Stages stages) { stages_ = stages; }
  // The step, or Next::filter where it waits for the filters and is kept. verb: good as long. What
  // is refused already concerns no filter, nor does a RCPT that names somebody once more.
  Step pass(const Step& step, std::string_view verb, std::string_view argument,
            bool has_added_recipient);
  // Requires: a command is held.
  filter::Stage stage() const { return held_->stage; }
  // The command that was held; then none is.
  Held release();

 private:
  filter::Stages stages_ = 0;
  std::unique_ptr<Held> held_;
};

}  // namespace postrider::smtpd
