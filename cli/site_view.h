// `postrider sites` as people read it. Pure.
#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>

namespace postrider::cli {

// A site, in a few lines.
std::string site_view(const boost::json::object& site, std::int64_t now);

}  // namespace postrider::cli
