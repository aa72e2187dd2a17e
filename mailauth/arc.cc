#include "mailauth/arc.h"

#include "base/base64.h"
#include "mailauth/signature_check.h"
#include "mailauth/signature_writer.h"
#include "mailauth/tag_list.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace postrider::mailauth {

namespace {

constexpr std::string_view kResults = "ARC-Authentication-Results";
constexpr std::string_view kMessage = "ARC-Message-Signature";
constexpr std::string_view kSeal = "ARC-Seal";

std::string in_set(std::string_view what, std::size_t instance) {
  return std::string(what) + " in set " + std::to_string(instance);
}

// "i=2; ..." (§4.1.1)
std::optional<unsigned> instance_of_results(std::string_view value) {
  const auto first = value.substr(0, value.find(';'));
  const auto equals = first.find('=');
  if (first.size() == value.size() || equals == first.npos ||
      trim_white_space(first.substr(0, equals)) != "i")
    return std::nullopt;
  return parse_instance(trim_white_space(first.substr(equals + 1)));
}

// Collects the fields of a header into sets.
class ChainReader {
 public:
  ChainReader(const HeaderIndex& header, ArcChain& chain) : header_(header), chain_(chain) {}

  void read() {
    for (const auto name : {kResults, kMessage, kSeal})
      if (header_.named(name).size() > kMostArcSets)
        return fault("more than 50 sets");
    for (const auto place : header_.named(kResults))
      add_results(place);
    for (const auto place : header_.named(kMessage))
      add_signature(place, SignatureKind::arc_message);
    for (const auto place : header_.named(kSeal))
      add_signature(place, SignatureKind::arc_seal);
    if (!chain_.sets.empty())
      judge();
  }

 private:
  void fault(std::string text) {
    if (chain_.fault.empty())
      chain_.fault = std::move(text);
  }

  ArcSet& set(unsigned instance) {
    if (chain_.sets.size() < instance)
      chain_.sets.resize(instance);
    return chain_.sets[instance - 1];
  }

  void keep(std::optional<std::size_t>& slot, std::size_t place, std::string_view name,
            unsigned instance) {
    if (slot)
      fault(in_set("two " + std::string(name), instance));
    slot = place;
  }

  void add_results(std::size_t place) {
    const auto instance = instance_of_results(header_.fields()[place].value);
    if (!instance)
      return fault("results without an instance");
    keep(set(*instance).results_place, place, kResults, *instance);
  }

  void add_signature(std::size_t place, SignatureKind kind) {
    auto signature = parse_signature(header_.fields()[place].value, kind);
    const bool is_seal = kind == SignatureKind::arc_seal;
    if (signature.instance == 0)
      return fault(is_seal ? "seal without an instance" : "message signature without an instance");
    const auto instance = signature.instance;
    auto& own = set(instance);
    keep(is_seal ? own.seal_place : own.message_place, place, is_seal ? kSeal : kMessage, instance);
    (is_seal ? own.seal : own.message) = std::move(signature);
  }

  void judge() {
    if (chain_.has_ended())
      return fault("the chain had failed before");
    for (std::size_t i = 0; i < chain_.sets.size(); ++i) {
      const auto& own = chain_.sets[i];
      if (!own.results_place || !own.message_place || !own.seal_place)
        return fault(in_set("a field is missing", i + 1));
      if (!own.message.fault.empty())
        return fault(in_set("message signature: " + own.message.fault, i + 1));
      if (!own.seal.fault.empty())
        return fault(in_set("seal: " + own.seal.fault, i + 1));
      if (own.seal.chain_state != (i == 0 ? "none" : "pass"))
        return fault(in_set("cv=" + own.seal.chain_state, i + 1));
    }
  }

