#include "mailauth/signer.h"

#include "base/assert.h"
#include "mailauth/authors.h"
#include "mailauth/message_hasher.h"

#include <algorithm>

namespace postrider::mailauth {

namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words)
    out.append(out.empty() ? "" : " ").append(word);
  return out;
}

}  // namespace

const std::vector<SigningKey>* Signer::keys_for(std::string_view domain) const {
  for (;;) {
    const auto place = keys_.find(domain);
    if (place != keys_.end())
      return &place->second;
    const auto dot = domain.find('.');
    if (dot == std::string_view::npos)
      return nullptr;
    domain.remove_prefix(dot + 1);
  }
}

// Of each domain in From that has any, once.
std::vector<const std::vector<SigningKey>*> Signer::keys_of(const HeaderIndex& header) const {
  std::vector<const std::vector<SigningKey>*> found;
  if (keys_.empty())
    return found;
  for (const auto& author : read_authors(header).domains) {
    const auto* keys = keys_for(author);
    if (keys != nullptr && std::find(found.begin(), found.end(), keys) == found.end())
      found.push_back(keys);
  }
  return found;
}

bool Signer::has_key_for(std::string_view header) const {
  return !keys_of(HeaderIndex(header)).empty();
}

Result<Signer::Signed> Signer::sign(std::string_view header, std::string_view body_digest,
                                    TimePoint now) const {
  const HeaderIndex index(header);
  std::vector<SigningKey> keys;
  for (const auto* of_domain : keys_of(index))
    keys.insert(keys.end(), of_domain->begin(), of_domain->end());
  Signed done;
  if (keys.empty())
    return done;
  auto fields = sign_dkim(index, body_digest, keys, options_, now);
  if (!fields && fields.error().code() == Errc::refused) {
    done.why_not = fields.error().step();
    return done;
  }
  if (!fields)
    return fields.error();
  done.fields = *std::move(fields);
  for (const auto& key : keys)
    done.by.push_back(key.domain + "/" + key.selector);
  return done;
}

std::shared_ptr<const mail::Message> with_fields_on_top(const mail::Message& message,
                                                        std::string_view fields) {
  auto copy = std::make_shared<mail::Message>(message);
  copy->content.trace.insert(0, fields);
  return copy;
}

void log_signing(Log& log, mail::MessageId id, const Signer::Signed& about) {
  if (!about.why_not.empty())
    log.write(LogEvent(Level::warn, "not_signed", to_string(id)).add("reason", about.why_not));
  else if (!about.by.empty() && log.enabled(Level::debug))
    log.write(LogEvent(Level::debug, "signed", to_string(id)).add("by", joined(about.by)));
}

void sign_own(const LiveSigner& live, std::shared_ptr<const mail::Message>& message, Log& log,
              TimePoint now) {
  const auto signer = live.now_for(SigningRole::notices);
  if (!signer)
    return;
  POSTRIDER_ASSERT(message->content.bytes != nullptr);
  MessageHasher hasher({.body = signer->body_form()});
  hasher.feed(message->content.trace);
  hasher.feed(*message->content.bytes);
  hasher.finish();
  if (hasher.header().too_large())
    return;
  const auto about = signer->sign(hasher.header_section(), hasher.body_digest(), now);
  if (!about) {
    log.write(LogEvent(Level::error, "not_signed", to_string(message->id))
                  .add("reason", about.error().describe()));
    return;
  }
  log_signing(log, message->id, *about);
  if (!about->fields.empty())
    message = with_fields_on_top(*message, about->fields);
}

}  // namespace postrider::mailauth
