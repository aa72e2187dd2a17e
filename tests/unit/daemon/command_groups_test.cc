// In folders that look as the kernel's: what is written where. Whether the limits hold is shown by
// tests/integration/command_bounds.py, where the kernel has the controllers.
#include "daemon/privsep/command_groups.h"

#include "base/file.h"
#include "tests/unit/base/temporary_folder.h"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace postrider;
using namespace postrider::daemon;
namespace fs = std::filesystem;

namespace {

void lay_out(const std::string& folder, std::initializer_list<const char*> files) {
  fs::create_directories(folder);
  for (const std::string file : files)
    std::ofstream(folder + "/" + file).flush();
}

void write(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

std::string read(const std::string& path) {
  return read_file(path, 4096).value();
}

struct Tree {
  TemporaryFolder folder;
  std::string ours = folder / "ours", commands = ours + "/commands", one = commands + "/12";

  Tree() {
    lay_out(ours, {"cgroup.subtree_control"});
    write(ours + "/cgroup.controllers", "cpu io memory pids\n");
    write(ours + "/pids.max", "1000\n");
    write(ours + "/memory.max", "1000000\n");
    lay_out(ours + "/daemon", {"cgroup.procs"});
    lay_out(commands, {"cgroup.subtree_control", "pids.max", "memory.max", "cpu.weight"});
    write(commands + "/cgroup.controllers", "memory pids\n");
    lay_out(one, {"cgroup.procs", "cgroup.kill", "pids.max", "memory.max", "memory.swap.max",
                  "memory.oom.group", "memory.events", "pids.events"});
  }
};

}  // namespace

TEST_CASE("commands have half, and each its own limits", "[daemon][privilege]") {
  const Tree tree;
  const auto groups = CommandGroups::divide(tree.ours, ::geteuid(), ::getegid());
  REQUIRE(groups.has_value());
  CHECK(read(tree.ours + "/daemon/cgroup.procs") == "0");
  CHECK(read(tree.commands + "/pids.max") == "500");
  CHECK(read(tree.commands + "/memory.max") == "500000");
  CHECK(read(tree.commands + "/cpu.weight") == "50");
  delivery::TargetLimits limits;
  limits.processes = 40;
  limits.memory = 1U << 20U;
  const auto group = groups->make("12", limits);
  REQUIRE(group.has_value());
  CHECK(group->holds_tasks);
  CHECK(group->kill.is_open());
  CHECK(read(tree.one + "/pids.max") == "40");
  CHECK(read(tree.one + "/memory.max") == "1048576");
  CHECK(read(tree.one + "/memory.swap.max") == "1048576");
  CHECK(read(tree.one + "/memory.oom.group") == "1");
  group->end();
  CHECK(read(tree.one + "/cgroup.kill") == "1");
}

TEST_CASE("without a controller the limits of processes stand in", "[daemon][privilege]") {
  const Tree tree;
  fs::remove(tree.one + "/pids.max");
  fs::remove(tree.one + "/cgroup.kill");
  const auto groups = CommandGroups::divide(tree.ours, ::geteuid(), ::getegid());
  REQUIRE(groups.has_value());
  delivery::TargetLimits limits;
  limits.processes = 40;
  const auto group = groups->make("12", limits);
  REQUIRE(group.has_value());
  CHECK_FALSE(group->holds_tasks);
  CHECK_FALSE(group->kill.is_open());
  limits.processes = 0;
  CHECK_FALSE(groups->make("12", limits)->holds_tasks);
}

TEST_CASE("a command is told which of its limits it met", "[daemon][privilege]") {
  const Tree tree;
  delivery::CommandGroup group;
  group.folder = tree.one;
  CHECK(group.wanted().empty());
  write(tree.one + "/pids.events", "max 0\n");
  write(tree.one + "/memory.events", "low 0\nmax 7\noom 1\noom_kill 0\n");
  CHECK(group.wanted().empty());
  write(tree.one + "/pids.events", "max 3\n");
  CHECK(group.wanted() == " (it wanted more processes than local.command_processes)");
  write(tree.one + "/memory.events", "low 0\noom_kill 1\noom_group_kill 1\n");
  CHECK(group.wanted() == " (it wanted more memory than local.command_memory)");
}
