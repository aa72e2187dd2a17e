#include "daemon/privsep/capabilities.h"

#include <array>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

using Sets = std::array<__user_cap_data_struct, 2>;

Result<Sets> read_sets() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  Sets sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0)
    return system_error("read capabilities");
  return sets;
}

}  // namespace

std::uint64_t effective_capabilities() {
  const auto sets = read_sets();
  return sets ? (*sets)[0].effective | std::uint64_t{(*sets)[1].effective} << 32U : 0;
}

void drop_for_ever_but(std::uint64_t ever) {
  for (unsigned number = 0; number < 64; ++number)
    if ((ever & capability(number)) == 0)
      (void)::prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
}

Result<void> keep_only(std::uint64_t capabilities, std::uint64_t ever) {
  drop_for_ever_but(ever);
  (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  Sets sets{};
  sets[0].permitted = sets[0].effective = static_cast<std::uint32_t>(capabilities);
  sets[1].permitted = sets[1].effective = static_cast<std::uint32_t>(capabilities >> 32U);
  if (::syscall(SYS_capset, &header, sets.data()) != 0)
    return system_error("give up capabilities");
  return {};
}

}  // namespace postrider::daemon
