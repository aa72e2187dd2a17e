// Cuts what comes from a socket into whole TLS records. OpenSSL keeps a buffer of 17 KiB for any
// part of a record, and far more from a client's first octet on; here a part costs the octets that
// have come. One thread at a time.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace postrider {

class TlsRecords {
 public:
  // begun: octets that were read before.
  explicit TlsRecords(std::string begun = {}) : kept_(std::move(begun)) {}

  // Both end as recv(2) does: 0 is the end of the connection, -1 an error or EAGAIN, with errno.
  //
  // Waits in `kept` until a record is whole: then more than 0.
  ssize_t collect(int socket);
  // Octets of whole records. What is no record at all is passed on as it comes.
  ssize_t read(int socket, char* room, std::size_t size);

  // Of memory.
  std::size_t octets() const { return kept_.capacity() > kInline ? kept_.capacity() : 0; }

 private:
  static constexpr std::size_t kInline = 32;  // what a string has room for in itself, at most

  // Of octets that begin with a record.
  struct Found {
    std::size_t whole = 0;    // octets of records of which everything is there
    std::size_t missing = 0;  // of the next one, as far as it is known
  };
  Found look(std::string_view bytes);
  void keep(std::string_view bytes, std::size_t missing);
  std::size_t give(char* room, std::size_t size);

  std::string kept_;
  std::size_t ready_ = 0;  // of these, octets of whole records
  bool is_first_ = true;
  bool are_records_ = true;
};

}  // namespace postrider
