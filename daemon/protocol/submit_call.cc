#include "daemon/protocol/submit_call.h"

#include "daemon/protocol/control_client.h"

namespace postrider::daemon {

namespace {

constexpr Duration kSubmitPatience{60000}, kRefusalPatience{1000};

}  // namespace

Result<SubmitAnswer> submit_for(const std::string& path, const SubmitHeader& header,
                                std::string_view content) {
  constexpr std::size_t kMostAnswer = 64U << 10U;
  auto connection = LocalConnection::connect(path, kSubmitPatience);
  if (!connection)
    return connection.error();
  connection->set_timeout(kSubmitPatience);
  auto written = connection->write(encode(header));
  if (written)
    written = connection->write(content);
  // One that was refused before it was read has an answer all the same.
  if (!written)
    connection->set_timeout(kRefusalPatience);
  const auto line = connection->read_line(kMostAnswer);
  if (!line)
    return written ? line.error() : written.error();
  return decode_submit_answer(*line);
}

}  // namespace postrider::daemon
