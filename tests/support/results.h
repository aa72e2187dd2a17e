// Lets Catch2 print a Result of any type: why it failed, or that it did not.
#pragma once

#include "base/result.h"

#include <catch2/catch.hpp>

namespace Catch {

template <class T>
struct StringMaker<postrider::Result<T>> {
  static std::string convert(const postrider::Result<T>& result) {
    return result.has_value() ? "a value" : "error: " + result.error().describe();
  }
};

}  // namespace Catch
