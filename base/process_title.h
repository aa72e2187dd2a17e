// What `ps` and `systemctl status` show as the command line of this process.
#pragma once

#include <string_view>

namespace postrider {

// Takes the place of the arguments that it was started with, as far as there is room; leaves them
// alone where they cannot be found. Children have it too, until they say otherwise. While the process
// has one thread.
void set_process_title(std::string_view title);

}  // namespace postrider
