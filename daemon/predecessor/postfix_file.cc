#include "daemon/predecessor/postfix_file.h"

#include "base/text.h"
#include "mail/address.h"
#include "mail/smtp_command.h"

#include <algorithm>
#include <array>
#include <utility>

namespace postrider::daemon {

namespace {

constexpr std::size_t kWindow = 64U << 10U;
constexpr std::size_t kMostRecord = 4U << 20U;
constexpr std::size_t kMostRecipients = 500'000;

// Types of records, as Postfix's rec_type.h numbers them.
namespace type {
constexpr char kSize = 'C', kTime = 'T', kFullName = 'F', kFilter = 'L', kSender = 'S', kDone = 'D',
               kCanceled = '/', kRecipient = 'R', kOriginal = 'O', kAttribute = 'A',
               kRedirect = '>', kVerp = 'V', kMessage = 'M', kPart = 'L', kLine = 'N',
               kPadding = 'w', kExtra = 'X', kPointer = 'p', kEnd = 'E';
// The others that may stand in an envelope, and say nothing that we need.
constexpr std::string_view kIgnored = "cIWKfdwreP<ionm";
}  // namespace type

// Of its dsn_mask.h, smtputf8.h or sendopts.h, and deliver_request.h.
constexpr NotifyBits kNotify = {1, 2, 4, 8};
constexpr std::uint64_t kReturnFull = 1, kReturnHeaders = 2;
constexpr std::uint64_t kUtf8Requested = 1, kRequireTls = 32;
constexpr std::uint64_t kProbes = 256 + 512;

Error damaged(std::string sentence) {
  return {Errc::malformed, std::move(sentence)};
}

struct OldRecord {
  char type = 0;
  std::string_view data;     // until the next one is read
  std::uint64_t offset = 0;  // of its type
};

class OldRecords {
 public:
  explicit OldRecords(const OldFile& file) : file_(file) {}

  std::uint64_t at() const { return at_; }
  Result<OldRecord> next() {
    OldRecord record;
    record.offset = at_;
    std::uint64_t length = 0;
    std::size_t head = 1;
    for (unsigned shift = 0;; shift += 7, ++head) {
      if (auto there = have(head + 1); !there)
        return there.error();
      const auto octet = static_cast<unsigned char>(window_[from_ + head]);
      length |= static_cast<std::uint64_t>(octet & 0x7FU) << shift;
      if ((octet & 0x80U) == 0)
        break;
      if (shift >= 28)
        return damaged("it has a record with a length that cannot be");
    }
    ++head;
    if (length > kMostRecord)
      return damaged("it has a record that is too long");
    if (auto there = have(head + length); !there)
      return there.error();
    record.type = window_[from_];
    record.data = std::string_view(window_).substr(from_ + head, length);
    from_ += head + length;
    at_ += head + length;
    // Whatever pointers say: none is read twice.
    passed_ += head + length;
    if (passed_ > file_.size)
      return damaged("its records lead in a circle");
    return record;
  }
  Result<void> go_to(std::string_view pointer) {
    const auto place = parse_unsigned(trim(pointer));
    if (!place || *place >= file_.size)
      return damaged("it has a pointer to nowhere");
    if (*place == 0)  // room for one, that was not used
      return {};
    at_ = *place;
    from_ = 0;
    window_.clear();
    return {};
  }

 private:
  // So many octets from at_ on are in the window.
  Result<void> have(std::size_t octets) {
    if (window_.size() - from_ >= octets)
      return {};
    window_.erase(0, std::exchange(from_, 0));
    while (window_.size() < octets) {
      const auto before = window_.size();
      const auto left = file_.size - std::min(file_.size, at_ + before);
      window_.resize(
          std::max<std::size_t>(before + std::min<std::uint64_t>(kWindow, left), octets));
      auto got = file_.read(at_ + before, window_.data() + before, window_.size() - before);
      window_.resize(before + (got ? *got : 0));
      if (!got)
        return got.error();
      if (*got == 0)
        return damaged("it is cut off");
    }
    return {};
  }

  const OldFile& file_;
  std::string window_;
  std::size_t from_ = 0;      // of the window: what is at at_
  std::uint64_t at_ = 0;      // of the file
  std::uint64_t passed_ = 0;  // octets of all records so far
};

// "   8335   917   3": the n-th number, if there is one.
std::optional<std::uint64_t> number_at(std::string_view text, std::size_t n) {
  for (const auto word : split(text, ' '))
    if (!word.empty() && n-- == 0)
      return parse_unsigned(word);
  return std::nullopt;
}

class PostfixReader {
 public:
  PostfixReader(const OldFile& file, const PostfixRules& rules, const OnOldContent& on_content)
      : records_(file), rules_(rules), on_content_(on_content) {}

