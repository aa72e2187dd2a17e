// Ways into the file system that a mailbox's owner, or a name from outside, cannot bend.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "delivery/local/agents/local_target.h"
#include "mail/outcome.h"

#include <string>

namespace postrider::delivery {

// A decision about this delivery, stage `local`.
mail::Outcome local_end(mail::Verdict verdict, mail::EnhancedCode status, std::string text);
// A failure of the file system: always to be tried again; 4.2.2 where it is about space.
mail::Outcome local_failure(const Error& error);

// The folder of target.place (all of it, or all but the last component): target.root as a plain
// path, made if need be, then each component made with mode 0700 and never followed if it is a
// symbolic link. "." and ".." are refused.
Result<FileDescriptor> enter_place(const LocalTarget& target, bool whole);
// The last component of target.place.
std::string last_component(const LocalTarget& target);
// One folder below another, made if need be.
Result<FileDescriptor> enter_folder(const FileDescriptor& parent, const std::string& name);

}  // namespace postrider::delivery
