// What the daemon may ask of its privileged parent, and how: one datagram of fixed size, with
// descriptors, over a socketpair. Each request brings the socket for its own answer, so that they
// never wait for each other. The parent looks at nothing but this struct; what comes from outside
// (the delivery, the message) is read by a process that has become the user.
//
// The daemon gives up on an answer by closing its end, which ends the child: the parent kills it,
// stopped or not, for only it knows which process that is.
//
//   verb          descriptors behind the request
//   perform       answer, the encoded LocalJob (a memory file), the body
//   read_forward  answer
//   token         answer
//   bind          answer, the socket to bind
//   reload        answer; it counts when the daemon says `adopt`, and until then for `bind` alone
//   adopt         answer
//   stay          answer: as it was before `reload`
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <sys/socket.h>

namespace postrider::daemon {

enum class ParentVerb : std::uint32_t {
  perform = 1,
  read_forward = 2,
  bind = 3,
  reload = 4,
  token = 5,
  adopt = 6,
  stay = 7,
};

constexpr std::uint32_t kParentMagic = 0x50524432;
constexpr std::size_t kMostParentDescriptors = 3;

struct ParentRequest {
  std::uint32_t magic = kParentMagic;
  ParentVerb verb = ParentVerb::perform;
  std::uint32_t source = 0;        // perform: a delivery::LocalSource
  std::uint32_t address_size = 0;  // bind
  std::array<char, 64> user{};     // login name, NUL behind it; empty: the daemon's own
  // read_forward: ".forward", ".forward+extension"; token: the path of a credentials file
  std::array<char, 1024> name{};
  sockaddr_storage address{};  // bind
};
static_assert(std::is_trivially_copyable_v<ParentRequest>);

// How many descriptors a verb brings; 0 for a verb that does not exist.
constexpr std::size_t descriptors_of(ParentVerb verb) {
  switch (verb) {
    case ParentVerb::perform:
      return 3;
    case ParentVerb::bind:
      return 2;
    case ParentVerb::read_forward:
    case ParentVerb::reload:
    case ParentVerb::adopt:
    case ParentVerb::stay:
    case ParentVerb::token:
      return 1;
  }
  return 0;
}

// The answer: this, then `size` octets.
enum class ParentAnswer : std::uint32_t {
  outcome = 1,       // perform: an encoded mail::Outcome
  text = 2,          // read_forward: the file; token: what its command printed
  nothing = 3,       // read_forward: there is no file; bind, reload: done
  refused = 4,       // a text: the parent's rules, or the user's file, do not allow it
  helper_ended = 6,  // unasked, over the daemon's own socket; `number` is the status of wait(2)
  failed = 5,        // a text; `number` is the errno, or with `is_ours` an Errc
};
struct ParentReply {
  std::uint32_t magic = kParentMagic;
  ParentAnswer answer = ParentAnswer::failed;
  std::int32_t number = 0;
  std::uint32_t is_ours = 0;
  std::uint32_t size = 0;
};
constexpr std::size_t kMostParentAnswer = 128U << 10U;

}  // namespace postrider::daemon
