#include "smtpd/filter/milter_edits.h"

#include "base/text.h"
#include "mail/header.h"
#include "mail/rewrite.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <list>
#include <unordered_map>

namespace postrider::smtpd::filter::milter {

namespace {

// RFC 5322 §3.6.8, and short enough to be judged as one wherever headers are read.
bool is_field_name(std::string_view name) {
  return !name.empty() && name.size() <= mail::kMostOfFieldName &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return c > ' ' && c <= '~' && c != ':'; });
}

std::string composed(std::string_view name, std::string_view value, bool leading_space) {
  std::string field(name);
  field += leading_space ? ":" : ": ";
  bool is_first = true;
  std::string line;
  const auto end_line = [&] {
    const bool is_blank = trim(line).empty();
    // A fold of white space alone would end the section for some readers.
    if (is_first || !is_blank) {
      if (!is_first)
        field += line.front() == ' ' || line.front() == '\t' ? "\r\n" : "\r\n\t";
      field += line;
    }
    is_first = false;
    line.clear();
  };
  for (const char c : value) {
    if (c == '\n' || c == '\r')
      end_line();
    else
      line.push_back(c);
  }
  end_line();
  return field + "\r\n";
}

// All fields of a message in their order, found by name in constant time.
class FieldList {
 public:
  explicit FieldList(const Fields& fields) {
    append(fields.on_top);
    received_ = all_.insert(all_.end(), Field{});
    append(fields.section);
  }

  void insert(std::size_t index, std::string_view name, std::string whole) {
    if (index >= all_.size())
      return add(name, std::move(whole));
    const auto key = ascii_lower(name);
    std::size_t same = 0;
    auto at = all_.begin();
    for (; index > 0 && at != all_.end(); --index, ++at)
      same += at->name == key ? 1 : 0;
    const auto field = all_.insert(at, Field{key, std::move(whole)});
    auto& named = by_name_[key];
    named.insert(named.begin() + static_cast<std::ptrdiff_t>(same), field);
  }
  void add(std::string_view name, std::string whole) {
    const auto key = ascii_lower(name);
    by_name_[key].push_back(all_.insert(all_.end(), Field{key, std::move(whole)}));
  }
  // whole: empty to delete.
  void change(std::size_t index, std::string_view name, std::string whole) {
    const auto found = by_name_.find(ascii_lower(name));
    index = std::max<std::size_t>(index, 1) - 1;
    if (found == by_name_.end() || index >= found->second.size()) {
      if (!whole.empty())
        add(name, std::move(whole));
      return;
    }
    auto& named = found->second;
    const auto field = named[index];
    if (!whole.empty()) {
      field->whole = std::move(whole);
      return;
    }
    all_.erase(field);
    named.erase(named.begin() + static_cast<std::ptrdiff_t>(index));
  }

  Fields fields() const {
    Fields fields;
    auto* out = &fields.on_top;
    // Only at the start of a section is it what it is.
    fields.section = mailbox_line_;
    for (auto at = all_.begin(); at != all_.end(); ++at) {
      if (at == received_)
        out = &fields.section;
      *out += at->whole;
    }
    return fields;
  }

 private:
  struct Field {
    std::string name;  // lower case; empty: our Received field
    std::string whole;
  };
  using Place = std::list<Field>::iterator;

  void append(std::string_view section) {
    mail::HeaderScanner scanner(section);
    mail::HeaderField field;
    while (scanner.next(field)) {
      if (mail::field_name(field.whole).empty())
        mailbox_line_ = field.whole;
      else
        add(trim(field.name), std::string(field.whole));
    }
  }

  std::list<Field> all_;
  std::list<Field>::const_iterator received_;
  std::unordered_map<std::string, std::vector<Place>> by_name_;
  std::string mailbox_line_;
};

std::string bracketed(std::string_view address) {
  address = trim(address);
  return address.starts_with('<') ? std::string(address) : "<" + std::string(address) + ">";
}

std::string without_brackets(std::string_view address) {
  address = trim(address);
  if (address.starts_with('<') && address.ends_with('>'))
    address = address.substr(1, address.size() - 2);
  return std::string(address);
}

Result<void> change_sender(const Edit& edit, const AddressRules& rules, mail::Envelope& envelope) {
  const mail::MailRules mail_rules{.size_limit = ~std::uint64_t{0},
                                   .smtputf8 = rules.smtputf8,
                                   .require_tls = true,
                                   .lenient = true,
                                   .origin = rules.origin};
  auto argument = "FROM:" + bracketed(edit.value);
  if (envelope.smtputf8)
    argument += " SMTPUTF8";
  if (!edit.parameters.empty())
    argument += " " + edit.parameters;
  const auto command = mail::parse_mail(argument, mail_rules);
  if (!command)
    return malformed("milter: a sender: " + command.error().str());
  envelope.sender = command->sender;
  if (command->ret != mail::Return::unspecified)
    envelope.ret = command->ret;
  if (!command->envelope_id.empty())
    envelope.envelope_id = command->envelope_id;
  return {};
}

// As it was shown; a filter that changes the case of what it was shown means the same.
void delete_recipient(const Edit& edit, mail::Envelope& envelope) {
  const auto address = without_brackets(edit.value);
  auto& all = envelope.recipients;
  if (std::erase_if(all, [&](const auto& one) { return one.address == address; }) == 0)
    std::erase_if(all, [&](const auto& one) { return equals_ignoring_case(one.address, address); });
}

Result<void> add_recipient(const Edit& edit, const AddressRules& rules, mail::Envelope& envelope) {
  auto argument = "TO:" + bracketed(edit.value);
  if (!edit.parameters.empty())
    argument += " " + edit.parameters;
  auto recipient = mail::parse_rcpt(
      argument, {.smtputf8 = envelope.smtputf8, .lenient = true, .origin = rules.origin});
  if (!recipient)
    return malformed("milter: a recipient: " + recipient.error().str());
  if (mail::has_recipient(envelope, recipient->address))
    return {};
  if (envelope.recipients.size() >= rules.most_recipients)
    return Error(Errc::too_long, "milter: too many recipients");
  envelope.recipients.push_back(*std::move(recipient));
  return {};
}

}  // namespace

Result<void> apply_header_edits(const std::vector<Edit>& edits, bool leading_space,
                                Fields& fields) {
  if (edits.empty())
    return {};
  FieldList list(fields);
  for (const auto& edit : edits) {
    if (!is_field_name(edit.name))
      return malformed("milter: \"" + escaped(edit.name, 80) + "\" names no header field");
    const bool deletes = edit.kind == Edit::Kind::change_header && edit.value.empty();
    auto whole = deletes ? std::string() : composed(edit.name, edit.value, leading_space);
    if (edit.kind == Edit::Kind::add_header)
      list.add(edit.name, std::move(whole));
    else if (edit.kind == Edit::Kind::insert_header)
      list.insert(edit.index, edit.name, std::move(whole));
    else
      list.change(edit.index, edit.name, std::move(whole));
  }
  fields = list.fields();
  return {};
}

Result<void> apply_envelope_edits(const std::vector<Edit>& edits, const AddressRules& rules,
                                  mail::Envelope& envelope) {
  auto changed = envelope;
  for (const auto& edit : edits) {
    Result<void> done;
    if (edit.kind == Edit::Kind::change_sender)
      done = change_sender(edit, rules, changed);
    else if (edit.kind == Edit::Kind::delete_recipient)
      delete_recipient(edit, changed);
    else
      done = add_recipient(edit, rules, changed);
    if (!done)
      return done;
  }
  envelope = std::move(changed);
  return {};
}

}  // namespace postrider::smtpd::filter::milter
