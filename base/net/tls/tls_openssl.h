// Small helpers around OpenSSL, shared by base/tls_*.cc only.
#pragma once

#include "base/result.h"

#include <cstddef>
#include <string>

struct x509_st;

namespace postrider {

// The oldest error that this thread's OpenSSL remembers, in its words, as the innermost step.
std::string tls_reason();
Error tls_error(const std::string& step);

std::string common_name(const x509_st& certificate);         // of the subject; raw, may be empty
std::string certificate_digest(const x509_st& certificate);  // SHA-256, lower-case hex
std::string public_key_digest(const x509_st& certificate);   // of the SubjectPublicKeyInfo
// RFC 5929 §4.1: raw octets; Errc::unsupported where its signature has no single hash.
Result<std::string> binding_digest(const x509_st& certificate);
// About what OpenSSL keeps for it in memory, rather more: many times its encoded size, where a peer has made it of
// very many small parts.
std::size_t octets_in_memory(const x509_st& certificate);

}  // namespace postrider
