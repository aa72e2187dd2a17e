// Mail that a program of the house hands over for somebody else.
#pragma once

#include "base/result.h"
#include "daemon/protocol/submit_protocol.h"

#include <string>
#include <string_view>

namespace postrider::daemon {

// As sendmail(1) hands a message over, on the submit socket `path`; but a daemon that is down or
// busy leaves it to who asked. The answer comes within about a minute, or is an error: then the
// message may be in custody all the same, and header.key makes it the same one when it comes again.
// Blocking.
Result<SubmitAnswer> submit_for(const std::string& path, const SubmitHeader& header,
                                std::string_view content);

}  // namespace postrider::daemon
