// Carries out what a milter wants done to a message (pure).
#pragma once

#include "mail/envelope.h"
#include "smtpd/filter/milter_protocol.h"

#include <string>
#include <string_view>
#include <vector>

namespace postrider::smtpd::filter::milter {

// The fields of a message: those on top of our Received field, which is not among them, and those
// below it. Of whole lines with CRLF. The milter has seen them all, in this order.
struct Fields {
  std::string on_top;
  std::string section;
};

// Indexes count as milters have always counted them: to insert, the place in the list in which our
// Received field stands between `on_top` and `section`, the first being 0, and a place beyond the
// end is the end; to change, the n-th of that name from 1. A value of nothing deletes; a field to
// be changed that is not there is added at the end. Line ends within a value become folds, so that
// no value can be more than one field. leading_space: values have their own.
// Fails, with nothing changed, if a name cannot be one.
Result<void> apply_header_edits(const std::vector<Edit>& edits, bool leading_space, Fields& fields);

struct AddressRules {
  std::size_t most_recipients = 1000;
  bool smtputf8 = true;
  std::string_view origin = {};  // completes addresses without a domain
};
// Who is there already is not added again, who is not there is not missed. Fails, with nothing
// changed, if an address or its parameters cannot stand in MAIL or RCPT, or recipients are too
// many.
Result<void> apply_envelope_edits(const std::vector<Edit>& edits, const AddressRules& rules,
                                  mail::Envelope& envelope);

}  // namespace postrider::smtpd::filter::milter
