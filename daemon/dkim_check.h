// The record in the DNS beside the key that signs.
#pragma once

#include "dns/resolver.h"
#include "mailauth/keys.h"

#include <string>

namespace postrider::daemon {

struct DkimRecordFinding {
  std::string text;
  int code = 0;  // EX_OK, EX_DATAERR, or EX_TEMPFAIL where the DNS gave no answer
};
DkimRecordFinding judge_dkim_record(const mailauth::PrivateKey& key,
                                    const dns::Answer<std::string>& answer);

}  // namespace postrider::daemon
