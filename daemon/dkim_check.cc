// `postrider dkim check`: the records in the DNS beside the keys that sign.
#include "daemon/dkim_check.h"

#include "base/base64.h"
#include "base/net/loop.h"
#include "base/quoted.h"
#include "base/random.h"
#include "base/text.h"
#include "daemon/config/config_file.h"
#include "daemon/daemon.h"
#include "daemon/privsep/privileges.h"
#include "daemon/settings.h"
#include "daemon/signing/signing_keys.h"
#include "dns/stub_resolver.h"
#include "mail/address.h"
#include "mailauth/key_record.h"

#include <algorithm>
#include <sysexits.h>
#include <unistd.h>

namespace postrider::daemon {

namespace {

// Those that are asked about side by side.
constexpr std::size_t kAtOnce = 20;

using Finding = DkimRecordFinding;

Finding compare(const mailauth::PrivateKey& key, const std::string& text) {
  const auto record = mailauth::parse_key_record(text);
  if (!record)
    return {"the record is of no use: " + record.error().step(), EX_DATAERR};
  if (record->is_revoked())
    return {"the record says that the key is revoked", EX_DATAERR};
  const auto own = decode_base64(key.public_data());
  if (record->type != key.type() || !own || record->key != *own)
    return {"the record holds another key", EX_DATAERR};
  if (!record->allows_email || !record->allows_sha256)
    return {"the record does not allow the key to sign mail with SHA-256", EX_DATAERR};
  if (record->testing)
    return {"ok, but the record says that this is a test (t=y)", EX_OK};
  return {"ok", EX_OK};
}

struct Question {
  const mailauth::SigningKey* key;
  Finding finding;
};

// All that are left, one after the other; several of these run side by side.
Task<void> ask(Loop* loop, dns::Resolver* resolver, std::vector<Question>* questions,
               std::size_t* next, std::size_t* running) {
  while (*next < questions->size()) {
    auto& question = (*questions)[(*next)++];
    const auto& key = *question.key;
    const auto name = mailauth::key_name(key.selector, key.domain);
    const auto answer = co_await resolver->txt(name.value_or(std::string()));
    question.finding = judge_dkim_record(key.key, answer);
  }
  if (--*running == 0)
    loop->stop();
}

void ask_all(const Config& config, std::vector<Question>& questions) {
  NullLog log;
  SystemRandom random;
  Loop loop(0);
  dns::StubResolver resolver(loop, resolver_settings(config.dns), log, random);
  std::size_t next = 0;
  std::size_t running = std::min(kAtOnce, questions.size());
  for (std::size_t i = running; i > 0; --i)
    loop.spawn(ask(&loop, &resolver, &questions, &next, &running), log, "dkim check");
  loop.run();
}

// Without keys in the configuration, those that `postrider dkim new` makes.
Config with_folder(const Loaded& loaded) {
  auto config = *loaded.config;
  if (!config.dkim.is_used())
    config.dkim.folder = loaded.file.substr(0, loaded.file.rfind('/') + 1) + "dkim";
  return config;
}

}  // namespace

DkimRecordFinding judge_dkim_record(const mailauth::PrivateKey& key,
                                    const dns::Answer<std::string>& answer) {
  using dns::Status;
  if (answer.status == Status::temporary_failure)
    return {"the DNS gives no answer: " + escaped(answer.reason), EX_TEMPFAIL};
  if (answer.status != Status::records)
    return {"there is no record; `postrider dkim record` prints it", EX_DATAERR};
  // RFC 6376 §3.6.2.2: what then happens is open.
  if (answer.records.size() > 1)
    return {"there are " + std::to_string(answer.records.size()) + " records; expected one",
            EX_DATAERR};
  return compare(key, answer.records.front());
}

Report check_dkim_records(const Options& options, const std::string& domain) {
  const auto path = config_path(options);
  auto loaded = ::access(path.c_str(), F_OK) != 0 && options.config_file.empty()
                    ? parse_config("", path, this_machine())
                    : load_config(path);
  if (!loaded.config)
    return {loaded.exit_code(), loaded.describe()};
  const auto wanted = domain.empty() ? Result<std::string>(domain) : mail::to_ascii_domain(domain);
  if (!wanted)
    return {EX_DATAERR, quote_value(domain) + " is not a domain\n"};
  const auto config = with_folder(loaded);
  auto keys = load_signing_keys(config, loaded.origins);
  loaded.problems = std::move(keys.problems);
  if (!loaded.problems.empty())
    return {loaded.exit_code(), loaded.describe()};
  std::vector<Question> questions;
  if (keys.signer)
    for (const auto& [of, some] : keys.signer->keys())
      for (const auto& key : some)
        if (wanted->empty() || of == *wanted)
          questions.push_back({&key, {}});
  if (questions.empty())
    return {EX_NOINPUT,
            wanted->empty() ? "there is no key\n" : "there is no key of " + *wanted + "\n"};
  if (const auto given_up = give_up_root(config.user); !given_up)
    return {EX_NOUSER, "user: " + given_up.error().describe() + "\n"};
  ask_all(config, questions);
  Report report;
  for (const auto& question : questions) {
    const auto& key = *question.key;
    report.text +=
        *mailauth::key_name(key.selector, key.domain) + ": " + question.finding.text + "\n";
    // What is known to be wrong counts more than what nobody could tell.
    if (question.finding.code == EX_DATAERR || report.exit_code == EX_OK)
      report.exit_code = question.finding.code;
  }
  return report;
}

}  // namespace postrider::daemon
