// Places at which bpftrace, perf and SystemTap can look into a running daemon (USDT probes of the
// provider "postrider"; doc/monitoring.md lists them). While nobody looks each is one nop, so give
// them what is at hand: numbers, and pointers to octets that live at that moment. Names are an
// interface. Sources with probes are named by probed() in their CMakeLists.txt; without sys/sdt.h
// the macros are nothing, and evaluate nothing.
#pragma once

#ifdef POSTRIDER_PROBES
#include <sys/sdt.h>

#define POSTRIDER_PROBE1(name, a) DTRACE_PROBE1(postrider, name, a)
#define POSTRIDER_PROBE2(name, a, b) DTRACE_PROBE2(postrider, name, a, b)
#define POSTRIDER_PROBE3(name, a, b, c) DTRACE_PROBE3(postrider, name, a, b, c)
#define POSTRIDER_PROBE4(name, a, b, c, d) DTRACE_PROBE4(postrider, name, a, b, c, d)
#else
#define POSTRIDER_PROBE1(name, a) static_cast<void>(sizeof(a))
#define POSTRIDER_PROBE2(name, a, b) static_cast<void>(sizeof(a) + sizeof(b))
#define POSTRIDER_PROBE3(name, a, b, c) static_cast<void>(sizeof(a) + sizeof(b) + sizeof(c))
#define POSTRIDER_PROBE4(name, a, b, c, d) \
  static_cast<void>(sizeof(a) + sizeof(b) + sizeof(c) + sizeof(d))
#endif
