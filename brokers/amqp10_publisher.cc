#include "brokers/amqp10_publisher.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <proton/codec.h>
#include <proton/condition.h>
#include <proton/disposition.h>
#include <proton/message.h>
#include <proton/terminus.h>
#include <utility>

namespace postrider::brokers {

namespace {

constexpr Duration kConnectLimit{15'000};

struct FreeMessage {
  void operator()(pn_message_t* message) const { pn_message_free(message); }
};

pn_bytes_t bytes_of(const std::string& text) {
  return {text.size(), text.data()};
}

// Encoded; empty: there is no memory.
std::string encode_event(const Message& event) {
  const std::unique_ptr<pn_message_t, FreeMessage> message(pn_message());
  if (!message)
    return {};
  pn_message_set_durable(message.get(), true);
  pn_message_set_inferred(message.get(), true);  // the body is data, not a value
  pn_message_set_content_type(message.get(), "application/cloudevents+json");
  pn_message_set_subject(message.get(), ("postrider." + event.type).c_str());
  pn_data_put_string(pn_message_id(message.get()), bytes_of(event.id));
  pn_data_put_binary(pn_message_body(message.get()), bytes_of(event.text));
  constexpr std::size_t kAround = 1024;  // what stands before the body
  std::string encoded(event.text.size() + event.id.size() + event.type.size() + kAround, '\0');
  auto size = encoded.size();
  if (pn_message_encode(message.get(), encoded.data(), &size) != 0)
    return {};
  encoded.resize(size);
  return encoded;
}

}  // namespace

Amqp10Publisher::Amqp10Publisher(PublisherSettings settings, const Clock& clock)
    : settings_(std::move(settings)), clock_(clock) {}

Result<void> Amqp10Publisher::publish(const Wave& wave, SteadyTime until,
                                      std::vector<bool>& taken) {
  if (!connection_)
    if (auto connected = connect(std::min(until, clock_.steady() + kConnectLimit)); !connected)
      return connected;
  taken_ = &taken;
  open_ = 0;
  trouble_.clear();
  Result<void> done;
  for (std::size_t i = 0; done && i < wave.size(); ++i)
    done = send(*wave[i], i, until);
  while (done && open_ > 0)
    done = wait(until);
  taken_ = nullptr;
  if (!done)
    return given_up(done.error());
  if (!trouble_.empty())
    return Error(Errc::refused, trouble_);
  return {};
}

Result<void> Amqp10Publisher::connect(SteadyTime until) {
  auto opened = Amqp10Connection::open({settings_.url, settings_.password, settings_.roots,
                                        "postrider-" + settings_.host + "-" + settings_.name},
                                       clock_, until);
  if (!opened)
    return opened.error();
  connection_ = *std::move(opened);
  links_.clear();
  return {};
}

// The link to that address, with leave to send a message.
Result<pn_link_t*> Amqp10Publisher::link_to(const std::string& address, SteadyTime until) {
  auto& link = links_[address];
  if (link == nullptr) {
    link = pn_sender(connection_->session(), ("postrider:" + address).c_str());
    pn_terminus_set_address(pn_link_target(link), address.c_str());
    pn_link_set_snd_settle_mode(link, PN_SND_UNSETTLED);
    pn_link_set_rcv_settle_mode(link, PN_RCV_FIRST);
    pn_link_open(link);
  }
  while (pn_link_credit(link) <= 0)
    if (auto waited = wait(until); !waited)
      return waited.error().during("ask for leave to send to \"" + address + "\"");
  return link;
}

Result<void> Amqp10Publisher::send(const Message& message, std::size_t place, SteadyTime until) {
  const auto encoded = encode_event(message);
  if (encoded.empty())
    return system_error(ENOMEM, "write an event");
  const auto link = link_to(topic_of(settings_.topic, message), until);
  if (!link)
    return link.error();
  char tag[sizeof next_tag_];
  std::memcpy(tag, &next_tag_, sizeof tag);
  ++next_tag_;
  auto* const delivery = pn_delivery(*link, pn_dtag(tag, sizeof tag));
  pn_delivery_set_context(delivery, reinterpret_cast<void*>(place + 1));
  if (pn_link_send(*link, encoded.data(), encoded.size()) != static_cast<ssize_t>(encoded.size()))
    return Error(Errc::truncated, "send to " + settings_.place());
  pn_link_advance(*link);
  ++open_;
  return {};
}

Result<void> Amqp10Publisher::wait(SteadyTime until) {
  return connection_->turn(until, [this](pn_event_t* event) { handle(event); });
}

void Amqp10Publisher::handle(pn_event_t* event) {
  if (pn_event_type(event) == PN_DELIVERY)
    settle(pn_event_delivery(event));
}

// What the broker has decided about a message.
void Amqp10Publisher::settle(pn_delivery_t* delivery) {
  const auto state = pn_delivery_remote_state(delivery);
  const bool is_decided = state == PN_ACCEPTED || state == PN_REJECTED || state == PN_RELEASED ||
                          state == PN_MODIFIED || pn_delivery_settled(delivery);
  const auto place = reinterpret_cast<std::size_t>(pn_delivery_get_context(delivery));
  if (!pn_delivery_updated(delivery) || !is_decided || place == 0 || taken_ == nullptr)
    return pn_delivery_clear(delivery);
  const auto link = pn_delivery_link(delivery);
  const std::string address = pn_terminus_get_address(pn_link_target(link));
  if (state == PN_ACCEPTED) {
    (*taken_)[place - 1] = true;
  } else if (state == PN_REJECTED) {
    const auto reason = reason_of(pn_disposition_condition(pn_delivery_remote(delivery)));
    trouble_ = "give an event to \"" + address + "\": the broker rejects it" +
               (reason.empty() ? "" : " (" + reason + ")");
  } else {
    trouble_ = "give an event to \"" + address +
               "\": the broker does not take it; no queue may be there for it";
  }
  pn_delivery_settle(delivery);
  --open_;
}

// What the broker says while nothing is under way is the end, or nothing.
void Amqp10Publisher::tend() {
  if (connection_ && !connection_->turn_now([this](pn_event_t* event) { handle(event); }))
    connection_.reset();
}

// The connection is of no more use.
Error Amqp10Publisher::given_up(const Error& error) {
  links_.clear();
  connection_.reset();
  return error.during("give events to " + settings_.place());
}

}  // namespace postrider::brokers
