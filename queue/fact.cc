#include "queue/fact.h"

#include "base/packing.h"

namespace postrider::queue {

namespace {

constexpr std::size_t kMostName = 64;
constexpr std::size_t kMostValue = 2048;
constexpr std::size_t kMostFields = 64;
constexpr std::uint64_t kMostTime = std::uint64_t{1} << 62U;

Error damaged_fact() {
  return Error(Errc::corrupt, "decode fact");
}

}  // namespace

std::string encode_line(const LogEvent& line) {
  Packer out(256);
  out.text(line.name());
  out.text(line.id().substr(0, kMostValue));
  line.for_each([&](std::string_view key, std::string_view value) {
    out.text(key);
    out.text(value.substr(0, kMostValue));
  });
  return out.take();
}

void append_field(std::string& line, std::string_view key, std::string_view value) {
  Packer out(key.size() + value.size() + 8);
  out.text(key);
  out.text(value.substr(0, kMostValue));
  line.append(out.take());
}

std::string encode_fact(TimePoint when, std::string_view line) {
  Packer out(line.size() + 16);
  const auto time = when.time_since_epoch().count();
  out.number(time < 0 ? 0 : static_cast<std::uint64_t>(time));
  return out.take().append(line);
}

std::string_view FactLine::value(std::string_view key) const {
  for (auto field = fields.rbegin(); field != fields.rend(); ++field)
    if (field->first == key)
      return field->second;
  return {};
}

Result<FactLine> decode_fact(std::string_view bytes) {
  constexpr std::size_t kMostBytes = kMostFields * (kMostName + kMostValue + 8);
  if (bytes.size() > kMostBytes)
    return damaged_fact();
  Unpacker in(bytes);
  FactLine line;
  line.when = TimePoint(Duration(in.number(kMostTime)));
  line.name = in.text(kMostName);
  line.id = in.text(kMostValue);
  while (!in.done() && line.fields.size() < kMostFields) {
    const auto key = in.text(kMostName);
    const auto value = in.text(kMostValue);
    if (key.empty())  // also once something was wrong
      return damaged_fact();
    line.fields.emplace_back(key, value);
  }
  if (!in.done() || line.name.empty())
    return damaged_fact();
  return line;
}

}  // namespace postrider::queue
