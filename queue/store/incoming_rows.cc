// The table `incoming`.
#include "queue/row_codec.h"
#include "queue/store/sqlite_store.h"

namespace postrider::queue {

namespace {

class SqliteIncoming final : public IncomingRows {
 public:
  Result<void> prepare(Database& database) {
    return prepare_all(
        database,
        {
            {insert_incoming_, "INSERT INTO incoming(id, size, head, body) VALUES(?, ?, ?, ?)"},
            {delete_incoming_, "DELETE FROM incoming WHERE id = ?"},
            {incoming_ids_, "SELECT id FROM incoming ORDER BY id"},
            {incoming_head_, "SELECT head FROM incoming WHERE id = ?"},
        });
  }

  Result<void> insert(const mail::Message& message, std::string_view head) override {
    Query query(insert_incoming_);
    query.bind(message.id.value).bind(static_cast<std::int64_t>(message.content.size));
    query.bind_blob(head);
    if (message.content.bytes)
      query.bind_blob(*message.content.bytes);
    else
      query.bind_null();
    return query.run();
  }

  Result<void> remove(mail::MessageId id) override {
    return Query(delete_incoming_).bind(id.value).run();
  }

  Result<std::vector<mail::MessageId>> ids() override {
    return Query(incoming_ids_).rows([](const Query& row) {
      return mail::MessageId{row.integer(0)};
    });
  }

  Result<std::shared_ptr<const mail::Message>> load_head(mail::MessageId id) override {
    Query query(incoming_head_);
    query.bind(id.value);
    auto row = query.next();
    if (!row)
      return row.error();
    if (!*row)
      return Error(Errc::not_found, "load message " + to_string(id));
    auto message = decode_head(id, query.blob(0));
    if (!message)
      return message.error();
    return std::make_shared<const mail::Message>(*std::move(message));
  }

 private:
  Statement insert_incoming_, delete_incoming_, incoming_ids_, incoming_head_;
};

}  // namespace

Result<std::unique_ptr<IncomingRows>> prepare_incoming(Database& database) {
  auto made = std::make_unique<SqliteIncoming>();
  if (auto done = made->prepare(database); !done)
    return done.error();
  return std::unique_ptr<IncomingRows>(std::move(made));
}

}  // namespace postrider::queue