  Result<OldMessage> read() {
    while (place_ != Place::end) {
      auto record = records_.next();
      if (!record)
        return record.error();
      auto done = record->type == type::kPointer ? records_.go_to(record->data)
                  : place_ == Place::content     ? take_content(*record)
                                                 : take_envelope(*record);
      if (!done)
        return done.error();
    }
    return finish();
  }

 private:
  enum class Place : std::uint8_t { envelope, content, extra, end };
  struct Waiting {
    std::string address, original, before;
    mail::Notify notify;
  };

  Result<void> take_content(const OldRecord& record) {
    if (record.type == type::kExtra) {
      place_ = Place::extra;
      return check_extent(record.offset);
    }
    if (record.type == type::kPadding)
      return {};
    if (record.type != type::kLine && record.type != type::kPart)
      return damaged("its content has a record that does not belong there");
    if (!on_content_)
      return {};
    if (!record.data.empty())
      if (auto taken = on_content_(record.data); !taken)
        return taken;
    return record.type == type::kLine ? on_content_("\n") : Result<void>();
  }

  // Where the content ends is said twice, but for files of before 2001 and of maildrop.
  Result<void> check_extent(std::uint64_t offset) const {
    const auto size = number_at(size_, 0), begin = number_at(size_, 1);
    if (rules_.is_dropped || !begin)
      return {};
    if (!size || *begin != content_ || *size != offset - content_)
      return damaged("its content has not the size that it should have");
    return {};
  }

  Result<void> take_envelope(const OldRecord& record) {
    const auto data = record.data;
    switch (record.type) {
      case type::kMessage:
        if (place_ != Place::envelope)
          return damaged("its content begins twice");
        place_ = Place::content;
        content_ = records_.at();
        return {};
      case type::kEnd:
        if (place_ != Place::extra)
          return damaged("it ends before its content");
        place_ = Place::end;
        return {};
      case type::kSize:
        size_ = size_.empty() ? std::string(data) : size_;
        return {};
      case type::kTime:
        return take_time(data);
      case type::kSender:
        sender_ = sender_ ? sender_ : std::string(data);
        return {};
      case type::kRecipient:
        return take_recipient(data);
      case type::kDone:
        if (rules_.failed != nullptr && rules_.failed->contains(std::string(data)))
          return take_recipient(data);
        [[fallthrough]];
      case type::kCanceled:
        ++message_.done;
        next_ = {};
        return {};
      case type::kOriginal:
        next_.before = data;
        return {};
      case type::kAttribute:
        return take_attribute(data);
      case type::kFullName:
        message_.full_name = data;
        return {};
      case type::kFilter:
        filter_ = data;
        return {};
      case type::kRedirect:
        redirect_ = data;
        return {};
      case type::kVerp:
        verp_ = verp_.empty() ? std::string(data) : verp_;
        return {};
      default:
        if (type::kIgnored.find(record.type) == std::string_view::npos)
          return damaged("it is not a queue file of Postfix, or it is damaged");
        return {};
    }
  }

  Result<void> take_time(std::string_view data) {
    const auto seconds = number_at(data, 0);
    constexpr std::uint64_t kMostSeconds = std::uint64_t{1} << 34U;
    if (!seconds || *seconds > kMostSeconds)
      return damaged("its time of arrival is none");
    const auto part = number_at(data, 1).value_or(0) % 1'000'000;
    if (!message_.received)
      message_.received =
          TimePoint(Duration(static_cast<std::int64_t>(*seconds * 1000 + part / 1000)));
    return {};
  }

  Result<void> take_recipient(std::string_view data) {
    if (waiting_.size() >= kMostRecipients)
      return damaged("it has more than " + std::to_string(kMostRecipients) + " recipients");
    next_.address = data;
    waiting_.push_back(std::exchange(next_, {}));
    return {};
  }

