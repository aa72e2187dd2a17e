// What the tools write: whole pieces to standard output, sentences to standard error, and values in
// the form that people read. What has been outside, in a file, on a socket or in the DNS, may hold
// what steers a terminal: complain() and print() show that escaped, whatever they are given.
#pragma once

#include "base/result.h"
#include "base/time.h"

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace postrider::cli {

// "postrider queue: sentence" on standard error; gives the exit code back.
int complain(std::string_view program, int exit_code, std::string_view sentence);

// An error as one: for people, what is wrong with their input is said by its step alone.
std::string sentence(const Error& error);

// False when standard output takes no more: nobody reads it, or its disk is full. end_output() says so.
bool print(std::string_view text);
// The same for whole lines that people look at: on a terminal as wide as that is, with its colours
// (NO_COLOR).
bool print_view(std::string_view text);
// For programs that read, octet by octet: never what a terminal would show.
bool print_raw(std::string_view octets);
// What may be lost without harm, behind work that is done: failing changes no exit code.
void print_aside(std::string_view program, std::string_view text);

// At its end. If not all that was printed has been taken, says so on standard error, unless the
// reader went away, and gives EX_IOERR instead of EX_OK.
int end_output(std::string_view program, int exit_code);

// The object in a line, also for readers to whom U+2028 and U+2029 end one (JavaScript, Python),
// and for terminals.
std::string json_line(const boost::json::object& object);

bool standard_error_is_terminal();

// Members of lines from the daemon, which may be of another version: never throws, a missing
// member is empty.
std::string text_of(const boost::json::object& object, std::string_view name);  // escaped
std::string raw_text_of(const boost::json::object& object, std::string_view name);
std::int64_t number_of(const boost::json::object& object, std::string_view name);
bool flag_of(const boost::json::object& object, std::string_view name);
const boost::json::object* object_of(const boost::json::object& object, std::string_view name);
const boost::json::array* array_of(const boost::json::object& object, std::string_view name);

std::string local_time(std::int64_t seconds);                  // "2026-11-23 13:34:44"
std::string short_span(std::int64_t seconds);                  // "3d4h", "2h5m", "40s"
std::string short_size(std::uint64_t bytes);                   // "4.0K", "12M"
std::string counted(std::uint64_t count, const char* thing);   // "1 message", "2 messages"
std::string padded(std::string_view text, std::size_t width);  // on the right

}  // namespace postrider::cli