  const HeaderIndex& header_;
  ArcChain& chain_;
};

// A set's fields as a seal covers them (§5.1.1): relaxed, results first.
void hash_set(const HeaderIndex& header, const ArcSet& set, bool with_seal, Sha256& hash) {
  std::string canonical;
  append_canonical(Form::relaxed, header.fields()[*set.results_place], canonical);
  append_canonical(Form::relaxed, header.fields()[*set.message_place], canonical);
  if (with_seal)
    append_canonical(Form::relaxed, header.fields()[*set.seal_place], canonical);
  hash.update(canonical);
}

void settle(ChainReport& report, const KeyCheck& check, const std::string& what) {
  if (check.result == SignatureResult::pass || report.result == ChainResult::fail)
    return;
  report.result =
      check.result == SignatureResult::temperror ? ChainResult::temperror : ChainResult::fail;
  report.reason = what + ": " + check.reason;
}

std::string_view chain_state(const ChainReport& chain) {
  return chain.result == ChainResult::none   ? "none"
         : chain.result == ChainResult::pass ? "pass"
                                             : "fail";
}

std::string seconds_text(TimePoint when) {
  return std::to_string(std::chrono::floor<std::chrono::seconds>(when).time_since_epoch().count());
}

Error refused(std::string why) {
  return Error(Errc::refused, std::move(why));
}

Result<std::string> message_signature(const HeaderIndex& header, unsigned instance,
                                      std::string_view body_digest, const SigningKey& key,
                                      const SigningNames& names, const SigningOptions& options,
                                      TimePoint now) {
  auto fields = names_to_sign(header, options);
  if (!fields)
    return fields.error();
  const auto signatures = header.named("DKIM-Signature").size();
  fields->insert(fields->end(), std::min(signatures, kMostSignedNames), "DKIM-Signature");
  SignatureWriter field(kMessage);
  field.put("i", std::to_string(instance));
  field.put("a", algorithm_of(key.key.type()));
  field.put_forms(options.header_form, options.body_form);
  field.put("d", names.domain);
  field.put("s", names.selector);
  field.put("t", seconds_text(now));
  field.put_names(*fields);
  field.put("bh", encode_base64(body_digest));
  return std::move(field).sign(key.key, options.header_form,
                               hash_of_fields(header, options.header_form, *fields));
}

// What a new seal covers of the message: the sets before it, unless the chain has failed.
Sha256 hash_of_chain(const HeaderIndex& header, const ArcChain& chain, const ChainReport& report) {
  Sha256 hash;
  if (report.result == ChainResult::pass)
    for (const auto& set : chain.sets)
      hash_set(header, set, true, hash);
  return hash;
}

std::optional<Error> fault_before_seal(const HeaderIndex& header, const ArcChain& chain,
                                       const ChainReport& report) {
  if (header.too_large())
    return refused("header section too large");
  if (header.named("From").size() != 1)
    return refused("not exactly one From field");
  if (report.result == ChainResult::temperror)
    return refused("the chain could not be verified");
  if (chain.has_ended())
    return refused("the chain had failed before");
  if (chain.sets.size() >= kMostArcSets || chain.fault == "more than 50 sets")
    return refused("the chain has 50 sets");
  if (report.sets != chain.sets.size() || (report.result == ChainResult::none) != chain.empty())
    return refused("the chain is not the one that was verified");
  return std::nullopt;
}

}  // namespace

std::string_view to_string(ChainResult result) {
  switch (result) {
    case ChainResult::none:
      return "none";
    case ChainResult::pass:
      return "pass";
    case ChainResult::fail:
      return "fail";
    case ChainResult::temperror:
      break;
  }
  return "temperror";
}

ArcChain read_arc_chain(const HeaderIndex& header) {
  ArcChain chain;
  ChainReader(header, chain).read();
  return chain;
}

ArcVerifier::ArcVerifier(const HeaderIndex& header, BodyHashes& bodies, bool find_oldest_pass)
    : header_(header),
      bodies_(bodies),
      chain_(read_arc_chain(header)),
      find_oldest_pass_(find_oldest_pass) {
  if (!chain_.fault.empty())
    return;
  for (const auto& set : chain_.sets)
    body_ids_.push_back(bodies.add(set.message.body_form, set.message.length));
}

Asking<KeyCheck> ArcVerifier::check_message(std::size_t index, TimePoint now) const {
  const auto& set = chain_.sets[index];
  const auto& signature = set.message;
  SignatureReport report;
  check_time_and_body(signature, bodies_, body_ids_[index], now, report);
  if (report.result == SignatureResult::none && signature.length &&
      *signature.length < bodies_.canonical_size(body_ids_[index])) {
    report.result = SignatureResult::policy;
    report.reason = "the end of the body is not signed (l=)";
  }
  if (report.result != SignatureResult::none)
    co_return KeyCheck{report.result, report.reason};
  co_return co_await check_with_key(signature,
                                    header_digest(header_, *set.message_place, signature));
}

