#include "mail/trace_parent.h"

#include <catch2/catch.hpp>

#include <string>

using namespace postrider::mail;

namespace {

const std::string kGood = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

}  // namespace

TEST_CASE("a traceparent is checked as W3C has it", "[mail]") {
  CHECK(is_trace_parent(kGood));
  CHECK(is_trace_parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff"));
  for (const std::string& wrong :
       {std::string(),
        std::string("00"),
        std::string(55, '0'),
        std::string(55, '-'),
        std::string("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
        std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0G"),
        std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A"),
        std::string("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
        std::string("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
        std::string("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        std::string("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        std::string("00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01"),
        std::string("00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        kGood + "-x",
        kGood + " ",
        " " + kGood,
        kGood.substr(0, 54),
        kGood + kGood,
        "\"}" + kGood.substr(2),
        kGood.substr(0, 10) + '\0' + kGood.substr(11),
        kGood.substr(0, 53) + "\r\n"}) {
    CAPTURE(wrong);
    CHECK_FALSE(is_trace_parent(wrong));
  }
}

TEST_CASE("a header section has a traceparent if it stands there once and is right", "[mail]") {
  const std::string above = "Received: x\r\n y\r\nSubject: traceparent: " + kGood + "\r\n";
  for (const std::string& field :
       {"traceparent: " + kGood, "TraceParent:" + kGood, "traceparent:\t " + kGood + " \t"}) {
    CAPTURE(field);
    CHECK(trace_parent_of(above + field + "\r\nTo: a@b.test\r\n\r\n") == kGood);
    CHECK(trace_parent_of(field + "\n\nbody") == kGood);
    CHECK(trace_parent_of(field) == kGood);
  }
  const auto field = "traceparent: " + kGood + "\r\n";
  for (const std::string& section :
       {above, std::string(), field + field, field + "X: y\r\n" + field,
        field + "traceparent: other\r\n", "traceparent: other\r\n" + field,
        "traceparent: " + kGood + "\r\n \r\n", "traceparent: " + kGood + "\r\n more\r\n",
        "traceparent:\r\n " + kGood + "\r\n", "traceparent: " + kGood + "," + kGood + "\r\n",
        "x-traceparent: " + kGood + "\r\n", "traceparents: " + kGood + "\r\n",
        "tracestate: " + kGood + "\r\n", "\r\n" + field, "no field\r\n" + field}) {
    CAPTURE(section);
    CHECK(trace_parent_of(section + "\r\n").empty());
  }
}
