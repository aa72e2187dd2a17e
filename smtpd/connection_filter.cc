// The part of a connection that shows its mail to the filters and hears what they say.
#include "smtpd/connection_filter.h"

#include "mail/header.h"

#include <poll.h>
#include <sys/socket.h>

namespace postrider::smtpd {

using Need = SessionFramer::Need;

namespace {

// While filters take their time over a whole message, its client may leave.
constexpr Duration kLookAfterClient(500);
// Who waited no longer than this for a reply is still there, or never wanted to read it.
constexpr Duration kNoWait(50);

// Of the fields, without the empty line.
std::size_t fields_size(std::string_view bytes) {
  mail::HeaderScanner scanner(bytes);
  mail::HeaderField field;
  while (scanner.next(field)) {
  }
  return scanner.consumed();
}

}  // namespace

// Asked for from the connection on, and waited for where it is needed first: by a filter, or for
// Received.
void Connection::ask_for_name() {
  auto& session = talk_->session();
  const auto& settings = *settings_;
  auto* questioner = reception_->questioner();
  if (!settings.looks_up_names || questioner == nullptr || session.facts().role != Role::mx ||
      client_.trusted || client_.address.is_none())
    return;
  if (const auto known =
          reception_->client_names().find(client_.address, reception_->clock().steady()))
    return session.set_client_name(*known);
  name_run_ = questioner->start(filter::find_client_name(client_.address), settings.name_patience);
  if (name_run_->done())
    name_client(name_run_->result());
}

Task<void> Connection::await_name() {
  if (!name_run_)
    co_return;
  if (has_given_up_)
    name_run_->give_up("the session ends");
  co_await name_run_->wait();
  name_client(name_run_->result());
}

void Connection::name_client(const ClientName& name) {
  name_run_.reset();
  if (!has_given_up_)
    reception_->client_names().keep(client_.address, name, reception_->clock().steady());
  talk_->session().set_client_name(name);
  if (filtering_)
    filtering_->facts.client.name = name;
}

void Connection::prepare_filters() {
  const auto& sources = settings_->filters;
  if (sources.empty())
    return;
  auto& session = talk_->session();
  filter::Facts facts;
  facts.session = session.facts().id;
  facts.hostname = settings_->hostname;
  facts.role = session.facts().role;
  facts.client = session.facts().client;
  if (arrival_.listener)
    facts.listener = *arrival_.listener;
  filter::Surroundings around{reception_->loop(), reception_->clock(), reception_->log(),
                              reception_->questioner()};
  around.aside = [this](std::string key, std::function<void()> job) {
    return run_aside(std::move(key), std::move(job));
  };
  around.client_name = [this] { return await_name(); };
  filtering_ = std::make_unique<Filtering>(sources, std::move(facts), around);
  if (filtering_->chain.empty())
    return filtering_.reset();
  session.set_filtered(filtering_->chain.stages());
}

Task<bool> Connection::run_aside(std::string key, std::function<void()> job) {
  if (has_given_up_)
    co_return false;
  lookup_ = std::make_shared<Lookups::Wait>();
  Lookups::Job asked;
  asked.key = std::move(key);
  asked.is_own = Policy::may_relay(talk_->session().facts().client);
  asked.ask = std::move(job);
  const bool done = co_await reception_->lookups().run(reception_->loop(), lookup_,
                                                       timeouts().lookup, std::move(asked));
  lookup_.reset();
  co_return done;
}

void Connection::refresh_facts() {
  const auto& session = talk_->session();
  auto& facts = filtering_->facts;
  facts.client = session.facts().client;
  facts.helo = session.facts().helo;
  facts.protocol = protocol_of(session);
  facts.tls = session.facts().tls;
}

// A command that the session accepts.
Task<Need> Connection::ask_filters() {
  stream_.clear_deadline();  // the client has done its part
  refresh_facts();
  const auto& session = talk_->session();
  auto& chain = filtering_->chain;
  filter::Verdict verdict;
  lay_buffer_aside();
  switch (session.filter_gate().stage()) {
    case filter::Stage::connect:
      verdict = co_await chain.connect();
      break;
    case filter::Stage::helo:
      verdict = co_await chain.helo();
      break;
    case filter::Stage::mail:
      filtering_->facts.message = reception_->custody().next_id();
      filtering_->asked_data = false;  // a DATA before it may have been refused
      verdict = co_await chain.mail(session.transaction().envelope());
      break;
    case filter::Stage::recipient:
      verdict = co_await chain.recipient(session.transaction().envelope().recipients.back());
      break;
    case filter::Stage::data:
      verdict = co_await chain.data(session.transaction().envelope());
      filtering_->asked_data = true;
      break;
  }
  take_buffer();
  commands_seen_ = ~0ULL;  // the deadline for reading is to be set again
  refresh_conditions();
  co_return talk_->filtered(std::move(verdict), buffer_->replies);
}

// What has arrived since the last time, before it may go to a file.
Task<void> Connection::show_content(Need need) {
  auto* intake = talk_->intake();
  auto& filters = *filtering_;
  if (intake == nullptr || !intake->is_wanted()) {
    if (!talk_->session().transaction().is_begun())
      filters.chain.abort();
    co_return;
  }
  const auto began = reception_->clock().steady();
  auto& body = body_of_message();
  if (filters.message != body.number()) {
    filters.message = body.number();
    filters.shown_header = false;
  }
  auto& bytes = intake->bytes();
  if (!filters.shown_header) {
    if (!intake->header().has_ended() && need != Need::store)
      co_return;
    stream_.clear_deadline();
    if (body.waits_for_tables(bytes))
      co_await rewrite_header();
    if (const auto trouble = body.trouble()) {
      storage_trouble(*intake, *trouble);
      co_return;
    }
    body.complete(bytes);
    co_await show_header(bytes);
  }
  if (filters.chain.wants_body() && bytes.size() > filters.shown) {
    stream_.clear_deadline();
    co_await filters.chain.body(std::string_view(bytes).substr(filters.shown));
  }
  filters.shown = bytes.size();
  excuse_since(began);
}

Task<void> Connection::show_header(std::string& bytes) {
  auto& filters = *filtering_;
  const auto& envelope = talk_->session().transaction().envelope();
  refresh_facts();
  filters.shown_header = true;
  if (!std::exchange(filters.asked_data, false))
    filters.chain.settle(co_await filters.chain.data(envelope));
  filters.section.assign(bytes, 0, fields_size(bytes));
  co_await filters.chain.header(envelope, filters.section);
  body_.replace_header(bytes, filters.section);
  filters.shown = mail::header_section_size(bytes);
  filters.body_at = filters.shown;
}

// Whether nobody is there any more to read a reply: what such a client sent, it will send again.
// One that said what comes next, and then finished sending, may still read.
bool Connection::has_client_left() {
  if (!stream_.is_open())
    return true;
  pollfd look{stream_.socket().native_handle(), POLLIN | POLLRDHUP, 0};
  if (::poll(&look, 1, 0) <= 0 || (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) == 0)
    return false;
  if (buffer_->begin < buffer_->end)
    return (look.revents & (POLLHUP | POLLERR)) != 0;
  char next = 0;
  return stream_.tls() != nullptr || ::recv(look.fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

// The whole message, before it is ours. False: its client has left meanwhile.
Task<bool> Connection::end_filters(filter::Ending& ending, filter::Verdict& verdict) {
  auto& filters = *filtering_;
  refresh_facts();
  bool is_gone = false;
  const auto began = reception_->clock().steady();
  {
    Deadline look(reception_->loop().deadlines(), [&] {
      is_gone = has_client_left();
      if (is_gone)
        filters.chain.give_up();
      else
        look.set(kLookAfterClient);
    });
    look.set(kLookAfterClient);
    verdict = co_await filters.chain.end(ending);
  }
  filters.chain.abort();
  filters.facts.message = {};
  if (has_given_up_ || reception_->clock().steady() - began > kNoWait)
    is_gone = is_gone || has_client_left();
  co_return !is_gone;
}

}  // namespace postrider::smtpd
