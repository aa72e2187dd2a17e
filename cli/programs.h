// The programs behind one binary, chosen by the name it was called with. Each gives an exit code of
// sysexits.h and says on standard error, in a sentence, why it is not 0.
#pragma once

#include "daemon/daemon.h"

#include <string_view>

namespace postrider::cli {

int postrider_main(int argc, char** argv);
int sendmail_main(int argc, char** argv);
int mailq_main(int argc, char** argv);
int newaliases_main(int argc, char** argv);

// What newaliases and `sendmail -bi` do.
int check_aliases(const daemon::Options& options);

// By the last part of the path in argv[0].
int dispatch(int argc, char** argv);

}  // namespace postrider::cli