// The digests that the seals sign, in one walk over the chain.
std::vector<std::string> ArcVerifier::seal_digests() const {
  std::vector<std::string> digests;
  Sha256 hash;
  for (const auto& set : chain_.sets) {
    hash_set(header_, set, false, hash);
    auto with_own = hash;
    const auto& own = header_.fields()[*set.seal_place];
    with_own.update(own_field_input(Form::relaxed, own, set.seal));
    digests.push_back(with_own.digest());
    std::string canonical;
    append_canonical(Form::relaxed, own, canonical);
    hash.update(canonical);
  }
  return digests;
}

Asking<unsigned> ArcVerifier::oldest_pass(TimePoint now) const {
  auto oldest = chain_.sets.size();
  while (oldest > 1) {
    const auto check = co_await check_message(oldest - 2, now);
    if (check.result != SignatureResult::pass)
      break;
    --oldest;
  }
  co_return static_cast<unsigned>(oldest);
}

Asking<ChainReport> ArcVerifier::verify(TimePoint now) const {
  ChainReport report;
  report.sets = chain_.sets.size();
  for (const auto& set : chain_.sets)
    report.sealers.push_back(set.seal.domain);
  if (chain_.empty())
    co_return report;
  if (!chain_.fault.empty()) {
    report.result = ChainResult::fail;
    report.reason = chain_.fault;
    co_return report;
  }
  const auto newest = chain_.sets.size();
  const auto digests = seal_digests();
  report.result = ChainResult::pass;
  std::vector<Asking<KeyCheck>> first;
  first.push_back(check_message(newest - 1, now));
  first.push_back(check_with_key(chain_.sets[newest - 1].seal, digests[newest - 1]));
  const auto firsts = co_await all(std::move(first));
  settle(report, firsts[0], in_set("message signature", newest));
  settle(report, firsts[1], in_set("seal", newest));
  if (report.result != ChainResult::pass)
    co_return report;
  std::vector<Asking<KeyCheck>> others;
  for (std::size_t i = newest - 1; i > 0; --i)
    others.push_back(check_with_key(chain_.sets[i - 1].seal, digests[i - 1]));
  const auto checks = co_await all(std::move(others));
  for (std::size_t i = 0; i < checks.size(); ++i)
    settle(report, checks[i], in_set("seal", newest - 1 - i));
  if (report.result == ChainResult::pass && find_oldest_pass_)
    report.oldest_pass = co_await oldest_pass(now);
  co_return report;
}

MethodResult arc_result(const ChainReport& report) {
  MethodResult result{"arc", std::string(to_string(report.result))};
  if (report.sets > 0 && report.result != ChainResult::none)
    result.comment = "i=" + std::to_string(report.sets);
  result.reason = report.reason;
  // 0 says that every instance passed (RFC 8617 §7.2).
  if (report.oldest_pass > 0)
    result.properties.push_back({"header", "oldest-pass",
                                 std::to_string(report.oldest_pass == 1 ? 0 : report.oldest_pass)});
  return result;
}

Result<std::string> seal_arc(const HeaderIndex& header, const ChainReport& report,
                             std::string_view body_digest, const SigningKey& key,
                             std::string_view authserv_id, const std::vector<MethodResult>& results,
                             const SigningOptions& options, TimePoint now) {
  const auto chain = read_arc_chain(header);
  if (auto fault = fault_before_seal(header, chain, report))
    return *fault;
  if (body_digest.size() != Sha256::kSize)
    return refused("the body was not hashed");
  if (auto fault = fault_of(key.key, options))
    return *fault;
  const auto names = signing_names(key);
  if (!names)
    return names.error();
  const auto instance = static_cast<unsigned>(chain.sets.size() + 1);
  const auto own_results = arc_authentication_results_field(instance, authserv_id, results);
  const auto message = message_signature(header, instance, body_digest, key, *names, options, now);
  if (!message)
    return message.error();
  auto hash = hash_of_chain(header, chain, report);
  const auto own_set = own_results + *message;
  const HeaderIndex own(own_set);
  std::string canonical;
  for (const auto& field : own.fields())
    append_canonical(Form::relaxed, field, canonical);
  hash.update(canonical);
  SignatureWriter seal(kSeal);
  seal.put("i", std::to_string(instance));
  seal.put("a", algorithm_of(key.key.type()));
  seal.put("t", seconds_text(now));
  seal.put("cv", chain_state(report));
  seal.put("d", names->domain);
  seal.put("s", names->selector);
  auto field = std::move(seal).sign(key.key, Form::relaxed, std::move(hash));
  if (!field)
    return field.error();
  return *field + *message + own_results;
}

}  // namespace postrider::mailauth
