// What every program does with the three descriptors that it was started with.
#pragma once

#include <string_view>

namespace postrider {

// At the start of a program: descriptors 0, 1 and 2 that were closed are made to fail, for no file
// or socket that is opened later to be taken for one of them.
void guard_standard_streams();

// At the end of a program that prints through stdio: the exit code, or 74 where standard output has
// not taken all of it and it would be 0. Standard error hears why, unless a reader went away.
int end_standard_output(std::string_view program, int exit_code);

}  // namespace postrider
