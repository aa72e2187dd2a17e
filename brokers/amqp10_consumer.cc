#include "brokers/amqp10_consumer.h"

#include "base/digest.h"

#include <array>
#include <proton/codec.h>
#include <proton/disposition.h>
#include <proton/message.h>
#include <proton/terminus.h>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr Duration kConnectLimit{15'000};
constexpr std::size_t kAround = 256U << 10U;  // what stands before and behind a body
constexpr std::string_view kTraceProperty = "traceparent";

struct FreeMessage {
  void operator()(pn_message_t* message) const { pn_message_free(message); }
};

std::string text_of(pn_bytes_t bytes) {
  return bytes.start == nullptr ? std::string() : std::string(bytes.start, bytes.size);
}

// A string, or octets.
std::string text_at(pn_data_t* data) {
  switch (pn_data_type(data)) {
    case PN_STRING:
      return text_of(pn_data_get_string(data));
    case PN_BINARY:
      return text_of(pn_data_get_binary(data));
    default:
      return {};
  }
}

// All four forms that an id may have (AMQP 1.0 part 3, §3.2.11 to 3.2.14).
std::string id_of(pn_message_t* message) {
  auto* const data = pn_message_id(message);
  pn_data_rewind(data);
  if (!pn_data_next(data))
    return {};
  switch (pn_data_type(data)) {
    case PN_STRING:
      return text_of(pn_data_get_string(data));
    case PN_BINARY:
      return encode_hex(text_of(pn_data_get_binary(data)));
    case PN_ULONG:
      return std::to_string(pn_data_get_ulong(data));
    case PN_UUID: {
      const auto uuid = pn_data_get_uuid(data);
      return encode_hex(std::string(uuid.bytes, sizeof uuid.bytes));
    }
    default:
      return {};
  }
}

// Of the application's properties; of several the first counts.
std::string property_of(pn_message_t* message, std::string_view name) {
  auto* const data = pn_message_properties(message);
  pn_data_rewind(data);
  if (!pn_data_next(data) || pn_data_type(data) != PN_MAP || !pn_data_enter(data))
    return {};
  while (pn_data_next(data)) {
    const bool is_it = text_at(data) == name;
    if (!pn_data_next(data))
      break;
    if (is_it)
      return text_at(data);
  }
  return {};
}

std::string body_of(pn_message_t* message) {
  auto* const data = pn_message_body(message);
  pn_data_rewind(data);
  return pn_data_next(data) ? text_at(data) : std::string();
}

}  // namespace

Amqp10Consumer::Amqp10Consumer(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> Amqp10Consumer::connect(SteadyTime until) {
  auto opened =
      Amqp10Connection::open({settings_.url, settings_.password, settings_.roots,
                              "postrider-" + settings_.host + "-" + settings_.name + ".requests"},
                             clock_, until);
  if (!opened)
    return opened.error();
  connection_ = *std::move(opened);
  forget();
  link_ = pn_receiver(connection_->session(), ("postrider:" + settings_.topic).c_str());
  pn_terminus_set_address(pn_link_source(link_), settings_.topic.c_str());
  pn_link_set_snd_settle_mode(link_, PN_SND_UNSETTLED);
  pn_link_set_rcv_settle_mode(link_, PN_RCV_FIRST);
  pn_link_open(link_);
  return {};
}

Result<std::optional<BrokerRequest>> Amqp10Consumer::next(SteadyTime until) {
  if (!connection_)
    if (auto connected = connect(clock_.steady() + kConnectLimit); !connected)
      return connected.error();
  if (!std::exchange(is_asked_, true))
    pn_link_flow(link_, 1);
  while (delivery_ == nullptr) {
    const auto turned = connection_->turn(until, [this](pn_event_t* event) { handle(event); });
    if (!turned && turned.error().code() == boost::system::errc::timed_out)
      return std::optional<BrokerRequest>();
    if (!turned)
      return given_up(
          turned.error().during("take from \"" + settings_.topic + "\" at " + settings_.place()));
    if (!is_asked_)  // what came was given up on its way
      return std::optional<BrokerRequest>();
  }
  return std::optional(request());
}

void Amqp10Consumer::handle(pn_event_t* event) {
  if (pn_event_type(event) == PN_DELIVERY && pn_event_link(event) == link_)
    read(pn_event_delivery(event));
}

// As it comes; what is too long is read to its end, and not kept.
void Amqp10Consumer::read(pn_delivery_t* delivery) {
  if (delivery_ != nullptr || pn_link_current(link_) != delivery)
    return;
  std::array<char, 16384> room{};
  for (auto got = pn_link_recv(link_, room.data(), room.size()); got > 0;
       got = pn_link_recv(link_, room.data(), room.size())) {
    is_cut_ = is_cut_ || encoded_.size() + static_cast<std::size_t>(got) > kMostRequest + kAround;
    if (!is_cut_)
      encoded_.append(room.data(), static_cast<std::size_t>(got));
  }
  if (pn_delivery_aborted(delivery)) {
    forget();
    pn_delivery_settle(delivery);
  } else if (!pn_delivery_partial(delivery)) {
    delivery_ = delivery;
    pn_link_advance(link_);
  }
}

void Amqp10Consumer::forget() {
  encoded_.clear();
  is_cut_ = is_asked_ = false;
  delivery_ = nullptr;
}

// What cannot be decoded is a request without a body.
BrokerRequest Amqp10Consumer::request() {
  BrokerRequest request;
  request.is_too_large = is_cut_;
  const std::unique_ptr<pn_message_t, FreeMessage> message(pn_message());
  if (!is_cut_ && message &&
      pn_message_decode(message.get(), encoded_.data(), encoded_.size()) == 0) {
    request.key = id_of(message.get());
    request.trace_parent = property_of(message.get(), kTraceProperty);
    request.body = body_of(message.get());
    request.is_too_large = request.body.size() > kMostRequest;
  }
  std::string().swap(encoded_);
  return request;
}

Result<void> Amqp10Consumer::settle(RequestEnd end, SteadyTime) {
  const auto step = "tell " + settings_.place() + " what became of a request";
  if (!connection_ || delivery_ == nullptr)
    return Error(Errc::truncated, step);
  pn_delivery_update(delivery_, end == RequestEnd::taken     ? PN_ACCEPTED
                                : end == RequestEnd::refused ? PN_REJECTED
                                                             : PN_RELEASED);
  pn_delivery_settle(delivery_);
  forget();
  if (auto told = connection_->turn_now([this](pn_event_t* event) { handle(event); }); !told)
    return given_up(told.error().during(step));
  return {};
}

// With one request in hand the broker sends no other.
bool Amqp10Consumer::tend() {
  if (connection_ && !connection_->turn_now([this](pn_event_t* event) { handle(event); }))
    (void)given_up(Error(Errc::truncated, ""));
  return connection_ != nullptr;
}

// The connection is of no more use, and what came by it neither.
Error Amqp10Consumer::given_up(const Error& error) {
  forget();
  link_ = nullptr;
  connection_.reset();
  return error;
}

}  // namespace postrider::brokers
