// A LocalJob as bytes, for the process that performs it. Pure. Decoding refuses anything malformed:
// the process that asks has read outside bytes.
#pragma once

#include "base/result.h"
#include "delivery/local/agents/local_target.h"

#include <string>
#include <string_view>

namespace postrider::delivery {

constexpr std::size_t kMostLocalJob = 4U << 20U;  // octets, encoded

std::string encode(const LocalJob& job);
Result<LocalJob> decode_local_job(std::string_view bytes);

}  // namespace postrider::delivery
