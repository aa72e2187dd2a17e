// What the daemon and its tools keep in files of their own outlives a power cut, each as the old
// one or the new one.
#include "base/log.h"
#include "base/net/blocking_pool.h"
#include "daemon/notice_digest.h"
#include "daemon/outbound.h"
#include "daemon/password_change.h"
#include "daemon/pickup/local_limits.h"
#include "daemon/protocol/effective.h"
#include "smtpd/auth/auth_service.h"
#include "smtpd/auth/auth_settings.h"
#include "tests/support/sync_record.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

using namespace postrider;
using namespace postrider::daemon;

TEST_CASE("settings that are published for tools outlive a power cut", "[daemon][settings]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  ToolPaths places;
  places.submit_socket = folder / "submit";
  EffectiveFile file;
  REQUIRE(file.publish(places, folder / "postrider.toml").has_value());
  CHECK(SyncRecord::lack_of_renamed(effective_path(places)).empty());
}

TEST_CASE("what users of this machine have sent outlives a power cut", "[daemon][settings]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  NullLog log;
  const SystemClock clock;
  BlockingPool pool(1);
  LocalLimits limits(clock, log, pool, folder / "limits");
  limits.set_rules({});
  limits.add(1, 1);
  limits.save();
  CHECK(SyncRecord::lack_of_renamed(folder / "limits/local").empty());
}

TEST_CASE("the count of notices that cannot be delivered outlives a power cut",
          "[daemon][settings]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  NullLog log;
  const SystemClock clock;
  OwnMail own_mail;
  own_mail.log = &log;
  NoticeDigest digest(clock, own_mail, folder / "count");
  digest.double_bounces()->count("a@far.test", {}, clock.now());
  digest.save_now();
  CHECK(SyncRecord::lack_of_renamed(folder / "count").empty());
  NoticeDigest again(clock, own_mail, folder / "count");
  again.load();
  CHECK(again.double_bounces()->counted().count == 1);
}

TEST_CASE("what users have sent by submission outlives a power cut", "[daemon][settings]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  NullLog log;
  const SystemClock clock;
  smtpd::auth::AuthService service(clock, log, folder / "auth");
  service.begin_message("ann");
  service.save();
  for (const char* name : {"auth/places", "auth/limits"})
    CHECK(SyncRecord::lack_of_renamed(folder / name).empty());
}

TEST_CASE("a refresh token that was given in place of another outlives a power cut",
          "[daemon][settings]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  REQUIRE(keep_refresh_token(folder / "tokens", "name", "secret").has_value());
  CHECK(SyncRecord::lack_of_renamed(folder / "tokens/name").empty());
}

TEST_CASE("a password that was changed outlives a power cut", "[daemon][settings]") {
  const TemporaryFolder folder;
  const SyncRecord record;
  PasswordChange change;
  change.file = folder / "users";
  change.user = "ann";
  change.password = "secret";
  for (int i = 0; i < 2; ++i) {
    REQUIRE(change_password({}, change).has_value());
    CHECK(SyncRecord::lack_of_renamed(change.file).empty());
  }
}
