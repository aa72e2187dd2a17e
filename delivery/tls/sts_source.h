// Where delivery learns the MTA-STS policy of a recipient domain (RFC 8461). Asked on the first
// loop, once with each MX lookup; answers from its cache where it can.
#pragma once

#include "base/net/task.h"
#include "delivery/tls/tls_policy.h"

#include <functional>
#include <memory>
#include <string>

namespace postrider::delivery {

struct StsFinding {
  std::shared_ptr<const StsPolicy> policy;  // null: none is in force
  // Of a policy that is announced but could not be had; success otherwise. Reported (RFC 8460).
  TlsResult trouble = TlsResult::success;
  std::string detail;  // for people: "policy of example.org, cached, until ..." or what is wrong
};

using StsSource = std::function<Task<StsFinding>(std::string domain)>;

}  // namespace postrider::delivery
