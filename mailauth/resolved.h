// What a resolver has found, as an Answer. The resolver's own types are not known here: `found` has a
// status of records, no_data, no_such_name or temporary_failure, the records, and a reason of failure.
#pragma once

#include "mailauth/asking.h"

namespace postrider::mailauth {

// take(answer, record) adds one record.
template <class Found, class Take>
Answer resolved(const Found& found, Take take) {
  using Status = decltype(found.status);
  switch (found.status) {
    case Status::records:
      break;
    case Status::no_data:
      return Answer::none(Answer::Status::no_data);
    case Status::no_such_name:
      return Answer::none(Answer::Status::no_name);
    case Status::temporary_failure:
      return Answer::failure(found.reason);
  }
  Answer answer;
  answer.status = Answer::Status::found;
  for (const auto& record : found.records)
    take(answer, record);
  return answer;
}

inline void take_text(Answer& answer, const std::string& text) {
  answer.texts.push_back(text);
}

}  // namespace postrider::mailauth
