// The privileged parent of every local delivery: a process that is forked before the daemon has
// read a byte from outside, keeps the rights to bind and to become a user, and uses them only as
// daemon/privsep/parent_checks.h allows.
//
//   postrider run (the daemon: no rights, sandboxed) ==socketpair== parent --fork--> child
//                                                        |                            |
//                                    CAP_SETUID, CAP_SETGID, CAP_NET_BIND_SERVICE     the user
//
// Each delivery, and each look at a .forward, has its own short-lived child that has become the
// user before it reads anything. So has each command that prints an access token: as the daemon's
// user, by the credentials file that the configuration names, which the child reads itself. What
// a child is ordered to do it looks up again itself, and it ends when who asked no longer wants to
// know. Started without root, the same happens without any change of user.
//
// Of a delivery nothing is left when its child has ended: what a command started becomes a child
// of the parent then, and is killed, by a process of that user or as a whole control group.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "daemon/privsep/command_groups.h"
#include "daemon/privsep/parent_checks.h"

#include <chrono>
#include <sys/types.h>

namespace postrider::daemon {

struct ParentLink {
  FileDescriptor socket;
  FileDescriptor pam;  // to postrider-pam: smtpd/auth/pam_helper.h
  pid_t pid = 0;
  bool may_become_users = false;
};
// Forks it. Requires that this process has one thread. own: the daemon's user, whom the parent
// becomes too, apart from its three capabilities; without one, or without the rights, it stays as
// it is and becomes nobody. It ends when the daemon's end of the socket does.
Result<ParentLink> fork_parent(ParentRules rules, const Account* own);

// How long a child may live, whoever waits for it: the jobs' own limits are shorter.
std::chrono::seconds longest_life(const ParentRules& rules);
// parent_child.cc. For good: the user, the user's group and at most one further, no capability.
Result<void> become(const ParentRules& rules, const Account& account, gid_t further);
// In a process that ends what is the user's. The kernel goes by the effective user for whom we may
// signal, and by the real and the saved one for who may signal us: only the effective one becomes
// the user's. Without rights it does nothing.
Result<void> act_against(const ParentRules& rules, const Account& account);
// In the child, which it ends. What may run a command has a group of `groups`, if there are any, by
// the number of this process, which the parent removes.
[[noreturn]] void run_child(const ParentRules& rules, const CommandGroups& groups,
                            const ParentRequest& request, const Account& account,
                            std::array<FileDescriptor, 3> descriptors);
// Sends an answer; what cannot be sent is lost with who asked.
void answer(int socket, ParentAnswer kind, const Error& error, std::string_view bytes);
// `refused` or `failed`, with the code as it is: an Errc stays one.
void answer_error(int socket, const Error& error);

}  // namespace postrider::daemon
