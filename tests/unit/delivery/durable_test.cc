// "Delivered" is said of what a power cut leaves: the queue forgets the message then.
#include "delivery/local/agents/delivery_agent.h"
#include "tests/support/sync_record.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <fstream>

using namespace postrider;
using namespace postrider::delivery;

namespace {

// Small, and of several writes.
const std::string kBodies[] = {"Subject: s\r\n\r\nx\r\n",
                               "Subject: s\r\n\r\n" + std::string(300000, 'x') + "\r\n"};

void deliver(LocalTarget::Kind kind, const std::string& place, const std::string& body,
             const std::string& root = {}) {
  LocalJob job;
  job.target.kind = kind;
  job.target.place = place;
  job.target.root = root;
  job.envelope.id = "1";
  job.envelope.sender = "a@ext.test";
  job.envelope.hostname = "mx.us.test";
  job.size = body.size();
  const auto outcome = perform_here(job, {std::make_shared<const std::string>(body), {}});
  INFO(outcome.text);
  REQUIRE(outcome.verdict == mail::Verdict::delivered);
}

}  // namespace

TEST_CASE("a message in a maildir outlives a power cut, and is never seen in part",
          "[delivery][local]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  std::size_t seen = 0;
  // Folders that are there, and ones that must be made first.
  for (const auto& place : {folder / "box", folder / "box", folder / "far/below/box"})
    for (const auto& body : kBodies) {
      deliver(LocalTarget::Kind::maildir, place, body, folder.path());
      for (const auto& entry : std::filesystem::directory_iterator(place + "/new")) {
        CHECK(SyncRecord::lack_of_renamed(entry.path()).empty());
        ++seen;
      }
      CHECK(SyncRecord::lack(place + "/cur").empty());
      CHECK(SyncRecord::lack(place + "/tmp").empty());
    }
  CHECK(seen == 13);
}

TEST_CASE("a message in an mbox outlives a power cut", "[delivery][local]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  for (const auto& place : {folder / "box", folder / "box", folder / "far/below/box"})
    for (const auto& body : kBodies) {
      deliver(LocalTarget::Kind::mbox, place, body, folder.path());
      CHECK(SyncRecord::lack(place).empty());
    }
  // Also an empty one that somebody has made a moment ago.
  std::ofstream(folder / "made");
  deliver(LocalTarget::Kind::mbox, folder / "made", kBodies[0]);
  CHECK(SyncRecord::lack(folder / "made").empty());
}

TEST_CASE("the folder of the mailboxes outlives a power cut", "[delivery][local]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  deliver(LocalTarget::Kind::mbox, folder / "mail/ann", kBodies[0], folder / "mail");
  CHECK(SyncRecord::lack(folder / "mail/ann").empty());
}