  Result<void> take_attribute(std::string_view data) {
    const auto equals = data.find('=');
    if (equals == data.npos)
      return damaged("it has an attribute without a value");
    const auto name = trim(data.substr(0, equals)), value = trim(data.substr(equals + 1));
    const auto number = parse_unsigned(value).value_or(0);
    if (name == "envelope_id")
      form_.envelope_id = envelope_id_of(value);
    else if (name == "ret_flags")
      form_.ret = number == kReturnFull      ? mail::Return::full
                  : number == kReturnHeaders ? mail::Return::headers
                                             : mail::Return::unspecified;
    else if (name == "notify_flags")
      next_.notify = notify_of(number, kNotify);
    else if (name == "dsn_orig_rcpt")
      next_.original = original_of(value);
    else if (name == "encoding")
      form_.body = value == "8bit" ? mail::BodyType::eight_bit_mime : mail::BodyType::seven_bit;
    else if (name == "trace_flags" && (number & kProbes) != 0)
      message_.never = "it only asks whether its addresses can be reached";
    else
      take_client(name, value);
    return {};
  }

  void take_client(std::string_view name, std::string_view value) {
    if (name == "log_client_address")
      client_ = value;
    else if (name == "log_helo_name")
      helo_ = value;
    else if (name == "log_protocol_name")
      protocol_ = value;
    else if (name == "sasl_username")
      logged_in_ = !value.empty();
  }

  // It is stored with its xtext decoded.
  static std::string original_of(std::string_view value) {
    const auto semicolon = value.find(';');
    if (semicolon == value.npos)
      return {};
    return std::string(value.substr(0, semicolon + 1)) +
           mail::encode_xtext(value.substr(semicolon + 1));
  }

  // "list-return+=@here" for ann@there becomes list-return+ann=there@here, as its verp_sender().
  std::string sender_for(const Waiting& one) const {
    const auto sender_at = sender_->rfind('@');
    const std::string& to = one.before.empty() ? one.address : one.before;
    const auto at = to.rfind('@');
    if (verp_.size() != 2 || sender_->empty() || sender_at == sender_->npos || at == to.npos)
      return *sender_;
    return sender_->substr(0, sender_at) + verp_[0] + to.substr(0, at) + verp_[1] +
           to.substr(at + 1) + sender_->substr(sender_at);
  }

  Result<OldMessage> finish() {
    if (!sender_)
      return damaged("it has no sender");
    if (!rules_.is_dropped && (size_.empty() || !message_.received))
      return damaged("its envelope is not complete");
    const auto options = number_at(size_, 5).value_or(0);
    form_.smtputf8 = (options & kUtf8Requested) != 0;
    if ((options & kRequireTls) != 0)
      form_.tls = mail::TlsWish::required;
    if (!redirect_.empty() && !waiting_.empty()) {  // all of it goes there, once
      waiting_.resize(1);
      waiting_.front().address = redirect_;
    }
    OldRecipients recipients(rules_.origin);
    for (const auto& one : waiting_)
      if (has_control(one.address) || has_control(sender_for(one)))
        return damaged("it has an address with a control character");
    for (auto& one : waiting_)
      if (auto added = recipients.add(message_, form_, quoted_address(one.address),
                                      quoted_address_or_null(sender_for(one)), one.notify,
                                      std::move(one.original));
          !added)
        return damaged(added.error().step());
    if (!filter_.empty())
      message_.hold = "it waits for a content filter of Postfix (" + escaped(filter_, 100) + ")";
    message_.origin = {client_of(helo_, client_),
                       client_.empty() ? "local" : protocol_name(protocol_, logged_in_)};
    return std::move(message_);
  }

  // Quoting would leave it out, and make another address.
  static bool has_control(std::string_view text) {
    return std::any_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  }
  static std::string quoted_address_or_null(const std::string& meaning) {
    return meaning.empty() ? meaning : quoted_address(meaning);
  }

  OldRecords records_;
  const PostfixRules& rules_;
  const OnOldContent& on_content_;
  Place place_ = Place::envelope;
  OldMessage message_;
  mail::Envelope form_;  // what all of its envelopes have in common
  Waiting next_;         // what was said of a recipient that is still to come
  std::vector<Waiting> waiting_;
  std::optional<std::string> sender_;
  std::string size_, filter_, redirect_, verp_, client_, helo_, protocol_;
  bool logged_in_ = false;
  std::uint64_t content_ = 0;  // where it begins
};

}  // namespace

Result<OldMessage> read_postfix_file(const OldFile& file, const PostfixRules& rules,
                                     const OnOldContent& on_content) {
  return PostfixReader(file, rules, on_content).read();
}

std::set<std::string> read_bounce_log(std::string_view text) {
  constexpr std::string_view kName = "recipient=";
  std::set<std::string> named;
  for (const auto line : split(text, '\n'))
    if (line.starts_with(kName) && named.size() < kMostRecipients)
      named.emplace(line.substr(kName.size()));
  return named;
}

}  // namespace postrider::daemon
